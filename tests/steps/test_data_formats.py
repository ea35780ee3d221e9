"""Rows of public data sets, in the form in which those sets are published, as problems and examples."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from infra.store.source import Source
from steps.configs.data_source import Format, Role, SourceConfig
from steps.data_formats.registry import FORMATS
from steps.problem import Example, MalformedRow, Problem, Turn
from steps.rewards.scorer import Scorer
from steps.source_rows import Read, read_source

QUESTION = [{"role": "system", "content": "Box it."}, {"role": "user", "content": "1 + 1?"}]
CODE = {
    "task_id": 2,
    "text": "Write a function to find the shared elements.",
    "code": "def shared(a, b):\r\n  return tuple(set(a) & set(b))",
    "test_list": ["assert set(shared((3, 4), (4, 5))) == set((4,))", "assert shared((1,), (2,)) == ()"],
    "test_setup_code": "",
}
VERL = {"data_source": "openai/gsm8k", "prompt": QUESTION, "ability": "math", "reward_model": {"ground_truth": "2"}}


def read(folder: Path, row: Any, form: str = "longhaul", role: Role = "train", **config: Any) -> Read | MalformedRow:
    """The one row of a file, read."""
    path = folder / "set.jsonl"
    path.write_text(json.dumps(row) + "\n")
    source = SourceConfig.model_validate({"path": str(path), "format": form, **config})
    source.check(role)
    ((place, result),) = read_source(Source(path, str(path)), source, role)
    assert place == f"{path}:1"
    return result


def test_formats_that_a_recipe_can_name_are_those_that_there_are() -> None:
    assert set(get_args(Format)) == set(FORMATS)


@pytest.mark.parametrize(
    ("form", "row", "expected"),
    [
        (
            "gsm8k",
            {"question": "How many?", "answer": "He has 2*600=<<2*600=1200>>1200.\n#### 1,200"},
            {
                "id": "set-1",
                "prompt": "How many?",
                "answer": "1200",
                "solution": "He has 2*600=1200.",
                "licence": "MIT",
            },
        ),
        ("gsm8k", {"question": "How many?", "answer": "#### 7"}, {"answer": "7"}),
        (
            "math",
            {"problem": "x?", "level": "Level 5", "type": "Algebra", "solution": r"So $x = \boxed{\frac{1}{2}}$."},
            {"prompt": "x?", "answer": r"\frac{1}{2}", "discipline": "Algebra", "difficulty": 5},
        ),
        (
            "math",
            {"problem": "x?", "solution": "So.", "answer": "3", "subject": "Geometry", "level": 2, "unique_id": "t/1"},
            {"id": "t/1", "answer": "3", "discipline": "Geometry", "difficulty": 2},
        ),
        ("math", {"problem": "x?", "level": "Level ?", "solution": r"\boxed{1}"}, {"difficulty": 0}),
        ("verl", VERL, {"system": "Box it.", "prompt": "1 + 1?", "answer": "2", "source": "openai/gsm8k"}),
        (
            "verl",
            VERL | {"ability": "code", "reward_model": {"ground_truth": '{"inputs": ["1\\n"], "outputs": ["2\\n"]}'}},
            {"verifier": "code", "tests": (("1\n", "2\n"),), "domain": "code"},
        ),
        ("easyr1", {"images": [], "problem": "1 + 1?", "answer": "2"}, {"prompt": "1 + 1?", "answer": "2"}),
        ("trl", {"prompt": "1 + 1?", "answer": 2}, {"prompt": "1 + 1?", "answer": "2", "verifier": "math"}),
        ("trl", {"prompt": QUESTION, "solution": r"It is \boxed{2}."}, {"system": "Box it.", "answer": "2"}),
        ("trl", {"prompt": QUESTION[1:], "ground_truth": "2.5"}, {"system": "", "answer": "2.5"}),
        ("math", {"problem": "x?", "answer": "3", "source": "olympiads"}, {"solution": None, "source": "olympiads"}),
        ("math", {"problem": "x?", "solution": r"\boxed{1}"}, {"source": "unknown", "licence": "unknown"}),
        ("trl", {"prompt": "1 + 1?", "solution": 2}, {"answer": "2", "solution": None}),
        ("trl", {"prompt": "1 + 1?", "solution": "$2$"}, {"answer": "$2$", "solution": None}),
        ("trl", {"prompt": "1 + 1?", "solution": r"$\boxed{\frac{4}{2}}$"}, {"solution": None}),
        ("trl", {"prompt": "1 + 1?", "solution": r"So \boxed{2}."}, {"answer": "2", "solution": r"So \boxed{2}."}),
        ("trl", {"prompt": "1 + 1?", "answer": "2", "solution": "As two."}, {"answer": "2", "solution": "As two."}),
        ("verl", VERL | {"extra_info": {"answer": "1+1=<<1+1=2>>2\n#### 2"}}, {"solution": "1+1=2"}),
        ("verl", VERL | {"extra_info": {"answer": "2"}}, {"answer": "2", "solution": None}),
        ("longhaul", {"prompt": "?", "answer": "1", "verifier": "math"}, {"id": "set-1"}),
    ],
)
def test_a_row_of_a_public_set_becomes_a_problem(
    tmp_path: Path, form: str, row: dict[str, Any], expected: dict[str, Any]
) -> None:
    problem = read(tmp_path, row, form)
    assert isinstance(problem, Problem), problem
    assert {name: getattr(problem, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("form", "row", "reason"),
    [
        ("gsm8k", {"question": "How many?", "answer": "12"}, "no '####' before the final answer"),
        ("gsm8k", {"question": "How many?", "answer": 12}, "field 'answer' is a number, and text is expected"),
        ("gsm8k", {"question": "How many?"}, "there is no field 'answer'; there are question"),
        ("gsm8k", {"question": "How many?", "answer": "none ####"}, "needs an answer"),
        ("gsm8k", {"question": None, "answer": "#### 1"}, "field 'question' is null, and text is expected"),
        ("math", {"problem": "x?", "solution": "So."}, "has no \\boxed{} with the answer, and there is no field"),
        ("humaneval", {"task_id": "0", "prompt": "def f():"}, "there is no field 'entry_point'; there are task_id"),
        ("mbpp", CODE | {"test_list": []}, "field 'test_list' is a list, and a list of assertions is expected"),
        ("mbpp", CODE | {"test_list": ["assert 1"]}, "calls no function of the field 'code'"),
        ("verl", VERL | {"reward_model": {"style": "rule"}}, "'reward_model.ground_truth'; there are style in reward"),
        (
            "verl",
            VERL | {"prompt": [*QUESTION, {"role": "assistant", "content": "2"}]},
            "'prompt' has 2 turns, and",
        ),
        ("verl", VERL | {"ability": "code"}, "is a number, and inputs and outputs are expected"),
        (
            "verl",
            VERL | {"ability": "code", "reward_model": {"ground_truth": {"inputs": "12", "outputs": "34"}}},
            "has text of inputs and text of outputs, and lists are expected",
        ),
        ("easyr1", {"problem": "?", "answer": ""}, "field 'answer' is empty, and an answer is expected"),
        ("easyr1", {"problem": "?", "answer": [1]}, "field 'answer' is a list, and an answer is expected"),
        ("trl", {"prompt": "1 + 1?"}, "there is no answer, in none of answer, ground_truth, solution; there are pro"),
        ("longhaul", {"prompt": "?", "verifier": "math"}, "verifier 'math' needs an answer"),
    ],
)
def test_a_row_that_is_not_of_the_format_is_refused_with_its_line_and_reason(
    tmp_path: Path, form: str, row: dict[str, Any], reason: str
) -> None:
    refused = read(tmp_path, row, form)
    assert isinstance(refused, MalformedRow)
    assert str(refused).startswith(f"{tmp_path}/set.jsonl:1: ") and reason in str(refused)
    assert "\n" not in str(refused)


TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]},
    {"role": "assistant", "content": "2"},
]
SHARE_GPT = [
    {"from": name, "value": value}
    for name, value in [("system", "Box it."), ("human", "Hi"), ("gpt", "Hello."), ("human", "1 + 1?"), ("gpt", "2")]
]


@pytest.mark.parametrize(
    ("form", "row"),
    [
        ("chat", {"messages": [QUESTION[0], *TALK]}),
        ("chat", {"conversations": SHARE_GPT}),
        ("prompt_completion", {"prompt": [QUESTION[0], *TALK[:3]], "completion": TALK[3:]}),
        ("prompt_completion", {"prompt": [QUESTION[0], *TALK[:3]], "completion": "2"}),
    ],
)
def test_a_conversation_becomes_an_example_with_all_its_turns(tmp_path: Path, form: str, row: dict[str, Any]) -> None:
    example = read(tmp_path, row, form, "sft")
    assert isinstance(example, Example), example
    assert (example.problem_id, example.system, example.prompt) == ("set-1", "Box it.", "1 + 1?")
    assert example.history == (Turn(role="user", content="Hi"), Turn(role="assistant", content="Hello."))
    assert example.exchanges == [("Hi", "Hello."), ("1 + 1?", "2")]


def test_a_pair_of_texts_becomes_an_example(tmp_path: Path) -> None:
    example = read(tmp_path, {"prompt": "1 + 1?", "completion": "2", "license": "MIT"}, "prompt_completion", "sft")
    assert example == Example(problem_id="set-1", prompt="1 + 1?", response="2", licence="MIT")


@pytest.mark.parametrize(
    ("form", "row", "reason"),
    [
        ("chat", {"messages": TALK[:3]}, "messages does not end with a response of the assistant"),
        ("chat", {"messages": TALK[:1] * 2}, "turn 2 of messages is the user's, and the assistant's is expected"),
        ("chat", {"messages": [*TALK, QUESTION[0]]}, "turn 5 of messages is the system's, and the user's is expected"),
        ("chat", {"messages": [{"role": "tool", "content": "4"}]}, "has the role 'tool', and system, user and"),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "more places for images"),
        ("chat", {"messages": "Hi"}, "field 'messages' is text, and a list of turns is expected"),
        ("chat", {"text": "Hi"}, "there is no field 'messages'; there are text"),
        (
            "chat",
            {"messages": [*TALK[:1], {"role": "assistant", "tool_calls": [{}]}]},
            "turn 2 of messages calls tools",
        ),
        ("chat", {"messages": [*TALK[:1], {"role": "assistant", "content": ""}]}, "response: String should have at"),
        (
            "chat",
            {"messages": [*TALK[:1], {"role": "assistant", "content": "2", "reasoning_content": "1, 2."}]},
            "turn 2 of messages has its thinking in 'reasoning_content', which is not read: write it into the content",
        ),
        ("prompt_completion", {"prompt": "1 + 1?"}, "there is no field 'completion'; there are prompt"),
    ],
)
def test_a_conversation_that_cannot_be_learned_from_is_refused(
    tmp_path: Path, form: str, row: dict[str, Any], reason: str
) -> None:
    refused = read(tmp_path, row, form, "sft")
    assert isinstance(refused, MalformedRow) and reason in str(refused), refused


def test_a_mapping_reads_nested_fields_and_values_are_the_same_in_each_row(tmp_path: Path) -> None:
    row = {"q": {"text": "1 + 1?"}, "options": [{"value": 2}], "dotted.name": "easy"}
    mapping = {"prompt": "q.text", "answer": "options.0.value", "discipline": "dotted.name"}
    problem = read(tmp_path, row, mapping=mapping, values={"verifier": "math", "licence": "CC0-1.0"})
    assert isinstance(problem, Problem), problem
    assert (problem.prompt, problem.answer, problem.discipline) == ("1 + 1?", "2", "easy")
    assert (problem.id, problem.licence) == ("set-1", "CC0-1.0")


def test_a_mapping_reads_turns_as_a_question(tmp_path: Path) -> None:
    problem = read(tmp_path, VERL, mapping={"prompt": "prompt", "answer": "reward_model.ground_truth"}, values={
        "verifier": "math"
    })  # fmt: skip
    assert isinstance(problem, Problem) and (problem.system, problem.prompt) == ("Box it.", "1 + 1?")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"mapping": {"prompt": "q.txt"}}, "mapping of prompt: there is no field 'q.txt'; there are text in q"),
        ({"mapping": {"prompt": "qq"}}, "mapping of prompt: there is no field 'qq'; there are q, n"),
        ({"mapping": {"prompt": "n.0"}}, "mapping of prompt: there is no field 'n.0'; there is a number in n"),
        ({"mapping": {"prompt": "q.text"}}, "verifier: Field required"),
    ],
)
def test_a_mapping_of_a_field_that_rows_do_not_have_lists_those_that_they_have(
    tmp_path: Path, config: dict[str, Any], reason: str
) -> None:
    refused = read(tmp_path, {"q": {"text": "?"}, "n": 1}, **config)
    assert isinstance(refused, MalformedRow) and reason in str(refused)


@pytest.mark.parametrize(
    ("role", "config", "reason"),
    [
        ("train", {"mapping": {"question": "q"}}, "train: mapping: question is not a field of problems, which have id"),
        ("sft", {"values": {"verifier": "math"}}, "sft: values: verifier is not a field of examples, which have prob"),
        ("sft", {"format": "gsm8k"}, "rows of format gsm8k do not become examples: those of longhaul, chat, prompt_"),
        ("test", {"format": "chat"}, "test: rows of format chat do not become problems: those of longhaul, gsm8k, m"),
        ("train", {"format": "gsm8k", "mapping": {}}, "give a mapping, or format gsm8k, and not both"),
        ("train", {"split": "train"}, "config and split are for a data set on the hub"),
        ("train", {"hub": "openai/gsm8k"}, "give exactly one of path and hub"),
        ("train", {"path": None}, "give exactly one of path and hub"),
        ("train", {"path": None, "hub": "gsm8k"}, "hub"),
        ("train", {"weight": float("inf")}, "weight"),
    ],
)
def test_a_source_that_cannot_work_is_refused_before_anything_is_read(
    role: Role, config: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match="(?s)" + reason):
        SourceConfig.model_validate({"path": "a.jsonl", **config}).check(role)


@pytest.mark.parametrize(
    "sanitised", [{}, {"text": None, "prompt": "Find the shared elements.", "test_imports": ["import math"]}]
)
def test_mbpps_own_solution_passes_its_tests_and_another_one_does_not(
    tmp_path: Path, sanitised: dict[str, Any]
) -> None:
    row = {name: value for name, value in (CODE | sanitised).items() if value is not None}
    problem = read(tmp_path, row, "mbpp")
    assert isinstance(problem, Problem), problem
    assert problem.id == "mbpp-2" and problem.function and problem.function.entry_point == "shared"
    assert isinstance(problem.prompt, str) and "assert shared((1,), (2,)) == ()" in problem.prompt
    scorer = Scorer()
    wrong = "```python\ndef shared(a, b):\n    return a\n```"
    scores = scorer.score_many([(problem, problem.solution or ""), (problem, wrong)])
    scorer.close()
    assert [score.value for score in scores] == [1.0, 0.0], scores
