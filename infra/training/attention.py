"""Attention of training rows: each example attends to itself alone, without a mask.

The lengths of the examples come with every pass. A mask would need memory and time by the square of the row's length:
48 GiB for a row of 131,072 tokens, wherever its examples end. Here each example is computed by itself, on a CPU and in
float32 by torch's scaled-dot-product attention, and on a GPU in 16 bits by its kernel for variable lengths.

Transformers finds both functions under the name PACKED (`attn_implementation`). Models whose attention does not go
through transformers' registry do not; import refuses them (steps/checkpoint_forward.py).
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

PACKED = "longhaul_packed"
"""The name under which transformers knows the attention."""

Lengths = Sequence[Sequence[int]]
"""For each row the lengths of its examples, in tokens and in order, which add up to the row's length: what fills a row
up counts as part of its last example, and nothing attends to it that stands before it."""

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From queries, keys and values [rows, heads, length, size] of whole rows to attention [rows, length, heads, size]."""

Exchanged = Callable[[Attend, Tensor, Tensor, Tensor], Tensor]
"""The same from a part of the rows' tokens to that part, by way of `Attend`."""


class AttentionNotSupported(ValueError):
    """A model asks its attention for what is not computed here."""


def lengths_of_whole_rows(tokens: Tensor) -> Lengths:
    """Of rows [rows, length] that hold one example each."""
    return [[tokens.shape[1]]] * tokens.shape[0]


def packed_attention(
    module: nn.Module,
    query: Float[Tensor, "rows heads length size"],
    key: Float[Tensor, "rows kv_heads length size"],
    value: Float[Tensor, "rows kv_heads length size_of_value"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    example_lengths: Lengths | None = None,
    exchanged: Exchanged | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "rows length heads size_of_value"], None]:
    """Causal attention inside each example.

    Args:
        sliding_window: a token attends to so many tokens, itself among them.
        example_lengths: what the trainer gave to the model's forward pass.
        exchanged: where ranks share the rows, what has attention computed on whole ones (SequenceGroup.exchanged).

    Raises:
        AttentionNotSupported: for attention with caps, sinks, biases or masks, or that is not causal; and where the
            model does not pass the lengths on.
    """
    name = type(module).__name__
    unsupported = [what for what in ("softcap", "s_aux", "position_bias") if others.get(what) is not None]
    if unsupported or attention_mask is not None or dropout:
        what = ", ".join(unsupported) or ("a mask" if attention_mask is not None else "dropout")
        raise AttentionNotSupported(f"{name} uses {what}, which packed attention does not compute")
    causal = others.get("is_causal")
    if not (getattr(module, "is_causal", True) if causal is None else causal):
        raise AttentionNotSupported(f"{name} is not causal")
    if example_lengths is None:
        raise AttentionNotSupported(f"{name} is not given the lengths of the examples in a row")

    def of_whole_rows(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return _whole_rows(query, key, value, scaling, sliding_window, example_lengths)

    if exchanged is not None:
        return exchanged(of_whole_rows, query, key, value), None
    return of_whole_rows(query, key, value), None


def _whole_rows(
    query: Float[Tensor, "rows heads length size"],
    key: Float[Tensor, "rows kv_heads length size"],
    value: Float[Tensor, "rows kv_heads length size_of_value"],
    scaling: float | None,
    window: int | None,
    example_lengths: Lengths,
) -> Float[Tensor, "rows length heads size_of_value"]:
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        return _by_kernel(query, key, value, scaling, window, example_lengths)
    if all(len(row) == 1 for row in example_lengths):
        return _example(query, key, value, scaling, window)
    rows = [
        _row(query[place], key[place], value[place], scaling, window, lengths)
        for place, lengths in enumerate(example_lengths)
    ]
    return torch.cat(rows)


def _row(
    query: Float[Tensor, "heads length size"],
    key: Float[Tensor, "kv_heads length size"],
    value: Float[Tensor, "kv_heads length size_of_value"],
    scaling: float | None,
    window: int | None,
    lengths: Sequence[int],
) -> Float[Tensor, "1 length heads size_of_value"]:
    """One example of the row after another."""
    queries, keys, values = (one[None].split(list(lengths), 2) for one in (query, key, value))
    examples = zip(queries, keys, values, strict=True)
    return torch.cat([_example(q, k, v, scaling, window) for q, k, v in examples], 1)


def _example(
    query: Float[Tensor, "rows heads length size"],
    key: Float[Tensor, "rows kv_heads length size"],
    value: Float[Tensor, "rows kv_heads length size_of_value"],
    scaling: float | None,
    window: int | None,
) -> Float[Tensor, "rows length heads size_of_value"]:
    """Causal attention of whole examples; within a window, block by block, so that memory stays linear in length."""
    grouped = query.shape[1] != key.shape[1]
    if grouped and query.is_cuda:
        # Of torch's kernels in float32 for GPUs none takes fewer heads for keys but the one that holds all scores.
        key, value = (one.repeat_interleave(query.shape[1] // key.shape[1], 1) for one in (key, value))
        grouped = False
    length = query.shape[2]
    if window is None or length <= window:
        whole = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped)
        return whole.transpose(1, 2).contiguous()
    blocks = []
    for begin in range(0, length, window):
        end, first = min(begin + window, length), max(0, begin - window + 1)
        keys, values = key[:, :, first:end], value[:, :, first:end]
        band = _band(end - begin, end - first, window, query.device)
        blocks.append(
            scaled_dot_product_attention(
                query[:, :, begin:end], keys, values, attn_mask=band, scale=scaling, enable_gqa=grouped
            ).transpose(1, 2)
        )
    return torch.cat(blocks, 1)


def _band(queries: int, keys: int, window: int, device: torch.device) -> Bool[Tensor, "queries keys"]:
    """What the last `queries` of `keys` tokens attend to."""
    distance = torch.arange(keys - queries, keys, device=device)[:, None] - torch.arange(keys, device=device)
    return (distance >= 0) & (distance < window)


def _by_kernel(
    query: Float[Tensor, "rows heads length size"],
    key: Float[Tensor, "rows kv_heads length size"],
    value: Float[Tensor, "rows kv_heads length size_of_value"],
    scaling: float | None,
    window: int | None,
    example_lengths: Lengths,
) -> Float[Tensor, "rows length heads size_of_value"]:
    """The same by torch's kernel for variable lengths, all rows at once."""
    from torch.nn.attention.varlen import varlen_attn

    rows, heads, length, _ = query.shape
    ends = list(accumulate((one for row in example_lengths for one in row), initial=0))
    bounds = torch.tensor(ends, dtype=torch.int32, device=query.device)
    longest = max(one for row in example_lengths for one in row)
    queries, keys, values = (one.transpose(1, 2).flatten(0, 1).contiguous() for one in (query, key, value))
    options: dict[str, Any] = {
        "scale": scaling,
        "window_size": (-1 if window is None else window - 1, 0),
        "enable_gqa": heads != key.shape[1],
    }
    attended = varlen_attn(queries, keys, values, bounds, bounds, longest, longest, **options)
    assert isinstance(attended, Tensor)
    return attended.unflatten(0, (rows, length))


def _no_mask(*arguments: Any, **named: Any) -> None:
    """In place of the mask that transformers would make."""


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, _no_mask)
