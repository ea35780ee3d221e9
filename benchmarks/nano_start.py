"""What the RL benchmarks share: a nano run's long-CoT model, prompts and test problems, and RL on them, evaluated.

The run must exist: `longhaul run --config configs/nano.yaml` makes it.
"""

import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class NanoStart:
    """A nano run at the point where RL begins."""

    run: str
    model: Path
    problems: list[Any]
    """Curated prompts (`steps.problem.Problem`)."""
    pass_rates: dict[str, float]
    test: list[Any]
    prompts: Path
    """The curation stage's output."""
    data: Path
    """The data stage's output."""
    recipe: Any
    """configs/nano.yaml (`steps.recipe.Recipe`), its seed as the file has it."""


def nano_start(store: str, run: str | None = None) -> NanoStart:
    """The long-CoT stage of a run (default: the newest). Ends the process if there is none."""
    from flows.models import ModelNotFound, run_records
    from infra.store.open import open_store
    from steps.problem import load_problems
    from steps.recipe import load_recipe

    opened = open_store(store, Path(os.environ.get("LONGHAUL_HOME", ".longhaul")) / "cache" / "store")
    try:
        records = {record.stage: record for record in run_records(opened, run)}
        model = opened.fetch(records["long_cot_sft"].outputs["model"])
        prompts = opened.fetch(records["curation"].outputs["prompts"])
        data = opened.fetch(records["data"].outputs["data"])
    except (ModelNotFound, KeyError) as error:
        sys.exit(f"no nano run in {store} ({error}): longhaul run --config configs/nano.yaml makes one")
    return NanoStart(
        run=records["long_cot_sft"].run,
        model=model,
        problems=load_problems(prompts / "problems.jsonl"),
        pass_rates=json.loads((prompts / "pass_rates.json").read_text()),
        test=load_problems(data / "test.jsonl"),
        prompts=prompts,
        data=data,
        recipe=load_recipe(ROOT / "configs" / "nano.yaml"),
    )


def machine() -> dict[str, Any]:
    """The machine on which a figure was measured."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    except OSError:
        processor = platform.processor()
    return {"processor": processor, "cores": os.cpu_count(), "python": platform.python_version()} | _gpu()


def _gpu() -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        return {}
    return {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}


def learn(
    start: NanoStart,
    config: Any,
    seed: int,
    every: int,
    enough: Callable[[float], bool] = lambda tokens: False,
    reward_models: Callable[[], dict[str, Any]] = dict,
) -> dict[str, Any]:
    """RL with a configuration, held-out accuracy and length measured every few iterations and at the end.

    It ends after the configured iterations, or once `enough` is true of the tokens generated. Returns the points of
    the curve, each evaluation's responses as (length, reward), and the outcomes of the groups.
    """
    from steps.rewards.scorer import Scorer
    from steps.rl.checkpoint import Checkpoints
    from steps.rl.iteration import RlRun
    from steps.workbench import open_workbench

    points, judged = [], []
    samples = tokens = 0.0
    with (
        tempfile.TemporaryDirectory() as folder,
        open_workbench(
            start.model,
            engine=start.recipe.engine,
            trainer=start.recipe.trainer,
            seed=seed,
            scorer=lambda: Scorer(models=reward_models()),
        ) as bench,
    ):
        run = RlRun(bench, start.problems, start.pass_rates, config, Checkpoints(Path(folder)))
        while True:
            iteration = len(run.history)
            done = iteration == config.iterations or enough(tokens)
            if iteration % every == 0 or done:
                bench.hand_over()
                judged.append(held_out(bench, start))
                bench.resume_training()
                accuracy = statistics.fmean(reward for _, reward in judged[-1])
                length = statistics.fmean(length for length, _ in judged[-1])
                at = {"iteration": iteration, "samples": samples, "tokens": tokens}
                points.append(at | {"accuracy": accuracy, "length": length})
            if done:
                break
            metrics = run.iterate()
            samples += metrics.groups_done * config.responses
            tokens += metrics.rollout_tokens
        verdicts = dict(bench.scorer.counts)
    outcomes = Counter(entry.outcome for entry in run.ledger)
    return {"points": points, "judged": judged, "ledger": outcomes, "history": run.history, "verdicts": verdicts}


def held_out(bench: Any, start: NanoStart) -> list[tuple[int, float]]:
    """Length and reward of responses to the test problems, with the same seeds each time."""
    evaluation = start.recipe.evaluation
    prompts = [bench.chat.read(problem) for problem in start.test]
    most = evaluation.max_response_tokens
    rows = bench.sample(prompts, evaluation.samples, most, evaluation.temperature, name="held-out")
    pairs = [(p, bench.chat.text(c.tokens)) for p, row in zip(start.test, rows, strict=True) for c in row]
    scores = bench.scorer.score_many(pairs)
    lengths = [len(completion.tokens) for row in rows for completion in row]
    return [(length, score.value) for length, score in zip(lengths, scores, strict=True)]


def endless(model: Path, folder: Path, context: int) -> Path:
    """A copy of a model with an end token that it never learned to emit, so that lengths can be set."""
    shutil.copytree(model, folder, dirs_exist_ok=True)
    never_end(folder, context)
    return folder


def never_end(model: Path, context: int) -> None:
    """Give a model's folder the last token of the vocabulary as its end token."""
    config = json.loads((model / "config.json").read_text())
    config |= {"eos_token_id": config["vocab_size"] - 1, "max_position_embeddings": context}
    (model / "config.json").write_text(json.dumps(config))
    # The engine takes the end token from the tokenizer too.
    tokenizer = json.loads((model / "tokenizer_config.json").read_text())
    del tokenizer["eos_token"]
    (model / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (model / "generation_config.json").unlink(missing_ok=True)
