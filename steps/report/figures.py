"""The report's figures as SVG that takes its text colour from the page around it, so that it reads in light and dark.

Invariant: only what the records hold is drawn. A metric that no entry has leaves its curve or its figure out; an entry
without it leaves a gap. The same records give the same bytes.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, MaxNLocator

from infra.store.evaluation_stages import evaluation_figures, evaluation_record
from infra.store.records import ForkPoint, StageRecord
from infra.text import visible
from steps.report.canvas import (
    COLOURS,
    DASHES,
    INK,
    PIXELS_PER_INCH,
    STYLE,
    Figure,
    as_number,
    legend,
    percent,
    short,
    small_canvas,
    svg_of,
)
from steps.report.labels import Box, place
from steps.report.table import ROW_STAGES, by_stage
from steps.rl import metrics as rl


@dataclass(frozen=True)
class _Panel:
    """A small figure of a training run: its caption, and its metrics with the labels of their curves."""

    caption: str
    curves: Mapping[str, str]
    share: bool = False


_RL_PANELS = (
    _Panel("Accuracy", {rl.key("accuracy"): "accuracy"}, share=True),
    _Panel(
        "Accuracy by modality", {rl.key("text_accuracy"): "text", rl.key("image_accuracy"): "with images"}, share=True
    ),
    _Panel("Response tokens, mean", {rl.key("response_tokens"): "tokens"}),
    _Panel(
        "Response tokens by modality",
        {rl.key("text_response_tokens"): "text", rl.key("image_response_tokens"): "with images"},
    ),
    _Panel("Reward, mean", {rl.key("reward"): "reward"}),
    _Panel("Log-ratio to the reference", {rl.key("log_ratio_mean"): "mean", rl.key("log_ratio_max"): "max"}),
    _Panel("Tokens read again, share", {rl.key("reread_share"): "share"}, share=True),
    _Panel("Gradient norm", {rl.key("gradient_norm"): "gradient norm"}),
    _Panel("Staleness, iterations", {rl.key("staleness"): "staleness"}),
    _Panel("Groups in the replay buffer", {rl.key("groups_in_buffer"): "groups"}),
    _Panel("Groups without signal", {rl.key("no_signal_share"): "share"}, share=True),
    _Panel("Mismatch of engine and trainer", {rl.key("engine_mismatch"): "mismatch"}),
)
_PANEL_SIZE = 250, 160
_LEGEND_CHARACTERS = 24
_RL_SECONDS = {
    rl.key("rollout_seconds"): "rollout",
    rl.key("training_seconds"): "training",
    rl.key("handover_seconds"): "hand-over",
}


def token_efficiency(
    records: Sequence[StageRecord], format: Literal["svg", "png"] = "svg", width: int = 760, height: int = 420
) -> bytes | None:
    """Accuracy against mean response tokens, a labelled point per evaluated model (Fig. 7), as a whole image file.

    Bars are one standard error of the accuracy. `width` and `height` are in pixels; a PNG has twice as many, on white.
    None if no record has an evaluation.
    """
    canvas = _token_efficiency(records, width, height)
    if canvas is None:
        return None
    if format == "svg":
        return svg_of(canvas, "token-efficiency", _token_efficiency_alt(records)).encode()
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        canvas.savefig(file, format="png", dpi=2 * PIXELS_PER_INCH, facecolor="white", metadata={"Software": None})
    return file.getvalue()


def token_efficiency_figure(records: Sequence[StageRecord], width: int, height: int) -> Figure | None:
    """The token-efficiency figure for the page, `width` by `height` pixels. None if no record has an evaluation."""
    canvas = _token_efficiency(records, width, height)
    if canvas is None:
        return None
    alt = _token_efficiency_alt(records)
    caption = "Accuracy against mean response tokens, one point per model; bars are one standard error."
    return Figure(caption, alt, svg_of(canvas, f"token-efficiency-{width}", alt))


def rl_figures(record: StageRecord) -> list[Figure]:
    """Training curves of an RL stage over its iterations, as small multiples; those of an earlier run are marked where
    it continued from one."""
    history = [entry for entry in record.history if any(name.startswith(rl.PREFIX) for name in entry)]
    prefix, fork = record.stage.replace("/", "-"), record.forked_from
    figures = [
        _lines(f"{prefix}-{number}", panel, history, "iteration", fork) for number, panel in enumerate(_RL_PANELS)
    ]
    figures.append(_seconds(f"{prefix}-seconds", history, fork))
    return [figure for figure in figures if figure is not None]


def loss_figure(record: StageRecord) -> Figure | None:
    """Losses of a stage's supervised phases over its optimizer steps. None if its history has none."""
    names = dict.fromkeys(name for entry in record.history for name in entry if name.endswith("/loss"))
    history = [entry for entry in record.history if any(name in entry for name in names)]
    curves = {name: visible(name.removesuffix("/loss")[:_LEGEND_CHARACTERS]) for name in names}
    panel = _Panel(f"Loss of {record.stage}", curves)
    return _lines(f"{record.stage.replace('/', '-')}-loss", panel, history, "optimizer step")


