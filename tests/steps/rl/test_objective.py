"""The objective against eq. 3 of the report, written out a second time."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from steps.configs.rl import Baseline
from steps.rl.objective import LossInputs, advantages, baseline, best_responses, surrogate_loss

REWARDS = st.lists(st.floats(-2, 2), min_size=2, max_size=8)


def policy(theta: Tensor, responses: list[list[int]]) -> Tensor:
    """log π of each response under a policy that draws every token from softmax(theta)."""
    logprobs = theta.log_softmax(0)
    return torch.stack([logprobs[response].sum() for response in responses])


RESPONSES = [[0, 1, 2], [3], [4, 4], [1, 0, 0, 2, 3]]
REFERENCE_THETA = torch.tensor([0.1, -0.4, 0.3, 0.9, -1.0], dtype=torch.float64)
THETA = torch.tensor([0.3, -0.2, 0.0, 1.1, -0.7], dtype=torch.float64)
SCORES = [1.0, 0.0, 1.5, -0.25]


def loss_at(theta: Tensor, tau: float) -> Tensor:
    return surrogate_loss(inputs(theta, advantages(SCORES, tau)), "mirror_descent", tau)


def inputs(theta: Tensor, compared: list[float]) -> LossInputs:
    logprobs = policy(theta, RESPONSES)
    change = theta.log_softmax(0) - REFERENCE_THETA.log_softmax(0)
    return LossInputs(
        logprobs=logprobs,
        log_ratios=logprobs - policy(REFERENCE_THETA, RESPONSES),
        squared_token_ratios=torch.stack([change[response].square().sum() for response in RESPONSES]),
        advantages=torch.tensor(compared, dtype=torch.float64),
    )


@pytest.mark.parametrize("tau", [0.05, 0.1, 1.0, 7.0])
def test_the_gradient_is_that_of_equation_3(tau: float) -> None:
    theta = THETA.clone().requires_grad_()
    k = len(RESPONSES)
    mean = sum(SCORES) / k
    expected = torch.zeros_like(theta)
    for j in range(k):
        log_pi = policy(theta, [RESPONSES[j]])[0]
        log_ratio = log_pi - policy(REFERENCE_THETA, [RESPONSES[j]])[0]
        (gradient,) = torch.autograd.grad(log_pi, theta, retain_graph=True)
        (pull,) = torch.autograd.grad(log_ratio**2, theta)
        expected += gradient * (SCORES[j] - mean) - tau / 2 * pull
    expected /= k
    (own,) = torch.autograd.grad(loss_at(theta, tau) / k, theta)
    torch.testing.assert_close(-own, expected, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_the_gradient_points_where_the_squared_surrogate_falls(tau: float) -> None:
    """§2.3.2's squared loss, whose gradient is 2τ times the one here."""
    theta = THETA.clone().requires_grad_()
    ratio = policy(theta, RESPONSES) - policy(REFERENCE_THETA, RESPONSES)
    compared = torch.tensor(SCORES, dtype=torch.float64) - sum(SCORES) / len(SCORES)
    (squared,) = torch.autograd.grad(((compared - tau * ratio) ** 2).sum(), theta)
    (own,) = torch.autograd.grad(loss_at(theta, tau), theta)
    torch.testing.assert_close(2 * tau * own, squared, atol=1e-12, rtol=1e-10)


def test_the_gradient_agrees_with_finite_differences() -> None:
    theta = THETA.clone().requires_grad_()
    (own,) = torch.autograd.grad(loss_at(theta, 0.3), theta)
    step = 1e-6
    for i in range(len(THETA)):
        nudge = torch.zeros_like(THETA)
        nudge[i] = step
        slope = (loss_at(THETA + nudge, 0.3) - loss_at(THETA - nudge, 0.3)) / (2 * step)
        assert own[i].item() == pytest.approx(slope.item(), abs=1e-8)


def test_the_loss_is_as_worked_out_by_hand() -> None:
    values = LossInputs(
        logprobs=torch.tensor([-3.0, -5.0]),
        log_ratios=torch.tensor([1.0, -2.0]),
        squared_token_ratios=torch.tensor([5.0, 3.0]),
        advantages=torch.tensor([0.5, -0.5]),
    )
    # 0.5·3 + 0.1·1² and −0.5·5 + 0.1·2²; by token 0.5·3 + 0.1·5 and −0.5·5 + 0.1·3; without a pull 0.5·3 and −0.5·5
    assert surrogate_loss(values, "mirror_descent", tau=0.2).item() == pytest.approx((1.5 + 0.1) + (-2.5 + 0.4))
    assert surrogate_loss(values, "token_level", tau=0.2).item() == pytest.approx((1.5 + 0.5) + (-2.5 + 0.3))
    assert surrogate_loss(values, "rest", tau=0.2).item() == pytest.approx(1.5 - 2.5)


