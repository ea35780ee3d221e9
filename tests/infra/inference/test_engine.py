"""The rollout engine, with real vLLM and DeepSpeed."""

from collections.abc import Generator
from dataclasses import replace

import pytest

from infra.inference.engine import Engine
from infra.inference.repetition import Repetition
from infra.inference.requests import Request
from infra.training.trainer import Trainer
from infra.weights.handover import HandOver
from steps.packing import pack
from steps.supervised import response_loss
from steps.token_example import TokenExample
from tests.infra.engine_process import PROMPTS, requests


def test_what_is_sampled_does_not_depend_on_who_is_sampled_beside_it(engine: Engine) -> None:
    together = engine.generate_all(requests())
    alone = engine.generate_all([requests()[3]])[0]
    assert alone.tokens == together[3].tokens


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others(engine: Engine) -> None:
    first, again, other = (
        [c.tokens for c in engine.generate_all(requests(**changes))] for changes in ({}, {}, {"seed": 9})
    )
    assert first == again
    assert first != other


def test_a_prompt_in_chunks_is_continued_as_one_computed_at_once(engine: Engine) -> None:
    prompt = [5 + (7 * place) % 200 for place in range(450)]
    request = Request(prompt, 24, seed=3)
    engine.llm.reset_prefix_cache()
    chunked, *beside = engine.generate_all([request, *requests()])
    assert chunked.cached == 0 and len(prompt) > engine.config.max_batched_tokens
    engine.generate_all([Request(prompt[:256], 1, seed=0)])
    at_once = engine.generate_all([request])[0]
    assert len(prompt) - at_once.cached <= engine.config.max_batched_tokens
    assert chunked.tokens == at_once.tokens
    assert chunked.logprobs == pytest.approx(at_once.logprobs, abs=1e-4)
    assert [one.tokens for one in beside] == [one.tokens for one in engine.generate_all(requests())]


def test_repetition_ends_a_response_early(engine: Engine, trainer: Trainer, restored: None) -> None:
    prompt = [70, 71, 72] * 12
    rows = list(pack([TokenExample([70, 71, 72] * 30, 3)], 96, 1))
    for _ in range(30):
        trainer.step(rows, response_loss(rows), learning_rate=3e-3)
    HandOver(trainer, engine).to_rollout()
    request = Request(prompt, 64, seed=0, temperature=0.01, repetition=Repetition(8, 3, 12))
    completion = engine.generate_all([request])[0]
    unbounded = engine.generate_all([Request(prompt, 64, seed=0, temperature=0.01)])[0]
    assert completion.ended == "repetition"
    assert len(completion.tokens) == len(completion.logprobs) < len(unbounded.tokens)
    assert completion.tokens == unbounded.tokens[: len(completion.tokens)]
    # What the response began with counts.
    (continued,) = engine.generate_all([replace(request, response=30)])
    assert continued.ended == "repetition" and len(continued.tokens) == 1


def test_the_limit_of_tokens_is_kept_and_said(engine: Engine) -> None:
    (limited,) = engine.generate_all([Request(PROMPTS[0], 3, seed=0)])
    assert (limited.ended, len(limited.tokens), len(limited.logprobs)) == ("length", 3, 3)
    (whole,) = engine.generate_all([Request(PROMPTS[0], 400, seed=0)])
    assert len(whole.tokens) == len(whole.logprobs) > 3
    assert (whole.ended == "length") == (len(whole.tokens) == 400)
    assert whole.tokens[:3] == limited.tokens


def test_a_prompt_that_fills_the_context_is_refused_with_the_key_to_change(engine: Engine) -> None:
    with pytest.raises(ValueError, match=r"engine\.context"):
        engine.generate_all([Request([5] * engine.config.context, 3, seed=0)])


def test_a_caller_that_stops_early_leaves_nothing_running(engine: Engine) -> None:
    stream = engine.generate(requests())
    assert isinstance(stream, Generator)
    next(stream)
    stream.close()
    assert not engine.llm.llm_engine.has_unfinished_requests()


def test_streamed_tokens_are_those_of_the_whole_completion(engine: Engine) -> None:
    request = Request(PROMPTS[2], 16, seed=5)
    whole = engine.generate_all([request])[0]
    assert list(engine.stream(request)) == [token for token in whole.tokens if token not in engine.end_tokens]
