"""Settings of recipes and figures of stages by name, as the index keeps them: plain functions."""

from collections.abc import Mapping
from typing import Any

from infra.flatten import flatten
from infra.lineage.row_values import number, plain
from infra.store.evaluation import Evaluation
from infra.store.evaluation_stages import evaluation_figures
from infra.store.records import StageRecord

MAX_TEXT = 200
"""Characters of a setting that the index keeps."""

EVALUATED = ("accuracy", "mean_tokens", "p99_tokens")
"""Figures of an evaluation that are compared."""

MAX_FIGURES = 300
"""Of one execution."""


def settings_of(recipe: Mapping[str, Any]) -> dict[str, tuple[float | None, str]]:
    """The values of a recipe by dotted key: as a number where it is one, and as text."""
    values = {}
    for name, value in flatten(dict(recipe)).items():
        text = ("true" if value else "false") if isinstance(value, bool) else "" if value is None else str(value)
        values[plain(name)] = (number(value), plain(text)[:MAX_TEXT])
    return values


def training_name(name: str) -> str:
    """What a metric of a stage is called beside the figures of its evaluation."""
    return f"training {name}" if name in EVALUATED else name


def modality_figures(evaluation: Evaluation | None) -> dict[str, float]:
    """Accuracy and length by modality, and the consistency gap; empty where no problem had an image."""
    if evaluation is None:
        return {}
    figures: dict[str, float] = {}
    for name, result in evaluation.modalities.items():
        figures |= {f"{name} accuracy": result.accuracy, f"{name} mean_tokens": result.mean_tokens}
    return figures | ({"consistency gap": evaluation.twins.gap} if evaluation.twins else {})


def figures_of(record: StageRecord) -> dict[str, float]:
    """The numbers that a stage's record holds by name: metrics, those of its evaluation and of its benchmarks, and
    `seconds`.

    What a stage measures while it trains may have the name of a figure of the evaluation: it is not the same, and is
    called `training …`.
    """
    evaluation = evaluation_figures(record)
    benchmarks = evaluation.pop("benchmarks", {})
    raw: dict[str, Any] = {"seconds": record.seconds}
    raw |= {training_name(name): value for name, value in flatten(record.metrics).items()}
    raw |= {name: value for name, value in evaluation.items() if not isinstance(value, dict | list)}
    raw |= modality_figures(record.evaluation)
    for name, result in benchmarks.items():
        raw |= {f"{name} {figure}": value for figure, value in result.items()}
    values = {plain(name): number(value) for name, value in raw.items() if name}
    return dict([(name, value) for name, value in values.items() if value is not None][:MAX_FIGURES])
