"""What a store holds, and which runs, stages and tags refer to it by their records.

A reference counts wherever it stands in a record, so that records which say more one day lose nothing to gc. A record
of a newer format is an error: what it refers to is not known. Nor is that of a record that is damaged: `unreadable`
names it, and gc deletes no folder while there is one.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.store.record_log import is_record_file
from infra.store.records import FORMAT
from infra.store.store import COLLECTED, Store, StoreError, object_prefix

DIGEST = re.compile(r"[0-9a-f]{64}")
OBJECT = re.compile(r"[0-9a-f]{2}/([0-9a-f]{64})/(.+)", re.DOTALL)
TIME = re.compile(r"(\d{20})-")


@dataclass(frozen=True)
class Artifact:
    """A stored folder, or what an interrupted put has left of one."""

    digest: str
    files: int
    size: int
    """Bytes on the storage."""
    put: float
    """When it was put last, in seconds since 1970 by the storage's clock."""
    whole: bool
    """Whether it has a manifest."""


def artifacts(store: Store) -> list[Artifact]:
    """Every folder of the store, by its digest."""
    store.open()
    folders: dict[str, dict[str, Any]] = defaultdict(dict)
    for path, file in store.backend.files("objects").items():
        if match := OBJECT.fullmatch(path):
            folders[match[1]][match[2]] = file
    listed = []
    for digest, files in sorted(folders.items()):
        manifest = files.pop("manifest.json", None)
        files.pop(COLLECTED, None)
        if manifest is not None or files:
            times = [manifest.modified] if manifest else [file.modified for file in files.values()]
            size = sum(max(0, file.size) for file in files.values())
            listed.append(Artifact(digest, len(files), size, max(times), manifest is not None))
    return listed


def missing(store: Store, known: "References", there: Collection[str]) -> list[str]:
    """Digests of the folders that records refer to and that are gone, though gc did not delete them.

    `there` are the digests of the folders that have a manifest.
    """
    absent = sorted(known.kinds.keys() - set(there))
    notes = store.backend.read_many([f"{object_prefix(digest)}/{COLLECTED}" for digest in absent])
    return [digest for digest, note in zip(absent, notes, strict=True) if note is None]


@dataclass
class References:
    """What the records say of artifacts, by digest."""

    keys: set[str] = field(default_factory=set)
    """The records that were read."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """By key, why a record cannot be read."""
    strays: dict[str, str] = field(default_factory=dict)
    """By key, why a file among the records that does not have the name of one cannot be read."""
    kinds: dict[str, str] = field(default_factory=dict)
    runs: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By run, all that its records refer to."""
    iterations: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By run, the iterations of its stages that were kept to continue from."""
    read: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By run, the inputs of its stages."""
    began: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    """Time of a run's first and newest record, seconds since 1970."""
    ended: set[str] = field(default_factory=set)
    stages: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By digest, RUN:STAGE of the stages that made or read it."""
    made_from: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By digest, the inputs of the stages that made it."""
    tags: dict[str, set[str]] = field(default_factory=dict)
    """By tag, what it is set to now."""
    others: set[str] = field(default_factory=set)
    """What records of no run refer to."""

    @property
    def problems(self) -> list[str]:
        """Why files among the records cannot be read."""
        return [*self.unreadable.values(), *self.strays.values()]

    def descent(self, digests: Iterable[str]) -> set[str]:
        """Artifacts with all that they were made from, to any depth."""
        reached: set[str] = set()
        waiting = list(digests)
        while waiting:
            digest = waiting.pop()
            if digest not in reached:
                reached.add(digest)
                waiting.extend(self.made_from.get(digest, ()))
        return reached

    def users(self, digest: str) -> list[str]:
        """The stages (RUN:STAGE) and tags that refer to an artifact."""
        tags = [f"tag {tag}" for tag, tagged in sorted(self.tags.items()) if digest in tagged]
        return [*tags, *sorted(self.stages.get(digest, ()))]


def references(store: Store, keys: Sequence[str] | None = None) -> References:
    """Read the records (default: all). Raises StoreError naming one of a newer format."""
    keys = store.list_records() if keys is None else keys
    references = References(set(keys))
    valid, problems = store.read_valid(keys)
    for key, problem in problems.items():
        (references.unreadable if is_record_file(key) else references.strays)[key] = problem
    for key, record in valid.items():
        written = record.get("format", FORMAT)
        if not isinstance(written, int) or written > FORMAT:
            raise StoreError(
                f"{store.backend.address}/records/{key} is of format {written!r}, and this version of Longhaul knows "
                f"formats up to {FORMAT}: upgrade it"
            )
        _add(references, key, record)
    return references


def _add(references: References, key: str, record: Mapping[str, Any]) -> None:
    name, _, file = key.rpartition("/")
    top, _, rest = name.partition("/")
    refs = dict(_refs(record))
    references.kinds.update(refs)
    if top == "tags":
        references.tags[rest] = set(refs)  # oldest first: the newest stays
        return
    run = rest if top in ("runs", "stage-runs") else record.get("run") if top == "stages" else None
    if not isinstance(run, str):
        references.others.update(refs)
        return
    references.runs[run].update(refs)
    if time := TIME.match(file):
        seconds = int(time[1]) / 1e9
        references.began[run] = min(seconds, references.began.get(run, seconds))
        references.last[run] = max(seconds, references.last.get(run, seconds))
    if top == "runs":
        (references.ended.add if record.get("event") == "ended" else references.ended.discard)(run)
    inputs, outputs, iterations = (set(dict(_refs(record.get(side)))) for side in ("inputs", "outputs", "iterations"))
    references.iterations[run] |= iterations
    references.read[run] |= inputs
    for digest in inputs | outputs | iterations:
        references.stages[digest].add(f"{run}:{record.get('stage', '?')}")
    for digest in outputs | iterations:
        references.made_from[digest] |= inputs - {digest}


def _refs(value: Any) -> Iterator[tuple[str, str]]:
    """Digest and kind of every reference in a record."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            digest, kind = one.get("digest"), one.get("kind")
            if isinstance(digest, str) and isinstance(kind, str) and DIGEST.fullmatch(digest):
                yield digest, kind
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
