"""What scripts/smollm2.py makes of SVAMP."""

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.smollm2 import problem, write_problems
from steps.source_rows import problems_of


def row(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A row in the form of SVAMP.json."""
    usual = {
        "ID": f"chal-{number}",
        "Body": f"Dan had $ {number + 3} at the start. He spent $ {number}",
        "Question": "How much is left?",
        "Equation": f"( {number + 3}.0 - {number}.0 )",
        "Answer": 3.0,
        "Type": "Subtraction",
    }
    return usual | changes


@pytest.mark.parametrize(
    ("equation", "answer", "solution", "boxed"),
    [
        ("( 8.0 - 3.0 )", 5.0, "8 - 3 = 5", "5"),
        ("( 6.0 * 3.0 )", "18.0", "6 * 3 = 18", "18"),
        ("( 91676.0 + 61619.0 )", 153295, "91676 + 61619 = 153295", "153295"),
        ("( 7.0 / 2.0 )", 3.5, "7 / 2 = 3.5", "3.5"),
        ("( 0.1 + 0.2 )", 0.3, "0.1 + 0.2 = 0.3", "0.3"),
    ],
)
def test_an_equation_of_one_calculation_becomes_the_solution(
    equation: str, answer: Any, solution: str, boxed: str
) -> None:
    made = problem(row(Equation=equation, Answer=answer))
    assert made is not None
    assert made["solution"] == f"{solution}\n\\boxed{{{boxed}}}" and made["answer"] == boxed


def test_the_prompt_is_the_story_as_a_sentence_and_the_question() -> None:
    made = problem(row())
    assert made is not None and made["prompt"] == "Dan had $ 4 at the start. He spent $ 1. How much is left?"


@pytest.mark.parametrize("equation", ["( ( 1.0 + 2.0 ) - 3.0 )", "( 6.0 - ( 3.0 + 2.0 ) )", "5.0"])
def test_equations_of_any_other_number_of_calculations_are_left_out(equation: str) -> None:
    assert problem(row(Equation=equation)) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Answer": 4.0}, r"row chal-1: the equation \( 4.0 - 1.0 \) does not give the answer 4.0"),
        ({"Equation": "( 4.0 / 0.0 )"}, "row chal-1: the equation .* does not give the answer"),
        ({"Answer": "three"}, "row chal-1: the answer 'three' is not a number"),
    ],
)
def test_a_row_that_contradicts_itself_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        problem(row(**changes))


def test_rows_of_another_set_are_named_with_the_field_that_they_lack() -> None:
    with pytest.raises(ValueError, match=r"row \?: no field Answer, Body, Equation, ID, Question, Type; expected rows"):
        problem({"question": "1 + 1?", "answer": "#### 2"})


def test_the_last_quarter_of_the_problems_is_held_out_in_their_order(tmp_path: Path) -> None:
    rows = [row(number) for number in range(1, 10)]
    source = tmp_path / "SVAMP.json"
    source.write_text(json.dumps([row(77, Equation="( ( 1.0 + 2.0 ) - 3.0 )"), *rows]))
    write_problems(source, tmp_path / "problems")
    train, test = (problems_of(tmp_path / "problems" / f"{split}.jsonl", "longhaul") for split in ("train", "test"))
    assert [one.id for one in train] == [f"chal-{number}" for number in range(1, 8)]
    assert [one.id for one in test] == ["chal-8", "chal-9"]
    assert {(one.source, one.licence, one.verifier) for one in [*train, *test]} == {("arkilpatel/SVAMP", "MIT", "math")}
