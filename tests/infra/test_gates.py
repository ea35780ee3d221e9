"""Data gates: what is broken is found, named and shown; what is whole passes."""

import dataclasses
import gc
import json
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.gates import GateFailed, GateResult, check, examples_gate, preferences_gate, problems_gate, render_html


def problems(rows: int = 12) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(rows)],
            "text": [f"What is {i} + {i}?" for i in range(rows)],
            "verifier": "math",
            "difficulty": [i % 6 for i in range(rows)],
            "digest": [f"digest-{i}" for i in range(rows)],
        }
    )


def broken(frame: pd.DataFrame, row: int, column: str, value: object) -> pd.DataFrame:
    frame = frame.astype({column: object})
    frame.loc[row, column] = value
    return frame


def failed(error: pytest.ExceptionInfo[GateFailed]) -> list[dict]:
    return [each for each in error.value.result.checks if not each["success"]]


def test_a_whole_problem_set_passes() -> None:
    result = problems_gate("train", problems(), {"digest-of-another"})
    assert (result.gate, result.passed, result.rows) == ("train", True, 12)
    assert all(each["success"] and each["error"] is None for each in result.checks)


@pytest.mark.parametrize(
    ("column", "value", "expectation"),
    [
        ("id", "p8", "expect_column_values_to_be_unique"),
        ("id", None, "expect_column_values_to_not_be_null"),
        ("text", " \n\t", "expect_column_values_to_match_regex"),
        ("text", "", "expect_column_values_to_match_regex"),
        ("text", None, "expect_column_values_to_not_be_null"),
        ("verifier", "guess", "expect_column_values_to_be_in_set"),
        ("verifier", None, "expect_column_values_to_not_be_null"),
        ("difficulty", 6, "expect_column_values_to_be_between"),
        ("difficulty", -1, "expect_column_values_to_be_between"),
        ("difficulty", None, "expect_column_values_to_not_be_null"),
        ("digest", "digest-8", "expect_column_values_to_be_unique"),
        ("digest", None, "expect_column_values_to_not_be_null"),
    ],
)
def test_one_bad_cell_fails_the_gate_and_is_found(column: str, value: object, expectation: str) -> None:
    with pytest.raises(GateFailed, match="train") as error:
        problems_gate("train", broken(problems(), 3, column, value))
    (only,) = failed(error)
    assert (only["expectation"], only["column"]) == (expectation, column)
    assert 3 in [example["row"] for example in only["examples"]]


def test_a_training_problem_that_is_held_out_is_named() -> None:
    with pytest.raises(GateFailed) as error:
        problems_gate("train", problems(), frozenset({"digest-3", "digest-5", "elsewhere"}))
    (only,) = failed(error)
    assert only["unexpected"] == 2
    assert only["examples"] == [
        {"row": 3, "id": "p3", "value": "digest-3"},
        {"row": 5, "id": "p5", "value": "digest-5"},
    ]
    assert str(error.value) == (
        "gate 'train' failed: no row is among the 3 held-out problems (expect_column_values_to_be_null): "
        "2 of 12 rows, ids 'p3', 'p5'"
    )


@settings(max_examples=15, deadline=None)
@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30), min_size=1))
def test_overlap_is_found_exactly_when_the_sets_meet(held_out: set[int], train: set[int]) -> None:
    frame = problems(31).iloc[sorted(train)]
    digests = {f"digest-{i}" for i in held_out}
    if not held_out & train:
        assert problems_gate("train", frame, digests).passed
        return
    with pytest.raises(GateFailed) as error:
        problems_gate("train", frame, digests)
    (only,) = failed(error)
    assert only["unexpected"] == len(held_out & train)
    assert [each["id"] for each in only["examples"]] == [f"p{i}" for i in sorted(held_out & train)][:5]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(-3, 40), min_size=1, max_size=20), st.integers(1, 30))
