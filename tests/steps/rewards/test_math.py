r"""Final answers: where they stand, and which are right. The tables hold what leniency or naivety gets wrong."""

import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.problem import Problem, load_problems
from steps.rewards.math import UnreadableReference, judge, judge_answer
from steps.rewards.math_pool import MathPool
from steps.rewards.quantity import read_quantity
from steps.rewards.score import boxed_answer
from tests.processes import running_below

GSM8K = Path(__file__).parents[4] / "shared/data/gsm8k/test.jsonl"


@pytest.fixture(scope="module")
def pool() -> Iterator[MathPool]:
    pool = MathPool(1, cpu_seconds=2.0)
    yield pool
    pool.close()


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"so \boxed{5}", "5"),
        (r"\boxed{4} no, \boxed{5}.", "5"),
        (r"<think>\boxed{4}</think> \boxed{5}", "5"),
        (r"\boxed{4}</think> \boxed{5}", "5"),  # the prompt opened the block
        (r"<think>\boxed{4}</think>", None),
        (r"<think>it is \boxed{5}", None),
        (r"<think>a</think>\boxed{5}<think>b", None),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\}}", r"\}"),
        (r"\boxed{ 5 }", "5"),
        (r"\boxed{}", ""),
        (r"\boxed{5", None),
        (r"\boxed{4} and \boxed{5", None),
        ("\\boxed{5\\", None),
        (r"\boxed 5", None),
        (r"the answer is 5", None),
        ("", None),
    ],
)
def test_the_final_answer_is_the_last_box_after_the_thinking(response: str, answer: str | None) -> None:
    assert boxed_answer(response) == answer


