"""Problems about pictures with exact answers: shapes to count and compare, positions, bar charts, and geometry.

Every answer is a whole number from 0 to 199, which is one token of the nano base.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from steps.configs.data import PictureKind
from steps.nano_world.drawing import CELL, COLOURS, SHAPES, Picture, Shape
from steps.nano_world.task import LICENCE, Task, boxed, thought
from steps.problem import Part, Problem

SOURCE = "nano world, pictures"


@dataclass(frozen=True)
class Scene:
    """A picture, a question about it, and how its answer is worked out."""

    picture: Picture
    question: str
    answer: int
    lines: tuple[str, ...]
    """The working, without the answer."""
    again: tuple[str, ...]
    """The same in a second way, for paths that check themselves."""


@dataclass(frozen=True)
class Thing:
    """A shape in a cell; columns and rows count from 0."""

    column: int
    row: int
    shape: Shape
    colour: str


def _things(rng: Random, columns: int, rows: int, count: int) -> list[Thing]:
    cells = rng.sample([(column, row) for row in range(rows) for column in range(columns)], count)
    return [Thing(column, row, rng.choice(SHAPES), rng.choice(list(COLOURS))) for column, row in sorted(cells)]


def _field(rng: Random, columns: int, rows: int, things: list[Thing]) -> Picture:
    picture = Picture(columns, rows)
    for thing in things:
        picture.shape(thing.column, thing.row, thing.shape, thing.colour, rng.choice((1, 2)))
    return picture


def _sum(numbers: list[int]) -> list[str]:
    """Equations that add numbers one after the other."""
    lines, total = [], numbers[0]
    for number in numbers[1:]:
        lines.append(f"{total} + {number} = {total + number}")
        total += number
    return lines


def _tally(things: list[Thing], matches: Callable[[Thing], bool], rows: int, columns: int) -> tuple[list[str], ...]:
    """A count by rows, and by columns."""
    by_row = [sum(matches(thing) and thing.row == row for thing in things) for row in range(rows)]
    by_column = [sum(matches(thing) and thing.column == column for thing in things) for column in range(columns)]
    return tuple(
        [", ".join(f"{name} {place} has {count}" for place, count in enumerate(counts, 1)) + ".", *_sum(counts)]
        for name, counts in (("row", by_row), ("column", by_column))
    )


def _any(thing: Thing) -> bool:
    return True


def count_scene(rng: Random, difficulty: int) -> Scene:
    """How many there are of a shape, of a colour, or of both."""
    columns, rows = 3 + difficulty, 2 + difficulty // 2
    things = _things(rng, columns, rows, rng.randint(3, columns * rows * 2 // 3))
    # Of something that is there: a question about what is not would be guessed.
    sought = rng.choice(things)
    shape, colour = sought.shape, sought.colour
    kind = rng.choice(("shape", "colour", "both"))
    name = {"shape": f"{shape}s", "colour": f"{colour} shapes", "both": f"{colour} {shape}s"}[kind]

    def matches(thing: Thing) -> bool:
        return (kind == "colour" or thing.shape == shape) and (kind == "shape" or thing.colour == colour)

    lines, again = _tally(things, matches, rows, columns)
    total = sum(map(matches, things))
    return Scene(_field(rng, columns, rows, things), f"How many {name} are there?", total, tuple(lines), tuple(again))


def compare_scene(rng: Random, difficulty: int) -> Scene:
    """How many more there are of one shape than of a second one."""
    columns, rows = 3 + difficulty, 2 + difficulty // 2
    while True:
        things = _things(rng, columns, rows, rng.randint(4, columns * rows * 3 // 4))
        more, fewer = rng.sample(SHAPES, 2)
        high, low = (sum(thing.shape == shape for thing in things) for shape in (more, fewer))
        if high >= low:
            break
    last = f"{high} - {low} = {high - low}"
    again = []
    for shape in (more, fewer):
        again += _tally([thing for thing in things if thing.shape == shape], _any, rows, columns)[0]
    lines = (f"{high} {more}s, {low} {fewer}s.", last)
    question = f"How many more {more}s than {fewer}s are there?"
    return Scene(_field(rng, columns, rows, things), question, high - low, lines, (*again, last))


def position_scene(rng: Random, difficulty: int) -> Scene:
    """In which row or column a thing is, or how many rows or columns lie between two."""
    columns, rows = 4 + difficulty, 3 + difficulty // 2
    one, two = rng.sample([(shape, colour) for shape in SHAPES for colour in COLOURS], 2)
    places = rng.sample([(column, row) for row in range(rows) for column in range(columns)], 2)
    things = [Thing(*place, *what) for place, what in zip(places, (one, two), strict=True)]
    first, second = (f"{colour} {shape}" for shape, colour in (one, two))
    axis = rng.choice(("column", "row"))
    a, b = (getattr(thing, axis) + 1 for thing in things)
    picture = _field(rng, columns, rows, things)
    if difficulty < 3:
        size = columns if axis == "column" else rows
        again: tuple[str, ...] = (f"{size - a} {axis}s follow.", f"{size} - {size - a} = {a}")
        return Scene(picture, f"In which {axis} is the {first}?", a, (f"{first}: {axis} {a}.",), again)
    lines = (f"{first}: {axis} {a}, {second}: {axis} {b}.", f"{max(a, b)} - {min(a, b)} = {abs(a - b)}")
    again = (f"{min(a, b)} + {abs(a - b)} = {max(a, b)}",)
    return Scene(picture, f"How many {axis}s is the {first} away from the {second}?", abs(a - b), lines, again)


CHART_ROWS, UNITS = 5, 4
"""A cell of a chart's height is four units, a unit four pixels."""


