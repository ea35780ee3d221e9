"""A picture of cells of 16 × 16 pixels, each of which is one token of the nano base: characters, shapes and lines.

A character is 8 × 16 pixels, so that two of them, such as a number of two digits, are one cell. They are Pillow's own
bitmap font (Courier of the X11 distribution, free to use), which no system and no version of FreeType changes.
"""

from functools import cache
from typing import Any, Literal

from PIL import Image, ImageDraw, ImageFont

CELL = 16
GLYPH = 8
"""Width of a character in pixels; its height is a cell's."""

Shape = Literal["circle", "square", "triangle"]
SHAPES: tuple[Shape, ...] = ("circle", "square", "triangle")
COLOURS = {"red": (214, 39, 40), "green": (44, 140, 44), "blue": (31, 80, 200)}
INK = (0, 0, 0)


@cache
def _font() -> Any:
    return ImageFont.load_default_imagefont()


class Picture:
    """A white picture of some columns and rows of cells."""

    def __init__(self, columns: int, rows: int) -> None:
        self.image = Image.new("RGB", (columns * CELL, rows * CELL), "white")
        self.labels: dict[tuple[int, int], str] = {}
        """What stands in a cell (column, row): two characters, the initials of a shape and its colour, or a number."""
        self._draw = ImageDraw.Draw(self.image)

    def write(self, column: int, row: int, text: str) -> None:
        """Write a line of ASCII from a cell on, two characters to a cell."""
        for place, character in enumerate(text):
            at = (column * CELL + place * GLYPH + 1, row * CELL + 2)
            self._draw.text(at, character, fill=INK, font=_font())
        for place in range(0, len(text), CELL // GLYPH):
            self.labels[column + place * GLYPH // CELL, row] = text[place : place + CELL // GLYPH].ljust(2)

    def shape(self, column: int, row: int, shape: Shape, colour: str, margin: int = 2) -> None:
        """Fill a cell, but for a margin in pixels, with a shape."""
        left, top = column * CELL + margin, row * CELL + margin
        right, bottom = (column + 1) * CELL - 1 - margin, (row + 1) * CELL - 1 - margin
        fill = COLOURS[colour]
        self.labels[column, row] = shape[0] + colour[0]
        if shape == "circle":
            self._draw.ellipse((left, top, right, bottom), fill=fill)
        elif shape == "square":
            self._draw.rectangle((left, top, right, bottom), fill=fill)
        else:
            self._draw.polygon([(left, bottom), (right, bottom), ((left + right) // 2, top)], fill=fill)

    def bar(self, column: int, bottom: int, units: int, pixels: int, colour: str) -> None:
        """A bar that stands on the lower edge of row `bottom`; a unit of its height is so many pixels."""
        base, height = (bottom + 1) * CELL, units * pixels
        self.labels[column, bottom] = str(units)
        left, right = column * CELL + 2, (column + 1) * CELL - 3
        self._draw.rectangle((left, base - height, right, base - 1), fill=COLOURS[colour])

    def lines(self, *points: tuple[int, int]) -> None:
        """Lines from point to point, in pixels."""
        self._draw.line(points, fill=INK, width=1)
