"""What an iteration of RL reports, figure by figure: the one place where RL's metrics are named.

State and histories hold these records, the tracker and the stage's log get them as `rl/NAME`, and the report asks `key`
for that name. A figure that an iteration has no value for (no group was done, nothing was updated) is None in the
record and absent from the log.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

PREFIX = "rl/"
"""What stands before a metric's name in the stage's log and in the tracker."""


class _Figures(BaseModel):
    # Histories of other versions stay readable: a figure that is not reported any more is passed over.
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="constants")


class RolloutMetrics(_Figures):
    """The rollout phase."""

    rollout_tokens: float
    """Tokens generated."""
    rollout_seconds: float
    """Generating and judging."""
    reread_tokens: float | None = None
    """Tokens of responses that continue, and of their prompts, which the engine computed again under the new
    weights."""
    computed_tokens: float | None = None
    """Tokens that the engine computed: those read again, new prompts, and tokens generated."""
    reread_share: float | None = None
    """Share of the tokens read again in those computed."""
    groups_done: float
    """Groups handed to training."""
    groups_in_buffer: float
    """Groups left in the replay buffer."""
    groups_dropped: float
    """Groups dropped as stale."""
    groups_failed: float
    """Groups left out because fewer than two of their responses could be judged."""
    batch_fill: float
    """Share of a full training batch that is done."""
    repetition_stops: float
    """Responses stopped because they repeated themselves."""
    repetition_tokens_saved: float
    """Tokens that those could still have grown by: the most that stopping them saved."""
    length_stops: float
    """Responses that reached the longest length allowed."""
    failed_judgements: float
    """Responses that could not be judged."""
    accuracy: float | None = None
    """Mean reward of the verifier over the responses of the groups done."""
    response_tokens: float | None = None
    """Mean length of the same responses, in tokens."""
    text_accuracy: float | None = None
    """The accuracy of the groups without images, where some of the groups done have images."""
    image_accuracy: float | None = None
    """That of the groups with images."""
    text_response_tokens: float | None = None
    """The mean length of responses to prompts without images, where some of the groups done have images."""
    image_response_tokens: float | None = None
    """That of responses to prompts with images."""
    staleness: float | None = None
    """Mean iterations since those responses began."""


class UpdateMetrics(_Figures):
    """The optimizer steps of the training phase; None where there was none."""

    log_ratio_mean: float | None = None
    """Mean over responses of log π_θ − log π_i, before each step."""
    log_ratio_max: float | None = None
    """Largest absolute value of the same."""
    gradient_norm: float | None = None
    """Mean over the steps, before clipping."""
    engine_mismatch_mean: float | None = None
    """Mean absolute difference between the engine's and the trainer's log-probability of this iteration's tokens."""
    engine_mismatch: float | None = None
    """The largest one."""


class TrainingMetrics(UpdateMetrics):
    """The training phase."""

    no_signal_share: float
    """Share of the groups whose rewards were all equal, and which were left out."""
    reward: float | None = None
    """Mean total reward: the verifier's, the length reward and the penalty for repetition."""
    training_seconds: float
    """References and optimizer steps."""


class HandoverMetrics(_Figures):
    """The hand-overs from trainer to engine and back, in seconds by phase (`infra.weights.handover`)."""

    offload_seconds: float = 0.0
    update_seconds: float = 0.0
    release_seconds: float = 0.0
    onload_seconds: float = 0.0
    handover_seconds: float
    """All phases together."""

    @classmethod
    def of(cls, phases: dict[str, float]) -> "HandoverMetrics":
        """From the seconds of each phase."""
        seconds = {f"{phase}_seconds": value for phase, value in phases.items()}
        return cls(**seconds, handover_seconds=sum(phases.values()))


class IterationMetrics(RolloutMetrics, TrainingMetrics, HandoverMetrics):
    """One iteration."""

    iteration: int

    @classmethod
    def join(
        cls, iteration: int, rollout: RolloutMetrics, training: TrainingMetrics, handover: HandoverMetrics
    ) -> "IterationMetrics":
        """The figures of an iteration's phases."""
        return cls(iteration=iteration, **rollout.model_dump(), **training.model_dump(), **handover.model_dump())

    @property
    def seconds(self) -> float:
        """Rollout, training and hand-overs."""
        return self.rollout_seconds + self.training_seconds + self.handover_seconds

    def values(self) -> dict[str, float]:
        """The figures that have a value, by name."""
        return self.model_dump(exclude={"iteration"}, exclude_none=True)

    def logged(self) -> dict[str, float]:
        """The same as they are logged: `rl/accuracy`."""
        return {key(name): value for name, value in self.values().items()}


def key(name: str) -> str:
    """The name under which a figure is logged. Raises ValueError for one that no iteration reports."""
    if name not in IterationMetrics.model_fields:
        raise ValueError(f"RL reports no {name!r}; it reports {', '.join(IterationMetrics.model_fields)}")
    return PREFIX + name


def stage_metrics(history: Sequence[IterationMetrics]) -> dict[str, Any]:
    """What an RL stage's record says of all its iterations: the last one's figures, and totals.

    `tokens` generated and read again in all; `handover_share` is the hand-overs' share of the time, `reread_share` that
    of the tokens read again in all that the engine computed.
    """
    reread = sum(one.reread_tokens or 0.0 for one in history)
    return history[-1].values() | {
        "iterations": len(history),
        "tokens": sum(one.rollout_tokens for one in history),
        "reread_tokens": reread,
        "reread_share": reread / max(1.0, sum(one.computed_tokens or 0.0 for one in history)),
        "handover_share": sum(one.handover_seconds for one in history) / sum(one.seconds for one in history),
    }
