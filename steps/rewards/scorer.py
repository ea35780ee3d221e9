"""Judges responses in the background, each by its problem's verifier: the one reward interface.

A response is judged by one thread, its tests one after the other up to the first that fails; responses are judged
side by side. The processes that do the work start with the first response that needs them. A reward model's responses
are judged in batches (`steps.rewards.batches`), those to `custom` problems by a function of the recipe
(`steps.rewards.custom`).
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from infra.errors import LonghaulError
from infra.progress.tasks import say
from infra.sandbox.config import open_sandbox
from steps.problem import Problem
from steps.rewards import code
from steps.rewards.batches import Batches
from steps.rewards.custom import KEY, CustomReward
from steps.rewards.math.judge import VERSION, judge
from steps.rewards.math.pool import MathPool
from steps.rewards.reward_model import RewardModel
from steps.rewards.score import NoVerdict, Score, Verdict


class NoSuchVerifier(LonghaulError, LookupError):
    """A problem names a verifier that is not here; the message says which are."""


class Scorer:
    """Scores of responses; `with` ends its threads and processes. What a verifier raises, its future raises.

    A verdict never hides a fault that is not the answer's: SandboxUnavailable, MathWorkerError and
    UnreadableReference are raised.
    """

    def __init__(
        self, threads: int = 2, models: Mapping[str, RewardModel] | None = None, custom: CustomReward | None = None
    ) -> None:
        """`models` are reward models by the name that problems call them by, `custom` is what judges `custom` problems;
        closed with the scorer."""
        self.counts: Counter[str] = Counter()
        """Verdicts so far, by "verifier: reason"; the number of the failed test is left out."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="scorer")
        self._math = MathPool(threads)
        self._code: code.CodeVerifier | None = None
        self._custom = custom
        self._lock = threading.Lock()
        self._verifiers: dict[str, tuple[str, Callable[[Problem, str], Verdict]]] = {
            "math": (VERSION, lambda problem, response: judge(problem, response, self._math)),
            "code": (code.VERSION, lambda problem, response: self._code_verifier().judge(problem, response)),
        }
        self._batches = {name: Batches(model, self._count) for name, model in (models or {}).items()}

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what is being judged, drop what waits, end the processes."""
        for batches in self._batches.values():
            batches.close()
        self._threads.shutdown(cancel_futures=True)
        self._math.close()
        if self._code is not None:
            self._code.close()
        if self._custom is not None:
            self._custom.close()

    def check(self, problems: Iterable[Problem]) -> None:
        """Raise what would be raised for any response: NoSuchVerifier, and CustomRewardRefused."""
        for problem in {problem.verifier: problem for problem in problems}.values():
            self._check(problem)

    def _check(self, problem: Problem) -> None:
        if problem.verifier == "custom" and self._custom is not None:
            self._custom.check()
        elif problem.verifier not in self._verifiers and problem.verifier not in self._batches:
            known = ", ".join([*self._verifiers, *self._batches])
            way_out = f"; set {KEY} to the file of a function that judges" if problem.verifier == "custom" else ""
            raise NoSuchVerifier(
                f"problem {problem.id!r} names verifier {problem.verifier!r}; here are {known}{way_out}"
            )

    def submit(self, problem: Problem, response: str) -> Future[Score]:
        """Judge a response in the background. Raises NoSuchVerifier, and CustomRewardRefused."""
        self._check(problem)
        if problem.verifier in self._batches:
            return self._batches[problem.verifier].submit(problem, response)
        if problem.verifier == "custom" and self._custom is not None:
            return self._threads.submit(self._custom_score, self._custom, problem, response)
        return self._threads.submit(self._score, problem, response)

    def _count(self, version: str, reason: str) -> None:
        with self._lock:
            self.counts[f"{version}: {reason}"] += 1

    def score_many(self, pairs: Iterable[tuple[Problem, str]]) -> list[Score]:
        """Judge responses; the scores stand in the order of the pairs.

        Where there is no verdict, the score is 0, and not judged. Raises the first pair's exception, if there is
        another one, and the first NoVerdict where there is no verdict at all.
        """
        futures = [self.submit(problem, response) for problem, response in pairs]
        scores: list[Score] = []
        first: NoVerdict | None = None
        for future in futures:
            try:
                scores.append(future.result())
            except NoVerdict as error:
                first = first or error
                scores.append(Score(0.0, error.reason, 0.0, "", judged=False))
        if first is not None and not any(score.judged for score in scores):
            raise first
        if first is not None:
            count = sum(not score.judged for score in scores)
            say(f"{count} of {len(scores)} responses could not be judged, and count as wrong; the first: {first}")
        return scores

    def _code_verifier(self) -> code.CodeVerifier:
        # Not in __init__: a run without programs needs no sandbox.
        with self._lock:
            if self._code is None:
                self._code = code.CodeVerifier(open_sandbox())
            return self._code

    def _custom_score(self, custom: CustomReward, problem: Problem, response: str) -> Score:
        start = time.monotonic()
        try:
            value = custom.judge(problem, response)
        except NoVerdict as error:
            self._count(custom.version, error.reason)
            raise
        reason = {0.0: "wrong", 1.0: "right"}.get(value, "partly right")
        self._count(custom.version, reason)
        return Score(value, reason, time.monotonic() - start, custom.version)

    def _score(self, problem: Problem, response: str) -> Score:
        start = time.monotonic()
        version, judge = self._verifiers[problem.verifier]
        verdict = judge(problem, response)
        self._count(version, re.sub(r"^test [0-9]+: ", "", verdict.reason))
        return Score(float(verdict.right), verdict.reason, time.monotonic() - start, version)
