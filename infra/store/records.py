"""The records that a store keeps of runs: JSON, added and never changed, from which all lineage is derived.

    stages/<key>             a stage that succeeded, under its key: what a later run may reuse
    stage-runs/<run>         each stage that the run ran, reused, or failed at
    runs/<run>               the run's start and end
    tags/<tag>               what a tag was set to, one record for each time
    notes/<run>              what people wrote down about the run
    publications/<digest>    where a model was published, one record for each time
    portable-keys/<key>      keys of stages that differ from this one in the numeric environment alone
    definitions/<digest>     digests of the functions and constants in the modules that stages' code reached

Whoever copies a store's bucket copies its lineage. A record says its format; one from a newer version is refused rather
than half understood.
"""

import json
from collections.abc import Iterator
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.progress.tasks import say
from infra.store.evaluation import Evaluation
from infra.store.store import Corrupted, Ref, Store, StoreError

FORMAT = 2
"""The newest format of records that this version reads, and the one that it writes."""


class Record(BaseModel):
    """What all records have."""

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT


class Failure(BaseModel):
    """How a stage failed."""

    model_config = ConfigDict(extra="forbid")

    error: str
    """The exception's type and message."""
    log: str | None = None
    """The file, on the machine that it ran on, that holds what the engines printed."""


class OtherBytes(BaseModel):
    """Outputs that are not those of an earlier success with the same key."""

    model_config = ConfigDict(extra="forbid")

    run: str
    """The earlier run."""
    outputs: list[str]
    """Names of the outputs whose digests differ."""


class ForkPoint(BaseModel):
    """The iteration of an earlier run from which a stage continued."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str
    """The run that ran the stage, rather than one that reused it."""
    stage: str
    iteration: int
    """Iterations that were done then."""

    def __str__(self) -> str:
        return f"{self.run}:{self.stage}@{self.iteration}"


ITERATION = "iteration"
"""The kind of artifact that a stage may be continued from."""


class StageRecord(Record):
    """What a stage ran with and what it made."""

    stage: str
    key: str
    key_format: int = 1
    """By which rules the key was made (infra/stages/key.py)."""
    run: str
    started: str
    """UTC, ISO 8601."""
    seconds: float
    peak_memory_mb: float
    seed: int | None
    """None where the stage uses none."""
    config: dict[str, Any]
    """The settings that the stage uses."""
    inputs: dict[str, Ref]
    upstream: dict[str, str]
    """By input name, the digest of what the stage reads of it; in keys of format 1, the key of the stage that made
    it."""
    sources: dict[str, str] = {}
    """Digest of what was read from outside the store, by address."""
    source_digests: dict[str, str] = {}
    """The same digests by the recipe's keys that name the addresses: these are in the stage's key."""
    outputs: dict[str, Ref]
    iterations: dict[int, Ref] = Field({}, exclude_if=lambda value: not value)
    """What was kept to continue from, by the number of iterations done. These are no outputs: which are kept changes
    nothing that the stage makes, and gc may have deleted them (infra/store/garbage.py)."""
    forked_from: ForkPoint | None = Field(None, exclude_if=lambda value: value is None)
    """None where the stage began at its beginning."""
    code: str
    """Digest of `modules`."""
    modules: dict[str, str] = {}
    """Digest of each of the project's modules and files that the stage reaches, by module name or path."""
    definitions: str | None = None
    """Name of the record of the modules' functions and constants (`definitions/<digest>`)."""
    commit: str | None
    diff: str | None = None
    """SHA-256 of what differs from the commit in files that git tracks; None where nothing does."""
    packages: dict[str, str]
    """Versions of the packages that the stage's code imports."""
    environment: dict[str, str] = {}
    """What of the machine shapes numbers (infra/stages/numeric_environment.py)."""
    sandboxes: list[str] = []
    """What untrusted programs ran in: the backend and what was wrong with one that comes before it, or a service."""
    gates_key: str | None = None
    """Digest of the rules and the code of the gates on what the stage reads."""
    gates: list[dict[str, Any]]
    """Results of the data gates (`dataclasses.asdict` of infra.gates.result.GateResult)."""
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    """Metrics over the stage's steps, as they were logged."""
    evaluation: Evaluation | None
    """In the record of an evaluation; records of format 1 have it beside the model that they made."""
    tracking_id: str | None = None
    """Id of the stage's run in the tracker; None where nothing was tracked."""
    reused_from: str | None = None
    """The run whose outputs are reused; all figures are of that run."""
    reused_despite: list[str] = []
    """In what the numeric environment of the reused run differs from this run's, where the recipe allows that."""
    other_bytes: OtherBytes | None = None
    """Set where the stage ran and made something else than an earlier success with the same key."""
    failure: Failure | None = None
    """None where the stage succeeded. A stage that failed has no outputs."""


