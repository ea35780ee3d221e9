"""Where evaluation finds the answer of a model that writes no box."""

import pytest

from steps.answer_reading import with_answer_in_a_box
from steps.configs.answer_reading import AnswerReading


@pytest.mark.parametrize(
    ("response", "last_number", "final_answer_line"),
    [
        ("She has 3 + 4 = 7 apples.", "7", None),
        ("It costs $1,234.50 in all.", "1234.50", None),
        ("The answer is 12.", "12", "12"),
        ("So x = 3.\n#### 42", "42", "42"),
        ("Answer: 3/4 of the cake", "3/4", "3/4 of the cake"),
        ("The final answer is $\\frac{1}{2}$.", "2", "\\frac{1}{2}"),
        ("The answer is 5, no: the answer is **6**.", "6", "6"),
        ("It falls to -4 °C, or −4.", "−4", None),
        ("<think>First 9.</think>That makes 8.", "8", None),
        ("<think>The answer is 9.", None, None),
        ("version2 of x1 has none", None, None),
        ("No number at all.", None, None),
        ("", None, None),
    ],
)
def test_the_answer_is_read_where_it_stands(
    response: str, last_number: str | None, final_answer_line: str | None
) -> None:
    readings: list[tuple[AnswerReading, str | None]] = [
        ("last_number", last_number),
        ("final_answer_line", final_answer_line),
    ]
    for reading, answer in readings:
        expected = response if answer is None else f"\\boxed{{{answer}}}"
        assert with_answer_in_a_box(response, reading) == expected
    assert with_answer_in_a_box(response, "boxed") == response
