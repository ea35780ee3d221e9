"""How the estimate follows rollouts: their books, and the steps that an engine and ranks make of them."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.configs import EngineConfig, TrainerConfig
from infra.estimate.devices import device
from infra.estimate.shapes import KNOWN
from infra.estimate.speed import decoding_time, training_time
from steps.configs.rl import RlConfig
from steps.estimate.rollouts import capped_mean, centre_of, simulate
from steps.recipe import load_recipe

CONFIGS = Path(__file__).parents[3] / "configs"
SEVEN_B = KNOWN["Qwen/Qwen2.5-7B"]


@given(mean=st.floats(1, 900), deviation=st.floats(0.2, 1.5))
def test_lengths_have_the_mean_that_is_asked_for(mean: float, deviation: float) -> None:
    assert capped_mean(centre_of(mean, deviation, 1000), deviation, 1000) == pytest.approx(mean, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    budget=st.integers(50, 1000),
    mean=st.floats(20, 990),
    oversampling=st.floats(1, 2),
    stale=st.integers(0, 6),
    ends=st.sampled_from(["drop", "finish"]),
)
def test_rollouts_keep_their_books(budget: int, mean: float, oversampling: float, stale: int, ends: str) -> None:
    config = RlConfig(
        iterations=12,
        groups=8,
        oversampling=oversampling,
        responses=4,
        max_response_tokens=1000,
        token_budget=budget,
        max_staleness=stale,
        when_stale=ends,
        learning_rate=1e-6,
        final_learning_rate=1e-6,
    )
    actual = simulate(config, mean, 0.6)
    assert actual == simulate(config, mean, 0.6)
    rounding = 1 + 1e-9
    assert actual.trained_tokens <= actual.tokens * rounding
    assert actual.tokens <= actual.requests * budget * rounding and actual.longest <= budget * rounding
    assert actual.done <= min(config.groups, actual.started) * rounding
    assert actual.requests <= config.in_flight * config.responses * rounding


def test_a_budget_that_no_response_reaches_fills_every_batch() -> None:
    config = load_recipe(CONFIGS / "nano.yaml").long2short.rl
    actual = simulate(config, 56, 0.6)
    assert (actual.done, actual.prefixes) == (config.groups, 0)
    assert actual.tokens == pytest.approx(config.groups * config.responses * 56, rel=0.05)


def test_responses_that_all_run_at_once_take_as_many_steps_as_the_longest() -> None:
    gpu = replace(device("h100"), step_seconds=1.0, sequence_seconds=0.0)
    engine = EngineConfig(dtype="bfloat16", max_sequences=64)
    once = decoding_time(SEVEN_B, engine, gpu, 10**9, 64, 0, 10, 50, 400)
    assert once.seconds == pytest.approx(400, rel=0.02) and once.sequences == 64
    assert once.occupancy == pytest.approx(50 / 400)
    waves = decoding_time(SEVEN_B, engine, gpu, 10**9, 640, 0, 10, 50, 400)
    assert waves.seconds == pytest.approx(10 * 50 + 350, rel=0.02)
    crowded = decoding_time(SEVEN_B, engine, gpu, 60 * 16, 64, 0, 10, 50, 400)
    assert crowded.sequences == 16, "what the KV cache has no room for waits"


def test_ranks_without_a_micro_batch_are_reported() -> None:
    config = TrainerConfig(dtype="bfloat16", ranks=8, zero_stage=1, micro_batch_tokens=8192)
    full = training_time(SEVEN_B, config, device("h100"), 1, 8 * 8192, 8192, 8192)
    assert full.busy == 1
    one = training_time(SEVEN_B, config, device("h100"), 1, 8192, 8192, 8192)
    assert one.busy == 1 / 8 and one.seconds == pytest.approx(full.seconds, rel=0.01)
