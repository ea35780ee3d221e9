"""The model card: what the records say, and nothing that a name in them could make of it."""

import re
from dataclasses import replace

import yaml

from infra.store.records import RunRecord, StageRecord
from infra.store.store import Ref
from steps.report.model_card import (
    MOST_SOURCES,
    Card,
    DataRows,
    code_block,
    escaped,
    model_card,
    public_command,
    public_recipe,
)
from tests.flows.made_up_chain import evaluation

HOSTILE = "](http://evil) <img src=x> `a` | # x\n\n# Heading {{ 1 }}"


def record(stage: str, digit: str, **changes: object) -> StageRecord:
    ref = Ref(kind="model", digest=digit * 64, address="/s", files=1, size=1)
    fields: dict[str, object] = {
        **{"stage": stage, "key": digit * 64, "run": "run-1", "started": "", "seconds": 61.0, "peak_memory_mb": 1.0},
        **{"seed": 3, "config": {}, "inputs": {}, "upstream": {}, "outputs": {"model": ref}, "code": "", "gates": []},
        **{"commit": "c" * 40, "packages": {}, "metrics": {}, "history": [], "evaluation": None},
    }
    return StageRecord.model_validate({**fields, **changes})


def card(name: str = "nano", command: tuple[str, ...] = ("run",), source: str = "GSM8K") -> Card:
    base = record(
        "import",
        "a",
        sources={"hf://owner/base@" + "1" * 40: "1" * 40},
        metrics={"parameters": 1234567, "architecture": "LlamaForCausalLM"},
    )
    made = record("rl", "b")
    run = RunRecord(run="run-1", event="started", time="", recipe={"name": name, "seed": 3}, command=list(command))
    data = [DataRows("train", source, "MIT", 1200)]
    return Card(made, [base, made], run, {"import": evaluation(0.25), "rl": evaluation(0.5)}, data)


def test_it_names_base_figures_data_code_and_the_way_to_make_it_again() -> None:
    text = model_card(card(command=("run", "--config", "configs/nano.yaml", "--set", "store=/home/me/store")))
    front = yaml.safe_load(text.split("---")[1])
    assert front["base_model"] == "owner/base" and front["library_name"] == "transformers"
    assert "1,234,567 parameters" in text and "| train | GSM8K | MIT | 1,200 |" in text
    # 0.5 with a standard error of 0.05: 1.96 of them to each side.
    assert "| **rl** | 50.0% | 40.2% to 59.8% | 80 | 12 × 2 | boxed |" in text
    assert "| import | 25.0% | 15.2% to 34.8% |" in text
    assert "longhaul run --config recipe.yaml --until rl" in text and "c" * 40 in text and "b" * 64 in text
    assert "longhaul run --config configs/nano.yaml\n" in text and "/home/me" not in text


def test_a_model_of_a_fork_says_that_its_recipe_is_not_all() -> None:
    assert "not enough" not in model_card(card())
    made = record("rl", "b", forked_from={"run": "run-0", "stage": "rl", "iteration": 20})
    text = model_card(replace(card(), model=made, stages=[made]))
    one, other = escaped("run-1"), escaped("run-0")
    assert f"not enough: rl of run {one} continued from iteration 20 of run {other}, whose settings may be" in text


def test_names_from_outside_draw_nothing_link_nowhere_and_end_no_block() -> None:
    text = model_card(card(HOSTILE, ("run", "--seed", "```\n# x"), HOSTILE))
    front, body = text.split("---\n")[1:3]
    assert yaml.safe_load(front)
    assert "<img" not in body and not re.search(r"(?<!\\)\]\(", body)
    assert "http:" not in body, "an address is text as well"
    outside = re.sub(r"^(`{3,}).*?^\1$", "", body, flags=re.MULTILINE | re.DOTALL)
    assert len([line for line in outside.splitlines() if line.startswith("# ")]) == 1, "its own heading"
    for line in body.splitlines():
        if line.startswith("| train"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5, "a source adds no column"


def test_many_sources_are_summed_up_behind_the_largest() -> None:
    made = card()
    many = [DataRows("train", f"s{number:03}", "MIT", 1 + number) for number in range(MOST_SOURCES + 2)]
    text = model_card(Card(made.model, made.stages, made.run, {}, many))
    assert text.count("| train |") == MOST_SOURCES and "| s041 | MIT | 42 |" in text and "s001" not in text
    assert "| all | 2 more sources | of each its own | 3 |" in text


def test_escaped_text_and_fences() -> None:
    assert escaped("a*b_[c]\n") == r"a\*b\_\[c\]"
    assert len(escaped("x" * 5000)) == 300
    assert code_block("a\n````\nb").splitlines()[0] == "`````"


def test_what_says_where_a_run_ran_is_not_published() -> None:
    recipe = {"name": "nano", "store": "/home/me", "notify": {"webhook": "X"}, "rl": {"tau": 1}}
    assert public_recipe(recipe) == {"name": "nano", "rl": {"tau": 1}}
    command = ["run", "--set", "store=s3://mine", "--set", "rl.tau=0.2", "--set", "notify.webhook=HOOK"]
    assert public_command(command) == "longhaul run --set rl.tau=0.2"


def test_of_files_of_this_machine_only_names_are_published() -> None:
    source = {"path": "/home/me/secret/train.jsonl", "format": "gsm8k"}
    recipe = {
        "import_checkpoint": {"checkpoint": "~/models/base/", "revision": None},
        "data": {"sources": {"train": [source, {"path": "data/own.jsonl"}, {"path": "s3://bucket/key.jsonl"}]}},
        "long_cot_paths": {"instructions": {"planning": "/ Say a/b first.\nThen /c."}, "samples": 2},
    }
    public = public_recipe(recipe)
    assert public["import_checkpoint"] == {"checkpoint": "base", "revision": None}
    assert [one["path"] for one in public["data"]["sources"]["train"]] == [
        "train.jsonl",
        "data/own.jsonl",
        "s3://bucket/key.jsonl",
    ]
    assert public["long_cot_paths"] == recipe["long_cot_paths"]
    command = ["run", "--config", "/home/me/own.yaml", "--set", "data.sources.test.0.path=/home/me/test.jsonl"]
    assert public_command(command) == "longhaul run --config own.yaml --set data.sources.test.0.path=test.jsonl"
