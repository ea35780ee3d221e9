"""Run by tests as a process of its own, for vLLM tears its process group down when an engine is closed.

python -m tests.steps.vision_process TASK MODEL FOLDER, where TASK prints as JSON:

    updates    what `Updates` describes, of a tiny Qwen2.5-VL; the trained model is saved in FOLDER/trained
    sample     [[tokens, log-probabilities], …] of `prompts()` from a fresh engine around MODEL
    workers    the same from two rollout workers that began with MODEL, have seen the pictures, and were then given the
               weights in FOLDER/trained
    chain      what `Chain` describes
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from infra.environment import engine_environment

os.environ.update(engine_environment())

from safetensors.torch import load_file

from infra.configs import EngineConfig, TrainerConfig
from infra.inference.engine import Engine
from infra.inference.requests import Completion, Request
from infra.inference.workers import RolloutWorkers
from infra.progress.logs import output, quiet_to
from infra.training.trainer import Trainer
from infra.vision.architectures import image_tokens
from infra.vision.folders import ImageFolders
from steps.chat import Chat
from steps.configs.curation import CurationConfig
from steps.configs.evaluation import EvaluationConfig
from steps.configs.phase import PhaseConfig
from steps.configs.rl import RlConfig
from steps.configs.sft import ExpansionConfig, SftConfig
from steps.curation import curate
from steps.engine_agreement import disagreement
from steps.evaluation import evaluate
from steps.packing import pack
from steps.problem import Example, Part, Problem
from steps.rl.checkpoint import Checkpoints
from steps.rl.iteration import RlRun, reinforce
from steps.sft import vanilla_sft
from steps.supervised import response_loss
from steps.token_example import TokenExample
from steps.token_prompt import TokenPrompt
from steps.workbench import open_workbench
from tests.processes import own_environment
from tests.vision_models import draw

PICTURES: tuple[list[int], ...] = ([0], [], [1, 2, 0], [3], [0, 0])
"""The pictures of each prompt."""
SIZES = ((40, 24), (33, 21), (64, 32), (16, 16))
ENGINE = EngineConfig(max_sequences=16, kv_cache_mb=32)


def run(task: str, model: Path, folder: Path) -> Any:
    """Start this file as a process of its own. Returns what it prints first: vLLM may complain while it ends."""
    command = [sys.executable, "-m", __name__, task, str(model), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=own_environment())
    assert done.returncode == 0, (folder / "log").read_text()[-3000:] + done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[0])


def question(number: int, text: str, images: Sequence[str]) -> Problem:
    """A problem that shows these images; its text has what would stand for one."""
    parts = [Part(type="text", text=f"{text} <image> <|image_pad|>")]
    for image in images:
        parts += [Part(type="image", image=image), Part(type="text", text=" and ")]
    return Problem(id=f"q{number}", prompt=tuple(parts), answer="1", verifier="math")


def prompts(chat: Chat, folder: Path) -> list[TokenPrompt]:
    """With 0 to 3 images; the same picture also twice."""
    pictures = [draw(folder, number, size) for number, size in enumerate(SIZES)]
    return [
        chat.read(question(n, f"see {n}", [pictures[place] for place in all_prompts]))
        for n, all_prompts in enumerate(PICTURES)
    ]


def request(chat: Chat, prompt: TokenPrompt, tokens: int, seed: int, response: Sequence[int] = ()) -> Request:
    """What the engine is asked for."""
    start = prompt.tokens if prompt.unexpanded is None else prompt.unexpanded
    more = len(prompt) - len(start)
    return Request([*start, *response], tokens, seed, images=chat.paths(prompt), image_tokens=more)


def _requests(chat: Chat, all_prompts: Sequence[TokenPrompt], begun: Sequence[Sequence[int]] = ()) -> list[Request]:
    starts = begun or [()] * len(all_prompts)
    return [request(chat, prompt, 12, seed, starts[seed]) for seed, prompt in enumerate(all_prompts)]


def sample(engine: Engine, chat: Chat, all_prompts: Sequence[TokenPrompt]) -> list[Completion]:
    """A completion of each prompt."""
    return engine.generate_all(_requests(chat, all_prompts))


class Updates(TypedDict):
    """A trainer with a trained tower, and an engine that is given its weights."""

    mismatches: list[float]
    """Largest difference of log-probabilities between both: at the start, and after each update."""
    losses: list[float]
    continued: bool
    """Whether responses that were cut and continued are those that were not."""
    forbidden: bool
    """Whether a token that stands for an image was sampled."""
    noticed: bool
    """Whether the engine stops where it makes more or fewer tokens of an image than the request says."""
    sampled: list[Any]
    """[[tokens, log-probabilities], …] after the last update."""


def updates(model: Path, folder: Path, count: int = 3, dtype: Any = "float32") -> Updates:
    """What `Updates` describes."""
    chat = Chat(model, ImageFolders((folder,)))
    all_prompts = prompts(chat, folder)
    trainer = Trainer(model, TrainerConfig(dtype=dtype), seed=0)
    engine = Engine(model, ENGINE.model_copy(update={"dtype": dtype}))

    def compare(done: Sequence[Completion]) -> float:
        worst = 0.0
        for prompt, one in zip(all_prompts, done, strict=True):
            example = TokenExample([*prompt.tokens, *one.tokens], len(prompt), images=chat.paths(prompt))
            (rows,) = pack([example], 400, 1)
            (logprobs,) = trainer.reference_logprobs([rows])
            sampled = rows.on_responses([one.logprobs])
            worst = max(worst, float((logprobs - sampled)[rows.owners >= 0].abs().max()))
        return worst

    done = sample(engine, chat, all_prompts)
    mismatches, losses = [compare(done)], []
    for number in range(count):
        examples = [
            TokenExample([*prompt.tokens, *range(20 + number % 8, 30)], len(prompt), images=chat.paths(prompt))
            for prompt in all_prompts
        ]
        rows = list(pack(examples, 400, 2))
        losses.append(trainer.step(rows, response_loss(rows), 1e-3).loss)
        engine.update_weights(trainer.weights(), number + 1)
        done = sample(engine, chat, all_prompts)
        mismatches.append(compare(done))
    trainer.save(folder / "trained")
    whole = engine.generate_all([replace(one, temperature=0.0) for one in _requests(chat, all_prompts)])
    begun = [one.tokens[:5] for one in whole]
    rest = engine.generate_all([replace(one, temperature=0.0) for one in _requests(chat, all_prompts, begun)])
    continued = all(
        begin + cut.tokens[: 12 - len(begin)] == one.tokens for begin, cut, one in zip(begun, rest, whole, strict=True)
    )
    forbidden = {token for one in [*done, *whole] for token in one.tokens} & set(image_tokens(model))
    try:
        engine.generate_all([replace(_requests(chat, all_prompts)[0], image_tokens=1)])
        noticed = False
    except RuntimeError:
        noticed = True
    engine.close()
    return {
        "mismatches": mismatches,
        "losses": losses,
        "continued": continued,
        "forbidden": bool(forbidden),
        "noticed": noticed,
        "sampled": [[one.tokens, one.logprobs] for one in done],
    }


def updated_workers(model: Path, folder: Path) -> list[Any]:
    """[[tokens, log-probabilities], …] of two rollout workers that were given new weights."""
    chat = Chat(model, ImageFolders((folder,)))
    workers = RolloutWorkers(model, ENGINE.model_copy(update={"workers": 2}))
    try:
        all_prompts = prompts(chat, folder)
        workers.generate_all(_requests(chat, all_prompts))
        workers.update_weights(load_file(folder / "trained" / "model.safetensors").items(), 1)
        return [[one.tokens, one.logprobs] for one in workers.generate_all(_requests(chat, all_prompts))]
    finally:
        workers.close()


class Chain(TypedDict):
    """A tiny model through supervised training, curation, evaluation and RL, with text and images mixed."""

    disagreement: float
    """Mean difference of log-probabilities between engine and trainer, with and without an image, at the start."""
    modalities: dict[str, float]
    """Accuracy after supervised training."""
    gap: float | None
    curated: list[str]
    removed: dict[str, int]
    continued: int
    """Responses with an image that grew in more than one iteration."""
    mismatch: float
    """The largest difference of log-probabilities between engine and trainer in RL."""
    trained: int
    """Groups that RL was trained on."""
    state_has: list[str]
    """What a checkpoint of RL says of an image's prompt."""
    resumed: bool
    """Whether a run from the last checkpoint ends like the one that was not interrupted."""


