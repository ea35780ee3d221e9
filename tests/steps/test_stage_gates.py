"""The stages' gates: the shipped suites pass what is whole and name the one row that is broken."""

import base64
import dataclasses
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from infra.gates.result import GateFailed, GateResult
from infra.gates.suites import check_rules
from steps.chat import Chat
from steps.configs.data import NanoWorldConfig
from steps.configs.gates import SHIPPED, TABLES, GatesConfig, every_shipped_rule, shipped_suite
from steps.curation import balance, domain_share_limit
from steps.gates.gates import Gates
from steps.gates.parsers import parsers
from steps.gates.parsers import tests_fault as fault_of_tests
from steps.gates.tables import example_frame, frame_of, held_out_parameters, problem_frame
from steps.nano_world.world import NanoWorld, generate
from steps.problem import Example, FunctionTests, Problem, save_rows
from steps.recipe import load_recipe
from steps.rewards.labelled import Labelled, labelled_table
from steps.rewards.math.pool import MathPool
from steps.rl.ledger import LedgerEntry, ledger_table

CHECKPOINT = Path("steps/nano_world/checkpoint")
SUITE = every_shipped_rule()


@pytest.fixture(scope="module")
def world() -> NanoWorld:
    data = load_recipe(Path("configs/nano.yaml")).data
    assert data.nano_world is not None
    return generate(data.nano_world, 0)


@pytest.fixture(scope="module")
def pool() -> Iterator[MathPool]:
    pool = MathPool(workers=1)
    yield pool
    pool.close()


@pytest.fixture
def context(tmp_path: Path) -> Any:
    save_rows(tmp_path / "test.jsonl", TEST)
    return SimpleNamespace(gates=[], inputs={"data": tmp_path})


def problem(place: int = 0, **fields: Any) -> Problem:
    values = {"prompt": f"What is {place} + {place}?", "answer": str(2 * place), "verifier": "math"}
    return Problem.model_validate({"id": f"p{place}", "domain": "sums", **values, **fields})


def example(place: int = 0, **fields: Any) -> Example:
    values = {"problem_id": f"p{place}", "prompt": f"What is {place} + {place}?", "response": f"\\boxed{{{2 * place}}}"}
    return Example.model_validate({**values, **fields})


TEST = [problem(100), problem(101, prompt="Ann has 3 red balls and 4 blue balls in a box. How many balls has she got?")]


def checked(gate: str, frame: pd.DataFrame, folder: Path = Path("."), **more: Any) -> GateResult:
    pool = MathPool(workers=1)
    try:
        known = parsers(pool) | {"data_folder": str(folder), "max_tokens": 64} | held_out_parameters(TEST)
        return SUITE.run(gate, frame, known | more)
    finally:
        pool.close()


def pair_frame(pairs: list[tuple[str, str]]) -> pd.DataFrame:
    chosen, rejected = [list(column) for column in zip(*pairs, strict=True)]
    return frame_of({"id": list(range(len(pairs))), "chosen": chosen, "rejected": rejected})


def only_broken(result: GateResult) -> dict[str, Any]:
    """The one rule that is broken; of an exact repetition, which is a near one too, the rule that stops the stage."""
    broken = [check for check in result.checks if not check["success"]]
    (only,) = [check for check in broken if check["severity"] == "stop"] or broken
    return only


def test_every_stage_has_a_suite_of_rules_that_great_expectations_takes() -> None:
    assert {path.relative_to(SHIPPED).with_suffix("").as_posix() for path in SHIPPED.rglob("*.yaml")} == {
        *TABLES,
        "shared",
    }
    for stage, tables in TABLES.items():
        suite = shipped_suite(stage)
        assert suite.root.keys() == tables.keys()
        check_rules(suite, tables, stage)
        # Without a description a page would show a function's name.
        assert all(rule.description for rules in suite.root.values() for rule in rules)


def test_a_table_has_the_same_rules_wherever_it_is_read() -> None:
    for stage in TABLES:
        assert shipped_suite(stage).root.items() <= SUITE.root.items()


def test_the_frames_have_the_columns_that_suites_may_name() -> None:
    chat = Chat(CHECKPOINT)
    frames = {
        "RL prompts": problem_frame(TEST),
        "SFT examples": example_frame([example()], chat),
        "ledger": frame_of(ledger_table([])),
        "preference pairs": pair_frame([("a", "b")]),
        "labelled answers": frame_of(labelled_table([Labelled(problem(), "0", "plain", True)])),
    }
    for tables in TABLES.values():
        for gate, frame in frames.items():
            assert gate not in tables or set(frame.columns) == tables[gate].columns


def test_the_shipped_suites_work_from_any_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert GatesConfig().suite("rl") == shipped_suite("rl")


