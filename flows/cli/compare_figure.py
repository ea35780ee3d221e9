"""The picture of `longhaul compare --figure`: curves of many runs over one another, by group."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flows.cli.terminal import fail
from infra.lineage.statistics import Mean, mean_interval
from infra.lineage.web.curves import curves_of
from infra.text import visible
from steps.report.canvas import COLOURS, DASHES, INK, STYLE

if TYPE_CHECKING:
    from infra.lineage.run_values import Group, RunValues

MAIN = 2
"""Curves of RL that are drawn unless others are requested."""

WIDTH, HEIGHT = 6.4, 3.0
"""Inches, of one plot."""

Series = Sequence[float | None]


def draw(file: Path, groups: "Sequence[Group]", curves: Sequence[str]) -> None:
    """Draw one plot for each curve: each run thin, and over it the mean of its group with its 95 % interval.

    Args:
        curves: STAGE:METRIC; default: the main ones of RL.
    """
    names = list(curves) or _main_curves(groups)
    style = {name: "black" if value == INK else value for name, value in STYLE.items()}
    with matplotlib.rc_context({**style, "figure.facecolor": "white", "savefig.facecolor": "white"}):
        figure = Figure(figsize=(WIDTH, HEIGHT * len(names)), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        for number, name in enumerate(names):
            axes = figure.add_subplot(len(names), 1, number + 1)
            for place, group in enumerate(groups):
                _draw_group(axes, group, _series(group, name), place)
            axes.set_title(visible(name), fontsize=9, loc="left", parse_math=False)
            axes.set_xlabel("step")
        if len(groups) > 1:
            # Settings are texts, also with dollar signs in them, which would be read as formulas.
            for text in figure.axes[0].legend(fontsize=8).get_texts():
                text.set_parse_math(False)
        # Without a date the same runs make the same file.
        metadata: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(file.suffix, {})
        figure.savefig(file, metadata=metadata)


def _draw_group(axes: Axes, group: "Group", series: Sequence[Series], place: int) -> None:
    colour, dash = COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]
    for one in series:
        points = [(step + 1, value) for step, value in enumerate(one) if value is not None]
        axes.plot(*zip(*points, strict=True), color=colour, linestyle=dash, linewidth=0.6, alpha=0.45)
    steps: list[int] = []
    means: list[Mean | None] = []
    for step in range(max(len(one) for one in series)):
        values = [value for one in series if step < len(one) and (value := one[step]) is not None]
        if len(values) == len(series):
            steps.append(step + 1)
            means.append(mean_interval(values))
    present = [mean for mean in means if mean is not None]
    axes.plot(steps, [mean.mean for mean in present], color=colour, linestyle=dash, label=visible(group.label))
    if len(series) > 1:
        low, high = ([getattr(mean, bound) for mean in present] for bound in ("low", "high"))
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)


def _main_curves(groups: "Sequence[Group]") -> list[str]:
    curves = curves_of([_record(run, "rl") for group in groups for run in group.runs])
    names = [f"rl:{curve.metric}" for curve in curves if curve.varies and not curve.places][:MAIN]
    if not names:
        fail("these runs have no curves of RL: name what to draw, as in --curve long_cot_sft:loss")
    return names


def _series(group: "Group", name: str) -> list[Series]:
    """The curve of each run of a group."""
    stage, _, metric = name.partition(":")
    curves = curves_of([_record(run, stage) for run in group.runs])
    for curve in curves:
        if curve.metric == metric and not curve.places:
            series = [one for one in curve.series if any(value is not None for value in one)]
            if series:
                return series
    known = ", ".join(curve.metric for curve in curves if not curve.places) or "none"
    fail(f"--curve {name}: the runs of {group.label} have no such curve; those of {stage!r} are: {known}")


def _record(run: "RunValues", stage: str) -> Any:
    return next((record for record in run.detail.stages if record.stage == stage), None)
