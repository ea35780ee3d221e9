"""The engine's context against the checkpoint's positions, before vLLM starts."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.configs import EngineConfig
from infra.errors import LonghaulError
from infra.inference.engine import check_context


def check(folder: Path, context: int, **config: Any) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    check_context(folder, EngineConfig(context=context))


def test_a_context_above_the_positions_is_refused_by_its_key(tmp_path: Path) -> None:
    check(tmp_path, 64, max_position_embeddings=64)
    for config in ({"max_position_embeddings": 64}, {"text_config": {"max_position_embeddings": 64}}):
        with pytest.raises(LonghaulError, match=r"engine\.context is 65, .* positions for 64"):
            check(tmp_path, 65, **config)


@pytest.mark.parametrize("rope", [{"rope_type": "yarn", "factor": 4.0}, {"type": "linear", "factor": 4.0}])
def test_scaled_positions_are_left_to_vllm(tmp_path: Path, rope: dict[str, Any]) -> None:
    check(tmp_path, 128, max_position_embeddings=64, rope_scaling=rope)
