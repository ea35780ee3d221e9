"""Accuracy against the tokens allowed for a response (the report's Fig. 6), and against the length of the context.

Every evaluated model is a curve. A model whose record holds no such figures has none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from infra.store.evaluation_stages import evaluation_figures
from infra.store.records import StageRecord
from steps.report.canvas import COLOURS, DASHES, INK, Figure, percent, short, small_canvas, svg_of

_SIZE = 420, 260


def limits_figure(evaluations: Mapping[str, StageRecord]) -> Figure | None:
    """Accuracy against the tokens allowed, from the records that hold the evaluations, by stage. None without any."""
    curves = {stage: _points(evaluation_figures(record).get("limits")) for stage, record in evaluations.items()}
    return _draw("limits", "Accuracy against the tokens allowed for a response", "tokens allowed", curves)


def lengths_figure(evaluations: Mapping[str, StageRecord]) -> Figure | None:
    """Accuracy on tasks in long texts against their length, with the threshold. None without any."""
    contexts = {stage: evaluation_figures(record).get("context") or {} for stage, record in evaluations.items()}
    curves = {stage: _points(context.get("lengths")) for stage, context in contexts.items()}
    threshold = next((context["threshold"] for context in contexts.values() if "threshold" in context), None)
    return _draw("lengths", "Accuracy on tasks in long texts", "tokens of the context", curves, threshold)


def context_rows(evaluations: Mapping[str, StageRecord]) -> list[dict[str, Any]]:
    """Of each model that was evaluated in long texts: stage, effective length, accuracy by length and by kind."""
    rows = []
    for stage, record in evaluations.items():
        context = evaluation_figures(record).get("context")
        if context:
            rows.append({"stage": stage, **context})
    return rows


def _points(results: Any) -> list[tuple[int, float]]:
    return [(one["tokens"], one["accuracy"]) for one in results or []]


def _draw(
    name: str,
    caption: str,
    x_label: str,
    curves: Mapping[str, Sequence[tuple[int, float]]],
    threshold: float | None = None,
) -> Figure | None:
    drawn = {stage: points for stage, points in curves.items() if len(points) > 1}
    if not drawn:
        return None
    with small_canvas(*_SIZE) as (canvas, axes):
        for place, (stage, points) in enumerate(drawn.items()):
            axes.plot(
                [tokens for tokens, _ in points],
                [accuracy for _, accuracy in points],
                color=COLOURS[place % len(COLOURS)],
                linestyle=DASHES[place // len(COLOURS) % len(DASHES)],
                marker="o",
                markersize=2.5,
                label=stage,
            )
        if threshold is not None:
            axes.axhline(threshold, color=INK, linewidth=0.6, linestyle=DASHES[2])
        ticks = sorted({tokens for points in drawn.values() for tokens, _ in points})
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(ticks[:: max(1, len(ticks) // 6)]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(short))
        axes.yaxis.set_major_formatter(FuncFormatter(percent))
        axes.set_ylim(0, 1.02)
        axes.set_xlabel(x_label)
        axes.legend(fontsize=8, loc="best", framealpha=0)
    words = "; ".join(
        f"{stage}: " + ", ".join(f"{accuracy:.1%} at {tokens:,}" for tokens, accuracy in points)
        for stage, points in drawn.items()
    )
    if threshold is not None:
        words += f". The threshold is {threshold:.1%}"
    alt = f"{caption}. {words}."
    return Figure(caption, alt, svg_of(canvas, name, alt))
