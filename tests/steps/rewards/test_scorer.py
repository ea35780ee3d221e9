"""The scorer as the stages use it."""

import psutil
import pytest

from steps.problem import Problem
from steps.rewards.math.judge import UnreadableReference
from steps.rewards.score import Score
from steps.rewards.scorer import Scorer

SUM = Problem(id="sum", prompt="6 + 1?", answer="7", verifier="math")
TERM = Problem(id="term", prompt="Simplify.", answer="x+7", verifier="math")
ECHO = Problem(id="echo", prompt="Print the input.", verifier="code", tests=(("a\n", "a"),))
BROKEN = Problem(id="broken", prompt="?", answer=r"\frac{x}{", verifier="math")
PROGRAM = "```python\nprint(input())\n```"


def test_scores_stand_in_the_order_of_the_pairs_whichever_verifier_judges() -> None:
    pairs = [(TERM, r"\boxed{7+x}"), (SUM, r"\boxed{7}"), (ECHO, PROGRAM), (SUM, r"\boxed{8}"), (SUM, "7")] * 3
    with Scorer() as scorer:
        scores = scorer.score_many(pairs)
        assert [score.value for score in scores] == [1.0, 1.0, 1.0, 0.0, 0.0] * 3
        assert scores[4].reason == "no answer" and scores[0].verifier == "math@3" and scores[2].verifier == "code@3"
        assert scorer.counts == {"math@3: right": 6, "code@3: right": 3, "math@3: wrong": 3, "math@3: no answer": 3}


def test_a_hanging_answer_is_counted_and_leaves_its_neighbours_alone() -> None:
    pairs = [(TERM, r"\boxed{x+7^{9^{9^{9^9}}}}"), (TERM, r"\boxed{7+x}"), (SUM, r"\boxed{7}")]
    with Scorer(threads=1) as scorer:
        hanging, term, number = scorer.score_many(pairs)
        assert (hanging.value, term.value, number.value) == (0.0, 1.0, 1.0)
        assert hanging.reason == "timed out" and hanging.seconds > 1
        assert scorer.counts["math@3: timed out"] == 1


def test_a_fault_of_the_project_is_raised_and_the_scorer_continues() -> None:
    with Scorer() as scorer:
        broken = scorer.submit(BROKEN, r"\boxed{\frac{x}{2}}")
        with pytest.raises(UnreadableReference, match="broken"):
            broken.result()
        score = scorer.submit(SUM, r"\boxed{7}").result()
        assert isinstance(score, Score) and score.value == 1.0
        assert sum(scorer.counts.values()) == 1


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def test_plain_numbers_start_no_process() -> None:
    before = children()
    with Scorer() as scorer:
        scorer.score_many([(SUM, r"\boxed{7}")] * 100)
        assert children() <= before


def test_closing_leaves_no_process() -> None:
    before = children()
    with Scorer() as scorer:
        scorer.score_many([(TERM, r"\boxed{7+x}")])
        assert children() - before
    assert children() <= before
