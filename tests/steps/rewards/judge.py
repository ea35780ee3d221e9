"""The type of the fixture that judges answers."""

from typing import Protocol

from steps.rewards.score import Verdict


class Judge(Protocol):
    """Judges an answer to a problem with this reference."""

    def __call__(self, reference: str, answer: str, prompt: str = "?", form: str | None = None) -> Verdict: ...
