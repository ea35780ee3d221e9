"""An RL iteration on text and images against one on text alone, of the same lengths; and how often images are seen.

    .venv/bin/python -m benchmarks.vision [--iterations N]

Two runs of RL on the shipped base that sees, in turn in one process with the same engine and trainer: all prompts of
one are text, and half of the other's have a picture of their own. Every prompt has PROMPT tokens as the model reads it,
with those of its image, and every response RESPONSE, for the end token cannot be sampled; rewards are drawn, so
that every group is trained on. The first iteration of each warms up.

- `mixed_share`: generated tokens per second of the mixed iteration over those of the other, medians; 0.8 at least.
- `engine_per_image`: how often the engine's tower ran on an image, for each picture of an iteration: 1 where features
  are computed once per image and iteration. `responses_per_image` is what it would be if each response had its own.
- `trainer_per_image`: the same of the trainer's tower in one pass. An image goes through it once in each micro-batch
  that has responses to it: at least 1, and at most `responses_per_image`.

Progress goes to stderr; the last line is JSON.
"""

import argparse
import json
import random
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.nano_start import machine
from infra.environment import enter_engine_environment

BASE = Path(__file__).parent.parent / "steps" / "nano_world" / "vision_checkpoint"
PROMPT, RESPONSE = 96, 96
GROUPS, RESPONSES = 16, 8
PROBLEMS = 64
SIDES = (128, 64)
"""Pixels of a picture: 32 tokens at 16 × 16 pixels each."""


