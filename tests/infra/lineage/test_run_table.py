"""Tables of runs with any setting and figure as a column, on both kinds of databases."""

from typing import Any

import pytest

from infra.lineage.errors import LineageError
from infra.lineage.run_table import Condition, RunTable, check_columns, run_table
from infra.store.records import RunRecord
from infra.store.store import Store
from tests.infra.lineage.records import History, Opened, indexed, reused


def history() -> History:
    """Three runs: tau 0.1, 0.2 and none; the second reuses the first one's RL, whose loss is 0.5."""
    made = History()
    first = made.add_run("first", seed=1)
    made.add_run(
        "second",
        minutes=60,
        reuse=reused(first, "rl"),
        seed=2,
        metrics={"loss": 0.25, "deep": {"er": 7}, "accuracy": 0.9},
    )
    made.add_run("third", minutes=120, seed=3, fails_at="import")
    recipes: dict[str, dict[str, Any]] = {
        "first": {"rl": {"tau": 0.1, "kind": "auto", "empty": None}},
        "second": {"rl": {"tau": 0.2, "kind": "off"}, "x": True},
    }
    for place, (name, record) in enumerate(made.records):
        if isinstance(record, RunRecord) and record.event == "started" and record.run in recipes:
            made.records[place] = name, record.model_copy(update={"recipe": record.recipe | recipes[record.run]})
    return made


def cells(table: RunTable) -> dict[str, list[object]]:
    return {row.run: list(values) for row, values in table.rows}


def test_settings_and_figures_are_columns(store: Store, opened: Opened) -> None:
    index = indexed(opened, store, history())
    columns = ["rl.tau", "rl.kind", "x", "rl:loss", "vanilla_sft: deep.er", "rl:problems", "seed", "nothing"]
    table = run_table(index, columns)
    assert table.total == 3 and [row.run for row, _ in table.rows] == ["third", "second", "first"]
    assert cells(table) == {
        "first": [0.1, "auto", None, 0.5, None, 3, 1, None],
        # What a run reused is its own figure too.
        "second": [0.2, "off", "true", 0.5, 7, 3, 2, None],
        "third": [None, None, None, None, None, None, 3, None],
    }


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("rl.tau", ["first", "second", "third"]),
        ("-rl.tau", ["second", "first", "third"]),
        ("-rl.kind", ["second", "first", "third"]),
        ("-seed", ["third", "second", "first"]),
        ("run", ["first", "second", "third"]),
        ("-vanilla_sft:loss", ["first", "second", "third"]),
    ],
)
def test_runs_are_ordered_by_any_column_and_those_without_it_come_last(
    store: Store, opened: Opened, order: str, names: list[str]
) -> None:
    index = indexed(opened, store, history())
    assert [row.run for row, _ in run_table(index, [], order=order).rows] == names


@pytest.mark.parametrize(
    ("conditions", "names"),
    [
        (["rl.tau>=0.2"], ["second"]),
        (["rl.tau < 0.2"], ["first"]),
        (["rl.kind = AUTO"], ["first"]),
        # A run without a value meets nothing but `!=`.
        (["rl.kind!=auto"], ["third", "second"]),
        (["rl.tau!=0.1"], ["third", "second"]),
        (["rl:accuracy!=7"], ["third", "second", "first"]),
        (["rl.kind~UT"], ["first"]),
        (["recipe~MADE", "rl.tau~0.2"], ["second"]),
        (["started>=2026-01-01T01:30"], ["third"]),
        (["rl.kind=\u00c4uto"], []),
        (["rl.empty="], []),
        (["vanilla_sft:training accuracy>0.8"], ["second"]),
        (["status=failed"], ["third"]),
        (["seed>1", "rl:loss=0.5"], ["second"]),
        (["rl.tau=auto"], []),
        (["x=true"], ["second"]),
        (["no.such.key=1"], []),
        (["rl.kind='; DROP TABLE lineage_runs"], []),
    ],
)
def test_runs_are_filtered_by_conditions(store: Store, opened: Opened, conditions: list[str], names: list[str]) -> None:
    index = indexed(opened, store, history())
    table = run_table(index, [], conditions=[Condition.parse(each) for each in conditions])
    assert [row.run for row, _ in table.rows] == names and table.total == len(names)


def test_a_stage_has_the_figures_of_its_models_evaluation(store: Store, opened: Opened) -> None:
    index = indexed(opened, store, history())
    columns = ["vanilla_sft:accuracy", "evaluate/vanilla_sft:accuracy", "vanilla_sft:training accuracy"]
    measured = index.stage_record("second", "evaluate/vanilla_sft").evaluation
    assert measured is not None and measured.accuracy != 0.9
    assert cells(run_table(index, columns))["second"] == [measured.accuracy, measured.accuracy, 0.9]


def test_a_column_that_no_run_has_is_refused_with_the_nearest(store: Store, opened: Opened) -> None:
    index = indexed(opened, store, history())
    check_columns(index, ["status", "rl.tau", "rl.empty", "rl:loss", "rl:accuracy", "rl: seconds"])
    with pytest.raises(LineageError, match=r"no run has a column 'rl.taw'; near it are rl.tau"):
        check_columns(index, ["rl.taw"])
    with pytest.raises(LineageError, match="near it are rl:loss"):
        check_columns(index, ["rl:los"])


@pytest.mark.parametrize("text", ["", "rl.tau", "=3", "<>"])
def test_what_is_not_a_condition_is_refused(text: str) -> None:
    with pytest.raises(LineageError, match="is not a condition"):
        Condition.parse(text)


def test_a_page_of_the_table_and_a_search(store: Store, opened: Opened) -> None:
    index = indexed(opened, store, history())
    page = run_table(index, ["rl.tau"], limit=1, offset=1)
    assert page.total == 3 and [row.run for row, _ in page.rows] == ["second"]
    assert [row.run for row, _ in run_table(index, [], text="FIRST").rows] == ["first"]
