"""The policy objective (§2.3.2): mirror descent against the policy that the iteration started from.

Pure functions of tensors. log π(y|x) is that of the whole response, a sum over its tokens; k responses y_1 … y_k of
one problem form a group. The gradient published as eq. 3, which is maximised, is

    (1/k) Σ_j [ ∇ log π_θ(y_j|x) · (r_j − r̄) − (τ/2) · ∇ (log π_θ(y_j|x) / π_i(y_j|x))² ]

and `surrogate_loss` is the scalar whose negative gradient it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Baseline = Literal["mean", "log_z"]
"""What is subtracted from a reward: the group's mean, or τ·log Z estimated from the group."""


def baseline(rewards: Tensor, tau: float, kind: Baseline) -> Tensor:
    """The baseline of one group. rewards: [k] → scalar.

    τ·log Z ≈ τ·log((1/k) Σ_j exp(r_j / τ)), computed without overflow for small τ.
    """
    if kind == "mean":
        return rewards.mean()
    return tau * (torch.logsumexp(rewards / tau, 0) - math.log(len(rewards)))


def advantages(groups: Sequence[Sequence[float]], tau: float, kind: Baseline = "mean") -> list[list[float]]:
    """r_j minus the baseline, for each group of rewards."""
    results = []
    for rewards in groups:
        values = torch.tensor(rewards, dtype=torch.float64)
        results.append((values - baseline(values, tau, kind)).tolist())
    return results


@dataclass(frozen=True)
class LossInputs:
    """What the objective needs of some responses, from any number of groups."""

    logprobs: Tensor
    """log π_θ(y_j|x), with a gradient [n]."""
    reference: Tensor
    """log π_i(y_j|x), recomputed by the trainer at the start of the iteration [n]."""
    advantages: Tensor
    """r_j minus the baseline of its group [n]."""


@dataclass(frozen=True)
class LossOutputs:
    """The loss and what is worth watching about it."""

    loss: Tensor
    """Scalar, to be minimised: a sum over the responses; the caller divides by how many there are."""
    log_ratios: Tensor
    """log π_θ − log π_i, without a gradient [n]."""


def surrogate_loss(inputs: LossInputs, tau: float) -> LossOutputs:
    """The loss whose negative gradient is eq. 3, summed over responses."""
    log_ratio = inputs.logprobs - inputs.reference
    losses = -inputs.advantages * inputs.logprobs + tau / 2 * log_ratio.square()
    return LossOutputs(losses.sum(), log_ratio.detach())
