"""An optimizer step of RL on packed rows, against the objective on responses that stand alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from infra.inference.engine import Engine
from infra.training.trainer import Trainer
from steps.configs.rl import RlConfig
from steps.rl.trajectory import Segment, Trajectory
from steps.rl.update import Sample, Update, UpdateResult, update
from steps.token_prompt import TokenPrompt
from steps.workbench import Workbench

TEMPERATURE = 0.7
TAU = 0.3
NOW = 5


def config(**settings: Any) -> RlConfig:
    base = {
        "iterations": NOW + 1,
        "learning_rate": 1e-3,
        "final_learning_rate": 1e-3,
        "temperature": TEMPERATURE,
        "tau": TAU,
        "sequence_length": 32,
    }
    return RlConfig.model_validate(base | settings)


def response_logprobs(model: Qwen2ForCausalLM, prompt: list[int], response: list[int]) -> Tensor:
    tokens = torch.tensor([[*prompt, *response]])
    logits = model(input_ids=tokens).logits[0, len(prompt) - 1 : -1] / TEMPERATURE
    return logits.log_softmax(-1).gather(-1, tokens[0, len(prompt) :, None]).squeeze(-1)


def make_samples(model: Qwen2ForCausalLM) -> list[Sample]:
    """Two groups of three responses, each of an old and a fresh segment, with the log-probabilities of `model`."""
    generator = torch.Generator().manual_seed(3)

    def some(count: int) -> list[int]:
        return torch.randint(1, 64, (count,), generator=generator).tolist()

    samples = []
    for values in ([0.6, -0.4, -0.2], [1.0, -0.5, -0.5]):
        prompt = some(4)
        for seed, value in enumerate(values):
            response, old = some(5 + 6 * seed), 2 + seed
            with torch.no_grad():
                logprobs = response_logprobs(model, prompt, response).tolist()
            segments = [Segment(response[:old], logprobs[:old], NOW - 1), Segment(response[old:], logprobs[old:], NOW)]
            samples.append(Sample(TokenPrompt(prompt), Trajectory(seed, segments), value))
    return samples


def assert_gradients_of(model: Qwen2ForCausalLM, trainer: Trainer, step: Callable[[], UpdateResult]) -> UpdateResult:
    """Take the step; what it adds up to, over its micro-batches, must be the gradients that `model` holds."""
    gradients: dict[str, Tensor] = {}
    hooks = [
        parameter.register_hook(
            lambda gradient, name=name: gradients.update({name: gradients.get(name, 0) + gradient.detach().clone()})
        )
        for name, parameter in trainer.engine.module.named_parameters()
    ]
    result = step()
    for hook in hooks:
        hook.remove()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name].cpu(), parameter.grad, atol=1e-3, rtol=1e-3)
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm().item()
    assert result.gradient_norm == pytest.approx(norm, rel=1e-3)
    return result


def bench(trainer: Trainer) -> Workbench:
    def no_engine() -> Engine:
        raise AssertionError("an update asks the engine for nothing")

    return Workbench(trainer.folder, engine=no_engine, trainer=trainer, context=64, seed=0)


def sums(model: Qwen2ForCausalLM, samples: list[Sample], fresh_only: bool = False) -> Tensor:
    """log π of each response (or of its segment of this iteration)."""
    rows = []
    for sample in samples:
        skipped = len(sample.trajectory.segments[0].tokens) if fresh_only else 0
        rows.append(response_logprobs(model, sample.prompt.tokens, sample.trajectory.tokens)[skipped:].sum())
    return torch.stack(rows)


def by_token(model: Qwen2ForCausalLM, samples: list[Sample]) -> list[Tensor]:
    """log π of the tokens of each response."""
    return [response_logprobs(model, sample.prompt.tokens, sample.trajectory.tokens) for sample in samples]


@pytest.mark.parametrize("segments", ["all", "current_only"])
def test_loss_and_gradient_of_packed_rows_are_those_of_responses_alone(
    tiny_trainer: Trainer, tiny_model: Qwen2ForCausalLM, segments: str
) -> None:
    samples = make_samples(tiny_model)
    settings = config(segments=segments)
    prepared = Update.prepare(bench(tiny_trainer), samples, settings, NOW)
    assert len(prepared.rows) > 1, "one micro-batch would not show a sum over micro-batches"
    assert prepared.mismatch_max < 1e-5
    compared = torch.tensor([sample.advantage for sample in samples])
    policy = sums(tiny_model, samples, fresh_only=segments == "current_only")
    reference = sum(rows.per_example(rows.reference * rows.counted, len(samples)) for rows in prepared.rows)
    torch.testing.assert_close(reference, policy.detach(), atol=1e-4, rtol=0)
    # Eq. 3 at θ = θ_i: the pull towards the reference is nothing yet.
    expected = -(compared * policy).mean()
    expected.backward()
    result = assert_gradients_of(tiny_model, tiny_trainer, lambda: update(tiny_trainer, prepared, settings, NOW))
    assert result.loss == pytest.approx(expected.item(), abs=1e-4)
    assert result.log_ratio_max < 1e-4 and abs(result.log_ratio_mean) < 1e-4


@pytest.mark.parametrize("objective", ["mirror_descent", "token_level", "rest"])
def test_a_second_step_is_pulled_towards_the_reference_of_the_iterations_start(
    tiny_trainer: Trainer, tiny_model: Qwen2ForCausalLM, objective: str
) -> None:
    samples, settings = make_samples(tiny_model), config(objective=objective)
    prepared = Update.prepare(bench(tiny_trainer), samples, settings, NOW)
    references = [t.detach() for t in by_token(tiny_model, samples)]
    update(tiny_trainer, prepared, settings, NOW)
    with torch.no_grad():
        for name, weight in tiny_trainer.weights():
            tiny_model.get_parameter(name).copy_(weight)
    compared = torch.tensor([sample.advantage for sample in samples])
    tokens = by_token(tiny_model, samples)
    policy = torch.stack([t.sum() for t in tokens])
    ratios = [t - reference for t, reference in zip(tokens, references, strict=True)]
    ratio = torch.stack([r.sum() for r in ratios])
    pull = {"mirror_descent": ratio**2, "token_level": torch.stack([(r**2).sum() for r in ratios]), "rest": 0 * ratio}
    expected = (-compared * policy + TAU / 2 * pull[objective]).sum()
    expected = expected / (sum(map(len, tokens)) if objective == "token_level" else len(samples))
    expected.backward()
    result = assert_gradients_of(tiny_model, tiny_trainer, lambda: update(tiny_trainer, prepared, settings, NOW))
    assert ratio.abs().max() > 0.01, "the first step did not move the policy"
    assert result.log_ratio_mean == pytest.approx(ratio.mean().item(), abs=1e-4)
    assert result.log_ratio_max == pytest.approx(ratio.abs().max().item(), abs=1e-4)
    assert result.loss == pytest.approx(expected.item(), abs=1e-3)


def test_steps_raise_the_log_ratio_of_good_responses_above_that_of_bad_ones(
    tiny_trainer: Trainer, tiny_model: Qwen2ForCausalLM
) -> None:
    samples = make_samples(tiny_model)
    compared = torch.tensor([sample.advantage for sample in samples])
    before = sums(tiny_model, samples).detach()
    prepared = Update.prepare(bench(tiny_trainer), samples, config(), NOW)
    for _ in range(5):
        update(tiny_trainer, prepared, config(), NOW)
    with torch.no_grad():
        for name, weight in tiny_trainer.weights():
            tiny_model.get_parameter(name).copy_(weight)
        moved = sums(tiny_model, samples) - before
    assert moved[compared > 0].mean() > moved[compared < 0].mean()


def test_a_wrong_log_probability_of_the_engine_is_reported_for_fresh_tokens_alone(
    tiny_trainer: Trainer, tiny_model: Qwen2ForCausalLM
) -> None:
    samples = make_samples(tiny_model)
    trajectory = samples[1].trajectory
    old, fresh = trajectory.segments
    # An earlier policy's log-probabilities differ by right.
    trajectory.segments[0] = Segment(old.tokens, [value - 9 for value in old.logprobs], old.iteration)
    assert Update.prepare(bench(tiny_trainer), samples, config(), NOW).mismatch_max < 1e-5
    trajectory.segments[1] = Segment(fresh.tokens, [*fresh.logprobs[:-1], fresh.logprobs[-1] - 0.25], NOW)
    mismatch = Update.prepare(bench(tiny_trainer), samples, config(), NOW).mismatch_max
    assert mismatch == pytest.approx(0.25, abs=1e-4)


def test_an_empty_response_is_left_out_and_keeps_its_neighbours_advantages(
    tiny_trainer: Trainer, tiny_model: Qwen2ForCausalLM
) -> None:
    samples = make_samples(tiny_model)
    samples[1].trajectory.segments.clear()
    prepared = Update.prepare(bench(tiny_trainer), samples, config(), NOW)
    assert prepared.loss.advantages.tolist() == pytest.approx([0.6, -0.2, 1.0, -0.5, -0.5])
    update(tiny_trainer, prepared, config(), NOW)