def _phase(epochs: int) -> PhaseConfig:
    return PhaseConfig(
        sequence_length=128, epochs=epochs, tokens_per_step=512, learning_rate=3e-3, final_learning_rate=1e-3
    )


def chain(model: Path, folder: Path) -> Chain:
    """What `Chain` describes."""
    pictures = [draw(folder, number, (32, 32)) for number in range(8)]
    answers = [str(1 + number % 2) for number in range(8)]
    texts = [Problem(id=f"t{n}", prompt=f"{n}?", answer=answers[n], verifier="math", domain="text") for n in range(8)]
    seen = [
        Problem(
            id=f"i{n}",
            prompt=(Part(type="image", image=pictures[n]), Part(type="text", text="?")),
            answer=answers[n],
            verifier="math",
            domain="image",
            twin=f"t{n}",
        )
        for n in range(8)
    ]
    problems = [*texts, *seen]
    examples = [
        Example(problem_id=one.id, prompt=one.prompt, response=f"so \\boxed{{{one.answer}}}") for one in problems
    ]
    with open_workbench(model, engine=ENGINE, trainer=TrainerConfig(), seed=0, images=ImageFolders((folder,))) as bench:
        _ = bench.turns  # the trainer first: a process group has to be there before vLLM
        start = disagreement(bench, bench.model, "float32")
        vanilla_sft(
            bench, examples, problems, SftConfig(phases=(_phase(8), _phase(8)), expansion=ExpansionConfig(problems=0))
        )
        bench.hand_over()
        evaluation = evaluate(bench, problems, EvaluationConfig(samples=2, max_response_tokens=16))
        curation = curate(
            bench,
            problems,
            CurationConfig(samples=2, guesses=1, max_response_tokens=16, max_prompt_tokens=64, max_pass_rate=1.0),
        )
        config = RlConfig(
            iterations=3,
            groups=4,
            oversampling=1.5,
            responses=4,
            max_response_tokens=12,
            token_budget=4,
            updates=1,
            learning_rate=1e-4,
            final_learning_rate=1e-4,
            sequence_length=128,
        )
        bench.resume_training()
        checkpoints = Checkpoints(folder / "checkpoints")
        state = reinforce(bench, seen, {one.id: 0.5 for one in seen}, config, checkpoints)
        groups = json.loads(next(checkpoints.folder.glob("0*/state.json")).read_text())["groups"]
        run = RlRun(bench, seen, {one.id: 0.5 for one in seen}, config, checkpoints)
        restored = checkpoints.restore(bench.trainer)
        assert restored is not None
        run.load_state(restored)
    return {
        "disagreement": start,
        "modalities": {name: one.accuracy for name, one in evaluation.modalities.items()},
        "gap": evaluation.twins.gap if evaluation.twins else None,
        "curated": [one.id for one in curation.problems],
        "removed": curation.removed,
        "continued": sum(int(len(t.segments) > 1) for group in state.groups for t in group.trajectories),
        "mismatch": max(float(one.engine_mismatch or 0) for one in state.history),
        "trained": round(sum(one.groups_done for one in state.history)),
        "state_has": sorted(groups[0]["prompt"]) if groups else [],
        "resumed": [g.prompt for g in run.buffer.groups] == [g.prompt for g in state.groups],
    }


def main() -> None:
    """See above."""
    task, model, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    with quiet_to(folder / "log"):
        if task == "updates":
            answer: Any = updates(model, folder)
        elif task == "chain":
            answer = chain(model, folder)
        elif task == "workers":
            answer = updated_workers(model, folder)
        else:
            chat = Chat(model, ImageFolders((folder,)))
            engine = Engine(model, ENGINE)
            answer = [[one.tokens, one.logprobs] for one in sample(engine, chat, prompts(chat, folder))]
            engine.close()
        output.write(json.dumps(answer) + "\n")
        output.flush()


if __name__ == "__main__":
    main()
