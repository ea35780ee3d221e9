"""Scores by a reward model, in the background: one thread owns the model, and judges at once whatever waits."""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from steps.problem import Problem
from steps.rewards.reward_model import RewardModel
from steps.rewards.score import NoVerdict, Score

_Waiting = tuple[Problem, str, Future[Score]]


class Batches:
    """A queue before a reward model. While a batch is judged the next one gathers."""

    def __init__(self, model: RewardModel, count: Callable[[str, str], None], most: int = 512) -> None:
        """`most` responses are judged at once; `count` takes the model's version and the reason of each verdict."""
        self.model = model
        self._count = count
        self._most = most
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"scorer {model.version}", daemon=True)
        self._thread.start()

    def submit(self, problem: Problem, response: str) -> Future[Score]:
        """Judge a response in the background. The future raises NoVerdict, or what the model's engine raised."""
        future: Future[Score] = Future()
        self._waiting.put((problem, response, future))
        return future

    def close(self) -> None:
        """Wait for the batch that is being judged, drop what waits, end the model."""
        self._waiting.put(None)
        self._thread.join()
        self.model.close()

    def _run(self) -> None:
        while batch := self._next_batch():
            if None in batch:
                for one in batch:
                    if one:
                        one[2].cancel()
                return
            self._judge([one for one in batch if one])

    def _next_batch(self) -> list[_Waiting | None]:
        batch = [self._waiting.get()]
        while len(batch) < self._most and not self._waiting.empty():
            batch.append(self._waiting.get())
        return batch

    def _judge(self, batch: list[_Waiting]) -> None:
        started = time.monotonic()
        try:
            verdicts = self.model.judge([(problem, response) for problem, response, _ in batch])
        except Exception as error:  # whatever it is, those who wait have to know
            for _, _, future in batch:
                future.set_exception(error)
            return
        # A batch costs what it costs together: each response has an equal share.
        seconds = (time.monotonic() - started) / len(batch)
        for (_, _, future), verdict in zip(batch, verdicts, strict=True):
            if isinstance(verdict, NoVerdict):
                self._count(self.model.version, "no verdict")
                future.set_exception(verdict)
            else:
                self._count(self.model.version, verdict.reason)
                future.set_result(Score(float(verdict.right), verdict.reason, seconds, self.model.version))
