"""Tasks in long texts, in plain English: RULER's four kinds (arXiv 2404.06654, section 3).

The text has any length; what is asked for is a handful of names or numbers in it, drawn from a seed.

- `needles`: four keys with a number each stand in a text about nothing; two of the numbers are asked for.
- `tracing`: variables are given one another's values, in chains of five; the names with one value are asked for.
- `aggregation`: a list of words, of which three occur most often by far.
- `questions`: facts on people, all of one form; one person's city is asked for.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from steps.configs.evaluation import ContextKind

Count = Callable[[str], int]
"""Tokens of a text."""


@dataclass(frozen=True)
class ContextTask:
    """A text with a question."""

    prompt: str
    expected: tuple[str, ...]
    """What the answer has to hold; in any order."""


HAYSTACK = (
    "The grass is green.",
    "The sky is blue.",
    "The sun is yellow.",
    "Here we go.",
    "There and back again.",
)
"""RULER's text about nothing."""

_ROWS = (
    "anchor basket candle dragon engine feather garden hammer island jacket kettle ladder",
    "magnet needle orange pepper quartz ribbon saddle tunnel umbrella violin window yellow",
    "zipper bridge carpet dinner forest guitar harbor insect jungle lantern mirror nickel",
    "oyster pillow rabbit silver timber valley walnut button cactus desert falcon goblet",
)
WORDS = tuple(word for row in _ROWS for word in row.split())
CITIES = ("Lisbon", "Oslo", "Cairo", "Lima", "Quito", "Dublin", "Prague", "Nairobi", "Hanoi", "Sofia", "Tunis", "Riga")
FIRST_NAMES = ("Anna", "Boris", "Clara", "David", "Elena", "Felix", "Greta", "Henry", "Irene", "Jonas", "Karla", "Leo")
TRADES = ("baker", "pilot", "nurse", "tailor", "farmer", "lawyer", "singer", "potter", "sailor", "mason", "clerk")
ANSWER = "Give the final answer in \\boxed{}, separated by commas if there are several."
KEYS, REQUESTED, HOPS, FREQUENT = 4, 2, 5, 3


def make_task(kind: ContextKind, rng: Random, room: int, count: Count) -> ContextTask:
    """A task whose prompt has at most `room` tokens and hardly fewer, counted by `count`."""
    return _MAKERS[kind](rng, room, count)


def fill(
    rng: Random, lines: Sequence[str], fillers: Iterator[str], around: tuple[str, str], room: int, count: Count
) -> str:
    """`lines` in their order at random places among fillers, after and before `around`: at most `room` tokens.

    The tokens of lines by themselves are taken for those of the text, and the text is cut by what it has too many.
    """
    before, after = around
    left = room - sum(count(part) for part in (*lines, before, after))
    sizes: dict[str, int] = {}
    chosen: list[str] = []
    while left > 0:
        line = next(fillers)
        if line not in sizes:
            sizes[line] = count(line)
        left -= max(1, sizes[line])
        chosen.append(line)
    places = [rng.random() for _ in lines]
    while True:
        marks = sorted(round(place * len(chosen)) for place in places)
        parts: list[str] = []
        at = 0
        for mark, line in zip(marks, lines, strict=True):
            parts += [*chosen[at:mark], line]
            at = mark
        text = before + "".join([*parts, *chosen[at:]]) + after
        excess = count(text) - room
        if excess <= 0 or not chosen:
            return text
        while chosen and excess > 0:
            excess -= max(1, sizes[chosen.pop()])


def _keys(rng: Random, room: int, count: Count) -> ContextTask:
    keys = rng.sample(WORDS, KEYS)
    numbers = [str(number) for number in rng.sample(range(1000, 10000), KEYS)]
    lines = [f"The special number for {key} is {number}. " for key, number in zip(keys, numbers, strict=True)]
    question = f"\n\nWhat are the special numbers for {' and '.join(keys[:REQUESTED])} in the text above? {ANSWER}"
    order = rng.sample(lines, len(lines))

    def fillers() -> Iterator[str]:
        while True:
            yield from (f"{line} " for line in HAYSTACK)

    return ContextTask(fill(rng, order, fillers(), ("", question), room, count), tuple(numbers[:REQUESTED]))


def _variables(rng: Random, room: int, count: Count) -> ContextTask:
    names = [f"{word}_{rng.randint(10, 99)}" for word in rng.sample(WORDS, 2 * HOPS)]
    values = [str(value) for value in rng.sample(range(10000, 100000), 2)]
    chains = [
        [f"{chain[0]} = {value}\n", *(f"{name} = {before}\n" for before, name in pairwise(chain))]
        for chain, value in zip((names[:HOPS], names[HOPS:]), values, strict=True)
    ]
    placed = sorted((rng.random(), place, number) for number, chain in enumerate(chains) for place in range(len(chain)))
    turns = [number for _, _, number in placed]
    own = [iter(chain) for chain in chains]
    lines = [next(own[number]) for number in turns]
    question = f"\nWhich variables have the value {values[0]}, given directly or through others? {ANSWER}"

    def fillers() -> Iterator[str]:
        while True:
            yield from (f"{line}\n" for line in HAYSTACK)

    return ContextTask(fill(rng, lines, fillers(), ("", question), room, count), tuple(names[:HOPS]))


def _frequent_words(rng: Random, room: int, count: Count) -> ContextTask:
    words = rng.sample(WORDS, len(WORDS))
    frequent, others = words[:FREQUENT], words[FREQUENT:]
    question = f"\n\nWhat are the {FREQUENT} words that occur most often in the list above? {ANSWER}"

    def fillers() -> Iterator[str]:
        while True:
            # Each of the frequent words once in ten, the others together seven times in ten.
            yield from (f"{word} " for word in rng.sample([*frequent, *rng.sample(others, 7)], 10))

    return ContextTask(fill(rng, [], fillers(), ("", question), room, count), tuple(frequent))


def _people(rng: Random, room: int, count: Count) -> ContextTask:
    people = (f"{first} {word.capitalize()}" for first in FIRST_NAMES for word in WORDS)
    everyone = rng.sample(list(people), len(FIRST_NAMES) * len(WORDS))
    person, city = everyone[0], rng.choice(CITIES)
    line = f"{person} lives in {city} and works as a {rng.choice(TRADES)}.\n"
    question = f"\nIn which city does {person} live? {ANSWER}"

    def fillers() -> Iterator[str]:
        while True:
            for name in everyone[1:]:
                yield f"{name} lives in {rng.choice(CITIES)} and works as a {rng.choice(TRADES)}.\n"

    return ContextTask(fill(rng, [line], fillers(), ("", question), room, count), (city,))


_MAKERS: dict[ContextKind, Callable[[Random, int, Count], ContextTask]] = {
    "needles": _keys,
    "tracing": _variables,
    "aggregation": _frequent_words,
    "questions": _people,
}
