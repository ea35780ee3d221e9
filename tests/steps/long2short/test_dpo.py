"""DPO: which pairs are made, and the loss that they are given."""

import math
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from infra.training.trainer import Trainer
from steps.chat import Chat
from steps.configs.dpo import DpoConfig
from steps.long2short.dpo import Pair, StepLoss, dpo, dpo_loss, micro_batches, pair_rows, preference_pairs, sample_pairs
from steps.long2short.responses import JudgedResponse, Responses
from steps.problem import Problem
from steps.token_prompt import TokenPrompt
from steps.workbench import Workbench
from tests.steps.scripted import CONTEXT, ScriptedEngine, scripted_bench

PROBLEM = Problem(id="p", prompt="?", answer="1", verifier="math")
PROMPT = [1, 2, 3]


def responses(*judged: tuple[int, bool]) -> Responses:
    """Responses of the given lengths; all tokens of a response are its place in the list."""
    return Responses(
        PROBLEM, TokenPrompt(PROMPT), [JudgedResponse([i] * length, right) for i, (length, right) in enumerate(judged)]
    )


def rejected(one: Responses, **settings: float) -> set[int]:
    config = DpoConfig.model_validate({"learning_rate": 1e-4, "pairs_per_problem": 99} | settings)
    pairs = preference_pairs([one], config, Random(0))
    assert all(pair.chosen.prompt_length == pair.rejected.prompt_length == len(PROMPT) for pair in pairs)
    assert all(list(pair.chosen.tokens[:3]) == PROMPT == list(pair.rejected.tokens[:3]) for pair in pairs)
    return {pair.rejected.tokens[-1] for pair in pairs}


def test_longer_wrong_responses_and_right_ones_half_as_long_again_are_rejected() -> None:
    one = responses((10, True), (14, True), (15, True), (11, False), (10, False), (9, False), (40, True))
    assert rejected(one) == {2, 3, 6}
    assert rejected(one, longer=1.4) == {1, 2, 3, 6}


def test_a_problem_without_a_right_response_or_without_a_longer_one_gives_no_pair() -> None:
    assert rejected(responses((10, False), (20, False))) == set()
    assert rejected(responses((10, True), (8, False), (12, True))) == set()


@given(
    st.lists(st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=8), max_size=5),
    st.integers(1, 4),
    st.integers(0, 9),
)
def test_every_pair_obeys_the_rule_and_no_pair_is_made_twice(
    sampled: list[list[tuple[int, bool]]], most: int, seed: int
) -> None:
    config = DpoConfig(learning_rate=1e-4, pairs_per_problem=most)
    for one in (responses(*judged) for judged in sampled):
        pairs = preference_pairs([one], config, Random(seed))
        places = [pair.rejected.tokens[-1] for pair in pairs]
        assert len(pairs) <= most and len(places) == len(set(places))
        for pair, place in zip(pairs, places, strict=True):
            best, worse = one.judged[pair.chosen.tokens[-1]], one.judged[place]
            assert best.right and len(best.tokens) == min(len(r.tokens) for r in one.judged if r.right)
            assert len(worse.tokens) > len(best.tokens)
            assert not worse.right or len(worse.tokens) >= 1.5 * len(best.tokens)


def test_the_loss_is_as_worked_out_by_hand() -> None:
    # Ratios +2 and −1, β = 0.1: −log σ(0.3) = log(1 + e^−0.3)
    loss = dpo_loss(torch.tensor([-10.0]), torch.tensor([-20.0]), torch.tensor([-12.0]), torch.tensor([-19.0]), 0.1)
    assert loss.item() == pytest.approx(0.5543552444685271, abs=1e-6)
    two = dpo_loss(torch.zeros(2), torch.zeros(2), torch.zeros(2), torch.zeros(2), 0.1)
    assert two.item() == pytest.approx(2 * math.log(2))


