"""One optimizer step of the training phase: responses packed into rows, and the objective on their likelihoods."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from infra.training.interface import LossValue
from infra.training.ranks import AnyTrainer
from steps.configs.rl import Objective, RlConfig
from steps.packing import PackedRows, pack
from steps.rl.metrics import UpdateMetrics
from steps.rl.objective import LossInputs, surrogate_loss
from steps.rl.trajectory import Trajectory
from steps.token_example import TokenExample
from steps.token_prompt import TokenPrompt
from steps.workbench import Workbench


@dataclass(frozen=True)
class Sample:
    """A response to train on."""

    prompt: TokenPrompt
    trajectory: Trajectory
    advantage: float


@dataclass(frozen=True)
class ResponseRows(PackedRows):
    """A micro-batch of responses."""

    counted: Float[Tensor, "rows length-1"]
    """Which predictions count in the loss, 1 or 0."""
    reference: Float[Tensor, "rows length-1"]
    """log π_i of each token, by the trainer at the iteration's start."""


@dataclass(frozen=True)
class PolicyLoss:
    """The objective on one micro-batch; its sum "log_ratios" holds log π_θ − log π_i of each response [n]."""

    objective: Objective
    tau: float
    advantages: Float[Tensor, "n"]
    """Of all responses of the optimizer step."""
    divisor: float
    """The step's number of responses, or of their counted tokens."""

    def __call__(self, logprobs: Float[Tensor, "rows predictions"], rows: ResponseRows) -> LossValue:
        device, count = logprobs.device, len(self.advantages)
        counted = rows.counted.to(device)
        ratios = (logprobs - rows.reference.to(device)) * counted
        inputs = LossInputs(
            logprobs=rows.per_example(logprobs * counted, count),
            log_ratios=rows.per_example(ratios, count),
            squared_token_ratios=rows.per_example(ratios.square(), count),
            advantages=self.advantages.to(device),
        )
        loss = surrogate_loss(inputs, self.objective, self.tau) / self.divisor
        return LossValue(loss, {"log_ratios": inputs.log_ratios.detach()})


@dataclass(frozen=True)
class Update:
    """The responses of one optimizer step."""

    rows: list[ResponseRows]
    loss: PolicyLoss
    mismatch_mean: float
    """Mean absolute difference between the engine's and the trainer's log-probability of this iteration's tokens; they
    should be one policy."""
    mismatch_max: float
    """The largest one."""

    @classmethod
    def prepare(cls, bench: Workbench, samples: Sequence[Sample], config: RlConfig, iteration: int) -> "Update":
        """Pack responses, and take their reference log-probabilities from the trainer as it is."""
        # A response that emitted nothing has nothing to learn from, but its reward counted in the baseline.
        members = [sample for sample in samples if sample.trajectory.length]
        examples = [
            TokenExample([*m.prompt.tokens, *m.trajectory.tokens], len(m.prompt), images=bench.image_paths(m.prompt))
            for m in members
        ]
        fresh = [_fresh(m.trajectory, iteration) for m in members]
        counted = fresh if config.segments == "current_only" else [[1.0] * m.trajectory.length for m in members]
        sampled = [m.trajectory.logprobs for m in members]
        per_pass = max(1, bench.trainer.config.micro_batch_tokens // config.sequence_length)
        packed = list(pack(examples, config.sequence_length, per_pass))
        references = bench.trainer.reference_logprobs(packed, config.temperature)
        rows, differences = [], [torch.zeros(0)]
        for one, reference in zip(packed, references, strict=True):
            new = one.on_responses(fresh) > 0
            differences.append((reference - one.on_responses(sampled))[new].abs())
            rows.append(ResponseRows(**vars(one), counted=one.on_responses(counted), reference=reference))
        mismatch = torch.cat(differences)
        tokens = sum(sum(row) for row in counted)
        loss = PolicyLoss(
            config.objective,
            config.tau,
            torch.tensor([m.advantage for m in members]),
            max(1.0, tokens if config.objective == "token_level" else len(members)),
        )
        if not len(mismatch):
            return cls(rows, loss, 0.0, 0.0)
        return cls(rows, loss, mismatch.mean().item(), mismatch.max().item())


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


def update(trainer: AnyTrainer, prepared: Update, config: RlConfig, iteration: int) -> UpdateResult:
    """Take the step. Raises infra.training.interface.LossNotFinite."""
    result = trainer.step(prepared.rows, prepared.loss, config.rate_at(iteration), config.temperature)
    ratios = result.sums["log_ratios"]
    return UpdateResult(result.loss, result.gradient_norm, ratios.mean().item(), ratios.abs().max().item())


def update_metrics(updates: Sequence[Update], results: Sequence[UpdateResult]) -> UpdateMetrics:
    """What a training phase reports of its optimizer steps, of which there is at least one."""
    return UpdateMetrics(
        log_ratio_mean=statistics.fmean(result.log_ratio_mean for result in results),
        log_ratio_max=max(result.log_ratio_max for result in results),
        gradient_norm=statistics.fmean(result.gradient_norm for result in results),
        engine_mismatch_mean=statistics.fmean(one.mismatch_mean for one in updates),
        engine_mismatch=max(one.mismatch_max for one in updates),
    )
