"""The data stage: the recipe's data sets, generated or converted from files into the one schema.

longhaul run --config configs/nano.yaml --only data
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.stages.contract import StageContext, StageOutput
from steps.configs.data import EXAMPLES, PROBLEMS, DataConfig
from steps.data_rows import SourceRows, read_role
from steps.nano_world.world import generate
from steps.problem import Example, Part, Problem, load_examples, load_problems, save_rows
from steps.solutions import solved_examples
from steps.stages.settings import Settings


def run(context: StageContext, settings: Settings[DataConfig]) -> StageOutput:
    """Write train, test, sft and long_cot as JSONL. Raises MalformedRow naming file, line and reason.

    Of problems with the same prompt the first stays, among the training and among the test problems: the gates of later
    stages refuse two. Examples that belonged to another one belong to it. Without a source of SFT examples, they are
    the training problems' own solutions.
    """
    folder = context.folder / "data"
    config = settings.own
    duplicates: dict[str, dict[str, str]] = {"train": {}, "test": {}}
    refused: dict[str, int] = {}
    if config.nano_world is not None:
        generate(config.nano_world, context.seed).save(folder)
    else:
        assert config.sources is not None
        for role in PROBLEMS:
            rows, parts = read_role(context.sources, config.sources, role, context.seed)
            refused |= _refused(parts)
            problems = [row for row in rows if isinstance(row, Problem)]
            distinct, duplicates[role] = without_duplicates(problems)
            save_rows(folder / f"{role}.jsonl", distinct)
        for role in EXAMPLES:
            rows, parts = read_role(context.sources, config.sources, role, context.seed)
            refused |= _refused(parts)
            examples = [row for row in rows if isinstance(row, Example)]
            belongs = [duplicates["train"].get(example.problem_id, example.problem_id) for example in examples]
            moved = [one.model_copy(update={"problem_id": id}) for one, id in zip(examples, belongs, strict=True)]
            save_rows(folder / f"{role}.jsonl", moved)
        if not config.sources.sft:
            save_rows(folder / "sft.jsonl", solved_examples(load_problems(folder / "train.jsonl")))
    if config.instructions:
        _instruct(folder, config.instructions)
    rows_of = {path.stem: sum(1 for _ in path.open()) for path in sorted(folder.glob("*.jsonl"))}
    dropped = {name: len(ids) for name, ids in duplicates.items()}
    counts = [f"{count} of {name}" for name, count in dropped.items() if count]
    headline = f"dropped problems whose prompt occurs before: {', '.join(counts)}" if counts else ""
    metrics: dict[str, Any] = {"rows": rows_of, "duplicates": dropped}
    if refused:
        metrics["refused"] = refused
        headline = f"{headline}{'; ' if headline else ''}skipped rows that cannot be read: {sum(refused.values())}"
    return StageOutput({"data": ("dataset", folder)}, metrics, headline=headline)


def _refused(parts: Sequence[SourceRows]) -> dict[str, int]:
    return {part.key: len(part.refused) for part in parts if part.refused}


def without_duplicates(problems: Sequence[Problem]) -> tuple[list[Problem], dict[str, str]]:
    """The first problem with each prompt, and the ids of the others, each with the id of the one that stays."""
    first: dict[str, Problem] = {}
    dropped: dict[str, str] = {}
    for problem in problems:
        earlier = first.setdefault(problem.digest, problem)
        if earlier is not problem:
            dropped[problem.id] = earlier.id
    return list(first.values()), dropped


def _instruct(folder: Path, instructions: Mapping[Any, str]) -> None:
    """Add to each problem's prompt, and to those of its examples, how the answer is to be given."""
    added: dict[str, str] = {}
    for name in ("train", "test"):
        problems = load_problems(folder / f"{name}.jsonl")
        added |= {one.id: instructions[one.verifier] for one in problems if instructions.get(one.verifier)}
        save_rows(folder / f"{name}.jsonl", [_instructed(one, added.get(one.id)) for one in problems])
    for name in ("sft", "long_cot"):
        examples = load_examples(folder / f"{name}.jsonl")
        save_rows(
            folder / f"{name}.jsonl",
            [
                one.model_copy(update={"prompt": f"{one.prompt}\n\n{added[one.problem_id]}"})
                if one.problem_id in added
                else one
                for one in examples
            ],
        )


def _instructed(problem: Problem, instruction: str | None) -> Problem:
    if instruction is None:
        return problem
    if isinstance(problem.prompt, str):
        return problem.model_copy(update={"prompt": f"{problem.prompt}\n\n{instruction}"})
    return problem.model_copy(update={"prompt": (*problem.prompt, Part(type="text", text=instruction))})