def chart_scene(rng: Random, difficulty: int) -> Scene:
    """The height of a bar, the sum or the difference of two, with a scale at the left."""
    bars = {letter: rng.randint(1, CHART_ROWS * UNITS) for letter in "ABCDEFG"[: 2 + difficulty]}
    picture = Picture(len(bars) + 1, CHART_ROWS + 1)
    for row in range(CHART_ROWS):
        picture.write(0, row, f"{(CHART_ROWS - row) * UNITS:>2}")
    for column, (letter, height) in enumerate(bars.items(), 1):
        picture.bar(column, CHART_ROWS - 1, height, CELL // UNITS, rng.choice(list(COLOURS)))
        picture.write(column, CHART_ROWS, letter)
    a, b = rng.sample(list(bars), 2)
    high, low = sorted((a, b), key=lambda letter: -bars[letter])
    kind = rng.choice(("one", "sum", "difference"))
    if difficulty < 2 or kind == "one":
        rest = bars[a] % UNITS
        again: tuple[str, ...] = (f"{bars[a] - rest} + {rest} = {bars[a]}",)
        return Scene(picture, f"How high is bar {a}?", bars[a], (f"bar {a}: {bars[a]}.",), again)
    if kind == "sum":
        last, question = f"{bars[a]} + {bars[b]} = {bars[a] + bars[b]}", f"How high are bars {a} and {b} together?"
        return Scene(picture, question, bars[a] + bars[b], (f"{a}: {bars[a]}, {b}: {bars[b]}.", last), (last,))
    left = bars[high] - bars[low]
    lines = (f"{high}: {bars[high]}, {low}: {bars[low]}.", f"{bars[high]} - {bars[low]} = {left}")
    again = (f"{bars[low]} + {left} = {bars[high]}",)
    return Scene(picture, f"How much higher is bar {high} than bar {low}?", left, lines, again)


def geometry_scene(rng: Random, difficulty: int) -> Scene:
    """A rectangle, a line in two pieces, or the angles of a triangle, with numbers at its sides."""
    picture = Picture(8, 6)
    kind = rng.choice(("line", "perimeter", "area") if difficulty < 4 else ("perimeter", "area", "angle"))
    if kind == "line":
        a, b = rng.randint(2, 20 * difficulty), rng.randint(2, 20 * difficulty)
        picture.lines((8, 40), (120, 40))
        for place, name in ((0, "A"), (3, "B"), (7, "C")):
            picture.lines((place * CELL + 8, 36), (place * CELL + 8, 44))
            picture.write(place, 1, name)
        picture.write(1, 3, str(a))
        picture.write(5, 3, str(b))
        return Scene(picture, "How long is AC?", a + b, (f"{a} + {b} = {a + b}",), (f"{a + b} - {b} = {a}",))
    if kind == "angle":
        a, b = rng.randint(20, 80), rng.randint(20, 80)
        picture.lines((4, 92), (124, 92), (64, 4), (4, 92))
        picture.write(2, 4, str(a))
        picture.write(5, 4, str(b))
        picture.write(4, 1, "x")
        lines = (f"180 - {a} = {180 - a}", f"{180 - a} - {b} = {180 - a - b}")
        again: tuple[str, ...] = (f"{a} + {b} = {a + b}", f"180 - {a + b} = {180 - a - b}")
        return Scene(picture, "How many degrees is x?", 180 - a - b, lines, again)
    a, b = rng.randint(2, 5 + 2 * difficulty), rng.randint(2, 9)
    picture.lines((24, 24), (104, 24), (104, 72), (24, 72), (24, 24))
    picture.write(4, 0, str(a))
    picture.write(7, 3, str(b))
    if kind == "area":
        again = (f"{a * b} / {b} = {a}",)
        return Scene(picture, "What is the area?", a * b, (f"{a} * {b} = {a * b}",), again)
    lines = (f"{a} + {b} = {a + b}", f"{a + b} * 2 = {2 * (a + b)}")
    again = (f"{a} * 2 = {2 * a}", f"{b} * 2 = {2 * b}", f"{2 * a} + {2 * b} = {2 * (a + b)}")
    return Scene(picture, "What is the perimeter?", 2 * (a + b), lines, again)


SCENES: dict[PictureKind, Callable[[Random, int], Scene]] = {
    "count": count_scene,
    "compare": compare_scene,
    "position": position_scene,
    "chart": chart_scene,
    "geometry": geometry_scene,
}


def picture_task(rng: Random, kind: PictureKind, scene: Scene, address: str, difficulty: int) -> Task:
    """The task of a scene whose picture is at an address."""
    problem = Problem(
        id=f"picture-{kind}-{rng.getrandbits(48):012x}",
        prompt=(Part(type="image", image=address), Part(type="text", text=scene.question)),
        answer=str(scene.answer),
        verifier="math",
        domain=kind,
        discipline="visual reasoning",
        difficulty=difficulty,
        source=SOURCE,
        licence=LICENCE,
    )
    answer = boxed(scene.answer)

    def long(rng: Random) -> str:
        lines = ["Plan: look, then count."] if rng.random() < 0.5 else []
        lines += scene.lines
        if rng.random() < 0.4:
            lines += ["Again, from the start.", *scene.again, f"Check: {scene.answer} = {scene.answer}, yes."]
        return thought(lines, answer)

    return Task(problem, "\n".join([*scene.lines, answer]), long)
