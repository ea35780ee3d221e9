"""Packing: an example in a shared row must read and learn as if it stood alone."""

from dataclasses import replace
from itertools import accumulate

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import Qwen2ForCausalLM

from infra.training.attention import PACKED, lengths_of_whole_rows
from steps.packing import PackedRows, pack
from steps.token_example import TokenExample

ROW = 32
EXAMPLES = st.lists(
    st.lists(st.integers(1, 63), min_size=2, max_size=ROW).flatmap(
        lambda tokens: st.integers(1, len(tokens) - 1).map(lambda prompt: TokenExample(tokens, prompt))
    ),
    min_size=1,
    max_size=12,
)


def some_examples() -> list[TokenExample]:
    generator = torch.Generator().manual_seed(1)
    lengths = [(2, 1), (9, 3), (17, 1), (5, 4), (11, 6), (30, 2), (3, 2)]
    return [
        TokenExample(torch.randint(1, 64, (length,), generator=generator).tolist(), prompt)
        for length, prompt in lengths
    ]


def packed_logprobs(model: Qwen2ForCausalLM, rows: PackedRows) -> Tensor:
    model.set_attn_implementation(PACKED)
    logits = model(
        input_ids=rows.tokens, position_ids=rows.positions, example_lengths=rows.example_lengths, use_cache=False
    ).logits[:, :-1]
    return logits.log_softmax(-1).gather(-1, rows.tokens[:, 1:, None]).squeeze(-1)


def alone(model: Qwen2ForCausalLM, example: TokenExample) -> Tensor:
    """Log-probabilities of the response tokens of an example that has the model, with its own attention, for itself."""
    model.set_attn_implementation("sdpa")
    tokens = torch.tensor([list(example.tokens)])
    logprobs = model(input_ids=tokens).logits[0, :-1].log_softmax(-1).gather(-1, tokens[0, 1:, None]).squeeze(-1)
    return logprobs[example.prompt_length - 1 :]


@pytest.mark.parametrize("rows_at_once", [1, 2, 10])
def test_packed_log_probabilities_equal_those_of_an_example_alone(
    tiny_model: Qwen2ForCausalLM, rows_at_once: int
) -> None:
    examples = some_examples()
    expected = [alone(tiny_model, example) for example in examples]
    sums = torch.zeros(len(examples))
    for rows in pack(examples, ROW, rows_at_once):
        logprobs = packed_logprobs(tiny_model, rows)
        laid = rows.on_responses([values.tolist() for values in expected])
        inside = rows.owners >= 0
        torch.testing.assert_close(logprobs[inside], laid[inside], atol=1e-5, rtol=0)
        sums += rows.per_example(logprobs, len(examples))
    torch.testing.assert_close(sums, torch.stack([values.sum() for values in expected]), atol=1e-4, rtol=0)


def test_packed_gradients_equal_those_of_examples_alone(tiny_model: Qwen2ForCausalLM) -> None:
    examples = some_examples()
    weights = torch.linspace(-1, 1, len(examples))

    def gradients(loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, list(tiny_model.parameters())))

    packed, single = torch.zeros(()), torch.zeros(())
    for rows in pack(examples, ROW, 2):
        packed = packed + (rows.per_example(packed_logprobs(tiny_model, rows), len(examples)) * weights).sum()
    for example, weight in zip(examples, weights, strict=True):
        single = single + alone(tiny_model, example).sum() * weight
    torch.testing.assert_close(packed, single, atol=1e-4, rtol=1e-5)
    for own, other in zip(gradients(packed), gradients(single), strict=True):
        torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-4)


def test_changing_an_example_leaves_its_neighbours_in_the_row_alone(tiny_model: Qwen2ForCausalLM) -> None:
    first, second = TokenExample([5, 6, 7, 8, 9, 10], 2), TokenExample([11, 12, 13, 14, 15], 1)
    changed = TokenExample([60, 61, 62, 63, 1, 2], 2)
    (before,) = pack([first, second], ROW, 1)
    (after,) = pack([changed, second], ROW, 1)
    assert len(before.tokens) == 1 and before.owners.unique().tolist() == [-1, 0, 1]
    theirs = before.owners == 1
    old, new = packed_logprobs(tiny_model, before), packed_logprobs(tiny_model, after)
    torch.testing.assert_close(old[theirs], new[theirs], atol=1e-6, rtol=0)
    assert not torch.allclose(old[before.owners == 0], new[after.owners == 0], atol=1e-2)


def test_the_check_would_see_a_leak(tiny_model: Qwen2ForCausalLM) -> None:
    """Without the examples' lengths the second example reads the first, whatever its positions."""
    examples = [TokenExample([5, 6, 7, 8, 9, 10], 2), TokenExample([11, 12, 13, 14, 15], 1)]
    (rows,) = pack(examples, ROW, 1)
    leaking = replace(rows, example_lengths=lengths_of_whole_rows(rows.tokens))
    theirs = rows.owners == 1
    assert not torch.allclose(
        packed_logprobs(tiny_model, leaking)[theirs], packed_logprobs(tiny_model, rows)[theirs], atol=1e-2
    )


