"""What both sides of benchmarks/against_trl.py share: how responses are judged and counted, and time is measured."""

import dataclasses
import statistics
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from steps.chat import Chat
from steps.problem import Problem
from steps.rewards.score import Score
from steps.rewards.scorer import Scorer


class CountedChat(Chat):
    """A chat that records the responses' lengths; each response's text is requested once, to judge it."""

    def __init__(self, model: Path) -> None:
        super().__init__(model)
        self.lengths: list[int] = []

    def text(self, tokens: Sequence[int]) -> str:
        """The text of a response, without the end token."""
        self.lengths.append(len(tokens))
        return super().text(tokens)


class CoinScorer(Scorer):
    """Judges as usual, then draws the reward from the response's text.

    Responses that cannot end are nearly all wrong, and Longhaul does not train on groups of equal rewards.
    """

    def submit(self, problem: Problem, response: str) -> Future[Score]:
        """Judge a response in the background."""
        drawn: Future[Score] = Future()

        def draw(judged: Future[Score]) -> None:
            if error := judged.exception():
                drawn.set_exception(error)
            else:
                coin = float(zlib.crc32(response.encode()) & 1)
                drawn.set_result(dataclasses.replace(judged.result(), value=coin))

        super().submit(problem, response).add_done_callback(draw)
        return drawn


def scorer_of(case: dict[str, Any]) -> Scorer:
    """How a case's responses are judged."""
    return CoinScorer() if case["coin"] else Scorer()


@dataclasses.dataclass
class Clock:
    """Measures whole iterations. The first counted one begins where the last warm-up iteration ends."""

    chat: CountedChat
    warm_up: int
    iterations: int = 0
    tokens: int = 0
    rollout_seconds: float = 0.0

    def iteration_ended(self, tokens: int, rollout_seconds: float) -> None:
        """Record the end of an iteration: the tokens generated in it, and the seconds of generating and judging."""
        self.end = time.perf_counter(), time.process_time()
        self.iterations += 1
        if self.iterations == self.warm_up:
            self.start = self.end
            self.chat.lengths.clear()
        elif self.iterations > self.warm_up:
            self.tokens += tokens
            self.rollout_seconds += rollout_seconds

    def figures(self) -> dict[str, Any]:
        """What a side prints."""
        lengths = sorted(self.chat.lengths)
        return {
            "tokens": self.tokens,
            "seconds": self.end[0] - self.start[0],
            "processor_seconds": self.end[1] - self.start[1],
            "rollout_seconds": self.rollout_seconds,
            "mean_tokens": statistics.fmean(lengths),
            "p99_tokens": lengths[int(0.99 * (len(lengths) - 1))],
        }
