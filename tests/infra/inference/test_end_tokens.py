"""End tokens from all files of a checkpoint."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.inference.end_tokens import end_tokens


def write(folder: Path, config: dict[str, Any], generation: dict[str, Any] | None = None) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def test_all_files_count_and_the_tokenizer(tmp_path: Path) -> None:
    assert end_tokens(write(tmp_path, {"eos_token_id": 5}, {"eos_token_id": [6, 7]}), 8) == {5, 6, 7, 8}


def test_a_config_without_an_end_token_falls_back_to_the_tokenizers(tmp_path: Path) -> None:
    # transformers' own default for this architecture would be 2, an ordinary token here.
    assert end_tokens(write(tmp_path, {"model_type": "llama"}), 8) == {8}
    assert end_tokens(write(tmp_path, {"eos_token_id": None}), 8) == {8}


def test_the_end_token_of_a_nested_text_config_counts(tmp_path: Path) -> None:
    assert end_tokens(write(tmp_path, {"text_config": {"eos_token_id": 3}}), None) == {3}


@pytest.mark.parametrize("value", ["2", [1, None], True, -1, 2.0])
def test_what_is_not_an_id_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError, match=r"config\.json: eos_token_id is .* expected a token's id"):
        end_tokens(write(tmp_path, {"eos_token_id": value}), 8)


def test_no_end_token_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="set eos_token_id"):
        end_tokens(write(tmp_path, {}), None)
