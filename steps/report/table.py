"""The final table: one row per stage, in the order of the chain, with the evaluation of its model.

Invariant: a figure that no record holds is None; nothing is filled in from elsewhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.store.evaluation import DomainResult, TwinResult
from infra.store.evaluation_stages import evaluation_figures, evaluation_record
from infra.store.records import StageRecord

ROW_STAGES = (
    "import",
    "vanilla_sft",
    "curation",
    "long_cot_sft",
    "rl",
    "long2short/merge",
    "long2short/shortest",
    "long2short/dpo",
    "long2short/rl",
)
"""Stages that have a row, in the order of the rows. `curation` makes no model: its row says how long it took."""

MODEL_DIGITS = 12
"""Leading hex digits of a model's digest that name it."""


def by_stage(records: Iterable[StageRecord]) -> dict[str, StageRecord]:
    """Records by stage: `data` first, then ROW_STAGES, then stages that have no row, as evaluations.

    Raises ValueError if a stage has two records.
    """
    stages: dict[str, StageRecord] = {}
    for record in records:
        if record.stage in stages:
            raise ValueError(
                f"stage {record.stage!r} has two records, of runs {stages[record.stage].run} and {record.run}"
            )
        stages[record.stage] = record
    known = ["data", *ROW_STAGES]
    order = [*(stage for stage in known if stage in stages), *(stage for stage in stages if stage not in known)]
    return {stage: stages[stage] for stage in order}


def report_rows(records: Sequence[StageRecord]) -> list[dict[str, Any]]:
    """Rows of the final table: stage, model, accuracy, mean_tokens, p99_tokens, seconds, peak_memory_mb.

    Tokens are of responses. Seconds and peak memory are the stage's own, without those of the evaluation; of a reused
    stage they are those of the run that made its outputs. Raises ValueError if a stage has two records.
    """
    stages = by_stage(records)
    rows = []
    for stage in ROW_STAGES:
        if stage not in stages:
            continue
        record = stages[stage]
        model = record.outputs.get("model")
        evaluation = evaluation_figures(evaluation_record(records, stage))
        rows.append(
            {
                "stage": stage,
                "model": model.digest[:MODEL_DIGITS] if model else None,
                "accuracy": evaluation.get("accuracy"),
                "mean_tokens": evaluation.get("mean_tokens"),
                "p99_tokens": evaluation.get("p99_tokens"),
                "seconds": record.seconds,
                "peak_memory_mb": record.peak_memory_mb,
            }
        )
    return rows


REWARD_MODELS = {"classic_rm": "classic", "cot_rm": "chain of thought"}
"""The reward models' names for people, by the names of their outputs."""


def reward_model_rows(records: Sequence[StageRecord]) -> list[dict[str, Any]]:
    """Rows on the reward models' spot check: model, digest, accuracy, reported (the report's own figure), answers,
    no_verdict, wrong_called_right, right_called_wrong, per_second. None where no reward model was trained."""
    record = by_stage(records).get("reward_models")
    checks = record.metrics.get("spot_checks", {}) if record else {}
    columns = (
        "accuracy",
        "reported",
        "answers",
        "no_verdict",
        "wrong_called_right",
        "right_called_wrong",
        "per_second",
    )
    return [
        {
            "model": label,
            "digest": record.outputs[name].digest[:MODEL_DIGITS] if name in record.outputs else None,
            **{column: checks[name].get(column) for column in columns},
        }
        for name, label in REWARD_MODELS.items()
        if record and name in checks
    ]


@dataclass(frozen=True)
class ModalityRow:
    """An evaluated model on problems of text and of images."""

    stage: str
    text: DomainResult | None
    image: DomainResult | None
    twins: TwinResult | None

    def plain(self) -> dict[str, Any]:
        """As JSON, with the gap."""
        results = {
            name: one.model_dump() if one else None for name, one in (("text", self.text), ("image", self.image))
        }
        twins = self.twins.model_dump() | {"gap": self.twins.gap} if self.twins else None
        return {"stage": self.stage, **results, "twins": twins}


def modality_rows(evaluations: Mapping[str, StageRecord]) -> list[ModalityRow]:
    """Of each model that was evaluated on images, from the records that hold the evaluations, by stage."""
    return [
        ModalityRow(
            stage,
            record.evaluation.modalities.get("text"),
            record.evaluation.modalities.get("image"),
            record.evaluation.twins,
        )
        for stage, record in evaluations.items()
        if record.evaluation is not None and record.evaluation.modalities
    ]


def evaluated_models(records: Sequence[StageRecord]) -> dict[str, StageRecord]:
    """The records that hold the evaluations of models, by the stages that made these, in the chain's order.

    Raises ValueError if a stage has two records.
    """
    return {
        stage: evaluation
        for stage, record in by_stage(records).items()
        if "model" in record.outputs and (evaluation := evaluation_record(records, stage)) is not None
    }
