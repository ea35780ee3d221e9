"""The nano world's pictures: what they show is what their answers say, and a drawn text says what its twin says."""

import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from infra.images import load_stored
from steps.configs.data import NanoWorldConfig, VisionConfig
from steps.nano_world.drawing import CELL, COLOURS
from steps.nano_world.drawn_text import SOURCE, draw_text
from steps.nano_world.pictures import SCENES, chart_scene, count_scene, picture_task
from steps.nano_world.world import NanoWorld, generate, make_task
from steps.problem import Example, Problem
from steps.rewards.scorer import Scorer
from steps.row_images import RowImages

SEEDS = st.integers(0, 10**6)
SIZES = {"train_problems": 60, "test_problems": 24, "sft_examples": 60, "long_cot_paths": 30}
VISION = VisionConfig(train_problems=40, test_problems=20, sft_examples=40, long_cot_paths=60)


@pytest.fixture(scope="module")
def world() -> NanoWorld:
    return generate(NanoWorldConfig(**SIZES, vision=VISION), 0)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 5))
def test_as_many_shapes_of_a_colour_are_seen_as_the_answer_says(seed: int, difficulty: int) -> None:
    scene = count_scene(Random(seed), difficulty)
    image = scene.picture.image
    question = re.fullmatch(r"How many (red|green|blue)? ?(\w+?)s? are there\?", scene.question)
    assert question
    centres = [
        image.getpixel((column * CELL + CELL // 2, row * CELL + CELL // 2))
        for row in range(image.height // CELL)
        for column in range(image.width // CELL)
    ]
    if question[2] == "shape":
        assert centres.count(COLOURS[question[1]]) == scene.answer
    else:
        coloured = [
            centre for centre in centres if centre in ([COLOURS[question[1]]] if question[1] else COLOURS.values())
        ]
        assert 1 <= scene.answer <= len(coloured)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_bars_are_as_high_as_the_answer_says(seed: int) -> None:
    scene = chart_scene(Random(seed), 1)
    letter = scene.question[-2]
    column = (1 + "ABCDEFG".index(letter)) * CELL + CELL // 2
    image = scene.picture.image
    assert sum(image.getpixel((column, y)) in COLOURS.values() for y in range(5 * CELL)) == scene.answer * 4


def test_every_path_to_a_picture_is_accepted_and_every_equation_in_it_is_true() -> None:
    rng = Random(4)
    pairs = []
    for kind, make in SCENES.items():
        for difficulty in range(1, 6):
            scene = make(rng, difficulty)
            task = picture_task(rng, kind, scene, "images/0.png", difficulty)
            pairs += [(task.problem, task.short), (task.problem, task.long(rng))]
            assert 0 <= scene.answer <= 199
            for a, sign, b, result in re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", "\n".join(scene.lines + scene.again)):
                x, y = int(a), int(b)
                assert int(result) == {"+": x + y, "-": x - y, "*": x * y, "/": x // y if y else None}[sign]
    with Scorer() as scorer:
        assert {score.value for score in scorer.score_many(pairs)} == {1.0}


def test_a_drawn_text_has_every_character_and_numbers_begin_at_a_cell() -> None:
    rng = Random(2)
    for domain in ("arithmetic", "search", "programs"):
        text = make_task(rng, domain).problem.text
        picture = draw_text(text)
        written = "".join(label for _, label in sorted(picture.labels.items(), key=lambda item: item[0][::-1]))
        assert "".join(written.split()) == "".join(text.split())
        assert not any(re.match(r"\D\d", label) for label in picture.labels.values())


def test_drawn_texts_have_their_twin_in_the_same_set_and_the_rest_of_the_world_is_as_without(world: NanoWorld) -> None:
    plain = generate(NanoWorldConfig(**SIZES), 0)
    for name, count in (("train", 20), ("test", 10)):
        problems = {problem.id: problem for problem in getattr(world, name)}
        drawn = [problem for problem in problems.values() if problem.twin]
        assert len(drawn) == count and {problem.source for problem in drawn} == {SOURCE}
        assert all(problems[problem.twin or ""].answer == problem.answer for problem in drawn)
        without = [problem for problem in problems.values() if not problem.images]
        assert {problem.id for problem in without} == {problem.id for problem in getattr(plain, name)}
    digests = Counter(problem.digest for problem in world.train + world.test)
    assert max(digests.values()) == 1
    assert sum(1 for example in world.sft if example.images) == VISION.sft_examples


def test_equal_seeds_give_equal_pictures_and_they_are_stored(tmp_path: Path, world: NanoWorld) -> None:
    again = generate(NanoWorldConfig(**SIZES, vision=VISION), 0, RowImages(tmp_path))
    assert again == world
    rows: list[Problem | Example] = [*again.train, *again.test, *again.sft]
    images = {image for row in rows for image in row.images}
    assert len(images) >= 95 and all(load_stored(tmp_path, image).width % CELL == 0 for image in images)


def test_more_drawn_texts_than_texts_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"vision\.test_problems: 30 drawn texts need as many text problems"):
        NanoWorldConfig(**SIZES, vision=VISION.model_copy(update={"test_problems": 60}))
