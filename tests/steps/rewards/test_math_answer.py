r"""Where in a response its final answer stands: the box, and what ends the thinking."""

import time

import pytest

from steps.rewards.score import after_thinking, boxed_answer


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"so \boxed{5}", "5"),
        (r"\boxed{4} no, \boxed{5}.", "5"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\}}", r"\}"),
        (r"\boxed{ 5 }", "5"),
        (r"\boxed {5}", "5"),
        ("\\boxed\n{5}", "5"),
        ("\\boxed  \n  {5}", "5"),
        (r"\boxed5", "5"),
        (r"\boxed 5", "5"),
        (r"$\boxed 12$.", "12"),
        (r"\boxed -3 is it", "-3"),
        (r"\boxed{x}", "x"),
        (r"$\boxed x$", "x"),
        (r"\boxed\frac{1}{2}", r"\frac{1}{2}"),
        (r"\boxed\pi", r"\pi"),
        (r"\fbox{5}", "5"),
        (r"\fbox {5}", "5"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{\fbox{5}}", "5"),
        (r"\boxed{5} \boxed{}", "5"),
        (r"\boxed{5}. Write it as \boxed{ }.", "5"),
        (r"\boxed{4} \boxed{5} \boxed{} \boxed{}", "5"),
        (r"\boxed{5}, again \boxed{5}", "5"),
        (r"\boxed{}", ""),
        (r"\boxed{}\boxed{}", ""),
        # Several boxes with nothing but "and", "or" or a comma between them are one list.
        (r"\boxed{1} and \boxed{-2}", "1, -2"),
        (r"$\boxed{1}$ or $\boxed{-2}$", "1, -2"),
        (r"\boxed{(1, 2)}, \boxed{(2, 1)}", "(1, 2), (2, 1)"),
        (r"\boxed{1} \text{ and } \boxed{2} \boxed{}", "1, 2"),
        (r"\boxed{5}, \boxed{5}", "5"),
        # What has no end, or more after it, is not an answer; an earlier box is not taken in its place.
        (r"\boxed{5", None),
        (r"\boxed{4} and \boxed{5", None),
        ("\\boxed{5\\", None),
        (r"\boxed 5x", None),
        (r"\boxed 5 + x", None),
        (r"\boxed5^2", None),
        (r"\boxed", None),
        (r"\boxedfoo{5}", None),
        (r"boxed{5}", None),
        (r"the answer is 5", None),
        ("", None),
    ],
)
def test_the_final_answer_is_the_last_box_that_is_not_empty(response: str, answer: str | None) -> None:
    assert boxed_answer(response) == answer


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"<think>\boxed{4}</think> \boxed{5}", "5"),
        (r"\boxed{4}</think> \boxed{5}", "5"),
        (r"<think>\boxed{4}</think>", None),
        (r"<think>it is \boxed{5}", None),
        ("<think>\n\\boxed{5}", None),
        (r"<think>a</think><think>b</think>\boxed{5}", "5"),
        # A block that is opened again and never closes.
        (r"<think>a</think>\boxed{5}<think>b", None),
        ("<think>a</think>\\boxed{5}\n<think>\nwait, \\boxed{6}", None),
        (r"<think>a</think> <think>\boxed{5}", None),
        # The word itself, once the thinking has ended.
        (r"<think>a</think> I used <think> tags. \boxed{5}", "5"),
        (r"<think>a</think> The `<think>` tag opens it: \boxed{5}", "5"),
        ("<think>a</think>\nAfter <think> comes \\boxed{5}. Not in <think>.", "5"),
        (r'<think>a</think> Write "<think>" first. \boxed{5}', "5"),
        # Without an end of the thinking nothing shows that it is only a word.
        (r"I used <think> tags. \boxed{5}", None),
    ],
)
def test_the_answer_stands_after_the_thinking(response: str, answer: str | None) -> None:
    assert boxed_answer(response) == answer


def test_thinking_that_the_prompt_opened_and_nothing_closes_has_no_answer() -> None:
    assert after_thinking("<think>\n" + r"it may be \boxed{5}") is None
    assert after_thinking("<think>\n" + r"it may be \boxed{4}</think>\boxed{5}") == r"\boxed{5}"


@pytest.mark.parametrize(
    "response", ["\\boxed{" * 100_000, "\\boxed{a}" * 100_000, "\\boxed{a}, " * 50_000, "<think>" * 100_000]
)
def test_a_response_full_of_boxes_is_read_at_once(response: str) -> None:
    start = time.monotonic()
    boxed_answer(response)
    assert time.monotonic() - start < 5
