"""Judges responses in the background, each by its problem's verifier: the one reward interface.

A response is judged by one thread, its tests one after the other up to the first that fails; responses are judged
side by side. The processes that do the work start with the first response that needs them. A reward model's responses
are judged in batches (`steps.rewards.batches`).
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from infra.sandbox.config import open_sandbox
from steps.problem import Problem
from steps.rewards import code
from steps.rewards.batches import Batches
from steps.rewards.math.judge import VERSION, judge
from steps.rewards.math.pool import MathPool
from steps.rewards.reward_model import RewardModel
from steps.rewards.score import Score, Verdict


class NoSuchVerifier(LookupError):
    """A problem names a verifier that is not here; the message says which are."""


class Scorer:
    """Scores of responses; `with` ends its threads and processes. What a verifier raises, its future raises.

    A verdict never hides a fault that is not the answer's: SandboxUnavailable, MathWorkerError and
    UnreadableReference are raised.
    """

    def __init__(self, threads: int = 2, models: Mapping[str, RewardModel] | None = None) -> None:
        """`models` are reward models by the name that problems call them by; closed with the scorer."""
        self.counts: Counter[str] = Counter()
        """Verdicts so far, by "verifier: reason"; the number of the failed test is left out."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="scorer")
        self._math = MathPool(threads)
        self._code: code.CodeVerifier | None = None
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

    def submit(self, problem: Problem, response: str) -> Future[Score]:
        """Judge a response in the background. Raises NoSuchVerifier."""
        if problem.verifier in self._batches:
            return self._batches[problem.verifier].submit(problem, response)
        if problem.verifier not in self._verifiers:
            known = ", ".join([*self._verifiers, *self._batches])
            raise NoSuchVerifier(f"problem {problem.id!r} names verifier {problem.verifier!r}; here are {known}")
        return self._threads.submit(self._score, problem, response)

    def _count(self, version: str, reason: str) -> None:
        with self._lock:
            self.counts[f"{version}: {reason}"] += 1

    def score_many(self, pairs: Iterable[tuple[Problem, str]]) -> list[Score]:
        """Judge responses; the scores stand in the order of the pairs. Raises the first pair's exception, if any."""
        futures = [self.submit(problem, response) for problem, response in pairs]
        return [future.result() for future in futures]

    def _code_verifier(self) -> code.CodeVerifier:
        # Not in __init__: a run without programs needs no sandbox.
        with self._lock:
            if self._code is None:
                self._code = code.CodeVerifier(open_sandbox())
            return self._code

    def _score(self, problem: Problem, response: str) -> Score:
        start = time.monotonic()
        version, judge = self._verifiers[problem.verifier]
        verdict = judge(problem, response)
        self._count(version, re.sub(r"^test [0-9]+: ", "", verdict.reason))
        return Score(float(verdict.right), verdict.reason, time.monotonic() - start, version)
