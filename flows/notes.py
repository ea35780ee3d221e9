"""Notes on runs: what people write down about them, as records that are added and never changed."""

from collections.abc import Iterable
from datetime import UTC, datetime

from flows.user import user_name
from infra.errors import LonghaulError
from infra.store import records
from infra.store.records import NoteRecord
from infra.store.store import Store

LONGEST = 2000
"""Characters of a note."""


class NoteRefused(LonghaulError, ValueError):
    """A note that cannot be recorded; the message says why."""


def add_note(store: Store, run: str, text: str) -> NoteRecord:
    """Record a note on a run, which must exist. Raises NoteRefused."""
    text = text.strip()
    if not text or len(text) > LONGEST:
        raise NoteRefused(f"a note has 1 to {LONGEST:,} characters, and this one has {len(text):,}")
    note = NoteRecord(run=run, text=text, time=datetime.now(UTC).isoformat(timespec="seconds"), by=user_name())
    records.write(store, f"notes/{run}", note)
    return note


def notes_of(store: Store, runs: Iterable[str]) -> dict[str, list[NoteRecord]]:
    """The notes on some runs, oldest first; runs without any are left out."""
    having = {key.split("/")[1] for key in store.list_records("notes")}
    return {run: list(records.read_skipping(store, NoteRecord, f"notes/{run}")) for run in runs if run in having}
