"""The ledger of RL: what became of each group of responses. A type without behaviour."""

from collections.abc import Sequence
from typing import Any, Literal

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


def ledger_table(ledger: Sequence[LedgerEntry]) -> dict[str, list[Any]]:
    """A ledger by columns, its entries named by their place, from 1, and problem."""
    return {
        "id": [f"{place}:{entry.problem_id}" for place, entry in enumerate(ledger, 1)],
        "problem_id": [entry.problem_id for entry in ledger],
        "started": [entry.started for entry in ledger],
        "ended": [entry.ended for entry in ledger],
        "outcome": [entry.outcome for entry in ledger],
    }