@given(EXAMPLES, st.integers(1, 4))
def test_every_response_token_is_packed_once_and_predicted_from_the_token_before(
    examples: list[TokenExample], rows_at_once: int
) -> None:
    actual: dict[int, list[int]] = {}
    for rows in pack(examples, ROW, rows_at_once):
        assert rows.tokens.shape == rows.positions.shape and rows.tokens.shape[0] <= rows_at_once
        assert rows.tokens.shape[1] <= ROW and rows.owners.shape[1] == rows.tokens.shape[1] - 1
        for row, t in torch.nonzero(rows.owners >= 0).tolist():
            owner = int(rows.owners[row, t])
            place = len(actual.setdefault(owner, []))
            # The prediction at t is of the response's next token, and stands where its example says.
            assert int(rows.positions[row, t]) == examples[owner].prompt_length - 1 + place
            actual[owner].append(int(rows.tokens[row, t + 1]))
    assert actual == {i: list(e.tokens[e.prompt_length :]) for i, e in enumerate(examples)}


@given(EXAMPLES, st.integers(1, 4))
def test_positions_start_again_where_the_lengths_say(examples: list[TokenExample], rows_at_once: int) -> None:
    starts = tokens = 0
    for rows in pack(examples, ROW, rows_at_once):
        steps = rows.positions.diff(dim=1)
        assert bool((rows.positions[:, 0] == 0).all())
        assert bool(((steps == 1) | (rows.positions[:, 1:] == 0)).all())
        starts += int((rows.positions == 0).sum())
        for positions, lengths in zip(rows.positions, rows.example_lengths, strict=True):
            assert torch.nonzero(positions == 0).flatten().tolist() == [*accumulate(lengths[:-1], initial=0)]
            assert sum(lengths) == rows.tokens.shape[1]
        tokens += int((rows.tokens > 0).sum())
    assert starts == len(examples)
    assert tokens == sum(len(example.tokens) for example in examples)


@given(EXAMPLES, st.integers(1, 4))
def test_summing_what_was_laid_out_gives_each_examples_sum(examples: list[TokenExample], rows_at_once: int) -> None:
    lengths = [len(e.tokens) - e.prompt_length for e in examples]
    values = [[float(100 * i + j) for j in range(length)] for i, length in enumerate(lengths)]
    sums = torch.zeros(len(examples))
    for rows in pack(examples, ROW, rows_at_once):
        laid = rows.on_responses(values)
        assert bool((laid[rows.owners < 0] == 0).all())
        sums += rows.per_example(laid, len(examples))
    assert sums.tolist() == [sum(row) for row in values]


def test_values_are_laid_out_in_the_order_of_the_response() -> None:
    # First fit by decreasing length: example 1 (4 tokens) stands before example 0 (3 tokens).
    (rows,) = pack([TokenExample([1, 2, 3], 1), TokenExample([4, 5, 6, 7], 2)], 8, 1)
    assert rows.tokens.tolist() == [[4, 5, 6, 7, 1, 2, 3]]
    assert rows.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    assert rows.owners.tolist() == [[-1, 1, 1, -1, 0, 0]]
    assert rows.on_responses([[0.1, 0.2], [0.3, 0.4]]).tolist() == [pytest.approx([0.0, 0.3, 0.4, 0.0, 0.1, 0.2])]
    assert rows.per_example(torch.tensor([[9.0, 1, 2, 9, 3, 4]]), 3).tolist() == [7, 3, 0]


def test_an_example_longer_than_a_row_is_refused_not_cut() -> None:
    with pytest.raises(ValueError, match="example 1 has 9 tokens and does not fit a row of 8"):
        list(pack([TokenExample([1, 2], 1), TokenExample([1] * 9, 1)], 8, 1))


def test_later_prompts_of_a_conversation_are_not_learned() -> None:
    (rows,) = pack([TokenExample([1, 2, 3, 4, 5, 6, 7], 2, [(4, 6)]), TokenExample([8, 9], 1)], 16, 1)
    learned = {
        owner: [int(rows.tokens[0, t + 1]) for t in range(8) if int(rows.owners[0, t]) == owner] for owner in (0, 1)
    }
    assert learned == {0: [3, 4, 7], 1: [9]}


@pytest.mark.parametrize("prompt_length", [0, 3])
def test_an_example_without_prompt_or_response_is_refused(prompt_length: int) -> None:
    with pytest.raises(ValueError, match="needs a prompt and a response"):
        TokenExample([1, 2, 3], prompt_length)
