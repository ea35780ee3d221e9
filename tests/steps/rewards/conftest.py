"""What the tests of the rewards share."""

from collections.abc import Iterator

import pytest

from steps.problem import Problem
from steps.rewards.math.judge import judge_answer
from steps.rewards.math.pool import MathPool
from steps.rewards.score import Verdict
from tests.steps.rewards.judge import Judge


@pytest.fixture(scope="session")
def pool() -> Iterator[MathPool]:
    pool = MathPool(1, cpu_seconds=2.0)
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def judge(pool: MathPool) -> Judge:
    """Judges an answer: `judge(reference, answer, prompt="…", form="…")`."""

    def judge(reference: str, answer: str, prompt: str = "?", form: str | None = None) -> Verdict:
        problem = Problem.model_validate(
            {"id": "p", "prompt": prompt, "answer": reference, "verifier": "math", "form": form}
        )
        return judge_answer(problem, answer, pool)

    return judge