RIGHT = [
    ("72", "72"),
    ("1000", "1,000"),
    ("1000000", "1{,}000{,}000"),
    ("10000", r"10\,000"),
    ("3", "+3"),
    ("3", "03"),
    ("3", "3.0"),
    ("3", "3."),
    ("-3", "−3"),
    ("18", r"\$18"),
    ("18", "$18$"),
    ("18", r"18 \text{ eggs}"),
    ("18", "18 dollars"),
    (r"\$18", "18.00"),
    ("1/2", "0.5"),
    (r"\frac{1}{2}", "0.5"),
    (r"\frac12", r"\dfrac{2}{4}"),
    (r"-\frac{1}{2}", r"\frac{-1}{2}"),
    ("3/2", r"1\frac{1}{2}"),
    ("3/2", "1 1/2"),
    ("1500", r"1.5 \times 10^{3}"),
    ("50", r"50\%"),
    ("0.5", "50%"),
    ("12 m", "12"),
    ("12", "12 cm"),
    (r"12 \text{ cm}^2", r"12\text{cm}^{2}"),
    ("90", r"90^\circ"),
    ("2", "x = 2"),
    ("x=2", "2"),
    ("Monday", r"\text{Monday}"),
    ("B", "(B)"),
    ("2x+1", "1 + 2x"),
    (r"(x+1)^2", "x^2 + 2x + 1"),
    (r"2\sqrt{2}", r"\sqrt{8}"),
    (r"\pi", r"\pi"),
    (r"\frac{\pi}{2}", r"0.5\pi"),
    (r"\{1, 2\}", r"\{2, 1\}"),
    ("1, 2", r"\{2, 1\}"),
    ("1, 2", "2, 1"),
    ("(1, 2)", r"\left(1, 2\right)"),
    ("(1, 2]", "(1,2]"),
    (r"[1,2] \cup [3,4]", r"[3,4]\cup[1,2]"),
    ("x < 3", r"(-\infty, 3)"),
    ("2+3i", "3i+2"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
]

WRONG = [
    ("2", "1=2"),
    ("2", "{2}"),
    ("2", r"\{2\}"),
    ("12 m", "12 cm"),
    (r"12 \text{ m}", r"12 \text{ m}^2"),
    ("2", "2,2"),
    ("2", r"\pm 2"),
    ("2", "2 or 3"),
    ("2", "2x"),
    ("12", "12m"),
    ("2", "x = y = 2"),
    ("x=2", "y=2"),
    ("56", r"7 \cdot 8"),
    ("56", "7*8"),
    ("8", "2^3"),
    ("6", "3!"),
    ("45", r"\sum_{i=1}^9 i"),
    ("3", r"3 \text{ million}"),
    ("3", r"3 \text{ or more}"),
    ("3", "> 3"),
    ("11", "11_2"),
    ("1/3", "0.333333"),
    (r"\sqrt{2}", "1.414214"),
    (r"\pi", "3.14"),
    ("5", "50%"),
    ("10", "1,0"),
    ("12", "１２"),
    ("12", "١٢"),
    ("8", "2³"),
    (r"\sqrt{12}", r"\sqrt{１２}"),
    ("0", "1/0"),
    ("1", "1e999"),
    ("1", "nan"),
    ("1", "True"),
    ("1", ""),
    ("Monday", "Mondya"),
    ("Monday", "Dayomn"),
    ("(1, 2)", "[1, 2]"),
    ("(1, 2)", "1, 2"),
    ("(1, 2)", "(2, 1)"),
    (r"\{1, 2\}", "(1, 2)"),
    (r"\{1, 2\}", r"\{1, 2, 3\}"),
    ("(1, 2]", "(1, 2)"),
    ("2x+1", "2y+1"),
    ("2x+1", "2x+1=2x+1"),
    (r"\sqrt{2}", r"\sqrt{2} \text{ or not}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}"),
    ("5", "__import__('os').system('true')"),
    ("7", "9^{9^{9^9}}"),
]


@pytest.mark.parametrize(("reference", "answer"), RIGHT)
def test_a_right_answer_in_another_form_is_right(pool: MathPool, reference: str, answer: str) -> None:
    verdict = judge_answer(reference, answer, pool)
    assert verdict.right, verdict.reason


@pytest.mark.parametrize(("reference", "answer"), WRONG)
def test_a_wrong_answer_that_looks_right_is_wrong(pool: MathPool, reference: str, answer: str) -> None:
    assert not judge_answer(reference, answer, pool).right


@pytest.mark.parametrize(
    "answer", ["9^{9^{9^9}}+x", "x^{9^{9^{9^9}}}", r"x+\frac{(10^{10^{10}})!}{3}", "(" * 100 + "x" + ")" * 100]
)
def test_an_answer_that_hangs_costs_its_cpu_seconds_and_changes_no_later_verdict(pool: MathPool, answer: str) -> None:
    start = time.monotonic()
    assert not judge_answer("x+7", answer, pool).right
    assert time.monotonic() - start < 20
    assert judge_answer("x+7", "7+x", pool).right
    assert not judge_answer("x+7", "8+x", pool).right


def test_a_comparison_that_hangs_is_said_to_have_timed_out(pool: MathPool) -> None:
    assert pool.compare("x+7", "9^{9^{9^9}}+x") == "timed out"


def test_a_worker_that_something_else_killed_is_replaced(pool: MathPool) -> None:
    assert pool.compare("x", "x") == "equal"
    for process, words in running_below():
        if "steps.rewards.math_worker" in words:
            process.kill()
            process.wait()
    assert pool.compare("x+1", "1+x") == "equal"


def test_a_long_answer_is_wrong_at_once(pool: MathPool) -> None:
    start = time.monotonic()
    problem = Problem(id="a", prompt="?", answer="1", verifier="math")
    assert judge(problem, "\\boxed{" + "1" * 100_000 + "}", pool).reason == "answer too long"
    assert judge(problem, "\\boxed{" * 100_000, pool).reason == "no answer"
    assert time.monotonic() - start < 10


def test_a_reference_that_is_no_mathematics_is_an_error_and_not_a_zero(pool: MathPool) -> None:
    problem = Problem(id="broken-7", prompt="?", answer=r"\frac{x}{", verifier="math")
    with pytest.raises(UnreadableReference, match="broken-7"):
        judge(problem, r"\boxed{\frac{x}2}", pool)


@given(st.integers(-(10**30), 10**30), st.integers(0, 3))
def test_every_way_of_writing_an_integer_reads_as_itself(value: int, zeros: int) -> None:
    sign, digits = "-" if value < 0 else "", str(abs(value))
    for text in (f"{value}", f"{value:,}", f"{sign}{'0' * zeros}{digits}", f"${value}$", f"{value}." + "0" * zeros):
        quantity = read_quantity(text)
        assert quantity is not None and quantity.value == value


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**9))
def test_fractions_are_exact(top: int, bottom: int) -> None:
    for text in (f"{top}/{bottom}", f"\\frac{{{top}}}{{{bottom}}}"):
        quantity = read_quantity(text)
        assert quantity is not None and quantity.value == Fraction(top, bottom)


@given(st.text(max_size=40))
def test_no_text_makes_the_reader_raise(text: str) -> None:
    read_quantity(text)


@pytest.mark.skipif(not GSM8K.exists(), reason="the GSM8K test set is not on this machine")
def test_gsm8k_answers_are_right_for_their_own_problem_only(pool: MathPool) -> None:
    problems = load_problems(GSM8K, "gsm8k")
    for problem, following in pairwise(problems):
        assert judge(problem, f"<think>…</think> \\boxed{{{problem.answer}}}", pool).right
        same = Fraction(problem.answer) == Fraction(following.answer)
        assert judge(problem, f"\\boxed{{{following.answer}}}", pool).right == same
