"""Publishing a stored model: its files with a card, its recipe and a marker, and a record of where it went."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import yaml

from flows.models import find_evaluation, find_model_record
from flows.user import user_name
from infra.store import records
from infra.store.publication import MARKER, Publication, Published
from infra.store.publish import publish
from infra.store.records import PublicationRecord, RunRecord, StageRecord
from infra.store.store import Store, StoreError
from steps.problem import read_rows
from steps.published_weights import dtype_of, in_dtype
from steps.report.model_card import Card, DataRows, model_card, ordered_rows, public_recipe

CARD = "README.md"
RECIPE = "recipe.yaml"
ROLES = ("train", "sft", "long_cot", "test")


def card_of(store: Store, made: StageRecord) -> Card:
    """What is known of a model, given the record of the stage that made it."""
    run = made.reused_from or made.run
    known = [
        record for record in records.read_skipping(store, StageRecord, f"stage-runs/{run}") if record.failure is None
    ]
    stages = _upstream(made, known)
    starts = [one for one in records.read_skipping(store, RunRecord, f"runs/{run}") if one.event == "started"]
    evaluations = {}
    for record in stages:
        if "model" in record.outputs and (evaluation := find_evaluation(store, record).evaluation):
            evaluations[record.stage] = evaluation
    return Card(made, stages, starts[0] if starts else None, evaluations, _data_rows(store, stages))


def _upstream(made: StageRecord, known: list[StageRecord]) -> list[StageRecord]:
    """The stage and those that made its inputs, directly or not, in the order in which they ended."""
    makers = {ref.digest: record for record in known for ref in record.outputs.values()}
    makers |= {ref.digest: made for ref in made.outputs.values()}
    needed = {made.stage}
    waiting = [made]
    while waiting:
        for ref in waiting.pop().inputs.values():
            maker = makers.get(ref.digest)
            if maker is not None and maker.stage not in needed:
                needed.add(maker.stage)
                waiting.append(maker)
    ordered = {record.stage: record for record in known if record.stage in needed}
    return [*(record for stage, record in ordered.items() if stage != made.stage), made]


def _data_rows(store: Store, stages: list[StageRecord]) -> list[DataRows]:
    """Sources and licences of the rows of the data stage. Empty where its output was collected."""
    refs = [record.outputs["data"] for record in stages if record.stage == "data" and "data" in record.outputs]
    if not refs or not store.exists(refs[0]):
        return []
    folder = store.fetch(refs[0])
    return ordered_rows(
        (role, str(row.get("source", "unknown")), str(row.get("licence", "unknown")))
        for role in ROLES
        if (path := folder / f"{role}.jsonl").is_file()
        for _, row in read_rows(path)
    )


def _imported_dtype(store: Store, card: Card) -> str | None:
    """The number format of the checkpoint that was imported; None where it is not in the store any more."""
    refs = [record.outputs["model"] for record in card.stages if record.stage == "import"]
    return dtype_of(store.fetch(refs[0])) if refs and store.exists(refs[0]) else None


@contextmanager
def publication(store: Store, made: StageRecord) -> Iterator[Publication]:
    """A model's files in the number format that was imported, with card, recipe and marker.

    Raises StoreError where they are not whole.
    """
    ref = made.outputs["model"]
    folder = store.fetch(ref)
    card = card_of(store, made)
    dtype, trained = _imported_dtype(store, card), dtype_of(folder)
    with tempfile.TemporaryDirectory(prefix="longhaul-card-") as temporary:
        converted = (trained, dtype) if trained and dtype and trained != dtype else None
        own = {CARD: model_card(card, converted)}
        if card.run is not None:
            own[RECIPE] = yaml.safe_dump(public_recipe(card.run.recipe), sort_keys=False, allow_unicode=True)
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        if converted:
            files |= in_dtype(folder, converted[1], Path(temporary))
        for name, text in own.items():
            files[name] = Path(temporary) / name
            files[name].write_text(text, encoding="utf-8")
        marker = {"model": ref.digest, "stage": made.stage, "run": made.reused_from or made.run, "key": made.key}
        yield Publication(files, json.dumps(marker, indent=1) + "\n")


def publish_model(store: Store, name: str, destination: str, replace: bool, public: bool) -> Published:
    """Publish the model that a name stands for, and record it. Raises ModelNotFound, and StoreError."""
    _check_outside(store, destination)
    ref, made = find_model_record(store, name)
    with publication(store, made) as files:
        if MARKER in files.files:
            raise StoreError(f"the model has a file {MARKER} of its own, which publishing writes")
        published = publish(files, destination, replace, public)
    record = PublicationRecord(
        model=ref,
        stage=made.stage,
        run=made.reused_from or made.run,
        address=published.address,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        by=user_name(),
    )
    # Also where it is there already, but an interruption came before the record.
    if not any(one.address == record.address for one in publications(store, ref.digest)) or not published.unchanged:
        records.write(store, f"publications/{ref.digest}", record)
    return published


def _check_outside(store: Store, destination: str) -> None:
    """Raise StoreError for a destination that holds the store, or is a part of it: to replace it would delete runs."""
    own, there = (_place(address) for address in (store.backend.address, destination))
    if own.startswith(there) or there.startswith(own):
        raise StoreError(f"{destination} holds the store {store.backend.address}, or is in it: name a place beside it")


def _place(address: str) -> str:
    path = address if "://" in address else str(Path(address).expanduser().resolve())
    return f"{path.rstrip('/')}/"


def publications(store: Store, digest: str | None = None) -> list[PublicationRecord]:
    """Where a model, or any model, was published, oldest first."""
    return list(records.read_skipping(store, PublicationRecord, f"publications/{digest}" if digest else "publications"))