@pytest.mark.parametrize(
    ("broken", "expectation"),
    [
        ({"id": "p2"}, "expect_column_values_to_be_unique"),
        ({"prompt": "WHAT is  2 + 2?"}, "expect_column_values_to_be_unique"),
        ({"answer": "\\frac{1}{"}, "expect_column_values_to_parse"),
        ({"verifier": "cot_rm"}, "expect_column_values_to_be_in_set"),
        ({"verifier": "code", "tests": [["1", "2"], ["1", "3"]]}, "expect_column_values_to_parse"),
        ({"prompt": "What is  100 + 100?"}, "expect_column_values_to_not_be_held_out"),
        ({"prompt": [{"type": "image", "image": "no.png"}]}, "expect_column_images_to_decode"),
    ],
)
def test_one_broken_problem_stops_the_stage_and_is_named(
    context: Any, broken: dict[str, Any], expectation: str
) -> None:
    problems = [problem(place, **(broken if place == 5 else {})) for place in range(12)]
    with Gates(context, SUITE) as gates, pytest.raises(GateFailed, match=r"gate 'RL prompts' failed") as error:
        gates.problems("RL prompts", problems)
    only = only_broken(error.value.result)
    assert only["expectation"] == expectation
    assert 5 in [one["row"] for one in only["examples"]]
    assert context.gates == [error.value.result]  # a gate that stops its stage is in the stage's record
    json.dumps(dataclasses.asdict(error.value.result), allow_nan=False)


@pytest.mark.parametrize(
    ("column", "value", "expectation"),
    [
        ("id", None, "expect_column_values_to_not_be_null"),
        ("text", " \n\t", "expect_column_values_to_match_regex"),
        ("text", "", "expect_column_values_to_match_regex"),
        ("text", None, "expect_column_values_to_not_be_null"),
        ("verifier", "guess", "expect_column_values_to_be_in_set"),
        ("verifier", None, "expect_column_values_to_not_be_null"),
        ("difficulty", 6, "expect_column_values_to_be_between"),
        ("difficulty", -1, "expect_column_values_to_be_between"),
        ("difficulty", None, "expect_column_values_to_not_be_null"),
        ("digest", None, "expect_column_values_to_not_be_null"),
    ],
)
def test_one_bad_cell_fails_the_gate_and_is_found(column: str, value: Any, expectation: str) -> None:
    frame = problem_frame([problem(place) for place in range(12)]).astype({column: object})
    frame.loc[3, column] = value
    only = only_broken(checked("train problems", frame))
    assert (only["expectation"], only["column"]) == (expectation, column)
    assert [one["row"] for one in only["examples"]] == [3]


