"""The recipe's data sets: generated, or read from its sources, in the one schema.

Of problems with the same prompt the first stays, among the training and among the test problems: the gates of later
stages refuse two. Examples that belonged to another one belong to it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infra.store.source import Source
from steps.configs.data import DataConfig
from steps.configs.data_source import EXAMPLES, PROBLEMS, Role
from steps.data_rows import SourceRows, read_role, stop
from steps.nano_world.world import generate
from steps.problem import Example, MalformedRow, Part, Problem, Prompt
from steps.row_images import RowImages
from steps.solutions import solved_examples

VERIFIERS = ("math", "code", "custom")
"""Names under which instructions may stand besides domains."""


@dataclass
class DataSets:
    """Problems and examples by role."""

    problems: dict[Role, list[Problem]] = field(default_factory=dict)
    examples: dict[Role, list[Example]] = field(default_factory=dict)
    sources: list[SourceRows] = field(default_factory=list)
    """What each source has; none where the data are generated."""
    duplicates: dict[Role, dict[str, str]] = field(default_factory=dict)
    """By id of a problem that was dropped, the id of the one with the same prompt that stays."""

    @property
    def rows(self) -> dict[Role, Sequence[Problem | Example]]:
        """All rows by role."""
        return {**self.problems, **self.examples}


def make_data_sets(
    config: DataConfig,
    sources: Mapping[str, Source],
    seed: int,
    on_refused: Callable[[MalformedRow], None] = stop,
    folder: Path | None = None,
) -> DataSets:
    """All data sets of a recipe; their images go below `folder`, or nowhere without one.

    Raises as steps.data_rows.read_role does, and ValueError for an instruction of problems that are not there.
    """
    images = RowImages(folder, config.images.limits)
    if config.nano_world is not None:
        world = generate(config.nano_world, seed, images)
        sets = DataSets({"train": world.train, "test": world.test}, {"sft": world.sft, "long_cot": world.long_cot})
        sets.duplicates = {role: {} for role in PROBLEMS}
    else:
        sets = _read(config, sources, seed, on_refused, images)
    for key, texts in (("instructions", config.instructions), ("system_prompts", config.system_prompts)):
        _check_names(f"data.{key}", texts, sets)
    return _instructed(sets, config) if config.instructions or config.system_prompts else sets


def _read(
    config: DataConfig,
    sources: Mapping[str, Source],
    seed: int,
    on_refused: Callable[[MalformedRow], None],
    images: RowImages,
) -> DataSets:
    assert config.sources is not None
    sets = DataSets()
    for role in PROBLEMS:
        rows, parts = read_role(sources, config.sources, role, seed, on_refused, images)
        sets.sources += parts
        problems = [row for row in rows if isinstance(row, Problem)]
        sets.problems[role], sets.duplicates[role] = without_duplicates(problems)
    for role in EXAMPLES:
        rows, parts = read_role(sources, config.sources, role, seed, on_refused, images)
        sets.sources += parts
        stays = sets.duplicates["train"]
        sets.examples[role] = [
            row.model_copy(update={"problem_id": stays.get(row.problem_id, row.problem_id)})
            for row in rows
            if isinstance(row, Example)
        ]
    if not config.sources.sft:
        sets.examples["sft"] = solved_examples(sets.problems["train"])
    return sets


def without_duplicates(problems: Sequence[Problem]) -> tuple[list[Problem], dict[str, str]]:
    """The first problem with each prompt, and the ids of the others, each with the id of the one that stays."""
    first: dict[str, Problem] = {}
    dropped: dict[str, str] = {}
    for problem in problems:
        earlier = first.setdefault(problem.digest, problem)
        if earlier is not problem:
            dropped[problem.id] = earlier.id
    return list(first.values()), dropped


def _check_names(key: str, texts: Mapping[str, str], sets: DataSets) -> None:
    domains = {problem.domain for problems in sets.problems.values() for problem in problems}
    if unknown := [name for name in texts if name not in domains and name not in VERIFIERS]:
        raise ValueError(
            f"{key}: {unknown[0]!r} is not a verifier ({', '.join(VERIFIERS)}), and no problem has that domain: those "
            f"of the problems are {', '.join(sorted(domains))}"
        )


def _of(problem: Problem, texts: Mapping[str, str]) -> str:
    """The text for a problem: its domain's, or its verifier's; empty where there is none."""
    return texts.get(problem.domain, texts.get(problem.verifier, ""))


def _instructed(sets: DataSets, config: DataConfig) -> DataSets:
    """The data sets in which each problem, and its examples, have the system turn and say how the answer is to be
    given."""
    added: dict[str, str] = {}
    systems: dict[str, str] = {}
    for role, problems in sets.problems.items():
        texts = {problem.id: text for problem in problems if (text := _of(problem, config.instructions))}
        turns = {problem.id: text for problem in problems if (text := _of(problem, config.system_prompts))}
        sets.problems[role] = [
            _with_instruction(problem, texts.get(problem.id)).model_copy(
                update={"system": problem.system or turns.get(problem.id, "")}
            )
            for problem in problems
        ]
        added |= texts
        systems |= turns
    for role, examples in sets.examples.items():
        sets.examples[role] = [
            one.model_copy(
                update={
                    "prompt": _followed(one.prompt, added[one.problem_id]) if one.problem_id in added else one.prompt,
                    "system": one.system or systems.get(one.problem_id, ""),
                }
            )
            for one in examples
        ]
    return sets


def _with_instruction(problem: Problem, instruction: str | None) -> Problem:
    if instruction is None:
        return problem
    return problem.model_copy(update={"prompt": _followed(problem.prompt, instruction)})


def _followed(prompt: Prompt, instruction: str) -> Prompt:
    if isinstance(prompt, str):
        return f"{prompt}\n\n{instruction}"
    return (*prompt, Part(type="text", text=instruction))