class RunRecord(Record):
    """A run's start, or its end."""

    run: str
    event: Literal["started", "ended"]
    time: str
    """UTC, ISO 8601."""
    recipe: dict[str, Any] = {}
    """The whole recipe, at the start."""
    command: list[str] = []
    """What was asked for, at the start: the arguments of `longhaul`."""
    status: Literal["running", "succeeded", "failed", "interrupted"] = "running"
    error: str | None = None
    """The last error, at the end of a run that did not succeed."""


class TagRecord(Record):
    """A tag was set to a model, or taken away."""

    tag: str
    model: Ref | None
    """None where the tag was taken away."""
    stage: str | None
    run: str | None
    """Where the model comes from."""
    time: str
    """UTC, ISO 8601."""
    by: str
    """The user who set it."""
    reason: str = ""
    gates: list[dict[str, Any]] = []
    """What the promotion was checked against: rule, value, limit, passed."""


class PublicationRecord(Record):
    """A model was published."""

    model: Ref
    stage: str
    run: str
    """Where the model comes from."""
    address: str
    """An absolute path, an s3:// address, or hf://owner/name@commit."""
    time: str
    """UTC, ISO 8601."""
    by: str
    """The user who did it."""


class NoteRecord(Record):
    """What somebody wrote down about a run."""

    run: str
    text: str
    time: str
    """UTC, ISO 8601."""
    by: str
    """The user who did it."""


class PortableKeyRecord(Record):
    """A key of a stage; the name of the record is the digest of its parts without the numeric environment."""

    key: str
    stage: str


class DefinitionsRecord(Record):
    """What stood in the modules that a stage reached."""

    modules: dict[str, dict[str, str]]
    """By module, the digest of each function, class and constant at its top level, shortened."""


RecordT = TypeVar("RecordT", bound=Record)

KINDS: dict[str, type[Record]] = {
    "stages": StageRecord,
    "stage-runs": StageRecord,
    "runs": RunRecord,
    "tags": TagRecord,
}
"""The type of the records that lineage is derived from, below each first part of a name."""


def parse_record(kind: type[RecordT], raw: dict[str, Any], where: str) -> RecordT:
    """A record from its JSON. Raises StoreError for a newer format, Corrupted for anything else.

    `where` is what messages call it.
    """
    written = raw.get("format", FORMAT)
    if isinstance(written, int) and written > FORMAT:
        raise StoreError(
            f"{where} was written by a newer version of Longhaul (format {written}; this one reads up to {FORMAT}): "
            "upgrade it"
        )
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise Corrupted(f"{where} is not a {kind.__name__}: {error}") from error


def read(store: Store, kind: type[RecordT], name: str) -> Iterator[RecordT]:
    """The records of a kind under a name, oldest first. Raises as parse_record and Store.read_records do."""
    for raw in store.read_records(name):
        yield parse_record(kind, raw, f"{store.backend.address}/records/{name}")


def read_valid(store: Store, kind: type[RecordT], name: str) -> tuple[list[RecordT], list[str]]:
    """The records of a kind under a name that can be read, oldest first, and why others cannot.

    Raises StoreError for a newer format.
    """
    raws, unreadable = store.read_valid(store.list_records(name))
    valid: list[RecordT] = []
    problems = list(unreadable.values())
    for key, raw in raws.items():
        try:
            valid.append(parse_record(kind, raw, f"{store.backend.address}/records/{key}"))
        except Corrupted as error:
            problems.append(str(error))
    return valid, problems


def read_skipping(store: Store, kind: type[RecordT], name: str) -> Iterator[RecordT]:
    """As `read`, but says which records cannot be read, and continues without them."""
    valid, problems = read_valid(store, kind, name)
    for problem in problems:
        say(f"skipped: {problem.splitlines()[0]}")
    yield from valid


def write(store: Store, name: str, record: Record) -> None:
    """Add a record under a name. Figures that are not finite become null, for which JSON has a word."""
    store.write_record(name, json.loads(record.model_dump_json()))
