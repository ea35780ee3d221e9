"""The results of queries: rows of tables, a run in full, and what an update did."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from infra.store.records import RunRecord, StageRecord

RowT = TypeVar("RowT")


@dataclass(frozen=True)
class Page(Generic[RowT]):
    """Some rows of a table."""

    rows: tuple[RowT, ...]
    total: int
    """Rows of the whole table that match the text which was searched for."""
    offset: int
    """Number of rows before the first of these."""


@dataclass(frozen=True)
class RunRow:
    """A run, in a line. Texts come from users."""

    id: str
    """The node's id."""
    run: str
    recipe: str | None
    status: str
    """running, succeeded, failed or interrupted; unknown where the run's own records are missing. A run that was killed
    stays running."""
    started: str
    """UTC, ISO 8601."""
    seconds: float | None
    """From its start to its end; None before that."""
    stages: int
    """Stages that it ran, reused, or failed at; an evaluation counts as part of its stage."""
    reused: int
    """Those of them that it reused."""
    failed_stage: str | None
    accuracy: float | None
    """Of the last model that was evaluated, 0 to 1."""
    seed: int | None


@dataclass(frozen=True)
class ModelRow:
    """A model, in a line, with the first execution that made it."""

    id: str
    """The node's id."""
    digest: str
    name: str
    """The output's name."""
    stage: str | None
    """None where no record says what made the model; `run` and `started` are so then as well."""
    run: str | None
    started: str | None
    accuracy: float | None
    """0 to 1, of the model's newest evaluation; None where it was not evaluated. `mean_tokens` likewise."""
    mean_tokens: float | None
    """Of a response."""
    size: int | None
    """Bytes."""
    address: str
    tags: tuple[str, ...]
    """Those that are set to it now."""


@dataclass(frozen=True)
class DataRow:
    """An artifact other than a model, or a file that was read from outside the store, in a line."""

    id: str
    """The node's id."""
    source: bool
    """Whether it was read from outside the store."""
    digest: str
    kind: str
    """The artifact's kind; `file` for what was read from outside."""
    name: str
    """The output's name, or the file's address."""
    stage: str | None
    """What made it, or what read it first where it comes from outside; `run` and `started` likewise."""
    run: str | None
    started: str | None
    size: int | None
    """Bytes; None for what was read from outside."""
    files: int | None
    address: str


@dataclass(frozen=True)
class RunDetail:
    """All that is recorded of a run."""

    row: RunRow
    start: RunRecord | None
    """The newest, where the run was started again; None where it is missing."""
    end: RunRecord | None
    """None where the run has not ended since."""
    stages: tuple[StageRecord, ...]
    """In the order in which they were recorded. Of a stage that was reused: the record of the run that ran it, with
    `reused_from`."""
    recorded: Mapping[str, str | None] = field(default_factory=dict)
    """By stage, when this run recorded it (UTC, ISO 8601): the only time of its own that it has of a reused stage."""


@dataclass(frozen=True)
class SyncResult:
    """What an update of the index did."""

    new: int
    """Records that were added."""
    total: int
    """Records that the index now has."""
    seconds: float
    problems: tuple[str, ...]
    """Records that were skipped because they cannot be read, and why. They are tried again every time."""
