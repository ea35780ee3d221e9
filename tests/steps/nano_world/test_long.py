"""Long problems: their lengths, their answers found again from the text alone, and what is held out."""

import operator
import re
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import AutoTokenizer

from steps.configs.data import LongConfig, NanoWorldConfig
from steps.nano_world.long import MAKERS, count_tokens, long_tasks
from steps.nano_world.world import NanoWorld, generate, held_out
from steps.question_form import question_form
from steps.rewards.score import boxed_answer

SIZES = {"train_problems": 60, "test_problems": 20, "sft_examples": 40, "long_cot_paths": 30}
COMPUTE = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv, "mod": operator.mod}
STEPS = {
    "Add": operator.add,
    "Subtract": operator.sub,
    "Multiply by": operator.mul,
    "Divide by": operator.floordiv,
    "Take it modulo": operator.mod,
}
LONG = LongConfig(train_problems=12, test_problems=6, sft_examples=9, long_cot_paths=24, lengths=(300, 900))


@pytest.fixture(scope="module")
def world() -> NanoWorld:
    return generate(NanoWorldConfig(**SIZES, long=LONG), 0)


def answer_from(text: str) -> int:
    """What a reader of the text finds, who knows nothing of how it was made."""
    *lines, question = text.splitlines()
    if question.startswith("Start with "):
        value = int(question.split(".")[0].removeprefix("Start with "))
        for step in question.split(". ")[1:-1]:
            operation, number = step.rsplit(" ", 1)
            value = STEPS[operation](value, int(number))
        return value
    values: dict[str, int] = {}
    for line in lines:
        if match := re.fullmatch(r"([a-zA-Z]\d*) = (\d+)", line):
            values[match[1]] = int(match[2])
        elif match := re.fullmatch(r"([a-zA-Z]\d*) = ([a-zA-Z]\d*) ([+-]) (\d+)", line):
            values[match[1]] = values[match[2]] + int(match[3] + match[4])
    if match := re.fullmatch(r"What is the first with x mod (\d+) = (\d+)\?", question):
        return next(value for value in values.values() if value % int(match[1]) == int(match[2]))
    names = re.findall(r"(?:([+-]) )?([a-zA-Z]\d*)", question.removeprefix("What is "))
    return sum(int(f"{sign or '+'}{values[name]}") for sign, name in names)


@pytest.mark.parametrize("kind", MAKERS)
@given(seed=st.integers(0, 10**6), length=st.sampled_from([64, 256, 700, 3000]))
@settings(max_examples=25, deadline=None)
def test_a_problem_has_its_length_and_its_answer_and_its_paths_are_right(kind: str, seed: int, length: int) -> None:
    rng = Random(seed)
    task = MAKERS[kind](rng, length, 512)
    assert length - 12 <= count_tokens(task.problem.text) <= length
    assert answer_from(task.problem.text) == int(task.problem.answer)
    assert question_form(task.problem.text) is None
    path = task.long(rng)
    assert count_tokens(path) < 512 + 60 + 512 * ("Again" in path)
    for response in (task.short, path):
        assert response.endswith(f"\\boxed{{{task.problem.answer}}}")
        if kind == "steps" and response is path:
            continue  # the paths of arithmetic slip and correct themselves (test_world.py)
        for left, sign, right, result in re.findall(r"(\d+) ([-+*/]|mod) (\d+) = (\d+)", response):
            assert COMPUTE[sign](int(left), int(right)) == int(result)


def test_tokens_are_counted_as_the_base_counts_them(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    for task in islice(long_tasks(Random(0), LONG, lambda problem: True), 8):
        assert count_tokens(task.problem.text) == len(tokenizer(task.problem.text)["input_ids"])


def test_long_problems_are_added_and_leave_the_others_as_they_were(world: NanoWorld) -> None:
    without = generate(NanoWorldConfig(**SIZES), 0)
    assert [problem for problem in world.train if problem.domain not in MAKERS] != without.train  # shuffled
    assert {problem.id for problem in without.train} < {problem.id for problem in world.train}
    assert world.test[: len(without.test)] == without.test
    assert [len(rows) for rows in (world.train, world.test, world.sft, world.long_cot)] == [72, 26, 49, 54]
    assert world == generate(NanoWorldConfig(**SIZES, long=LONG), 0)


def test_long_problems_to_test_on_are_held_out_and_paths_belong_to_those_to_train_on(world: NanoWorld) -> None:
    test, train = ([one for one in rows if one.domain in MAKERS] for rows in (world.test, world.train))
    assert all(held_out(problem) for problem in test) and not any(held_out(problem) for problem in train)
    assert {problem.domain for problem in test} == set(MAKERS)
    by_id = {problem.id: problem for problem in train}
    paths = [path for path in world.long_cot if path.problem_id in by_id]
    assert len(paths) == 24 and all(path.prompt == by_id[path.problem_id].text for path in paths)
    right = [boxed_answer(path.response) == by_id[path.problem_id].answer for path in paths]
    assert 0.7 < sum(right) / len(right) <= 1


def test_a_length_without_room_for_a_problem_is_refused() -> None:
    with pytest.raises(ValidationError, match="63 tokens are too few for a long problem: give at least 64"):
        LongConfig(lengths=(512, 63))
