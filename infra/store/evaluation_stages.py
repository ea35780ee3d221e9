"""Which record says how a stage's model did.

An evaluation is a stage of its own: `evaluate/<stage>` evaluates the model that <stage> makes, and `evaluate`, the
stage of `longhaul evaluate`, a model by name. Its record has the model as the input `model`, holds the evaluation, and
has no outputs. Older records hold the evaluation of the model that they made themselves.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from infra.store.evaluation import Evaluation
from infra.store.records import StageRecord

EVALUATE = "evaluate"


def evaluation_stage(stage: str) -> str:
    """The stage that evaluates a stage's model: `evaluate/rl` for `rl`."""
    return f"{EVALUATE}/{stage}"


def evaluated_stage(stage: str) -> str | None:
    """The stage whose model a stage evaluates: `rl` for `evaluate/rl`; None for all other stages."""
    return stage.removeprefix(f"{EVALUATE}/") if stage.startswith(f"{EVALUATE}/") else None


def is_evaluation(stage: str) -> bool:
    """Whether a stage evaluates a model: of the chain (`evaluate/rl`), or of `longhaul evaluate` (`evaluate`)."""
    return stage == EVALUATE or evaluated_stage(stage) is not None


def has_own_row(stage: str, stages: Collection[str]) -> bool:
    """Whether a stage has a row of its own in a table of these stages: an evaluation is part of its stage's row."""
    return evaluated_stage(stage) not in stages


def evaluation_record(records: Iterable[StageRecord], stage: str) -> StageRecord | None:
    """Of a run's records, the one that holds the evaluation of a stage's model; None where it was not evaluated.

    It is the stage's evaluation, provided that it evaluated the model which the stage made, or else the stage's own
    record, if that holds one. Of an evaluation it is the evaluation's own record.
    """
    known = list(records)
    evaluations = _with_evaluation(known, evaluation_stage(stage))
    own = [record for record in known if record.stage == stage]
    made = {record.outputs["model"].digest for record in own if "model" in record.outputs}
    for record in evaluations:
        model = record.inputs.get("model")
        if not made or (model is not None and model.digest in made):
            return record
    return next(iter(_with_evaluation(own, stage)), None)


def evaluation_figures(record: StageRecord | None) -> dict[str, Any]:
    """The evaluation that a record holds as plain data, with accuracies from 0 to 1 and lengths in tokens; empty where
    it holds none."""
    return record.evaluation.model_dump() if record and record.evaluation else {}


def evaluation_of(records: Iterable[StageRecord], stage: str) -> Evaluation | None:
    """How the model of a stage did, from a run's records; None where it was not evaluated."""
    record = evaluation_record(records, stage)
    return record.evaluation if record else None


def _with_evaluation(records: Sequence[StageRecord], stage: str) -> list[StageRecord]:
    return [record for record in records if record.stage == stage and record.evaluation is not None]
