"""Data gates: what is broken is found, named and shown; what is whole passes."""

import dataclasses
import gc
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.gates.evaluate import check
from infra.gates.result import GateFailed, GateResult
from infra.gates.suites import Suite

RULES: list[dict[str, Any]] = [
    {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}, "description": "at least one row"},
    {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "id"}},
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "text"}},
    {"type": "expect_column_values_to_not_be_held_out", "kwargs": {"column": "digest", "held_out": "$held_out"}},
    {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "difficulty", "max_value": "$most"},
        "description": "difficulty is at most $most, and no row is among the $held_out held out",
    },
]


def suite(*rules: dict[str, Any]) -> Suite:
    return Suite.model_validate({"train": rules})


def problems(rows: int = 12) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(rows)],
            "text": [f"What is {i} + {i}?" for i in range(rows)],
            "difficulty": [i % 6 for i in range(rows)],
            "digest": [f"digest-{i}" for i in range(rows)],
        }
    )


def gate(frame: pd.DataFrame, held_out: frozenset[str] = frozenset(), most: int = 5) -> GateResult:
    return suite(*RULES).run("train", frame, {"held_out": held_out, "most": most})


def broken(frame: pd.DataFrame, row: int, column: str, value: Any) -> pd.DataFrame:
    frame = frame.astype({column: object})
    frame.loc[row, column] = value
    return frame


def failed(result: GateResult) -> list[dict[str, Any]]:
    return [each for each in result.checks if not each["success"]]


def test_a_whole_problem_set_passes() -> None:
    result = gate(problems(), frozenset({"digest-of-another"}))
    assert (result.gate, result.passed, result.outcome, result.rows) == ("train", True, "passed", 12)
    assert all(each["success"] and each["error"] is None for each in result.checks)
    assert result.checks[-1]["rule"] == "difficulty is at most 5, and no row is among the 1 held out"
    result.raise_if_failed()


def test_a_row_that_broke_a_rule_is_kept_with_the_digests_of_its_stored_images() -> None:
    digest = "a" * 64
    images = (f"images/{digest}.png", "data:image/png;base64,AAAA", f"images/{digest}.png")
    frame = problems().assign(images=pd.Series([images if row == 3 else None for row in range(12)], dtype=object))
    (only,) = failed(gate(frame, frozenset({"digest-3", "digest-5"})))
    assert [each.get("images") for each in only["examples"]] == [[digest, digest], None]


def test_a_training_problem_that_is_held_out_is_named() -> None:
    result = gate(problems(), frozenset({"digest-3", "digest-5", "elsewhere"}))
    (only,) = failed(result)
    assert only["unexpected"] == 2
    assert only["examples"] == [
        {"row": 3, "id": "p3", "value": "digest-3", "why": "it is held out"},
        {"row": 5, "id": "p5", "value": "digest-5", "why": "it is held out"},
    ]
    with pytest.raises(GateFailed) as error:
        result.raise_if_failed()
    assert error.value.result is result
    assert str(error.value) == (
        "gate 'train' failed: expect_column_values_to_not_be_held_out(digest): 2 of 12 rows, "
        "ids 'p3' (it is held out), 'p5' (it is held out)"
    )


@settings(max_examples=15, deadline=None)
@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30), min_size=1))
def test_overlap_is_found_exactly_when_the_sets_meet(held_out: set[int], train: set[int]) -> None:
    frame = problems(31).iloc[sorted(train)]
    result = gate(frame, frozenset(f"digest-{i}" for i in held_out))
    assert result.passed == (not held_out & train)
    for only in failed(result):
        assert only["unexpected"] == len(held_out & train)
        assert [each["id"] for each in only["examples"]] == [f"p{i}" for i in sorted(held_out & train)][:5]


def test_a_rule_that_only_warns_lets_the_stage_continue_and_is_reported() -> None:
    warning = {**RULES[4], "severity": "warn"}
    result = suite(RULES[1], warning).run("train", problems(), {"held_out": frozenset(), "most": 4})
    assert (result.passed, result.outcome) == (True, "warned")
    result.raise_if_failed()
    (reported,) = result.broken("warn")
    assert reported.startswith("difficulty is at most 4") and "'p5', 'p11'" in reported
    assert result.broken("stop") == []
    both = suite({**RULES[1]}, warning).run("train", broken(problems(), 3, "id", "p8"), {"held_out": (), "most": 4})
    assert (both.passed, both.outcome, len(both.broken("stop"))) == (False, "failed", 1)


