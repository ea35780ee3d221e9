"""The processes that compare expressions, and the verifier as a whole: what hangs, what is killed, whose fault."""

import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from steps.problem import Problem
from steps.rewards.math.forms import Expr, Value
from steps.rewards.math.judge import UnreadableReference
from steps.rewards.math.judge import judge as judge_response
from steps.rewards.math.parse import read
from steps.rewards.math.pool import MathPool
from steps.source_rows import problems_of
from tests.processes import running_below
from tests.steps.rewards.judge import Judge

GSM8K = Path(__file__).parents[4] / "shared/data/gsm8k/test.jsonl"


def expression(text: str) -> Expr:
    form = read(text)
    assert isinstance(form, Value)
    return form.expr


@pytest.mark.parametrize(
    "answer", ["9^{9^{9^9}}+x", "x^{9^{9^{9^9}}}", r"x+\frac{(10^{10^{10}})!}{3}", "(" * 100 + "x" + ")" * 100]
)
def test_an_answer_that_hangs_costs_its_cpu_seconds_and_changes_no_later_verdict(judge: Judge, answer: str) -> None:
    start = time.monotonic()
    assert not judge("x+7", answer).right
    assert time.monotonic() - start < 20
    assert judge("x+7", "7+x").right
    assert not judge("x+7", "8+x").right


def test_a_comparison_that_hangs_is_said_to_have_timed_out(pool: MathPool) -> None:
    assert pool.compare(expression("x+7"), expression("9^{9^{9^9}}+x")) == "timed out"


def test_a_comparison_is_made_once(pool: MathPool, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = expression("x+17"), expression("17+x")
    assert pool.compare(*pair) == "equal"
    monkeypatch.setattr(pool, "_compare", None)
    assert pool.compare(*pair) == "equal"


def test_a_worker_that_something_else_killed_is_replaced(pool: MathPool) -> None:
    assert pool.compare(expression("x"), expression("x+0")) == "equal"
    for process, words in running_below():
        if "steps.rewards.math.worker" in words:
            process.kill()
            process.wait()
    assert pool.compare(expression("x+1"), expression("1+x")) == "equal"


def test_a_long_answer_is_wrong_at_once(pool: MathPool) -> None:
    start = time.monotonic()
    problem = Problem(id="a", prompt="?", answer="1", verifier="math")
    assert judge_response(problem, "\\boxed{" + "1" * 100_000 + "}", pool).reason == "answer too long"
    assert judge_response(problem, "\\boxed{" * 100_000, pool).reason == "no answer"
    assert time.monotonic() - start < 10


def test_a_reference_that_is_not_mathematics_is_an_error_and_not_a_zero(pool: MathPool) -> None:
    problem = Problem(id="broken-7", prompt="?", answer=r"\frac{x}{", verifier="math")
    with pytest.raises(UnreadableReference, match="broken-7"):
        judge_response(problem, r"\boxed{\frac{x}2}", pool)


@pytest.mark.skipif(not GSM8K.exists(), reason="the GSM8K test set is not on this machine")
def test_gsm8k_answers_are_right_for_their_own_problem_only(pool: MathPool) -> None:
    problems = problems_of(GSM8K, "gsm8k")
    for problem, following in pairwise(problems):
        assert judge_response(problem, f"<think>…</think> \\boxed{{{problem.answer}}}", pool).right
        same = Fraction(problem.answer) == Fraction(following.answer)
        assert judge_response(problem, f"\\boxed{{{following.answer}}}", pool).right == same
