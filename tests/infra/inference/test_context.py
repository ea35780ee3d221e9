"""The engine's context against the checkpoint's positions, before vLLM starts."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.configs import EngineConfig
from infra.errors import LonghaulError
from infra.inference.context import check_context


def check(folder: Path, context: int, **config: Any) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    check_context(folder, EngineConfig(context=context))


def test_a_context_above_the_positions_is_refused_by_its_key(tmp_path: Path) -> None:
    check(tmp_path, 64, max_position_embeddings=64)
    for config in ({"max_position_embeddings": 64}, {"text_config": {"max_position_embeddings": 64}}):
        with pytest.raises(LonghaulError, match=r"engine\.context is 65, .* positions for 64"):
            check(tmp_path, 65, **config)


ROPE: dict[str, tuple[int, dict[str, Any]]] = {
    "default": (64, {"rope_type": "default", "rope_theta": 1e4}),
    "linear": (128, {"rope_type": "linear", "factor": 2.0}),
    "linear by its old name": (128, {"type": "linear", "factor": 2.0}),
    "yarn": (64, {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32}),
    "llama3": (64, {"rope_type": "llama3", "factor": 2.0, "original_max_position_embeddings": 32}),
    "dynamic": (64, {"rope_type": "dynamic", "factor": 2.0}),
    "longrope": (32, {"rope_type": "longrope", "factor": 2.0, "original_max_position_embeddings": 32}),
    "by kinds of layers": (128, {"full": {"rope_type": "linear", "factor": 2.0}, "window": {"rope_type": "default"}}),
}


@pytest.mark.parametrize("key", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("name", ROPE)
def test_a_scaled_context_ends_where_engine_and_trainer_would_differ(tmp_path: Path, name: str, key: str) -> None:
    longest, rope = ROPE[name]
    check(tmp_path, longest, max_position_embeddings=64, **{key: rope})
    with pytest.raises(LonghaulError, match=rf"engine\.context is {longest + 1}, .* positions for {longest}"):
        check(tmp_path, longest + 1, max_position_embeddings=64, **{key: rope})


def test_the_tokenizers_length_that_vllm_reads_too_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 32}))
    check(tmp_path, 32, max_position_embeddings=64)
    with pytest.raises(LonghaulError, match=r"engine\.context is 33, .*model_max_length 32"):
        check(tmp_path, 33, max_position_embeddings=64)
