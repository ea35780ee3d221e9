"""What the report's figures are drawn on and with: SVG that takes its text colour from the page around it."""

import html
import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, MaxNLocator

from infra.text import visible

INK = "#010203"
"""Placeholder of the page's text colour until the SVG is written."""

COLOURS = ("#3d83c9", "#cf7130", "#3b985b", "#9a6fd0")
"""Mid tones, which keep a contrast of 3 to 1 on white and on black."""

DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
"""So that curves differ without colour."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "longhaul",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # a "$" in a name is a "$"
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 0,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "lines.linewidth": 1.4,
}
PIXELS_PER_INCH = 72
"""As SVG is written: a point is a pixel, so that what is measured here holds there."""


@dataclass(frozen=True)
class Figure:
    """A figure for the page."""

    caption: str
    alt: str
    """What it shows, in words."""
    svg: str
    """An `svg` element to stand within HTML, with `alt` as its label."""


def as_number(value: Any) -> float:
    """A metric as a number; NaN, which leaves a gap, for anything else."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else math.nan


def short(value: float, _: Any = None) -> str:
    """A number in few characters."""
    if value == 0:
        return "0"
    if abs(value) < 1e-3 or abs(value) >= 1e6:
        digits, _, power = f"{value:.2e}".partition("e")
        return f"{float(digits):g}e{int(power)}".replace("-", "−")
    return f"{value:,.4g}".replace("-", "−") if abs(value) < 1e4 else f"{value:,.0f}".replace("-", "−")


def percent(value: float, _: Any = None) -> str:
    """A share as a percentage in few characters."""
    return f"{100 * value:.3g}%".replace("-", "−")


@contextmanager
def small_canvas(width: int, height: int) -> Iterator[tuple[Canvas, Axes]]:
    """A canvas of `width` by `height` pixels with one plot, and the style to draw it in."""
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH), dpi=PIXELS_PER_INCH)
        FigureCanvasAgg(canvas)
        axes = canvas.add_axes((44 / width, 36 / height, 1 - 54 / width, 1 - 54 / height))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(short))
        yield canvas, axes


def legend(axes: Axes, entries: int) -> None:
    """The curves' labels, above the plot and at its right."""
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=entries,
        fontsize=8.5,
        borderpad=0.2,
        handlelength=1.6,
        handletextpad=0.4,
        columnspacing=1,
        borderaxespad=0,
    )


def _id(text: str) -> str:
    """A text as part of an id: a stage's name may hold anything."""
    return re.sub(r"[^\w-]", "-", text, flags=re.ASCII)


def svg_of(canvas: Canvas, name: str, alt: str) -> str:
    """The canvas as an `svg` element: no prologue, ids of its own, the page's text colour and font."""
    name = _id(name)
    file = io.StringIO()
    with matplotlib.rc_context(STYLE):
        canvas.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = file.getvalue()
    text = text[text.index("<svg") :].strip()
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    # Within HTML, a style sheet in one figure would reach all others.
    text = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]*)"', lambda own: f'id="{name}-{_id(own[1])}"', text)
    text = re.sub(r'(url\(|href=")#', rf"\1#{name}-", text)
    text = re.sub(r"(font-family: |font: [^;\"]*?px )[^;\"]*", r"\1system-ui, sans-serif", text)
    text = text.replace(INK, "currentColor")
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {box.group()} role="img" '
        f'aria-label="{html.escape(visible(alt))}" style="stroke-linejoin: round; stroke-linecap: butt">'
    )
    return re.sub(r"<svg[^>]*>", lambda _: start, text, count=1)
