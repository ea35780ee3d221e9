"""Reference answers that no response can meet are refused before anything trains on them, by kind."""

import pytest

from steps.rewards.math.pool import MathPool
from steps.rewards.math.reference import reference_fault
from tests.steps.rewards.judge import Judge


@pytest.mark.parametrize(
    ("kind", "answers"),
    [
        ("empty", ["", " ", " . ", "$$", "$ $"]),
        ("a missing value", ["nan", "NaN", "None", "N/A", "n/a", "null", "NULL", "<NA>", "?", "-", "NA", "$nan$"]),
        (
            "a sentence",
            ["The answer is 5", "the answer is: 5", "Answer: 5", "So 5", "Final answer: $5$", "#### 5", "Thus x = 5"],
        ),
        (
            "hedged",
            [
                "about 5",
                "5 (approximately)",
                "approximately 5",
                "approx. 5",
                "≈ 5",
                r"\approx 5",
                r"5 \text{ or more}",
                "at least 5",
                "roughly 5",
                "1, 2, ...",
                r"1, 2, \ldots",
                "around 12 cm",
                "5, maybe 6",
            ],
        ),
        ("a choice and its text", ["(A) 5", "A. 5", "B) 7", "(C) Monday", "D: 12 cm", r"(A) $\frac{1}{2}$"]),
        (
            "cannot be read",
            [r"\frac{1}{", "5 5", r"\sum_{k=1}^n k", "1/2x", r"(1, 2", "3-", "5 dozens"],
        ),
        ("longer than", ["1" * 300, "x+" * 150 + "x"]),
    ],
)
def test_a_reference_that_no_answer_can_meet_is_refused(pool: MathPool, kind: str, answers: list[str]) -> None:
    faults = {answer: reference_fault(answer, pool) for answer in answers}
    assert all(fault is not None and fault.startswith(kind) for fault in faults.values()), faults


@pytest.mark.parametrize(
    "answer",
    [
        *[
            "42",
            "-3.5",
            "1/2",
            r"\frac{2}{3}",
            "Monday",
            r"\text{yes}",
            "(B)",
            "B.",
            r"50\%",
            "x = 5 or x = -2",
            "5, -2",
        ],
        *[
            r"\{1, 2\}",
            "x^2 + 2x",
            r"2\pm\sqrt{3}",
            "(-1)^n",
            "n!",
            r"\sqrt{-1}",
            r"\emptyset",
            "[1, 2)",
            "5:9",
            "12 R 3",
        ],
        *["2 hours 30 min", "AB=7", "y=2x+1", "x^2+y^2=25", r"\begin{pmatrix}1\\2\end{pmatrix}", "101_2", "5 widgets"],
        *[
            "no",
            "O'Brien",
            "none of them",
            "Answerable",
            "Nan",
            "A",
            r"\infty",
            "x < 3",
            "3 (apples)",
            r"9 \text{ cm}^2",
        ],
    ],
)
def test_a_reference_that_can_be_met_is_accepted(pool: MathPool, judge: Judge, answer: str) -> None:
    assert reference_fault(answer, pool) is None
    assert judge(answer, answer).right


@pytest.mark.parametrize(
    "answer", ["42", "-3.5", "1/2", r"\frac{2}{3}", "Monday", r"\text{yes}", "(B)", r"50\%", "x+1"]
)
def test_references_are_read_without_a_process(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = MathPool(workers=1)
    monkeypatch.setattr(pool, "_compare", None)
    assert reference_fault(answer, pool) is None
