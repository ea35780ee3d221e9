"""The consistency gap as a figure: what is lost by reading the same problem from an image."""

from collections.abc import Mapping

from matplotlib.ticker import FuncFormatter

from infra.store.records import StageRecord
from infra.text import visible
from steps.report.canvas import COLOURS, INK, Figure, percent, small_canvas, svg_of
from steps.report.table import modality_rows

_WIDTH, _ROW = 420, 26
_LEFT = 130
"""Pixels that stages' names have."""
_NAME = 22
"""Characters of a stage's name."""


def gap_figure(evaluations: Mapping[str, StageRecord]) -> Figure | None:
    """The consistency gap of each model, in the order of the stages: accuracy on drawn problems, and on the same in
    text, with a line between. None without any."""
    gaps = [(row.stage, row.twins) for row in modality_rows(evaluations) if row.twins is not None]
    if not gaps:
        return None
    height = 64 + _ROW * len(gaps)
    with small_canvas(_WIDTH, height) as (canvas, axes):
        axes.set_position((_LEFT / _WIDTH, 40 / height, 1 - (_LEFT + 14) / _WIDTH, 1 - 64 / height))
        places = range(len(gaps))
        texts, images = [twins.text_accuracy for _, twins in gaps], [twins.image_accuracy for _, twins in gaps]
        axes.hlines(places, images, texts, color=INK, linewidth=1, alpha=0.5)
        axes.plot(texts, places, "o", color=COLOURS[0], label="in text", markersize=6)
        axes.plot(images, places, "D", color=COLOURS[1], label="as images", markersize=5)
        axes.set_yticks(places, [visible(stage)[:_NAME] for stage, _ in gaps])
        axes.set_ylim(len(gaps) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.02)
        axes.grid(False, axis="y")
        axes.xaxis.set_major_formatter(FuncFormatter(percent))
        axes.set_xlabel("accuracy on the same problems")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8.5, borderaxespad=0)
    caption = "Consistency gap"
    words = "; ".join(
        f"{visible(stage)}: {twins.text_accuracy:.1%} in text, {twins.image_accuracy:.1%} as images, a gap of "
        f"{100 * twins.gap:+.1f} points"
        for stage, twins in gaps
    )
    alt = f"{caption}: accuracy on problems drawn as images, and on the same in text. {words}."
    return Figure(caption, alt, svg_of(canvas, "consistency-gap", alt))