def test_the_outcome_is_in_the_record_and_is_read_from_it() -> None:
    result = gate(problems(), most=4)
    raw = json.loads(json.dumps(dataclasses.asdict(result)))
    assert raw["outcome"] == "failed"
    assert GateResult.from_record(raw) == result
    # Records made before there were severities.
    old = {"gate": "g", "passed": True, "rows": 1, "checks": []}
    assert GateResult.from_record(old).outcome == "passed"


def test_an_empty_table_fails_rather_than_passing_every_rule_on_no_rows() -> None:
    result = gate(problems(0))
    assert [each["rule"] for each in failed(result)] == ["at least one row"]
    with pytest.raises(GateFailed, match="at least one row"):
        result.raise_if_failed()


def test_a_missing_column_and_a_wrong_type_fail_with_the_reason() -> None:
    with pytest.raises(GateFailed, match=r"cannot be evaluated: .*digest"):
        gate(problems().drop(columns="digest")).raise_if_failed()
    result = gate(broken(problems(), 2, "difficulty", "hard"))
    with pytest.raises(GateFailed, match="cannot be evaluated"):
        result.raise_if_failed()
    assert "Traceback" not in json.dumps(result.checks)


def test_a_custom_rule_that_cannot_be_evaluated_fails_with_the_reason() -> None:
    rule = {"type": "expect_column_token_lengths_to_be_between", "kwargs": {"column": "text"}}
    (check,) = suite(rule).run("train", problems(), {}).checks
    assert not check["success"] and "could not convert string to float" in check["error"]


def test_rows_are_numbered_from_0_whatever_the_index_and_checks_keep_their_order() -> None:
    import great_expectations.expectations as gxe

    frame = pd.DataFrame({"n": [1, 2, 9]}, index=[7, 7, 7])
    rules = [
        gxe.ExpectColumnValuesToBeBetween(column="n", max_value=5),
        gxe.ExpectColumnToExist(column="absent"),
        gxe.ExpectColumnValuesToBeUnique(column="n"),
    ]
    with pytest.raises(GateFailed) as error:
        check("any", frame, rules)
    checks = error.value.result.checks
    assert [each["success"] for each in checks] == [False, False, True]
    assert checks[0]["examples"] == [{"row": 2, "id": 2, "value": 9, "why": None}]
    assert rules[0].meta is None


def test_the_result_is_strict_json_whatever_the_cells_hold() -> None:
    import great_expectations.expectations as gxe

    cells = [np.float64("inf"), float("nan"), np.int64(3), "x" * 10_000, ["list"], pd.Timestamp(0), True]
    frame = pd.DataFrame({"id": cells, "value": pd.Series(cells, dtype=object)})
    with pytest.raises(GateFailed) as error:
        check("any", frame, [gxe.ExpectColumnValuesToBeNull(column="value")])
    text = json.dumps(dataclasses.asdict(error.value.result), allow_nan=False)
    assert len(text) < 3000


def test_a_checked_table_and_its_faults_are_not_kept_in_memory() -> None:
    gate(problems().assign(only_here=1), frozenset({"digest-3"}))
    gc.collect()
    frames = [each for each in gc.get_objects() if isinstance(each, pd.DataFrame)]
    assert not [each for each in frames if "only_here" in each]


def test_a_large_held_out_set_does_not_slow_the_gate() -> None:
    frame, held_out = problems(10_000), frozenset(f"held-{i}" for i in range(100_000))
    gate(frame, held_out)
    started = time.perf_counter()
    gate(frame, held_out)
    assert time.perf_counter() - started < 5


def test_checking_prints_nothing_and_opens_no_connection() -> None:
    """A fresh process, because progress bars and log handlers are set up once."""
    program = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise SystemExit(f"{event} {arguments}")
sys.addaudithook(refuse)
import pandas
from infra.gates.suites import Suite
assert "great_expectations" not in sys.modules
rules = [{"type": name, "kwargs": {"column": "tokens", "max_value": 2}} for name in (
    "expect_column_values_to_be_between", "expect_column_token_lengths_to_be_between")]
suite = Suite.model_validate({"sft": rules})
assert suite.run("sft", pandas.DataFrame({"tokens": [1]}), {}).passed
assert not suite.run("sft", pandas.DataFrame({"tokens": ["x"]}), {}).passed
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
