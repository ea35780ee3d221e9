"""The rollout engine and the hand-over of weights, with real vLLM and DeepSpeed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from infra.engine import Engine, Repetition, Request
from infra.handover import HandOver
from infra.trainer import Trainer
from steps.packing import TokenExample, pack
from steps.supervised import response_loss
from tests.infra import engine_process
from tests.infra.engine_process import PROMPTS, mismatch, requests, train_a_little


def in_its_own_process(task: str, model: Path, tmp_path: Path) -> Any:
    command = [sys.executable, "-m", engine_process.__name__, task, str(model), str(tmp_path / "log")]
    # Not the variables of this process's group: its port is taken.
    group = ("MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE")
    environment = {name: value for name, value in os.environ.items() if name not in group}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, (tmp_path / "log").read_text()[-2000:]
    return json.loads(done.stdout)


@pytest.fixture
def restored(trainer: Trainer, engine: Engine, base: Path) -> Iterator[None]:
    yield
    trainer.load_weights(base)
    HandOver(trainer, engine).to_rollout()


def test_log_probabilities_of_engine_and_trainer_agree_before_and_after_an_update(
    engine: Engine, trainer: Trainer, restored: None
) -> None:
    assert mismatch(engine, trainer) < 1e-4
    train_a_little(trainer)
    assert mismatch(engine, trainer) > 1e-2, "training changed nothing, so that the test shows nothing"
    HandOver(trainer, engine).to_rollout()
    assert mismatch(engine, trainer) < 1e-4


def test_an_updated_engine_equals_one_started_from_the_same_weights(
    engine: Engine, trainer: Trainer, restored: None, tmp_path: Path
) -> None:
    train_a_little(trainer)
    HandOver(trainer, engine).to_rollout()
    updated = engine.generate_all(requests())
    fresh = in_its_own_process("sample", trainer.save(tmp_path / "model"), tmp_path)
    assert fresh == [[c.tokens, c.logprobs] for c in updated]


def test_a_bfloat16_engine_follows_the_float32_trainer(base: Path, tmp_path: Path) -> None:
    assert in_its_own_process("bfloat16", base, tmp_path) < 0.25


def test_cached_prefixes_of_old_weights_do_not_leak_into_new_ones(
    engine: Engine, trainer: Trainer, restored: None
) -> None:
    prompt = [5 + i % 200 for i in range(96)]
    request = Request(prompt, 8, seed=1)
    before = engine.generate_all([request])[0]
    train_a_little(trainer)
    HandOver(trainer, engine).to_rollout()
    after = engine.generate_all([request])[0]
    (rows,) = pack([TokenExample([*prompt, *after.tokens], len(prompt))], 128, 1)
    expected = trainer.reference_logprobs([rows])[0][0, len(prompt) - 1 :]
    assert torch.allclose(torch.tensor(after.logprobs), expected, atol=1e-4)
    assert before.logprobs != after.logprobs


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


def test_repetition_ends_a_response_early(engine: Engine, trainer: Trainer, restored: None) -> None:
    prompt = [20, 21, 22] * 12
    rows = list(pack([TokenExample([20, 21, 22] * 30, 3)], 96, 1))
    for _ in range(30):
        trainer.step(rows, response_loss(rows), learning_rate=3e-3)
    HandOver(trainer, engine).to_rollout()
    request = Request(prompt, 64, seed=0, temperature=0.01, repetition=Repetition(max_pattern=8, min_count=3))
    completion = engine.generate_all([request])[0]
    unbounded = engine.generate_all([Request(prompt, 64, seed=0, temperature=0.01)])[0]
    assert completion.ended == "repetition"
    assert len(completion.tokens) < len(unbounded.tokens)


def test_the_limit_of_tokens_is_kept_and_said(engine: Engine) -> None:
    completion = engine.generate_all([Request(PROMPTS[0], 3, seed=0)])[0]
    assert len(completion.tokens) == len(completion.logprobs)
    assert completion.ended == "stop" or (completion.ended == "length" and len(completion.tokens) == 3)


def test_a_prompt_that_fills_the_context_is_refused_with_the_key_to_change(engine: Engine) -> None:
    with pytest.raises(ValueError, match=r"engine\.context"):
        engine.generate_all([Request([5] * engine.config.context, 3, seed=0)])


def test_a_caller_that_stops_early_leaves_nothing_running(engine: Engine) -> None:
    stream = engine.generate(requests())
    next(stream)
    stream.close()
    assert not engine.llm.llm_engine.has_unfinished_requests()


def test_streamed_tokens_are_those_of_the_whole_completion(engine: Engine) -> None:
    request = Request(PROMPTS[2], 16, seed=5)
    whole = engine.generate_all([request])[0]
    assert list(engine.stream(request)) == [token for token in whole.tokens if token not in engine.end_tokens]