def test_token_lengths_outside_the_limit_are_counted(tokens: list[int], limit: int) -> None:
    frame = pd.DataFrame({"prompt": "p", "response": "r", "tokens": tokens})
    bad = [row for row, count in enumerate(tokens) if not 1 <= count <= limit]
    if not bad:
        assert examples_gate("sft", frame, limit).passed
        return
    with pytest.raises(GateFailed) as error:
        examples_gate("sft", frame, limit)
    (only,) = failed(error)
    assert only["unexpected"] == len(bad)
    assert [each["id"] for each in only["examples"]] == bad[:5]


def test_equal_chosen_and_rejected_responses_fail() -> None:
    frame = pd.DataFrame({"id": ["a", "b"], "chosen": ["x", "y"], "rejected": ["z", "y"]})
    with pytest.raises(GateFailed, match=r"1 of 2 rows, ids 'b'"):
        preferences_gate("dpo", frame)
    assert preferences_gate("dpo", frame.iloc[:1]).passed


def test_an_empty_table_fails_rather_than_passing_every_rule_on_no_rows() -> None:
    with pytest.raises(GateFailed, match="at least one row"):
        problems_gate("train", problems(0))


def test_a_missing_column_and_a_wrong_type_fail_with_the_reason() -> None:
    with pytest.raises(GateFailed, match=r"cannot be evaluated: .*digest"):
        problems_gate("train", problems().drop(columns="digest"))
    with pytest.raises(GateFailed, match="cannot be evaluated") as error:
        problems_gate("train", broken(problems(), 2, "difficulty", "hard"))
    assert "Traceback" not in json.dumps(error.value.result.checks)


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
    assert checks[0]["examples"] == [{"row": 2, "id": 2, "value": 9}]
    assert rules[0].meta is None


def test_the_result_is_strict_json_whatever_the_cells_hold() -> None:
    import great_expectations.expectations as gxe

    cells = [np.float64("inf"), float("nan"), np.int64(3), "x" * 10_000, ["list"], pd.Timestamp(0), True]
    frame = pd.DataFrame({"id": cells, "value": pd.Series(cells, dtype=object)})
    with pytest.raises(GateFailed) as error:
        check("any", frame, [gxe.ExpectColumnValuesToBeNull(column="value")])
    text = json.dumps(dataclasses.asdict(error.value.result), allow_nan=False)
    assert len(text) < 3000


def test_a_checked_table_is_not_kept_in_memory() -> None:
    problems_gate("train", problems())
    gc.collect()
    frames = [each for each in gc.get_objects() if isinstance(each, pd.DataFrame)]
    assert not [each for each in frames if "held_out_digest" in each]


def test_a_large_held_out_set_does_not_slow_the_gate() -> None:
    frame, held_out = problems(10_000), {f"held-{i}" for i in range(100_000)}
    problems_gate("train", frame, held_out)
    started = time.perf_counter()
    problems_gate("train", frame, held_out)
    assert time.perf_counter() - started < 2


def test_text_from_the_data_is_escaped_in_the_page() -> None:
    hostile = "<script>alert(1)</script>"
    frame = broken(broken(problems(), 3, "verifier", hostile), 3, "id", hostile)
    with pytest.raises(GateFailed) as error:
        problems_gate(f"train {hostile}", frame)
    page = render_html([error.value.result, GateResult("empty", True, 0, [])])
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3
    assert "http" not in page


def test_checking_prints_nothing_and_opens_no_connection() -> None:
    """A fresh process, because progress bars and log handlers are set up once."""
    program = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise SystemExit(f"{event} {arguments}")
sys.addaudithook(refuse)
import pandas
from infra.gates import GateFailed, examples_gate
assert "great_expectations" not in sys.modules
examples_gate("sft", pandas.DataFrame({"prompt": ["p"], "response": ["r"], "tokens": [1]}), 2)
try:
    examples_gate("sft", pandas.DataFrame({"prompt": ["p"], "response": ["r"], "tokens": ["1"]}), 2)
except GateFailed:
    pass
else:
    raise SystemExit("passed")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
