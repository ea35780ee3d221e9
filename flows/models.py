"""Finding a model by its name: a stage of the newest run, RUN:STAGE, a tag, the beginning of a digest, or a checkpoint
outside the store: a folder, an s3:// address, or a repository on the hub."""

import re
from collections.abc import Sequence
from pathlib import Path

from infra.errors import LonghaulError
from infra.store import records
from infra.store.evaluation_stages import evaluation_record, is_evaluation
from infra.store.records import StageRecord, TagRecord
from infra.store.store import Ref, Store
from steps.configs.import_checkpoint import ImportConfig

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
"""A repository on the hub, and its revision."""

DIGITS = 8
"""A digest is named by at least so many of its first digits."""


class ModelNotFound(LonghaulError, LookupError):
    """No model answers to the name; the message says which there are."""


def run_records(store: Store, run: str | None = None) -> list[StageRecord]:
    """The records of a run's finished stages, or of the newest run's, in the order in which the stages ended.

    Raises ModelNotFound if there is no such run.
    """
    keys = store.list_records("stage-runs")
    if not keys:
        raise ModelNotFound(f"{store.backend.address} holds no run yet: start one with `longhaul run`")
    newest = _newest_of_chain(store, keys)
    requested = run or newest
    if not any(key.startswith(f"stage-runs/{requested}/") for key in keys):
        raise ModelNotFound(f"there is no run {requested}; the newest is {newest}")
    by_stage: dict[str, StageRecord] = {}
    for record in records.read_skipping(store, StageRecord, f"stage-runs/{requested}"):
        if record.failure is None:
            by_stage[record.stage] = record
    return list(by_stage.values())


def _newest_of_chain(store: Store, keys: Sequence[str]) -> str:
    """The newest run that made or used more than an evaluation does, of a checkpoint outside the store, too; the newest
    of all where there is none."""
    runs = list(dict.fromkeys(key.split("/")[1] for key in reversed(keys)))
    for run in runs:
        matches = records.read_skipping(store, StageRecord, f"stage-runs/{run}")
        if any(record.stage not in ("data", "import") and not is_evaluation(record.stage) for record in matches):
            return run
    return runs[0]


def tagged(store: Store, tag: str) -> TagRecord | None:
    """What a tag is set to now."""
    matches = (
        list(records.read(store, TagRecord, f"tags/{tag}")) if tag.isascii() and tag.replace("-", "").isalnum() else []
    )
    return matches[-1] if matches and matches[-1].model is not None else None


def names_checkpoint(name: str) -> bool:
    """Whether a name can only be that of a checkpoint outside the store."""
    return name.startswith("s3://") or Path(name).is_dir()


def import_of(name: str) -> ImportConfig:
    """How a checkpoint outside the store is imported."""
    if names_checkpoint(name):
        return ImportConfig(checkpoint=name)
    repository, _, revision = name.partition("@")
    return ImportConfig(checkpoint=repository, revision=revision or None)


def find_model(store: Store, name: str) -> Path:
    """The local folder of a model. Raises ModelNotFound."""
    return Path(name) if Path(name).is_dir() else store.fetch(find_model_record(store, name)[0])


def find_model_record(store: Store, name: str) -> tuple[Ref, StageRecord]:
    """A stored model, and the record of the stage that made it. Raises ModelNotFound."""
    run, _, stage = name.rpartition(":")
    matches = run_records(store, run or None)
    for record in matches:
        if record.stage == stage and "model" in record.outputs:
            return record.outputs["model"], record
    if not run:
        tag = tagged(store, name)
        requested = tag.model.digest if tag and tag.model else name if len(name) >= DIGITS else None
        for record in records.read_skipping(store, StageRecord, "stages") if requested else ():
            model = record.outputs.get("model")
            if requested and model is not None and model.digest.startswith(requested):
                return model, record
    raise ModelNotFound(f"{name!r} is not a folder, stage, RUN:STAGE, tag or digest of a model; {_known(matches)}")


def find_evaluation(store: Store, made: StageRecord) -> StageRecord:
    """The record that holds the evaluation of a model, given that of the stage that made it, which it is where there is
    none."""
    run = made.reused_from or made.run
    return evaluation_record(records.read_skipping(store, StageRecord, f"stage-runs/{run}"), made.stage) or made


def _known(matches: Sequence[StageRecord]) -> str:
    stages = [record.stage for record in matches if "model" in record.outputs]
    return f"stages of run {matches[0].run} with a model: {', '.join(stages)}" if matches else "the newest run has none"
