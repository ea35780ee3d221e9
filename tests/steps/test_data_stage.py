"""The data stage with files: each prompt once."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from flows.topology import STAGES
from infra.images import load_stored
from infra.stages.contract import StageContext, StageOutput
from infra.store.sources import bring
from steps.configs.data import DataConfig
from steps.configs.data_source import ROLES
from steps.problem import MalformedRow, load_examples, load_problems
from steps.recipe import load_recipe
from steps.stages.data import run


def convert(folder: Path, train: list[str], test: list[str], **config: Any) -> StageOutput:
    """The stage on problems with these prompts, and on two examples of the last one of `train`."""
    folder.mkdir()
    for name, prompts in (("train", train), ("test", test)):
        rows = [
            {"id": f"{name}{place}", "prompt": prompt, "answer": str(place), "verifier": "math"}
            for place, prompt in enumerate(prompts)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    example = json.dumps({"problem_id": f"train{len(train) - 1}", "prompt": "?", "response": "!"}) + "\n"
    for name in ("sft", "long_cot"):
        (folder / f"{name}.jsonl").write_text(example * 2)
    return run_on({role: [{"path": str(folder / f"{role}.jsonl")}] for role in ROLES}, folder / "out", **config)


def run_on(sources: dict[Any, Any], folder: Path, **config: Any) -> StageOutput:
    """The stage on these sources."""
    data = DataConfig.model_validate({"sources": sources, **config})
    recipe = load_recipe(Path("configs/smoke.yaml")).model_copy(update={"data": data})
    spec = STAGES["data"]
    brought = {key: bring(one, folder / key) for key, one in spec.sources(recipe, folder / "digests.json").items()}
    context = StageContext(0, {}, folder, folder / "checkpoints", lambda metrics: None, brought)
    return run(context, spec.settings(recipe))


def test_of_problems_with_the_same_prompt_the_first_stays_and_the_others_are_counted(tmp_path: Path) -> None:
    output = convert(tmp_path / "a", ["1 + 1?", "3² + 1", "1  + 1?", "32 + 1", "1 + 1? "], ["5?", "5?"])
    data = output.outputs["data"][1]
    assert [row.id for row in load_problems(data / "train.jsonl")] == ["train0", "train1", "train3"]
    assert [row.id for row in load_problems(data / "test.jsonl")] == ["test0"]
    for name in ("sft", "long_cot"):
        assert [row.problem_id for row in load_examples(data / f"{name}.jsonl")] == ["train0", "train0"]
    assert output.metrics["rows"] == {"train": 3, "test": 1, "sft": 2, "long_cot": 2}
    assert output.metrics["duplicates"] == {"train": 2, "test": 1}
    assert output.headline == "dropped problems whose prompt occurs before: 2 of train, 1 of test"


@hypothesis_settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_each_prompt_stands_once_in_the_order_of_its_first_row(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int]
) -> None:
    output = convert(tmp_path_factory.mktemp("d") / "a", [f"What is {number}?" for number in numbers], ["?"])
    texts = [row.text for row in load_problems(output.outputs["data"][1] / "train.jsonl")]
    assert texts == [f"What is {number}?" for number in dict.fromkeys(numbers)]
    assert output.metrics["duplicates"] == {"train": len(numbers) - len(texts), "test": 0}


def test_an_instruction_is_added_to_problems_of_its_verifier_and_to_their_examples(tmp_path: Path) -> None:
    data = convert(tmp_path / "a", ["1?", "2?"], ["3?"], instructions={"math": "Box it."}).outputs["data"][1]
    assert [row.text for row in load_problems(data / "train.jsonl")] == ["1?\n\nBox it.", "2?\n\nBox it."]
    assert [row.text for row in load_problems(data / "test.jsonl")] == ["3?\n\nBox it."]
    assert {row.prompt for row in load_examples(data / "sft.jsonl")} == {"?\n\nBox it."}
    other = convert(tmp_path / "b", ["1?"], ["3?"], instructions={"code": "Write Python."}).outputs["data"][1]
    assert [row.text for row in load_problems(other / "train.jsonl")] == ["1?"]
    with pytest.raises(ValueError, match=r"data\.instructions: 'maths' is not a verifier"):
        convert(tmp_path / "c", ["1?"], ["3?"], instructions={"maths": "?"})


def test_a_domain_has_an_instruction_and_a_system_turn_of_its_own(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "prompt": "1?", "answer": "1", "verifier": "math", "domain": "algebra"},
        {"id": "b", "prompt": "2?", "answer": "1", "verifier": "math", "domain": "geometry"},
        {"id": "c", "prompt": "3?", "answer": "1", "verifier": "math", "domain": "algebra", "system": "Own."},
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    examples = [{"problem_id": name, "prompt": "?", "response": "!"} for name in "ab"]
    (tmp_path / "e.jsonl").write_text("".join(json.dumps(row) + "\n" for row in examples))
    problems, some = [{"path": str(tmp_path / "p.jsonl")}], [{"path": str(tmp_path / "e.jsonl")}]
    output = run_on(
        {"train": problems, "test": problems, "sft": some, "long_cot": some},
        tmp_path / "out",
        instructions={"math": "Box it.", "geometry": "Draw."},
        system_prompts={"algebra": "Calculate."},
    )
    folder = output.outputs["data"][1]
    assert [(row.text, row.system) for row in load_problems(folder / "train.jsonl")] == [
        ("1?\n\nBox it.", "Calculate."),
        ("2?\n\nDraw.", ""),
        ("3?\n\nBox it.", "Own."),
    ]
    assert [(row.prompt, row.system) for row in load_examples(folder / "sft.jsonl")] == [
        ("?\n\nBox it.", "Calculate."),
        ("?\n\nDraw.", ""),
    ]


def test_sources_of_one_name_whose_rows_have_nothing_to_do_with_each_other_are_refused() -> None:
    train = [{"path": "gsm8k/train.jsonl", "format": "gsm8k"}]
    sources = {"train": train, "test": [{"path": "t.jsonl"}], "sft": [{"path": "chats/train.jsonl", "format": "chat"}]}
    with pytest.raises(ValidationError, match="sft: its source 'train' has the name of one of train"):
        DataConfig.model_validate({"sources": sources})
    same = [{"path": "gsm8k/train.jsonl", "mapping": {"prompt": "question", "response": "answer"}}]
    own = [{"path": "chats/train.jsonl"}, {"path": "chats/train.jsonl", "format": "chat", "name": "chats"}]
    for sft in (same, own):
        DataConfig.model_validate({"sources": sources | {"sft": sft}})


def test_a_role_may_have_several_sources_each_with_a_limit(tmp_path: Path) -> None:
    for name, numbers in (("a", range(5)), ("b", range(5, 8))):
        rows = [{"prompt": f"{number}?", "answer": "1", "verifier": "math", "id": f"{number}"} for number in numbers]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "e.jsonl").write_text(json.dumps({"problem_id": "0", "prompt": "?", "response": "!"}) + "\n")
    two = [{"path": str(tmp_path / "a.jsonl"), "limit": 2}, {"path": str(tmp_path / "b.jsonl")}]
    one = [{"path": str(tmp_path / "e.jsonl")}]
    output = run_on({"train": two, "test": two[1:], "sft": one, "long_cot": one}, tmp_path / "out")
    train = load_problems(output.outputs["data"][1] / "train.jsonl")
    assert [row.id for row in train] == ["0", "1", "5", "6", "7"]
    again = [{"path": str(tmp_path / "a.jsonl")}, {"path": str(tmp_path / "a.jsonl"), "name": "same"}]
    with pytest.raises(MalformedRow, match=r"a.jsonl:1: id '0' occurs twice, first at .*a.jsonl:1"):
        run_on({"train": again, "test": two[1:], "sft": one, "long_cot": one}, tmp_path / "again")


def test_without_a_source_of_examples_the_problems_own_solutions_are(tmp_path: Path) -> None:
    rows = [
        {"question": "3 + 4?", "answer": "3 + 4 = <<3+4=7>>7 apples.\n#### 7"},
        {"question": "Nothing is worked out.", "answer": "#### 7"},
        {"question": "1,000 + 1?", "answer": "It is \\boxed{1001}.\n#### 1,001"},
    ]
    for name, some in (("train", rows), ("test", [{"question": "5 + 5?", "answer": "10\n#### 10"}])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    sources = {name: [{"path": str(tmp_path / f"{name}.jsonl"), "format": "gsm8k"}] for name in ("train", "test")}
    output = run_on(sources, tmp_path / "out", instructions={"math": "Box it."})
    examples = load_examples(output.outputs["data"][1] / "sft.jsonl")
    assert [(one.problem_id, one.prompt, one.response) for one in examples] == [
        ("train-1", "3 + 4?\n\nBox it.", "3 + 4 = 7 apples.\n\\boxed{7}"),
        ("train-3", "1,000 + 1?\n\nBox it.", "It is \\boxed{1001}."),
    ]
    assert examples[0].source == "solution of openai/grade-school-math (GSM8K)" and examples[0].licence == "MIT"


def test_images_of_the_rows_that_are_used_lie_beside_them_and_a_changed_one_changes_the_source(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name, colour in (("one", "red"), ("same", "red"), ("two", "blue")):
        Image.new("RGB", (8, 8), colour).save(pictures / f"{name}.png")
    for role, names in (("train", ("one", "same")), ("test", ("two",))):
        rows = [{"problem": "<image>How many?", "images": [f"{name}.png"], "answer": "2"} for name in names]
        (tmp_path / f"{role}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = {
        role: [{"path": str(tmp_path / f"{role}.jsonl"), "format": "easyr1", "images": str(pictures)}]
        for role in ("train", "test")
    }
    output = run_on(sources, tmp_path / "out")
    data = output.outputs["data"][1]
    (train,), (test,) = (load_problems(data / f"{name}.jsonl") for name in ("train", "test"))
    assert output.metrics["images"] == 2 and output.metrics["duplicates"] == {"train": 1, "test": 0}
    used = sorted([*train.images, *test.images])
    assert sorted(path.relative_to(data).as_posix() for path in data.rglob("*.png")) == used
    assert [load_stored(data, image).size for image in used] == [(8, 8)] * 2

    data_config = DataConfig.model_validate({"sources": sources})
    recipe = load_recipe(Path("configs/smoke.yaml")).model_copy(update={"data": data_config})
    before = STAGES["data"].sources(recipe, tmp_path / "digests.json")
    Image.new("RGB", (8, 8), "green").save(pictures / "two.png")
    after = STAGES["data"].sources(recipe, tmp_path / "digests.json")
    changed = [key for key, one in before.items() if after[key].digest != one.digest]
    assert changed == ["data.sources.train.0.images", "data.sources.test.0.images"]
