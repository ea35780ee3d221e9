"""Placement of the labels of points, so that they cover neither each other nor a point."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_ANGLES = (0, 180, 90, 270, 30, 330, 150, 210, 60, 300, 120, 240)
"""Degrees from the point to its label, the ones that read best first."""

_GAPS = (8, 13, 20, 28, 38, 50, 64, 80, 100, 125, 150, 180, 220)
"""Pixels from the point to its label, tried in turn."""


@dataclass(frozen=True)
class Box:
    """A rectangle, in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def shared(self, other: "Box") -> float:
        """Area that two boxes share, in square pixels."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)

    def outside(self, area: "Box") -> float:
        """Part of this box that lies outside an area, in square pixels."""
        return (self.right - self.left) * (self.top - self.bottom) - self.shared(area)


@dataclass(frozen=True)
class Label:
    """A placed label."""

    box: Box
    side: Literal["left", "center", "right"]
    """Which part of the text is at `x`."""
    x: float
    y: float
    """Middle of the text's height."""
    gap: float
    """Pixels from the point."""


def _candidates(point: tuple[float, float], size: tuple[float, float]) -> list[Label]:
    width, height = size
    labels = []
    for gap in _GAPS:
        for angle in _ANGLES:
            across, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            x, y = point[0] + gap * across, point[1] + (gap + height / 2) * up
            side: Literal["left", "center", "right"] = "center"
            left = x - width / 2
            if across > 0.1:
                side, left = "left", x
            elif across < -0.1:
                side, left = "right", x - width
            labels.append(Label(Box(left, y - height / 2, left + width, y + height / 2), side, x, y, gap))
    return labels


def place(
    points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], taken: Sequence[Box], area: Box
) -> list[Label]:
    """A label for each point: the nearest place that is free of `taken` and of the labels before it, inside `area`.

    Where there is none, the place that covers least.
    """
    occupied = list(taken)
    placed = []
    for point, size in zip(points, sizes, strict=True):
        candidates = _candidates(point, size)
        costs = [each.box.outside(area) + sum(each.box.shared(box) for box in occupied) for each in candidates]
        # Rounding in `outside` leaves traces of a square pixel.
        costs = [cost if cost > 0.01 else 0.0 for cost in costs]
        best = candidates[costs.index(min(costs))]
        occupied.append(best.box)
        placed.append(best)
    return placed