def difficulty_figure(counts: Mapping[str, int]) -> Figure | None:
    """Prompts per tenth of pass rate, from counts by "0.0" to "0.9". None for no prompts."""
    tenths = {f"{tenth / 10:.1f}": counts.get(f"{tenth / 10:.1f}", 0) for tenth in range(10)}
    if not any(tenths.values()):
        return None
    with small_canvas(360, 180) as (canvas, axes):
        axes.bar([0.05 + tenth / 10 for tenth in range(10)], list(tenths.values()), width=0.09, color=COLOURS[0])
        axes.grid(False, axis="x")
        axes.set_xlim(0, 1)
        axes.set_xlabel("pass rate of the SFT model (lower is harder)")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    counted = ", ".join(f"{count} from {tenth}" for tenth, count in tenths.items())
    alt = f"Histogram of pass rates in tenths, prompts per tenth: {counted}."
    return Figure("Prompts retained, by pass rate", alt, svg_of(canvas, "difficulty", alt))


def _lines(
    name: str, panel: _Panel, history: Sequence[Mapping[str, Any]], step: str, fork: ForkPoint | None = None
) -> Figure | None:
    curves = {}
    for metric, label in panel.curves.items():
        values = [as_number(entry.get(metric)) for entry in history]
        if any(not math.isnan(value) for value in values):
            curves[label] = values
    if not curves:
        return None
    with small_canvas(*_PANEL_SIZE) as (canvas, axes):
        for number, (label, values) in enumerate(curves.items()):
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(values, color=colour, linestyle=DASHES[number % len(DASHES)], label=label)
            isolated = _between_gaps(values)
            axes.plot(isolated, [values[i] for i in isolated], "o", color=colour, markersize=3)
        if panel.share:
            axes.yaxis.set_major_formatter(FuncFormatter(percent))
        _finish_x(axes, len(history), step)
        _mark_fork(axes, fork)
        if len(curves) > 1:
            legend(axes, len(curves))
    alt = f"{panel.caption} over {len(history)} {step}s. " + " ".join(
        _range_words(label, values) for label, values in curves.items()
    )
    alt += _fork_words(fork)
    return Figure(panel.caption, alt, svg_of(canvas, name, alt))


def _mark_fork(axes: Axes, fork: ForkPoint | None) -> None:
    """Shade the iterations that belong to the run continued from."""
    if fork is not None:
        axes.axvspan(-0.5, fork.iteration - 0.5, color=INK, alpha=0.12, linewidth=0, gid="earlier-run")


def _fork_words(fork: ForkPoint | None) -> str:
    return f" The first {fork.iteration} are of run {visible(fork.run)}." if fork else ""


def _between_gaps(values: Sequence[float]) -> list[int]:
    """Places of the values that have no neighbour, and so no line to be seen by."""
    padded = [math.nan, *values, math.nan]
    return [
        i
        for i, (before, value, after) in enumerate(zip(padded, values, padded[2:], strict=False))
        if not math.isnan(value) and math.isnan(before) and math.isnan(after)
    ]


def _range_words(label: str, values: Sequence[float]) -> str:
    real = [value for value in values if not math.isnan(value)]
    ends = f"first {short(real[0])}, last {short(real[-1])}"
    return f"{label}: {ends}, least {short(min(real))}, most {short(max(real))}."


def _seconds(name: str, history: Sequence[Mapping[str, Any]], fork: ForkPoint | None) -> Figure | None:
    parts = {
        label: [as_number(entry.get(metric)) for entry in history]
        for metric, label in _RL_SECONDS.items()
        if any(metric in entry for entry in history)
    }
    if not parts:
        return None
    edges = [i - 0.5 for i in range(len(history) + 1)]
    with small_canvas(*_PANEL_SIZE) as (canvas, axes):
        below = [0.0] * len(history)
        for number, (label, values) in enumerate(parts.items()):
            above = [b + value for b, value in zip(below, values, strict=True)]
            axes.stairs(above, edges, baseline=below, fill=True, color=COLOURS[number], label=label, linewidth=0)
            below = above
        axes.set_ylim(bottom=0)
        _finish_x(axes, len(history), "iteration")
        _mark_fork(axes, fork)
        legend(axes, len(parts))
    totals = {label: sum(value for value in values if not math.isnan(value)) for label, values in parts.items()}
    summary = ", ".join(f"{label} {short(total)}" for label, total in totals.items())
    alt = f"Seconds of each of {len(history)} iterations, stacked by phase. In total: {summary}.{_fork_words(fork)}"
    return Figure("Seconds per iteration", alt, svg_of(canvas, name, alt))


