"""The supervised loop: its rate, its steps, its loss."""

from collections import Counter
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from infra.training.trainer import Trainer
from steps.configs.phase import PhaseConfig
from steps.packing import pack
from steps.supervised import learning_rate, optimizer_steps, response_loss, train
from steps.token_example import TokenExample


def phase(**settings: Any) -> PhaseConfig:
    base = {"sequence_length": 32, "learning_rate": 2e-5, "final_learning_rate": 2e-6, "tokens_per_step": 64}
    return PhaseConfig.model_validate(base | settings)


def test_the_rate_is_warmed_up_and_then_falls_in_a_line_to_its_end() -> None:
    rates = [learning_rate(phase(warmup_share=0.2), step, 11) for step in range(11)]
    expected = [1e-5, 2e-5, 2e-5, 1.775e-5, 1.55e-5, 1.325e-5, 1.1e-5, 8.75e-6, 6.5e-6, 4.25e-6, 2e-6]
    assert rates == pytest.approx(expected, rel=1e-9)


@given(st.integers(1, 300), st.floats(0, 0.99))
def test_the_rate_never_leaves_its_bounds(steps: int, share: float) -> None:
    settings = phase(warmup_share=share)
    warmup = int(share * steps)
    rates = [learning_rate(settings, step, steps) for step in range(steps)]
    assert all(0 < rate <= 2e-5 * (1 + 1e-9) for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert rates[warmup] == pytest.approx(2e-5)
    if steps - warmup > 1:
        assert rates[-1] == pytest.approx(2e-6)


EXAMPLES = st.lists(st.integers(2, 32), min_size=1, max_size=30).map(
    lambda lengths: [TokenExample([i + 1] * length, 1) for i, length in enumerate(lengths)]
)


@given(EXAMPLES, st.integers(16, 100), st.integers(1, 3), st.integers(0, 9))
def test_every_epoch_sees_every_example_once_in_steps_that_are_full_but_not_too_full(
    examples: list[TokenExample], tokens: int, epochs: int, seed: int
) -> None:
    steps = optimizer_steps(examples, phase(tokens_per_step=tokens, epochs=epochs), Random(seed))
    order = [example.tokens[0] for step in steps for example in step]
    for epoch in range(epochs):
        share = order[epoch * len(examples) : (epoch + 1) * len(examples)]
        assert Counter(share) == Counter(range(1, len(examples) + 1))
    sizes = [sum(len(example.tokens) for example in step) for step in steps]
    assert all(size <= tokens or len(step) == 1 for size, step in zip(sizes, steps, strict=True))
    assert len(order) == epochs * len(examples)
    assert steps == optimizer_steps(examples, phase(tokens_per_step=tokens, epochs=epochs), Random(seed))


def test_a_long_example_weighs_by_its_tokens_whatever_the_micro_batches() -> None:
    examples = [TokenExample([1, 2, 3], 1), TokenExample([1] * 8, 2), TokenExample([1] * 30, 20)]
    for rows_at_once in (1, 3):
        rows = list(pack(examples, 32, rows_at_once))
        loss = response_loss(rows)
        # Log-probability −1 on the responses' 2 + 6 + 10 tokens; what is not a response has a value that would show.
        total = sum(loss(torch.where(r.owners >= 0, -1.0, 1e6), r).loss for r in rows)
        assert float(total) == pytest.approx(1.0)


def test_training_lowers_the_loss_and_reports_each_step(tiny_trainer: Trainer) -> None:
    examples = [TokenExample([1, 2, *[3 + i % 4] * 6], 2) for i in range(16)]
    logged: list[dict[str, Any]] = []
    settings = phase(epochs=4, learning_rate=1e-2, final_learning_rate=1e-3)
    steps = train(tiny_trainer, examples, settings, Random(0), "sft", logged.append)
    assert steps == len(logged) == 8
    assert logged[-1]["sft/loss"] < 0.5 * logged[0]["sft/loss"]
    assert [row["sft/rate"] for row in logged] == [learning_rate(settings, i, 8) for i in range(8)]


def test_nothing_to_train_on_is_an_error(tiny_trainer: Trainer) -> None:
    with pytest.raises(ValueError, match="sft: there are no examples"):
        train(tiny_trainer, [], phase(), Random(0), "sft", lambda metrics: None)
