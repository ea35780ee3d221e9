"""The policy objective (§2.3.2): mirror descent against the policy that the iteration started from.

Pure functions of tensors. log π(y|x) is that of the whole response, a sum over its tokens; k responses y_1 … y_k of
one problem form a group. The gradient published as eq. 3, which is maximised, is

    (1/k) Σ_j [ ∇ log π_θ(y_j|x) · (r_j − r̄) − (τ/2) · ∇ (log π_θ(y_j|x) / π_i(y_j|x))² ]

and `surrogate_loss` is the scalar whose negative gradient it is. Two others stand beside it, for comparison:

- `rest` (Gulcehre et al., arXiv 2308.08998), which the report compares with (§3.5): fit the best responses of each
  group, without negative gradients.
- `token_level`, not in the report: each token is pulled towards the reference on its own, and the sum is divided by
  the number of tokens rather than of responses, so that a long response weighs as much as its length.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from steps.configs.rl import Baseline, Objective


def baseline(rewards: Float[Tensor, "k"], tau: float, kind: Baseline) -> Float[Tensor, ""]:
    """The baseline of one group.

    τ·log Z ≈ τ·log((1/k) Σ_j exp(r_j / τ)), computed without overflow for small τ.
    """
    if kind == "mean":
        return rewards.mean()
    return tau * (torch.logsumexp(rewards / tau, 0) - math.log(len(rewards)))


def advantages(rewards: Sequence[float], tau: float, kind: Baseline = "mean") -> list[float]:
    """r_j minus the baseline, for one group; exactly 0 where all rewards are equal."""
    if max(rewards) == min(rewards):
        return [0.0] * len(rewards)
    values = torch.tensor(rewards, dtype=torch.float64)
    return (values - baseline(values, tau, kind)).tolist()


def best_responses(rewards: Sequence[float]) -> list[float]:
    """1 for the responses of one group that ReST fits: those of the highest reward, if it is above 0; 0 for others."""
    best = max(rewards)
    return [float(reward == best and best > 0) for reward in rewards]


@dataclass(frozen=True)
class LossInputs:
    """What the objective needs of some responses, from any number of groups."""

    logprobs: Float[Tensor, "n"]
    """log π_θ(y_j|x), with a gradient."""
    log_ratios: Float[Tensor, "n"]
    """log π_θ(y_j|x) − log π_i(y_j|x), with a gradient; π_i's is recomputed by the trainer as the iteration starts.
    """
    squared_token_ratios: Float[Tensor, "n"]
    """The sum over a response's tokens of the square of each one's log-ratio, with a gradient."""
    advantages: Float[Tensor, "n"]
    """r_j minus the baseline of its group; for `rest`, 1 for the responses to fit."""


def surrogate_loss(inputs: LossInputs, objective: Objective, tau: float) -> Float[Tensor, ""]:
    """The loss, summed over responses; to be minimised.

    The caller divides it: by the number of responses, or for `token_level` by the number of their tokens.
    """
    losses = -inputs.advantages * inputs.logprobs
    if objective == "mirror_descent":
        losses = losses + tau / 2 * inputs.log_ratios.square()
    elif objective == "token_level":
        losses = losses + tau / 2 * inputs.squared_token_ratios
    return losses.sum()
