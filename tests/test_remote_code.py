"""Code that comes with a checkpoint never runs: transformers would ask on the terminal, and run it on "y"."""

import ast
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from steps.chat import Chat

ROOT = Path(__file__).parents[1]
OPENS = {"from_pretrained", "from_config", "LLM"}


def opened_without_refusal(source: str) -> Iterator[int]:
    """Lines that open a model, tokenizer or configuration without `trust_remote_code=False`.

    A class that is not one of transformers' Auto classes runs no code but its own, and a configuration for generation
    holds none.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name not in OPENS:
            continue
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        if (owner is None) != (name == "LLM") or (isinstance(owner, ast.Name) and not owner.id.startswith("Auto")):
            continue
        refusals = [word.value for word in node.keywords if word.arg == "trust_remote_code"]
        if not any(isinstance(value, ast.Constant) and value.value is False for value in refusals):
            yield node.lineno


def test_a_checkpoint_that_brings_code_is_refused_without_a_question(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(base, tmp_path / "base")
    for name, key, value in (
        ("config.json", "AutoConfig", "evil.Config"),
        ("tokenizer_config.json", "AutoTokenizer", ["evil.Tokenizer", None]),
    ):
        content = json.loads((folder / name).read_text())
        content |= {"model_type": "evil", "tokenizer_class": "Evil", "auto_map": {key: value}}
        (folder / name).write_text(json.dumps(content))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.setattr("builtins.input", lambda *question: "y")
    with pytest.raises(ValueError):
        Chat(folder)
    assert not (tmp_path / "ran").exists()


def test_nothing_opens_a_checkpoint_with_leave_to_run_its_code() -> None:
    files = [path for part in ("flows", "steps", "infra", "benchmarks") for path in (ROOT / part).rglob("*.py")]
    assert len(files) > 100
    assert [f"{path}:{line}" for path in files for line in opened_without_refusal(path.read_text())] == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("AutoTokenizer.from_pretrained(x)", [1]),
        ("AutoTokenizer.from_pretrained(x, trust_remote_code=True)", [1]),
        ("_MODELS[head].from_pretrained(x)", [1]),
        ("LLM(x)", [1]),
        ("AutoConfig.from_pretrained(x, trust_remote_code=False)", []),
        ("from_config(x)", []),
        ("Qwen2ForCausalLM.from_pretrained(x)", []),
    ],
)
def test_the_search_sees_each_way_to_open_a_checkpoint(source: str, lines: list[int]) -> None:
    assert list(opened_without_refusal(source)) == lines
