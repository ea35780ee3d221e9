"""`longhaul data check`: what it reports of good and bad data, and how it ends."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from flows.cli.main import main
from tests.hub_server import Hub, serve

TEXTS = [f"A farm has {number} hens, and each lays 3 eggs. How many eggs are there?" for number in range(40)]
GSM8K = [
    {"question": question, "answer": f"{number} * 3 = {3 * number}\n#### {3 * number}"}
    for number, question in enumerate(TEXTS)
]
TALK = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}


def recipe(folder: Path, **roles: Any) -> Path:
    """The smoke recipe, with GSM8K's form for problems and chats for examples, and files in place of these."""
    rows = {"train": GSM8K[:30], "test": GSM8K[30:], "sft": [TALK] * 3}
    forms = {"train": "gsm8k", "test": "gsm8k", "sft": "chat", "long_cot": "longhaul"}
    rows["long_cot"] = [{"problem_id": "train-1", "prompt": TEXTS[0], "response": "<think>0</think>\\boxed{0}"}]
    sources: dict[str, Any] = {}
    for role, form in forms.items():
        path = folder / f"{role}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in roles.get(role, rows[role])))
        sources[role] = [{"path": str(path), "format": form}]
    raw = yaml.safe_load(Path("configs/smoke.yaml").read_text()) | {"data": {"sources": sources}}
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(raw))
    return file


def check(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["data", "check", *map(str, arguments)])


