"""What a recipe reads, and what of it later stages would refuse or leave out: all that can be said without a model."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from infra.progress.tasks import task
from infra.store.source import Source
from steps.chat import Chat
from steps.configs.data_source import Role
from steps.data_sets import DataSets, make_data_sets
from steps.problem import Example, MalformedRow, Problem, digest_of
from steps.question_form import form_of
from steps.recipe import Recipe

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class SourceSummary:
    """One source."""

    key: str
    address: str
    read: int
    refused: int
    used: int
    """Fewer than were read where sources are mixed by weight."""


@dataclass(frozen=True)
class Lengths:
    """Lengths in tokens."""

    percentiles: dict[int, int]
    longest: int


@dataclass
class RoleSummary:
    """The rows of one role."""

    rows: int
    duplicates: int
    """Problems that are dropped, since their prompt occurs before."""
    prompts: Lengths | None = None
    """In the chat format; None where the tokenizer is not at hand."""
    responses: Lengths | None = None
    """Of examples, all turns together."""
    first: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class DataCheck:
    """What `longhaul data check` reports."""

    roles: dict[str, RoleSummary]
    sources: list[SourceSummary]
    refused: list[str]
    """All rows that cannot be read: file, row and reason."""
    stops: list[str] = field(default_factory=list)
    """Why a run would end with these data, in words with counts."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Training problems that curation leaves out without asking a model, by reason."""

    @property
    def usable(self) -> bool:
        """Whether a run can read the data and train on them."""
        return not self.stops

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"usable": self.usable}


def check_data(
    recipe: Recipe, sources: Mapping[str, Source], chat: Chat | None, examples_shown: int, folder: Path
) -> DataCheck:
    """Read all data of a recipe.

    Args:
        sources: what was brought, by the recipe's keys.
        chat: the chat format of the recipe's checkpoint; without it there are no lengths.
        examples_shown: first rows of each role to show.
        folder: where the rows' images go, and `chat` finds them.

    Raises MalformedRow for a file that cannot be read to its end, and for a source without rows.
    """
    stopping: list[MalformedRow] = []
    sets = make_data_sets(recipe.data, sources, recipe.seed, stopping.append, folder)
    check = DataCheck(
        roles={},
        sources=[
            SourceSummary(part.key, part.address, len(part.rows), len(part.refused), part.used) for part in sets.sources
        ],
        refused=[str(row) for part in sets.sources for row in part.refused],
    )
    if stopping:
        check.stops.append(f"{len(stopping)} rows cannot be read: correct them, or set skip_refused for their source")
    measure = _Measure(chat)
    for role, rows in sets.rows.items():
        check.roles[role] = _summary(role, rows, len(sets.duplicates.get(role, ())), measure, examples_shown)
        if not rows and recipe.data.has(role):
            check.stops.append(f"{role} has no rows that can be read")
    _curation(recipe, sets, measure, check)
    _training(recipe, sets, measure, check)
    if measure.refused:
        check.stops.append(
            f"{len(measure.refused)} rows cannot be written in the chat format, the first: {measure.refused[0]}"
        )
    return check


class _Measure:
    """Lengths of rows in tokens, each counted once; why the chat format cannot take some is in `refused`."""

    def __init__(self, chat: Chat | None) -> None:
        self.refused: list[str] = []
        self._chat = chat
        self._lengths: dict[int, tuple[int, int] | None] = {}

    def __call__(self, row: Problem | Example) -> tuple[int, int] | None:
        """Tokens of the prompt, which of an example is all before its first response, and of everything; None where
        they cannot be counted."""
        if self._chat is not None and id(row) not in self._lengths:
            try:
                self._lengths[id(row)] = _tokens(self._chat, row)
            except ValueError as error:
                self._lengths[id(row)] = None
                self.refused.append(str(error))
        return self._lengths.get(id(row))


def _tokens(chat: Chat, row: Problem | Example) -> tuple[int, int]:
    if isinstance(row, Problem):
        length = len(chat.prompt(row))
        return length, length
    example = chat.conversation(row)
    return example.prompt_length, len(example.tokens)


def _summary(
    role: Role, rows: Sequence[Problem | Example], duplicates: int, measure: _Measure, examples_shown: int
) -> RoleSummary:
    first = [row.model_dump(mode="json", exclude_defaults=True) for row in rows[:examples_shown]]
    lengths = []
    with task(f"count tokens of {role}", total=len(rows), unit="rows") as progress:
        for row in rows:
            if (length := measure(row)) is not None:
                lengths.append(length)
            progress.advance(1)
    prompts = _lengths([prompt for prompt, _ in lengths])
    responses = _lengths([whole - prompt for prompt, whole in lengths if whole > prompt])
    return RoleSummary(len(rows), duplicates, prompts, responses, first)


def _lengths(lengths: Sequence[int]) -> Lengths | None:
    if not lengths:
        return None
    cuts = statistics.quantiles(lengths, n=100, method="inclusive") if len(lengths) > 1 else [lengths[0]] * 99
    return Lengths({percent: round(cuts[percent - 1]) for percent in PERCENTILES}, max(lengths))


def _curation(recipe: Recipe, sets: DataSets, measure: _Measure, check: DataCheck) -> None:
    """What curation's rules leave out that need no model."""
    limit = recipe.curation.max_prompt_tokens
    left_out: Counter[str] = Counter()
    for problem in sets.problems["train"]:
        form = form_of(problem)
        length = measure(problem)
        if form is not None:
            left_out[form] += 1
        elif length is not None and length[0] > limit:
            left_out[f"longer than curation.max_prompt_tokens ({limit})"] += 1
    check.left_out = dict(left_out)
    if left_out.total() == len(sets.problems["train"]):
        check.stops.append("curation would leave out every problem of train")


def _training(recipe: Recipe, sets: DataSets, measure: _Measure, check: DataCheck) -> None:
    """What the gates before training refuse: repetitions of held-out problems, and examples longer than a row."""
    held_out = {problem.digest for problem in sets.problems["test"]}
    digests_of: dict[Role, Iterable[tuple[str, set[str]]]] = {
        "train": ((one.id, {one.digest}) for one in sets.problems["train"]),
        **{role: ((one.problem_id, _digests(one)) for one in rows) for role, rows in sets.examples.items()},
    }
    for role, rows in digests_of.items():
        if same := [name for name, digests in rows if digests & held_out]:
            check.stops.append(f"{len(same)} rows of {role} ask what a problem of test asks, the first {same[0]}")
    rows_of = {
        "sft": ("vanilla_sft.phases", min(phase.sequence_length for phase in recipe.vanilla_sft.phases)),
        "long_cot": ("long_cot_sft.phase", recipe.long_cot_sft.phase.sequence_length),
    }
    for role, examples in sets.examples.items():
        key, room = rows_of[role]
        if long := [one for one in examples if (measure(one) or (0, 0))[1] > room]:
            check.stops.append(
                f"{len(long)} rows of {role} are longer than {key}.sequence_length ({room} tokens), the first of "
                f"{long[0].problem_id}"
            )
    known = {problem.id for problem in sets.problems["train"]}
    paths = sets.examples["long_cot"]
    if paths and not any(path.problem_id in known for path in paths):
        check.stops.append("no path of long_cot belongs to a problem of train: problem_id has to be a problem's id")


def _digests(example: Example) -> set[str]:
    return {digest_of(prompt) for prompt, _ in example.exchanges}