def test_the_gradient_raises_the_chosen_response_and_lowers_the_rejected_one() -> None:
    chosen, rejected = torch.tensor([-10.0], requires_grad=True), torch.tensor([-20.0], requires_grad=True)
    dpo_loss(chosen, rejected, torch.tensor([-12.0]), torch.tensor([-19.0]), 0.1).backward()
    # −β σ(−0.3)
    assert chosen.grad is not None and rejected.grad is not None
    assert chosen.grad.item() == pytest.approx(-0.1 / (1 + math.exp(0.3)), abs=1e-7)
    assert rejected.grad.item() == -chosen.grad.item()


def some_pairs() -> list[Pair]:
    return [
        Pair(
            Responses(PROBLEM, TokenPrompt(PROMPT), []),
            JudgedResponse([10 + i, 11], True),
            JudgedResponse([*range(20 + i, 30)], False),
        )
        for i in range(4)
    ]


def test_micro_batches_hold_every_pair_once_within_the_limit() -> None:
    pairs = some_pairs()
    sizes = [len(pair.chosen.tokens) + len(pair.rejected.tokens) for pair in pairs]
    assert micro_batches(pairs, sizes[0] + sizes[1]) == [pairs[:2], pairs[2:]]
    assert micro_batches(pairs, 1) == [[pair] for pair in pairs]
    assert micro_batches(pairs, 1000) == [pairs]


@pytest.mark.parametrize("tokens", [20, 1000])
def test_the_loss_starts_at_log_2_and_falls_on_packed_rows(tiny_trainer: Trainer, tokens: int) -> None:
    rows = [pair_rows(tiny_trainer, batch, 32) for batch in micro_batches(some_pairs(), tokens)]
    assert len(rows) == (4 if tokens == 20 else 1)
    results = [tiny_trainer.step(rows, StepLoss(0.1, 4), 1e-3) for _ in range(4)]
    assert results[0].loss == pytest.approx(math.log(2), abs=1e-5)
    assert results[-1].loss < results[0].loss - 0.05
    assert results[-1].sums["agreed"].item() == 4


def test_training_on_pairs_brings_the_model_to_agree_with_them(tiny_trainer: Trainer, base: Path) -> None:
    config = DpoConfig(learning_rate=3e-3, epochs=4, pairs_per_step=2, sequence_length=32)
    pairs = [
        pair
        for length in (3, 4, 5)
        for pair in preference_pairs([responses((2, True), (length, False))], config, Random(0))
    ]
    logged: list[dict[str, Any]] = []
    chat = Chat(base)
    parts: Any = {"engine": ScriptedEngine(chat, lambda prompt, turn: ""), "trainer": tiny_trainer}
    with Workbench(base, **parts, context=CONTEXT, seed=0, log=logged.append, chat=chat) as bench:
        result = dpo(bench, pairs, config)
    # Three pairs are two steps of each epoch. Before the first, the model is its own reference.
    assert (result.pairs, len(logged)) == (3, 8)
    assert logged[0]["dpo/loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert logged[-1]["dpo/loss"] < 0.95 * math.log(2)
    assert result.agreement == 1.0


def test_pairs_are_made_of_what_the_model_answers(base: Path) -> None:
    answers = ["\\boxed{1}", "So it is \\boxed{1}", "I think that it is \\boxed{2}", "\\boxed{3}"]
    config = DpoConfig.model_validate({"learning_rate": 1e-4, "pairs_per_problem": 99, "responses": {"samples": 4}})
    with scripted_bench(base, lambda prompt, turn: answers[turn]) as (bench, _, _):
        pairs = sample_pairs(bench, [PROBLEM], config)
        texts = {(bench.chat.text(pair.chosen.response), bench.chat.text(pair.rejected.response)) for pair in pairs}
    assert texts == {(answers[0], answers[1]), (answers[0], answers[2])}
    with (
        scripted_bench(base, lambda prompt, turn: "\\boxed{2}") as (bench, _, _),
        pytest.raises(ValueError, match="no problem has a right response and a longer one"),
    ):
        sample_pairs(bench, [PROBLEM], config)
