"""Finding a model by its name: a stage of the newest run, RUN:STAGE, the beginning of a digest, or a folder."""

from collections.abc import Sequence
from pathlib import Path

from infra.stages import StageRecord
from infra.store import Store


class ModelNotFound(LookupError):
    """No model answers to the name; the message says which there are."""


def run_records(store: Store, run: str | None = None) -> list[StageRecord]:
    """The records of a run, or of the newest one, one per stage, in the order in which the stages ended.

    Raises ModelNotFound if there is no such run.
    """
    records = [StageRecord.model_validate(raw) for raw in store.read_records("runs")]
    if not records:
        raise ModelNotFound(f"{store.backend.address} holds no run yet: start one with `longhaul run`")
    wanted = run or records[-1].run
    by_stage = {record.stage: record for record in records if record.run == wanted}
    if not by_stage:
        raise ModelNotFound(f"there is no run {wanted}; the newest is {records[-1].run}")
    return list(by_stage.values())


def find_model(store: Store, name: str) -> Path:
    """The local folder of a model. Raises ModelNotFound."""
    if Path(name).is_dir():
        return Path(name)
    run, _, stage = name.rpartition(":")
    records = run_records(store, run or None)
    for record in records:
        if record.stage == stage and "model" in record.outputs:
            return store.fetch(record.outputs["model"])
    if not run and len(name) >= 8:
        for record in (StageRecord.model_validate(raw) for raw in store.read_records("runs")):
            model = record.outputs.get("model")
            if model is not None and model.digest.startswith(name):
                return store.fetch(model)
    raise ModelNotFound(f"{name!r} is no folder, stage, RUN:STAGE or digest of a model; {_known(records)}")


def _known(records: Sequence[StageRecord]) -> str:
    stages = [record.stage for record in records if "model" in record.outputs]
    return f"stages of run {records[0].run} with a model: {', '.join(stages)}"