def _finish_x(axes: Axes, length: int, label: str) -> None:
    axes.set_xlim(-0.5, max(0.5, length - 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel(label)


def _evaluated(records: Sequence[StageRecord]) -> list[tuple[str, float, float, float]]:
    """Stage, mean tokens, accuracy and its standard error (0 if unknown) of each model that was evaluated."""
    models = []
    for stage, record in by_stage(records).items():
        evaluation = evaluation_figures(evaluation_record(records, stage))
        if stage not in ROW_STAGES or "model" not in record.outputs:
            continue
        tokens, accuracy = as_number(evaluation.get("mean_tokens")), as_number(evaluation.get("accuracy"))
        error = as_number(evaluation.get("standard_error"))
        if not math.isnan(tokens + accuracy):
            models.append((stage, tokens, accuracy, 0.0 if math.isnan(error) else error))
    return models


def _token_efficiency_alt(records: Sequence[StageRecord]) -> str:
    points = "; ".join(
        f"{stage}: {accuracy:.1%} at {tokens:,.0f}" for stage, tokens, accuracy, _ in _evaluated(records)
    )
    return f"Accuracy against mean response tokens. {points}."


def _token_efficiency(records: Sequence[StageRecord], width: int, height: int) -> Canvas | None:
    models = _evaluated(records)
    if not models:
        return None
    with small_canvas(width, height) as (canvas, axes):
        kinds = (("o", COLOURS[0], "the chain"), ("D", COLOURS[1], "long2short"))
        for marker, colour, label in kinds:
            chosen = [m for m in models if m[0].startswith("long2short/") == (label == "long2short")]
            if chosen:
                axes.errorbar(
                    [tokens for _, tokens, _, _ in chosen],
                    [accuracy for _, _, accuracy, _ in chosen],
                    yerr=[error for _, _, _, error in chosen],
                    fmt=marker,
                    color=colour,
                    label=label,
                    markersize=6,
                    elinewidth=1,
                    capsize=2,
                )
        # Room for labels beside the outermost points.
        axes.margins(x=0.12, y=0.1)
        axes.set_title("accuracy", loc="left", fontsize=9)
        axes.set_xlabel("mean response tokens")
        axes.xaxis.set_major_locator(MaxNLocator(6 if width > 500 else 4))
        axes.xaxis.set_major_formatter(FuncFormatter(short))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(percent))
        legend(axes, len(axes.get_legend_handles_labels()[1]))
        _label(canvas, axes, models)
    return canvas


def _label(canvas: Canvas, axes: Axes, models: Sequence[tuple[str, float, float, float]]) -> None:
    """Write each model's stage beside its point, with a thin line to it where it had to go further away."""
    axes.autoscale_view()  # otherwise done when drawing, too late for transData
    renderer = FigureCanvasAgg(canvas).get_renderer()
    points = [tuple(axes.transData.transform((tokens, accuracy))) for _, tokens, accuracy, _ in models]
    taken = []
    for (x, y), (_, tokens, accuracy, error) in zip(points, models, strict=True):
        reach = max(5.0, axes.transData.transform((tokens, accuracy + error))[1] - y)
        taken += [Box(x - 5, y - 5, x + 5, y + 5), Box(x - 3, y - reach, x + 3, y + reach)]
    texts = [axes.text(0, 0, stage, fontsize=10.5, va="center", gid=f"label-{stage}") for stage, *_ in models]
    extents = [text.get_window_extent(renderer) for text in texts]
    frame = axes.get_window_extent(renderer)
    labels = place(
        [(float(x), float(y)) for x, y in points],
        [(extent.width + 2, extent.height) for extent in extents],
        taken,
        Box(frame.x0, frame.y0, frame.x1, frame.y1),
    )
    to_axes = axes.transAxes.inverted()
    for text, label, point in zip(texts, labels, points, strict=True):
        text.set_transform(axes.transAxes)
        text.set_position(tuple(to_axes.transform((label.x, label.y))))
        text.set_horizontalalignment(label.side)
        if label.gap > 16:
            end = (
                min(max(point[0], label.box.left), label.box.right),
                min(max(point[1], label.box.bottom), label.box.top),
            )
            (x0, y0), (x1, y1) = to_axes.transform(point), to_axes.transform(end)
            axes.plot([x0, x1], [y0, y1], transform=axes.transAxes, color=INK, linewidth=0.5, alpha=0.5, zorder=1)
