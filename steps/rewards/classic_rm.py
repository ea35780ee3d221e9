"""The classic reward model (§2.3.5): question, reference answer and response → scalar, by a value head on the policy's
architecture. An answer is right where the sigmoid of its value is above the threshold.
"""

import math
from collections.abc import Sequence
from typing import Protocol

from steps.rewards.reward_model import Reader, RewardModel, Tokens
from steps.rewards.score import NoVerdict, Verdict

VERSION = "classic_rm@1"


class Values(Protocol):
    """What the model asks of an engine; described at `infra.inference.engine.ValueEngine`."""

    def values(self, sequences: Sequence[Sequence[int]]) -> list[float]: ...

    def close(self) -> None: ...


class ClassicRm(RewardModel):
    """The trained model."""

    def __init__(self, reader: Reader, version: str, engine: Values, threshold: float) -> None:
        super().__init__(reader, version)
        self._engine = engine
        self._least = math.log(threshold / (1 - threshold))

    def decide(self, prompts: Sequence[Tokens]) -> list[Verdict | NoVerdict]:
        """Right above the threshold, wrong below, and no verdict where the value is not a number."""
        return [self._verdict(value) for value in self._engine.values(prompts)]

    def _verdict(self, value: float) -> Verdict | NoVerdict:
        if not math.isfinite(value):
            return NoVerdict(f"the value head gave {value}")
        return Verdict(value > self._least, "right" if value > self._least else "wrong")

    def close(self) -> None:
        """End the engine."""
        self._engine.close()
