"""One optimizer step of the training phase: responses packed into rows, and the objective on their likelihoods."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infra.trainer import Trainer
from steps.packing import PackedRows, TokenExample, pack
from steps.rl.config import RlConfig
from steps.rl.objective import LossInputs, surrogate_loss
from steps.rl.trajectory import Group, Trajectory
from steps.workbench import Workbench


@dataclass(frozen=True)
class ResponseRows(PackedRows):
    """A micro-batch of responses."""

    counted: Tensor
    """Which predictions count in the loss, 1 or 0 [rows, length - 1]."""
    reference: Tensor
    """log π_i of each response over its counted tokens [n]; 0 for responses in other micro-batches."""


@dataclass(frozen=True)
class Update:
    """The responses of one optimizer step."""

    rows: list[ResponseRows]
    advantages: Tensor
    """[n]"""
    engine_mismatch: float
    """Largest difference between the engine's and the trainer's log-probability of a token of this iteration."""

    @classmethod
    def prepare(
        cls, bench: Workbench, groups: Sequence[tuple[Group, list[float]]], config: RlConfig, iteration: int
    ) -> "Update":
        """Pack the responses of some groups, and take their reference log-probabilities from the trainer as it is."""
        # A response that emitted nothing has nothing to learn from, but its reward counted in the baseline.
        members = [
            (group.prompt, trajectory, advantage)
            for group, values in groups
            for trajectory, advantage in zip(group.trajectories, values, strict=True)
            if trajectory.length
        ]
        advantages = torch.tensor([advantage for _, _, advantage in members])
        examples = [TokenExample([*prompt, *t.tokens], len(prompt)) for prompt, t, _ in members]
        counted = [_counted(t, config, iteration) for _, t, _ in members]
        fresh = [_fresh(t, iteration) for _, t, _ in members]
        sampled = [t.logprobs for _, t, _ in members]
        rows, mismatch = [], 0.0
        per_pass = max(1, bench.trainer.config.micro_batch_tokens // config.sequence_length)
        for packed in pack(examples, config.sequence_length, per_pass):
            mask = packed.on_responses(counted)
            logprobs = bench.trainer.reference_logprobs(packed.tokens, packed.positions, config.temperature).cpu()
            difference = (logprobs - packed.on_responses(sampled)) * packed.on_responses(fresh)
            mismatch = max(mismatch, difference.abs().max().item())
            reference = packed.per_example(logprobs * mask, len(members))
            rows.append(ResponseRows(**vars(packed), counted=mask, reference=reference))
        return cls(rows, advantages, mismatch)


def _counted(trajectory: Trajectory, config: RlConfig, iteration: int) -> list[float]:
    if config.segments == "all":
        return [1.0] * trajectory.length
    return _fresh(trajectory, iteration)


def _fresh(trajectory: Trajectory, iteration: int) -> list[float]:
    return [float(segment.iteration == iteration) for segment in trajectory.segments for _ in segment.tokens]


@dataclass(frozen=True)
class UpdateResult:
    """What one optimizer step reports."""

    loss: float
    gradient_norm: float
    log_ratio_mean: float
    """Mean over responses of log π_θ − log π_i, before this step."""
    log_ratio_max: float
    """Largest absolute value of the same."""


def update(trainer: Trainer, prepared: Update, config: RlConfig, iteration: int) -> UpdateResult:
    """Take the step. Raises infra.trainer.LossNotFinite before weights are touched."""
    count = len(prepared.advantages)
    ratios = torch.zeros(count)

    def loss(logprobs: Tensor, rows: ResponseRows) -> Tensor:
        policy = rows.per_example(logprobs * rows.counted.to(logprobs.device), count)
        inputs = LossInputs(policy, rows.reference.to(policy.device), prepared.advantages.to(policy.device))
        outputs = surrogate_loss(inputs, config.tau)
        ratios.add_(outputs.log_ratios.cpu())
        return outputs.loss / count

    result = trainer.step(prepared.rows, loss, config.rate_at(iteration), config.temperature)
    return UpdateResult(result.loss, result.gradient_norm, ratios.mean().item(), ratios.abs().max().item())
