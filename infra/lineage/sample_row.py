"""A row of the samples of a stage: one response that the stage trained on, or sampled to train on.

Types without behaviour; `infra.lineage.sample_files` writes them, `infra.lineage.samples` answers questions about them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

KIND = "samples"
"""The kind of the artifacts that hold such files."""

Role = Literal["rollout", "imitated", "chosen", "rejected", "labelled", "judgement", "path"]
"""What a response is to the training: sampled and rewarded, to be imitated, the better or the worse of a pair, an
answer of which it is known whether it is right, or the judgement of one; or what a teacher wrote for a later stage."""

Outcome = Literal["trained", "no_signal", "stale", "failed", "offered", "left_out"]
"""What became of a response. `no_signal`: its group's rewards were all equal; `stale`: its group was dropped before it
was complete; `failed`: it could not be judged; `offered`: a later stage may train on it; `left_out`: none will."""


@dataclass(frozen=True)
class PolicySpan:
    """Some of a response's tokens, by the policy of one iteration. A partial rollout has several spans."""

    iteration: int
    tokens: int


@dataclass(frozen=True)
class SampleRow:
    """One response, and what came of it."""

    problem_id: str
    prompt_digest: str
    """`infra.lineage.prompt_digest` of the prompt."""
    prompt: str
    response: str
    """Half characters and the like, which UTF-8 cannot encode, are written as U+FFFD."""
    tokens: int
    """Of the response."""
    role: Role
    outcome: Outcome
    times_trained: int
    """How many times the optimizer was given it."""
    iteration: int | None = None
    """The iteration in which it left the replay buffer; None outside RL."""
    started: int | None = None
    """The iteration in which its group began."""
    policies: Sequence[PolicySpan] = ()
    """Who wrote it, in the order of its tokens; none outside RL."""
    seed: int | None = None
    """What its sampling was seeded from."""
    stop: str | None = None
    """Why the sampling ended."""
    reward: float | None = None
    """The verifier's; None where it was not judged."""
    reward_reason: str | None = None
    verifier: str | None = None
    """Name and version, as in `math@2`."""
    total_reward: float | None = None
    """With what RL adds for its length and takes for repetition."""
    advantage: float | None = None
    """What it was weighted with."""
    pair: int | None = None
    """The number of its preference pair, from 0."""
    source: str | None = None
    """Where the example, or the problem, comes from."""
    licence: str | None = None
    images: Sequence[str] = ()
    """Digests of the prompt's images, in order (infra/images.py)."""