def test_token_level_pulls_each_token_by_itself() -> None:
    theta = THETA.clone().requires_grad_()
    compared = [0.0] * len(RESPONSES)
    (whole,) = torch.autograd.grad(surrogate_loss(inputs(theta, compared), "mirror_descent", 2.0), theta)
    (by_token,) = torch.autograd.grad(surrogate_loss(inputs(theta, compared), "token_level", 2.0), theta)
    change = THETA.log_softmax(0) - REFERENCE_THETA.log_softmax(0)
    expected = torch.zeros_like(change)
    for token in (token for response in RESPONSES for token in response):
        expected += 2 * change[token] * (torch.eye(len(change), dtype=torch.float64)[token] - THETA.softmax(0))
    torch.testing.assert_close(by_token, expected)
    assert not torch.allclose(whole, by_token)


def test_rest_fits_the_best_responses_of_a_group_alone() -> None:
    assert best_responses([1.0, 0.0, 1.0, -0.5]) == [1.0, 0.0, 1.0, 0.0]
    assert best_responses([1.2, 0.9]) == [1.0, 0.0], "a length reward makes one right response the best"
    assert best_responses([1.0, 1.0]) == [1.0, 1.0]
    assert best_responses([0.0, 0.0, -0.5]) == [0.0] * 3, "nothing is right"


def test_descending_the_loss_raises_what_was_better_than_its_group() -> None:
    theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    reference = policy(theta.detach(), [[0], [1]])
    logprobs = policy(theta, [[0], [1]])
    ratios = logprobs - reference
    values = LossInputs(logprobs, ratios, ratios.square(), torch.tensor([0.5, -0.5], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(surrogate_loss(values, "mirror_descent", 0.1), theta)
    assert gradient[0] < 0 < gradient[1]


def test_log_z_baseline_is_as_worked_out_by_hand() -> None:
    # τ = 1, r = (1, 0): log((e + 1) / 2)
    rewards = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert baseline(rewards, 1.0, "log_z").item() == pytest.approx(0.6201145069582775, abs=1e-14)
    assert advantages([1.0, 0.0], 1.0, "mean") == [0.5, -0.5]


@pytest.mark.parametrize("kind", ["mean", "log_z"])
@given(reward=st.floats(-2, 2), k=st.integers(1, 9))
def test_equal_rewards_leave_exactly_nothing(kind: Baseline, reward: float, k: int) -> None:
    assert advantages([reward] * k, 0.1, kind) == [0.0] * k


@given(REWARDS, st.floats(0.05, 50))
def test_log_z_baseline_equals_its_definition(rewards: list[float], tau: float) -> None:
    direct = tau * math.log(sum(math.exp(r / tau) for r in rewards) / len(rewards))
    values = torch.tensor(rewards, dtype=torch.float64)
    assert baseline(values, tau, "log_z").item() == pytest.approx(direct, abs=1e-11)


@given(REWARDS, st.floats(1e-6, 1e6))
def test_log_z_baseline_lies_between_mean_and_maximum(rewards: list[float], tau: float) -> None:
    value = baseline(torch.tensor(rewards, dtype=torch.float64), tau, "log_z").item()
    assert sum(rewards) / len(rewards) - 1e-8 <= value <= max(rewards) + 1e-8


@given(REWARDS)
def test_log_z_baseline_tends_to_the_maximum_for_small_tau_and_the_mean_for_large(rewards: list[float]) -> None:
    values = torch.tensor(rewards, dtype=torch.float64)
    assert baseline(values, 1e-9, "log_z").item() == pytest.approx(max(rewards), abs=1e-7)
    assert baseline(values, 1e7, "log_z").item() == pytest.approx(sum(rewards) / len(rewards), abs=1e-6)


@given(REWARDS)
def test_mean_advantages_of_a_group_add_up_to_nothing(rewards: list[float]) -> None:
    assert abs(sum(advantages(rewards, 0.1))) < 1e-9
