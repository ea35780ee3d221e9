"""The ledger of RL: what became of each group of responses. A type without behaviour."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class LedgerEntry(BaseModel):
    """A group that left the replay buffer: which prompt, when it was started, and when it was trained on or dropped."""

    model_config = ConfigDict(frozen=True)

    problem_id: str
    started: int
    """The iteration in which its rollouts began."""
    ended: int
    """The iteration in which it was handed out."""
    outcome: Literal["trained", "stale", "failed"]
    """What became of it: handed to training, dropped as stale, or left out because too few of its responses could be
    judged."""