def test_a_reworded_test_problem_warns_and_the_stage_continues(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("steps.gates.gates.say", said.append)
    reworded = "Ann has 3 red balls and 4 blue balls in a box. How many balls has she?"
    other_numbers = "Ann has 5 red balls and 9 blue balls in a box. How many balls has she got?"
    problems = [problem(0), problem(1, prompt=reworded), problem(2, prompt=other_numbers)]
    with Gates(context, SUITE) as gates:
        gates.problems("RL prompts", problems)
    (result,) = context.gates
    assert result.outcome == "warned"
    only = only_broken(result)
    assert [one["id"] for one in only["examples"]] == ["p1"]
    assert "like 'p101'" in only["examples"][0]["why"]
    assert len(said) == 1 and "gate 'RL prompts' warns" in said[0] and "'p1'" in said[0]


@pytest.mark.parametrize(
    ("broken", "expectation"),
    [
        ({"prompt": " "}, "expect_column_values_to_match_regex"),
        ({"response": " "}, "expect_column_values_to_match_regex"),
        ({"response": "1" * 200}, "expect_column_token_lengths_to_be_between"),
        ({"prompt": "what is 100 + 100?"}, "expect_column_values_to_not_be_held_out"),
    ],
)
def test_one_broken_example_is_named(broken: dict[str, Any], expectation: str) -> None:
    examples = [example(place, **(broken if place == 2 else {})) for place in range(4)]
    result = checked("long paths", example_frame(examples, Chat(CHECKPOINT)))
    assert result.outcome == "failed"
    only = only_broken(result)
    assert only["expectation"] == expectation
    assert [one["id"] for one in only["examples"]] == ["3:p2"]


def test_expansion_that_found_nothing_warns_and_every_rule_is_evaluated() -> None:
    result = checked("expanded examples", example_frame([], Chat(CHECKPOINT)))
    assert result.outcome == "warned"
    assert only_broken(result)["rule"] == "at least one right answer was sampled"


def test_equal_chosen_and_rejected_responses_are_named() -> None:
    only = only_broken(checked("preference pairs", pair_frame([("x", "z"), ("y", "y")])))
    assert [one["id"] for one in only["examples"]] == [1]
    assert checked("preference pairs", pair_frame([("x", "z")])).passed


def test_a_ledger_that_cannot_be_is_named_and_one_of_dropped_groups_warns() -> None:
    def gate(*entries: tuple[int, int, Any]) -> GateResult:
        ledger = [LedgerEntry(problem_id="p", started=s, ended=e, outcome=outcome) for s, e, outcome in entries]
        return checked("ledger", frame_of(ledger_table(ledger)))

    assert gate((0, 0, "trained"), (0, 2, "stale")).outcome == "passed"
    assert [one["row"] for one in only_broken(gate((0, 0, "trained"), (2, 1, "trained")))["examples"]] == [1]
    dropped = gate((0, 0, "trained"), (0, 2, "stale"), (0, 2, "stale"))
    assert (dropped.outcome, only_broken(dropped)["observed"]) == ("warned", "trained 33.3%")
    assert gate().outcome == "failed"


def test_labels_of_one_kind_warn() -> None:
    def gate(rights: list[bool]) -> GateResult:
        answers = [Labelled(problem(), "0", "plain", right) for right in rights]
        return checked("labelled answers", frame_of(labelled_table(answers)))

    assert gate([True, False, True]).outcome == "passed"
    one_sided = gate([True] * 20)
    assert one_sided.outcome == "warned"
    assert only_broken(one_sided)["observed"] == "False 0.0%"


def test_curated_prompts_are_as_balanced_as_curation_says(world: NanoWorld) -> None:
    import random

    for share in (0.34, 0.4, 0.5):
        retained = balance(world.train, share, random.Random(0))
        limit = domain_share_limit(retained, share)
        assert checked("curated prompts", problem_frame(retained), max_domain_share=limit).passed
        unbalanced = [
            *retained,
            *(problem(place, domain=retained[0].domain) for place in range(200, 200 + len(retained))),
        ]
        only = only_broken(checked("curated prompts", problem_frame(unbalanced), max_domain_share=limit))
        assert only["expectation"] == "expect_column_tag_shares_to_be_between"
        assert only["observed"].startswith(retained[0].domain)


def test_images_beside_the_data_and_in_it_decode(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    (tmp_path / "a.png").write_bytes(file.getvalue())
    uri = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    parts = [{"type": "text", "text": "Which is larger?"}, *({"type": "image", "image": one} for one in ("a.png", uri))]
    frame = problem_frame([problem(0), problem(1, prompt=parts)])
    assert checked("RL prompts", frame, tmp_path).passed
    only = only_broken(checked("RL prompts", frame, tmp_path / "elsewhere"))
    assert only["examples"][0]["id"] == "p1"
    assert "image 1: cannot be read" in only["examples"][0]["why"]


@pytest.mark.parametrize(
    ("tests", "function", "fault"),
    [
        ([("1", "2"), ("2", "4")], None, None),
        ([("1", "2\n"), ("1", "2")], None, None),
        ([("1", "2"), ("2", "4"), ("1", "3")], None, "tests 1 and 3 expect different outputs"),
        ([("1", ""), ("2", "\n")], None, "no test expects an output"),
        ([], None, "no test"),
        ([], ("f", "def check(candidate):\n    assert candidate(1) == 2\n", ""), None),
        ([], ("f", "def check(candidate)\n", ""), "check: line 1"),
        ([], ("f", "def checks(candidate):\n    pass\n", ""), "check: defines no function check"),
        ([], ("f", "def check(candidate):\n    pass\n", "import ("), "setup: line 1"),
        ([], ("f", "\0", ""), "check: "),
        ([], ("f", "(" * 5000, ""), "check: "),
        ([], ("f", "x" * 1_000_001, ""), "check: 1,000,001 characters"),
    ],
)
def test_the_tests_of_programs_are_well_formed(
    tests: list[tuple[str, str]], function: tuple[str, str, str] | None, fault: str | None
) -> None:
    values = None
    if function is not None:
        values = FunctionTests(entry_point=function[0], check=function[1], setup=function[2])
    reported = fault_of_tests(tests, values)
    assert reported is None if fault is None else reported is not None and reported.startswith(fault)


def test_the_nano_world_passes_its_gates_without_a_warning_and_quickly(world: NanoWorld, pool: MathPool) -> None:
    chat = Chat(CHECKPOINT)
    parameters = parsers(pool) | {"data_folder": ".", "max_tokens": 384} | held_out_parameters(world.test)
    frames = {
        "test problems": problem_frame(world.test),
        "train problems": problem_frame(world.train),
        "SFT examples": example_frame(world.sft, chat),
        "long paths": example_frame(world.long_cot, chat),
    }
    for gate, frame in frames.items():
        assert SUITE.run(gate, frame, parameters).outcome == "passed", gate
    started = time.perf_counter()
    SUITE.run("train problems", frames["train problems"], parameters)
    # Measured: 0.3 s. Every stage does this.
    assert time.perf_counter() - started < 3


def test_a_smaller_world_passes_too() -> None:
    small = generate(NanoWorldConfig(train_problems=60, test_problems=12, sft_examples=40, long_cot_paths=30), 3)
    assert checked("train problems", problem_frame(small.train)).passed
