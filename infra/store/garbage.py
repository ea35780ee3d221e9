"""Finds and deletes stored folders that nothing refers to any more.

What the records of a retained run refer to stays, and what a tag is set to, all that either was made from, and what
was put recently: a running stage may be about to refer to it. What a stage kept of its iterations goes first: once it
is old, also where the run is retained, unless a run that continued from it, or what was made of that, stays. While a
record cannot be read, no folder goes, for it may be what that record refers to. Records are never deleted, so the
lineage stays; a folder that is gone leaves a note of when it was deleted. Its manifest goes first: at no time is there
half a folder.
"""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from infra.store.backend import Leftover
from infra.store.inventory import Artifact, References, artifacts, references
from infra.store.store import COLLECTED, Store, StoreError, object_prefix

DAY = 86400.0
ITERATION_DAYS = 14.0
"""How long an iteration stays that nothing continued from."""


@dataclass(frozen=True)
class Plan:
    """What gc would do."""

    deleted: tuple[Artifact, ...]
    leftovers: tuple[Leftover, ...]
    """What interrupted transfers have left."""
    retained: int
    """Number of artifacts that stay."""
    retained_size: int
    young: int
    """Those of them that stay only because they were put recently."""
    dropped_runs: tuple[str, ...]
    problems: tuple[str, ...]
    """Why files among the records cannot be read."""
    held: bool
    """Whether one of them is a record: then no folder is deleted."""
    records: frozenset[str]
    """Keys of the records that it was made from."""
    iterations: frozenset[str]
    """Those of the deleted that were kept to continue from, by digest."""
    before: float
    """What was put after this time stays; seconds since 1970."""

    @property
    def size(self) -> int:
        """Bytes that it frees."""
        return sum(artifact.size for artifact in self.deleted) + sum(leftover.size for leftover in self.leftovers)


def plan(
    store: Store,
    keep_runs: int | None = None,
    drop_runs: Sequence[str] = (),
    grace_seconds: float = DAY,
    iteration_seconds: float = ITERATION_DAYS * DAY,
) -> Plan:
    """What to delete: all that no run refers to, where neither option drops runs, and old iterations.

    Args:
        keep_runs: number of newest runs to retain, besides those with a record younger than the grace.
        drop_runs: runs not to retain.
        grace_seconds: what was put since then stays.
        iteration_seconds: so do iterations of retained runs that were put since then.

    Raises StoreError for a run that is not there or may still be running, and for a record of a newer format.
    """
    before = time.time() - grace_seconds
    aged = min(before, time.time() - iteration_seconds)
    # Folders first: what is put after the records were read is not among them.
    folders = artifacts(store)
    known = references(store)
    dropped = _dropped(known, keep_runs, drop_runs, before)
    roots = [*known.others, *(digest for tagged in known.tags.values() for digest in tagged)]
    recent = {artifact.digest for artifact in folders if artifact.put >= aged}
    for run, digests in known.runs.items():
        if run not in dropped:
            roots.extend(digests - (known.iterations[run] - known.read[run] - recent))
    needed = known.descent(roots)
    unneeded = [artifact for artifact in folders if artifact.digest not in needed]
    deleted = () if known.unreadable else tuple(artifact for artifact in unneeded if artifact.put < before)
    size = sum(artifact.size for artifact in folders) - sum(artifact.size for artifact in deleted)
    return Plan(
        deleted=deleted,
        leftovers=tuple(leftover for leftover in store.backend.leftovers() if leftover.modified < before),
        retained=len(folders) - len(deleted),
        retained_size=size,
        young=sum(artifact.put >= before for artifact in unneeded),
        problems=tuple(known.problems),
        held=bool(known.unreadable),
        dropped_runs=tuple(sorted(dropped)),
        records=frozenset(known.keys),
        iterations=frozenset(set().union(*known.iterations.values()) & {artifact.digest for artifact in deleted}),
        before=before,
    )


def _dropped(known: References, keep_runs: int | None, drop_runs: Sequence[str], before: float) -> set[str]:
    dropped: set[str] = set()
    if keep_runs is not None:
        newest_last = sorted(known.runs, key=lambda run: (known.began.get(run, 0), run))
        old = newest_last[: max(0, len(newest_last) - keep_runs)]
        dropped.update(run for run in old if known.last.get(run, 0) < before)
    for run in drop_runs:
        if run not in known.runs:
            raise StoreError(f"there is no run {run}; the newest are {', '.join(_newest(known)) or 'none'}")
        if run not in known.ended and known.last.get(run, 0) >= before:
            raise StoreError(f"run {run} has not ended and may still be running: end it, or name a shorter grace")
        dropped.add(run)
    return dropped


def _newest(known: References) -> list[str]:
    return sorted(known.runs, key=lambda run: known.began.get(run, 0), reverse=True)[:5]


def collect(store: Store, planned: Plan) -> tuple[int, int]:
    """Delete what a plan names, unless it was put or referred to since; returns their number and the bytes freed."""
    written_since = [key for key in store.list_records() if key not in planned.records]
    news = references(store, written_since)
    if news.unreadable:
        raise StoreError(next(iter(news.unreadable.values())))
    referred_to = news.others.union(*news.runs.values(), *news.tags.values())
    count, size = 0, 0
    for artifact in planned.deleted:
        if artifact.digest not in referred_to and _delete(store, artifact, planned.before):
            count, size = count + 1, size + artifact.size
    store.backend.drop(planned.leftovers)
    return count, size + sum(leftover.size for leftover in planned.leftovers)


def _delete(store: Store, artifact: Artifact, before: float) -> bool:
    prefix = object_prefix(artifact.digest)
    files = store.backend.files(prefix)
    manifest = files.pop("manifest.json", None)
    if (manifest is not None and manifest.modified >= before) or (manifest is None and artifact.whole):
        return False  # put again, or deleted by another gc, since the plan was made
    if manifest is not None:
        store.backend.delete([f"{prefix}/manifest.json"])
        note = {"collected": _now(), "files": artifact.files, "size": artifact.size}
        store.backend.write_text(f"{prefix}/{COLLECTED}", json.dumps(note) + "\n")
    store.backend.delete([f"{prefix}/{path}" for path in _content(files)])
    return True


def _content(files: Iterable[str]) -> list[str]:
    return [path for path in files if path != COLLECTED]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
