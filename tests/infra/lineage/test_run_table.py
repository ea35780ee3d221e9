"""Tables of runs with any setting and figure as a column, on both kinds of databases."""

from typing import Any

import pytest

from infra.lineage.errors import LineageError
from infra.lineage.run_table import Condition, RunTable, run_table
from infra.store.records import RunRecord
from infra.store.store import Store
from tests.infra.lineage.records import History, Opened, indexed, reused


def history() -> History:
    """Three runs: tau 0.1, 0.2 and none; the second reuses the first one's RL, whose loss is 0.5."""
    made = History()
    first = made.add_run("first", seed=1)
    made.add_run("second", minutes=60, reuse=reused(first, "rl"), seed=2, metrics={"loss": 0.25, "deep": {"er": 7}})
    made.add_run("third", minutes=120, seed=3, fails_at="import")
    recipes: dict[str, dict[str, Any]] = {
        "first": {"rl": {"tau": 0.1, "kind": "auto"}},
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
    columns = ["rl.tau", "rl.kind", "x", "rl: loss", "vanilla_sft: deep.er", "evaluate/rl: problems", "seed", "nothing"]
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
        ("-vanilla_sft: loss", ["first", "second", "third"]),
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
        (["rl.kind!=auto"], ["second"]),
        (["status=failed"], ["third"]),
        (["seed>1", "rl: loss=0.5"], ["second"]),
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


@pytest.mark.parametrize("text", ["", "rl.tau", "=3", "<>", "tau ~ 3"])
def test_what_is_not_a_condition_is_refused(text: str) -> None:
    with pytest.raises(LineageError, match="is not a condition"):
        Condition.parse(text)


def test_a_page_of_the_table_and_a_search(store: Store, opened: Opened) -> None:
    index = indexed(opened, store, history())
    page = run_table(index, ["rl.tau"], limit=1, offset=1)
    assert page.total == 3 and [row.run for row, _ in page.rows] == ["second"]
    assert [row.run for row, _ in run_table(index, [], text="FIRST").rows] == ["first"]
