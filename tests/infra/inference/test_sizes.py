"""Contexts and KV caches that fit each other, the checkpoint and the machine."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.configs import EngineConfig
from infra.errors import LonghaulError
from infra.inference.serving import serving_sizes
from infra.inference.sizes import check_kv_cache, kv_bytes

# SmolLM2-135M's.
CONFIG: dict[str, Any] = {
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "num_hidden_layers": 30,
    "max_position_embeddings": 8192,
}
EACH = 2 * 30 * 3 * 64 * 4
"""Bytes of a token in float32."""
GIB = 2**30


def model(folder: Path, **changes: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    return folder


def test_a_token_takes_keys_and_values_of_all_layers(tmp_path: Path) -> None:
    folder = model(tmp_path)
    assert kv_bytes(folder, "float32") == EACH
    assert kv_bytes(folder, "bfloat16", tensor_parallel=3) == EACH / 6
    assert kv_bytes(model(tmp_path, head_dim=128), "float32") == 2 * EACH


@pytest.mark.parametrize(
    "change",
    [
        {"sliding_window": 512},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"kv_lora_rank": 64},
        {"num_hidden_layers": None},
        {"num_attention_heads": 0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_the_formula_does_not_hold_for_is_left_to_vllm(change: dict[str, Any], tmp_path: Path) -> None:
    folder = model(tmp_path, **change)
    assert kv_bytes(folder, "float32") is None and serving_sizes(folder) is None
    check_kv_cache(folder, EngineConfig(context=8192, kv_cache_mb=64))


def test_a_window_that_is_switched_off_counts_for_nothing(tmp_path: Path) -> None:
    assert kv_bytes(model(tmp_path, sliding_window=512, use_sliding_window=False), "float32") == EACH


def test_a_cache_that_cannot_hold_one_response_is_refused_by_its_keys(tmp_path: Path) -> None:
    folder = model(tmp_path)
    check_kv_cache(folder, EngineConfig(context=8192, kv_cache_mb=360))
    check_kv_cache(folder, EngineConfig(context=8192, kv_cache_mb=None))
    with pytest.raises(LonghaulError, match=r"kv_cache_mb is 359, .* 8,192 tokens takes 360 MiB"):
        check_kv_cache(folder, EngineConfig(context=8192, kv_cache_mb=359))


def test_a_server_takes_the_whole_context_where_memory_allows_and_a_part_where_not(tmp_path: Path) -> None:
    folder = model(tmp_path)
    whole = serving_sizes(folder, free=16 * GIB)
    assert whole and (whole.context, whole.kv_cache) == (8192, 4 * 8192 * EACH)
    part = serving_sizes(folder, free=GIB)
    assert part and part.context == GIB // 4 // EACH // 32 * 32 < 8192
    assert part.kv_cache >= part.context * EACH
    little = serving_sizes(folder, free=0)
    assert little and little.context == 32


def test_a_context_is_given_where_the_checkpoint_and_the_memory_have_room(tmp_path: Path) -> None:
    folder = model(tmp_path)
    sizes = serving_sizes(folder, 8192, free=GIB)
    assert sizes and sizes.context == 8192 and sizes.kv_cache > 8192 * EACH
    with pytest.raises(LonghaulError, match="positions for 8,192"):
        serving_sizes(folder, 8193, free=GIB)
    with pytest.raises(LonghaulError, match="lower it"):
        serving_sizes(folder, 8192, free=GIB // 4)