def test_good_data_are_counted_and_end_well(tmp_path: Path) -> None:
    file = recipe(tmp_path)
    result = check(file, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert {role: one["rows"] for role, one in report["roles"].items()} == {
        "train": 30, "test": 10, "sft": 3, "long_cot": 1
    }  # fmt: skip
    assert report["usable"] and report["stops"] == [] and report["refused"] == {"count": 0, "first": []}
    assert (
        report["roles"]["train"]["prompts"]["longest"] >= report["roles"]["train"]["prompts"]["percentiles"]["50"] > 9
    )
    assert report["roles"]["train"]["first"][0]["prompt"] == TEXTS[0]
    assert report["sources"][0] == {
        "key": "data.sources.train.0", "address": f"{tmp_path}/train.jsonl", "read": 30, "refused": 0, "used": 30
    }  # fmt: skip
    text = check(file)
    assert text.exit_code == 0 and "first of train:" in text.stdout and "A farm has 0 hens" in text.stdout


def test_all_refused_rows_are_counted_and_the_first_are_shown(tmp_path: Path) -> None:
    bad = [{"question": "?", "answer": "no mark"}] * 5
    file = recipe(tmp_path, train=[*GSM8K[:20], *bad])
    result = check(file, "--refused", 2)
    assert result.exit_code == 1
    assert (
        result.stderr.count("refused: ") == 3 and f"{tmp_path}/train.jsonl:21: field 'answer' has no" in result.stderr
    )
    assert "refused: 3 more" in result.stderr and "a run would end: 5 rows cannot be read" in result.stderr
    skipped = check(file, "--set", "data.sources.train.0.skip_refused=true", "--json")
    assert skipped.exit_code == 0 and json.loads(skipped.stdout)["refused"]["count"] == 5


@pytest.mark.parametrize(
    ("roles", "reason"),
    [
        ({"test": GSM8K[29:]}, "1 rows of train ask what a problem of test asks, the first train-30"),
        (
            {"sft": [{"messages": [{"role": "user", "content": TEXTS[35]}, *TALK["messages"][1:]]}]},
            "1 rows of sft ask what a problem of test asks",
        ),
        (
            {"sft": [{"messages": [*TALK["messages"][:1], {"role": "assistant", "content": "long " * 400}]}]},
            "1 rows of sft are longer than vanilla_sft.phases.sequence_length",
        ),
        ({"long_cot": [{"problem_id": "7", "prompt": "?", "response": "!"}]}, "no path of long_cot belongs to a prob"),
        (
            {"sft": [{"messages": [{"role": "user", "content": "<|im_end|>"}, *(TALK["messages"] * 2)[1:]]}] * 3},
            "3 rows cannot be written in the chat format, the first: ",
        ),
        ({"train": [{"question": "Prove that 1 = 1.", "answer": "#### 1"}]}, "curation would leave out every problem"),
    ],
)
def test_data_with_which_a_run_would_end_are_said_to_be_so(tmp_path: Path, roles: dict[str, Any], reason: str) -> None:
    result = check(recipe(tmp_path, **roles))
    assert result.exit_code == 1 and f"a run would end: {reason}" in result.stderr, result.output


@pytest.mark.parametrize("sees", [True, False])
def test_rows_with_images_are_counted_for_a_model_that_reads_them_and_end_a_run_for_others(
    tmp_path: Path, sees: bool
) -> None:
    Image.new("RGB", (48, 32), "red").save(tmp_path / "red.png")
    rows = [{"problem": "<image>How many?", "images": ["red.png"], "answer": "0"}]
    one = {"path": str(tmp_path / "seen.jsonl"), "name": "train", "format": "easyr1", "images": str(tmp_path)}
    (tmp_path / "seen.jsonl").write_text(json.dumps(rows[0]) + "\n")
    base = f"steps/nano_world/{'vision_checkpoint' if sees else 'checkpoint'}"
    settings = [f"data.sources.train=[{json.dumps(one)}]", f"import_checkpoint.checkpoint={base}"]
    result = check(recipe(tmp_path), *(word for setting in settings for word in ("--set", setting)), "--json")
    assert result.exit_code == (0 if sees else 1), result.output
    report = json.loads(result.stdout)
    if sees:
        # 6 tokens of the image among them.
        assert report["stops"] == [] and report["roles"]["train"]["prompts"]["longest"] > 12
    else:
        assert any("has an image, and the model of import_checkpoint.checkpoint" in stop for stop in report["stops"])


def test_what_curation_leaves_out_does_not_end_a_run(tmp_path: Path) -> None:
    train = [
        *GSM8K[:20],
        {"question": "Prove that 1 = 1.", "answer": "#### 1"},
        {"question": "x " * 300, "answer": "#### 1"},
    ]
    result = check(recipe(tmp_path, train=[*train, train[0]]))
    assert result.exit_code == 0, result.output
    assert "curation leaves out 1 of train: proof" in result.stdout
    assert "curation leaves out 1 of train: longer than curation.max_prompt_tokens" in result.stdout


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("data.sources.train.0.path=nowhere.jsonl", "data.sources.train.0.path: nowhere.jsonl cannot be read: No such"),
        ("data.sources.train.0.weight=2", ""),
        ("data.sources.train.0.format=gsm9k", "data.sources.train.0.format: Input should be 'longhaul', 'chat'"),
        ("data.sources.train=[{hub: owner/bass}]", "data.sources.train.0.hub: data set on the hub owner/bass does not"),
        ("data.sources.train=[{hub: owner/base, split: tset}]", "has no split 'tset': it has train"),
    ],
)
def test_what_cannot_be_read_is_named_by_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, reason: str
) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "train.jsonl").write_text("{}")
    with serve(Hub(tmp_path / "hub", {"main": "a" * 40, "a" * 40: "a" * 40}, "datasets"), tmp_path / "c", monkeypatch):
        result = check(recipe(tmp_path), "--set", setting)
    assert result.exit_code == (1 if reason else 0) and reason in result.stderr and "Traceback" not in result.output


def test_a_data_set_on_the_hub_is_read_at_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tmp_path / "hub" / "main"
    files.mkdir(parents=True)
    for part in range(2):
        rows = GSM8K[15 * part : 15 * part + 15]
        (files / f"train-{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = "data.sources.train=[{hub: owner/base, split: train, format: gsm8k}]"
    with serve(Hub(tmp_path / "hub", {"main": "a" * 40, "a" * 40: "a" * 40}, "datasets"), tmp_path / "c", monkeypatch):
        result = check(recipe(tmp_path), "--json", "--set", source)
    report = json.loads(result.stdout)
    assert report["sources"][0]["address"] == f"hf://datasets/owner/base@{'a' * 40}"
    assert report["roles"]["train"]["rows"] == 30
    assert report["roles"]["train"]["first"][0]["id"] == "base-train-1"
    assert report["stops"] == ["no path of long_cot belongs to a problem of train: problem_id has to be a problem's id"]