class Seen:
    """Images that a vision tower ran on."""

    def __init__(self) -> None:
        self.count = 0

    def watch(self, tower: Any) -> None:
        """Count from now on."""

        def note(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            self.count += len(named["grid_thw"] if "grid_thw" in named else arguments[1])

        tower.register_forward_pre_hook(note, with_kwargs=True)

    def take(self) -> int:
        """What was counted since the last time."""
        count, self.count = self.count, 0
        return count


def endless(folder: Path) -> Path:
    """A copy of the base whose end token cannot be sampled, one that stands for a video: all responses have one
    length."""
    model = folder / "model"
    shutil.copytree(BASE, model)
    (model / "generation_config.json").unlink()
    config = json.loads((model / "config.json").read_text())
    config["text_config"]["eos_token_id"] = config["video_token_id"]
    (model / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((model / "tokenizer_config.json").read_text())
    # Without one, the tokenizer's class would have its own.
    tokenizer["eos_token"] = "<|video_pad|>"
    (model / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return model


def picture(folder: Path, number: int) -> str:
    """The address of an image that no other number has."""
    from PIL import Image, ImageDraw

    from infra.images import store_image

    rng = random.Random(number)
    image = Image.new("RGB", SIDES, "white")
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = rng.randrange(SIDES[0] - 20), rng.randrange(SIDES[1] - 20)
        draw.ellipse((x, y, x + 18, y + 18), fill=rng.choice(("red", "blue", "green")))
    return store_image(image, folder)


def problem(chat: Any, number: int, image: str | None) -> Any:
    """A problem whose prompt has PROMPT tokens, with an image or without."""
    from steps.problem import Part, Problem

    def made(text: str) -> Any:
        prompt = text if image is None else (Part(type="image", image=image), Part(type="text", text=text))
        return Problem(id=f"{number}", prompt=prompt, answer="1", verifier="math")

    text = f"{number}?"
    while (missing := PROMPT - len(chat.read(made(text)))) > 0:
        # Several characters may be one token.
        text += " 7," * max(1, missing // 4) if missing > 3 else "7"
    if missing:
        raise ValueError(f"a prompt has {PROMPT - missing} tokens, and all should have {PROMPT}")
    return made(text)


def drawn_rewards() -> Any:
    """A scorer that draws rewards: half of a group's responses are right, whatever they say."""
    from concurrent.futures import Future

    from steps.rewards.score import Score
    from steps.rewards.scorer import Scorer

    rng = random.Random(0)

    class Drawn(Scorer):
        def submit(self, problem: Any, response: str) -> Future[Score]:
            scored: Future[Score] = Future()
            scored.set_result(Score(float(rng.random() < 0.5), "drawn", 0.0, "drawn@1"))
            return scored

    return Drawn()


def measure(iterations: int) -> dict[str, Any]:
    """Both runs, in this process."""
    from infra.configs import EngineConfig, TrainerConfig
    from infra.progress.logs import terminal
    from infra.vision.folders import ImageFolders
    from steps.configs.rl import RlConfig
    from steps.rl.checkpoint import Checkpoints
    from steps.rl.iteration import RlRun
    from steps.workbench import open_workbench

    config = RlConfig(
        iterations=iterations + 1,
        groups=GROUPS,
        oversampling=1.0,
        responses=RESPONSES,
        max_response_tokens=RESPONSE,
        token_budget=RESPONSE,
        updates=2,
        learning_rate=1e-6,
        final_learning_rate=1e-6,
        sequence_length=256,
    )
    engine = EngineConfig(dtype="float32", context=256, max_sequences=128, kv_cache_mb=64)
    results: dict[str, list[dict[str, float]]] = {"text": [], "mixed": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = endless(folder)
        images = [picture(folder, number) for number in range(PROBLEMS // 2)]
        with open_workbench(
            model,
            engine=engine,
            trainer=TrainerConfig(micro_batch_tokens=4096),
            seed=0,
            scorer=drawn_rewards,
            images=ImageFolders((folder,)),
        ) as bench:
            text = [problem(bench.chat, number, None) for number in range(PROBLEMS)]
            seen = [problem(bench.chat, PROBLEMS + number, image) for number, image in enumerate(images)]
            runs = {
                label: RlRun(bench, problems, {one.id: 0.5 for one in problems}, config, Checkpoints(folder / label))
                for label, problems in (("text", text), ("mixed", [*text[: PROBLEMS // 2], *seen]))
            }
            bench.hand_over()
            trained, rolled = Seen(), Seen()
            trained.watch(bench.trainer.engine.module.model.visual)  # type: ignore[union-attr]
            bench.engine.llm.collective_rpc(  # type: ignore[union-attr]
                lambda worker: rolled.watch(worker.model_runner.get_model().visual)
            )
            bench.resume_training()
            for number in range(iterations + 1):
                for label, run in runs.items():
                    trained.take(), rolled.take()
                    metrics = run.iterate()
                    groups = [row for row in run.samples if row.images]
                    figures = {
                        "seconds": metrics.seconds,
                        "tokens": metrics.rollout_tokens,
                        "response_tokens": metrics.response_tokens or 0.0,
                        "rollout_seconds": metrics.rollout_seconds,
                        "training_seconds": metrics.training_seconds,
                        "images": len({row.images[0] for row in groups}),
                        "responses_with_images": len(groups),
                        "engine_images": rolled.take(),
                        "trainer_images": trained.take(),
                    }
                    if number:  # the first one warms up
                        results[label].append(figures)
                    words = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
                    terminal.write(f"{label} {number}: {words}\n")
    return summary(results)


def summary(results: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """The figures of the docstring, from each iteration's."""
    speed = {
        label: statistics.median(one["tokens"] / one["seconds"] for one in measured)
        for label, measured in results.items()
    }
    mixed = results["mixed"]
    images = sum(one["images"] for one in mixed)
    passes = 2  # the reference, and the optimizer step
    return {
        "mixed_share": speed["mixed"] / speed["text"],
        "text_tokens_per_second": speed["text"],
        "mixed_tokens_per_second": speed["mixed"],
        "engine_per_image": sum(one["engine_images"] for one in mixed) / images,
        "trainer_per_image": sum(one["trainer_images"] for one in mixed) / images / passes,
        "responses_per_image": sum(one["responses_with_images"] for one in mixed) / images,
        "prompt_tokens": PROMPT,
        "response_tokens": statistics.fmean(one["response_tokens"] for one in mixed),
        "iterations": len(mixed),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=5, help="of each kind, without the one that warms up")
    arguments = parser.parse_args()
    from infra.progress.logs import output, quiet_to

    with quiet_to(Path(tempfile.gettempdir()) / "vision.log"):
        measured = measure(arguments.iterations)
        output.write(json.dumps(measured | {"machine": machine()}) + "\n")


if __name__ == "__main__":
    enter_engine_environment()
    main()
