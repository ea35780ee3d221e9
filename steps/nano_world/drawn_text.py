"""Problems of the nano world drawn as pictures (the report's text-rendered data, §2.3.5): the text problem is the twin.

A twin says the same in words: the difference of the two accuracies is the consistency gap. Numbers stand in cells of
their own, as they are tokens of their own in text. A response reads the picture out before it solves the problem.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from random import Random

from steps.nano_world.drawing import CELL, GLYPH, Picture
from steps.nano_world.task import Task
from steps.problem import Part
from steps.rewards.score import THINK

SOURCE = "nano world, drawn text"
QUESTION = "Solve it."
COLUMNS = 12
"""Cells of a line."""
_PIECES = re.compile(r"\d+|[^\d\s]+")
_PER_CELL = CELL // GLYPH


def draw_text(text: str) -> Picture:
    """The words of a text in lines of COLUMNS cells; numbers, and what stands between them, begin at a cell."""
    lines = list(_lines(text))
    picture = Picture(COLUMNS, len(lines))
    for row, line in enumerate(lines):
        picture.write(0, row, line)
    return picture


def _lines(text: str) -> Iterator[str]:
    line = ""
    for word in text.split():
        cells = "".join(piece + " " * (-len(piece) % _PER_CELL) for piece in _PIECES.findall(word))
        # A full cell at the end of a word is followed by an empty one, or two words would be one.
        gap = "" if not line or line[-1] == " " else " " * _PER_CELL
        if line and len(line + gap + cells) > COLUMNS * _PER_CELL:
            yield line
            line, gap = "", ""
        line += gap + cells
    yield line


def drawn(task: Task, address: str) -> Task:
    """The twin of a text task whose picture is at an address."""
    text = task.problem.text

    def long(rng: Random) -> str:
        return task.long(rng).replace(f"{THINK}\n", f"{THINK}\n{text}\n", 1)

    prompt = (Part(type="image", image=address), Part(type="text", text=QUESTION))
    update = {"id": f"{task.problem.id}-drawn", "prompt": prompt, "source": SOURCE, "twin": task.problem.id}
    return replace(task, problem=task.problem.model_copy(update=update), short=f"{text}\n{task.short}", long=long)
