"""Small faults of public checkpoints, which the imported copy does not have any more."""

import codecs
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from infra.store.store import Manifest
from steps.configs.import_checkpoint import ImportConfig
from tests.steps.import_checkpoint.small_checkpoint import edit, import_at


@pytest.mark.parametrize(
    ("change", "dtype"),
    [
        ({"dtype": "bf16"}, "bfloat16"),
        ({"dtype": "torch.bfloat16"}, "bfloat16"),
        ({"dtype": None, "torch_dtype": "auto"}, None),
    ],
)
def test_names_of_dtypes_are_those_of_transformers(
    base: Path, tmp_path: Path, change: dict[str, Any], dtype: str | None
) -> None:
    edit(base / "config.json", lambda content: content.update(change))
    import_at(ImportConfig(checkpoint=str(base)), tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text()).get("dtype") == dtype


def test_a_byte_order_mark_is_taken_out(base: Path, tmp_path: Path) -> None:
    whole = Manifest.of(base)
    for name in ("config.json", "tokenizer_config.json"):
        (base / name).write_bytes(codecs.BOM_UTF8 + (base / name).read_bytes())
    import_at(ImportConfig(checkpoint=str(base)), tmp_path / "model")
    assert Manifest.of(tmp_path / "model") == whole


def test_todays_date_in_a_chat_template_is_fixed_wherever_the_template_stands(base: Path, tmp_path: Path) -> None:
    template = "{{ strftime_now('%d %b %Y') }}" + (base / "chat_template.jinja").read_text()
    (base / "chat_template.jinja").write_text(template)
    lines: list[str] = []
    import_at(ImportConfig(checkpoint=str(base)), tmp_path / "first", lines.append)
    (base / "chat_template.jinja").unlink()
    edit(base / "tokenizer_config.json", lambda content: content.update(chat_template=template))
    import_at(ImportConfig(checkpoint=str(base)), tmp_path / "second", lines.append)
    for name in ("first", "second"):
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / name)
        text = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
        assert str(text).startswith("26 Jul 2024<user>hi")
    assert sum("26 July 2024" in line for line in lines) == 2


def test_a_default_system_prompt_is_reported(base: Path, tmp_path: Path) -> None:
    template = (base / "chat_template.jinja").read_text()
    (base / "chat_template.jinja").write_text("You are a model of the maker" + template)
    lines: list[str] = []
    import_at(ImportConfig(checkpoint=str(base)), tmp_path / "model", lines.append)
    assert any("a text of its own: 'You are a model of the maker'" in line for line in lines)
