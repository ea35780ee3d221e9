"""The final table: one row per stage, in the order of the chain.

Invariant: a figure that no record holds is None; nothing is filled in from elsewhere, except that `curation`, which
makes no model, shows the model that it was given and that model's figures.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from infra.store.records import StageRecord

MODEL_STAGES = (
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
"""Stages that have a row, in the order of the rows."""

MODEL_DIGITS = 12
"""Leading hex digits of a model's digest that name it."""


def by_stage(records: Iterable[StageRecord]) -> dict[str, StageRecord]:
    """Records by stage: `data` first, then MODEL_STAGES, then stages that the table does not know.

    Raises ValueError if a stage has two records.
    """
    found: dict[str, StageRecord] = {}
    for record in records:
        if record.stage in found:
            raise ValueError(
                f"stage {record.stage!r} has two records, of runs {found[record.stage].run} and {record.run}"
            )
        found[record.stage] = record
    known = ["data", *MODEL_STAGES]
    order = [*(stage for stage in known if stage in found), *(stage for stage in found if stage not in known)]
    return {stage: found[stage] for stage in order}


def model_digest(record: StageRecord) -> str | None:
    """Digest of the model that a stage made, or else of the one that it was given."""
    ref = record.outputs.get("model") or record.inputs.get("model")
    return ref.digest if ref else None


def evaluation_of(record: StageRecord, records: Iterable[StageRecord]) -> dict[str, Any] | None:
    """A stage's evaluation; where it has none because it makes no model, that of the model that it was given."""
    if record.evaluation is not None or "model" in record.outputs or "model" not in record.inputs:
        return record.evaluation
    given = record.inputs["model"].digest
    for other in records:
        made = other.outputs.get("model")
        if made is not None and made.digest == given:
            return other.evaluation
    return None


def report_rows(records: Sequence[StageRecord]) -> list[dict[str, Any]]:
    """Rows of the final table: stage, model, accuracy, mean_tokens, p99_tokens, seconds, peak_memory_mb.

    Tokens are of responses. Seconds and peak memory of a reused stage are those of the run that made its outputs.
    Raises ValueError if a stage has two records.
    """
    found = by_stage(records)
    rows = []
    for stage in MODEL_STAGES:
        if stage not in found:
            continue
        record = found[stage]
        digest = model_digest(record)
        evaluation = evaluation_of(record, found.values()) or {}
        rows.append(
            {
                "stage": stage,
                "model": digest[:MODEL_DIGITS] if digest else None,
                "accuracy": evaluation.get("accuracy"),
                "mean_tokens": evaluation.get("mean_tokens"),
                "p99_tokens": evaluation.get("p99_tokens"),
                "seconds": record.seconds,
                "peak_memory_mb": record.peak_memory_mb,
            }
        )
    return rows


REWARD_MODELS = {"classic_rm": "classic", "cot_rm": "chain of thought"}
"""The reward models by the names of their outputs, and what they are called."""


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
            "model": told,
            "digest": record.outputs[name].digest[:MODEL_DIGITS] if name in record.outputs else None,
            **{column: checks[name].get(column) for column in columns},
        }
        for name, told in REWARD_MODELS.items()
        if record and name in checks
    ]
