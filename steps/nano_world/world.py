"""The nano world: data sets for every stage of the recipe, generated from a seed.

Train and test problems never share a prompt: a digest of a problem's text says which of the two it may be
in, whatever the seed.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import TypeVar

from infra.images import pixel_digest, stored_address
from steps.configs.data import LongConfig, NanoWorldConfig, PictureKind, VisionConfig
from steps.nano_world.arithmetic import make_chain
from steps.nano_world.congruence import make_search
from steps.nano_world.drawn_text import draw_text, drawn
from steps.nano_world.long import long_tasks
from steps.nano_world.pictures import SCENES, picture_task
from steps.nano_world.programs import make_program
from steps.nano_world.task import LICENCE, SOURCE, Task, boxed
from steps.nano_world.unsuitable import make_unsuitable
from steps.problem import Example, Problem, save_rows
from steps.row_images import RowImages

RowT = TypeVar("RowT", Problem, Example)


@dataclass(frozen=True)
class NanoWorld:
    """The generated data sets."""

    train: list[Problem]
    test: list[Problem]
    sft: list[Example]
    long_cot: list[Example]

    def save(self, folder: Path) -> None:
        """Write train, test, sft and long_cot as JSONL files."""
        for name in ("train", "test", "sft", "long_cot"):
            save_rows(folder / f"{name}.jsonl", getattr(self, name))


MAKERS: dict[str, Callable[[Random, int], Task]] = {
    "arithmetic": lambda rng, difficulty: make_chain(rng, 2 * difficulty - rng.randint(0, 1)),
    "search": make_search,
    "programs": make_program,
}
DOMAINS = ("arithmetic", "search", "programs", "arithmetic", "search")
DIFFICULTIES = (1, 1, 1, 1, 1, 2, 2, 3, 4, 5)
"""Easy problems are more frequent: that, too, gives response lengths a heavy tail."""


def held_out(problem: Problem) -> bool:
    """Whether a problem may be tested on: a fifth of all digests. No other data set, nor the text that the base was
    pretrained on, whatever its seed, holds such a problem."""
    # Not the problem's own digest: another version of that would divide what the base has already been pretrained on.
    words = [*problem.text.casefold().split(), *problem.images]
    digest = hashlib.sha256(" ".join(words).encode()).hexdigest()
    return int(digest[:8], 16) % 5 == 0


def make_task(rng: Random, domain: str, test: bool = False) -> Task:
    """A task of a domain that is held out, or one that is not."""
    while True:
        task = MAKERS[domain](rng, rng.choice(DIFFICULTIES))
        if held_out(task.problem) == test:
            return task


def tasks(rng: Random, used_digests: set[str], test: bool = False) -> Iterator[Task]:
    """Endless distinct tasks, domains in turn. Adds their digests to `used_digests`."""
    while True:
        for domain in DOMAINS:
            task = make_task(rng, domain, test)
            if task.problem.digest not in used_digests:
                used_digests.add(task.problem.digest)
                yield task


def _direct(rng: Random, problem: Problem) -> Example:
    """General question answering: the bare answer, no reasoning."""
    answer = boxed(problem.answer)
    if problem.domain == "proof":
        answer = "Multiplication is commutative. " + boxed("proof")
    return Example(
        problem_id=problem.id, prompt=problem.text, response=answer, kind="general", source=SOURCE, licence=LICENCE
    )


def _reasoning(task: Task, response: str) -> Example:
    return Example(
        problem_id=task.problem.id,
        prompt=task.problem.prompt,
        response=response,
        kind="reasoning",
        source=task.problem.source,
        licence=LICENCE,
    )


def _long_path(rng: Random, tasks: list[Task], index: int) -> Example:
    """A path to one of the tasks; one in twenty solves another task instead, for verification to find."""
    written = tasks[index] if rng.random() > 0.05 else rng.choice(tasks)
    return _reasoning(tasks[index], written.long(rng))


def generate(config: NanoWorldConfig, seed: int, images: RowImages | None = None) -> NanoWorld:
    """The data sets; equal arguments give equal data sets. Pictures go to `images`."""
    rng = Random(f"nano world {seed}")
    used_digests: set[str] = set()
    fresh = tasks(rng, used_digests)

    def unsuitable(count: int) -> list[Problem]:
        problems: dict[str, Problem] = {}
        while len(problems) < count:
            problem = make_unsuitable(rng)
            if problem.digest not in used_digests:
                problems[problem.digest] = problem
        used_digests.update(problems)
        return list(problems.values())

    unseen = tasks(rng, used_digests, test=True)
    tested = [next(unseen) for _ in range(config.test_problems)]
    misfits = unsuitable(config.train_problems // 6)
    solvable = [next(fresh) for _ in range(config.train_problems - len(misfits))]
    train = [task.problem for task in solvable] + misfits
    rng.shuffle(train)
    sft = [_direct(rng, problem) for problem in unsuitable(config.sft_examples // 4)]
    imitated = [next(fresh) for _ in range(config.sft_examples - len(sft))]
    sft += [_reasoning(task, task.short) for task in imitated]
    rng.shuffle(sft)
    long_cot = [_long_path(rng, solvable, i % len(solvable)) for i in range(config.long_cot_paths)]
    world = NanoWorld(train, [task.problem for task in tested], sft, long_cot)
    if config.long is not None:
        world = _with_long(world, config.long, seed)
    if config.vision is not None:
        seen = _Seen(config.vision, images or RowImages(), Random(f"nano world in pictures {seed}"))
        world = seen.added(world, solvable, tested, imitated)
    return world


def _with_long(world: NanoWorld, config: LongConfig, seed: int) -> NanoWorld:
    """The world and its long problems, whose random numbers are their own: the rest is as without them."""
    rng = Random(f"long nano world {seed}")
    fresh = long_tasks(rng, config, lambda problem: not held_out(problem))
    test = [task.problem for task in islice(long_tasks(rng, config, held_out), config.test_problems)]
    solvable = list(islice(fresh, config.train_problems))
    sft = [_reasoning(task, task.short) for task in islice(fresh, config.sft_examples)]
    paths = [_long_path(rng, solvable, i % len(solvable)) for i in range(config.long_cot_paths)]
    return _joined(rng, world, NanoWorld([task.problem for task in solvable], test, sft, paths))


def _joined(rng: Random, world: NanoWorld, more: NanoWorld) -> NanoWorld:
    return NanoWorld(
        _shuffled(rng, world.train + more.train),
        world.test + more.test,
        _shuffled(rng, world.sft + more.sft),
        world.long_cot + more.long_cot,
    )


def _shuffled(rng: Random, rows: list[RowT]) -> list[RowT]:
    return rng.sample(rows, len(rows))


class _Seen:
    """The problems with an image. Their random numbers are their own: the rest of the world is as without them."""

    def __init__(self, config: VisionConfig, images: RowImages, rng: Random) -> None:
        self._config, self._images, self._rng = config, images, rng
        self._used_digests: set[str] = set()

    def added(self, world: NanoWorld, train: list[Task], test: list[Task], sft: list[Task]) -> NanoWorld:
        """The world, and problems with an image; the tasks are those whose texts may be drawn in each set."""
        config, rng = self._config, self._rng
        solvable = self._tasks(train, config.train_problems)
        tested = self._tasks(test, config.test_problems, test=True)
        imitated = self._tasks(sft, config.sft_examples)
        paths = [_long_path(rng, solvable, i % len(solvable)) for i in range(config.long_cot_paths)]
        examples = [_reasoning(task, task.short) for task in imitated]
        more = NanoWorld([one.problem for one in solvable], [one.problem for one in tested], examples, paths)
        return _joined(rng, world, more)

    def _tasks(self, texts: list[Task], count: int, test: bool = False) -> list[Task]:
        drawn_texts = self._config.drawn(count)
        made = [drawn(task, self._images.keep(draw_text(task.problem.text).image)) for task in texts[:drawn_texts]]
        kinds = self._config.kinds
        made += [self._picture(kinds[i % len(kinds)], test) for i in range(count - drawn_texts)]
        return self._rng.sample(made, len(made))

    def _picture(self, kind: PictureKind, test: bool) -> Task:
        """A task about a picture that is held out, or one that is not."""
        while True:
            difficulty = self._rng.choice(DIFFICULTIES)
            scene = SCENES[kind](self._rng, difficulty)
            task = picture_task(self._rng, kind, scene, stored_address(pixel_digest(scene.picture.image)), difficulty)
            if held_out(task.problem) == test and task.problem.digest not in self._used_digests:
                self._used_digests.add(task.problem.digest)
                self._images.keep(scene.picture.image)
                return task
