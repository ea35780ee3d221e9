"""How SQLite reads the tables with many rows: by an index, or within one, never row by row."""

import re
from typing import Any

import pytest
from sqlalchemy import event

from infra.lineage.index import LineageIndex
from infra.lineage.web.site import Site
from infra.store.open import open_store
from tests.infra.lineage.records import History, write_history
from tests.infra.lineage.web.page_site import client

EVERY_ROW = re.compile(
    r"SCAN lineage_(items|executions)\b(?! USING COVERING)"
    r"|lineage_(items|executions) USING INDEX \w+ \((model|failed)=\?\)$"
)
"""Parts of plans that look at all items or executions, or at all models or failures, one row after the other."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("plans")
    history = History()
    made = history.add_run("first")
    history.add_run("second", minutes=60, fails_at="rl")
    history.set_tag("production", made["rl"])
    write_history(folder / "store", history.records)
    store = open_store(folder / "store")
    index = LineageIndex.of(store, folder / "home")
    index.sync(store)
    return Site.of(store, index, folder / "home")


@pytest.mark.parametrize(
    "address",
    ["/", "/failures", "/tags", "/benchmarks", "/prompts?search=rl", "/models?sort=size", "/runs?column=rl:loss"]
    + [f"/data?sort={sort}{search}" for sort in ("-size", "name", "run", "kind") for search in ("", "&search=rl")],
)
def test_no_page_reads_all_rows_of_a_large_table(site: Site, address: str) -> None:
    statements: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        statements.append((statement, parameters))

    event.listen(site.index.engine, "before_cursor_execute", note)
    try:
        client(site).get(address).raise_for_status()
    finally:
        event.remove(site.index.engine, "before_cursor_execute", note)
    with site.index.engine.connect() as connection:
        plans = [
            row[3]
            for statement, parameters in statements
            if statement.startswith(("SELECT", "WITH"))
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    assert plans and not [plan for plan in plans if EVERY_ROW.search(plan)]
