"""The index: the graph and the tables of runs, models and data, kept in a database beside the records.

Invariant: the store's records are the truth. The index is brought up to date by reading the records that it has not
read, and can be made anew from all of them at any time; whoever deletes it loses nothing.

NOTE: it answers from what it has read. Call `sync` before a question that is to include the newest records.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Row, Select, Table, delete, func, select

from infra.lineage.graph import Node, Subgraph
from infra.lineage.resolve import find, newest_run
from infra.lineage.row_values import artifact_id, plain, source_id, unpack
from infra.lineage.rows import DataRow, ModelRow, Page, RowT, RunDetail, RunRow, Synced
from infra.lineage.tables import (
    LineageError,
    address_of,
    among,
    executions,
    items,
    meta,
    metadata,
    open_engine,
    reading,
    records,
    run_events,
    runs,
    stage_runs,
    tag_events,
    tags,
    writing,
)
from infra.lineage.traversal import Direction, neighbourhood, number_of, reach, read_nodes, subgraph
from infra.lineage.writer import Read, Writer
from infra.progress.tasks import task
from infra.store.record_log import NAME
from infra.store.records import KINDS, Record, RunRecord, StageRecord, TagRecord, parse_record
from infra.store.store import Corrupted, Store

BATCH = 1000
"""Records that are read and added at a time."""

RUN_ORDERS = ("started", "run", "recipe", "status", "seconds", "stages", "reused", "accuracy", "seed")
MODEL_ORDERS = ("started", "digest", "name", "stage", "run", "accuracy", "mean_tokens", "size")
DATA_ORDERS = ("started", "digest", "name", "kind", "stage", "run", "size", "files")
"""Columns that the tables can be ordered by; with a minus in front, greatest first."""


class LineageIndex:
    """Answers questions about the lineage. Several processes may use one index at once."""

    def __init__(self, url: str) -> None:
        """`url` is sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE; tables are made where there are none.

        Raises LineageError for another kind of address, for a database that cannot be opened, and for an index that a
        newer version made.
        """
        self.engine = open_engine(url)

    @classmethod
    def of(cls, store: Store, home: Path, url: str | None = None) -> Self:
        """The index of a store: at `url`, or else in a file of its own below `home`."""
        if url is None:
            name = hashlib.sha256(store.backend.address.encode()).hexdigest()[:16]
            file = home.absolute() / "lineage" / f"{name}.sqlite"
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LineageError(f"{file.parent} cannot be made: {error.strerror}") from error
            url = f"sqlite:///{file}"
        return cls(url)

    def close(self) -> None:
        """Let go of the database's connections."""
        self.engine.dispose()

    def sync(self, store: Store) -> Synced:
        """Read the records that are new. Cheap where none are, apart from listing them.

        Raises LineageError where the index is of another store, StoreError where the store cannot be read or a record
        was written by a newer version.
        """
        began = time.monotonic()
        keys = _record_keys(store)
        with reading(self.engine) as connection:
            self._check_store(connection, store)
            known = set(connection.execute(select(records.c.key).where(records.c.problem.is_(None))).scalars())
        new = 0
        for batch in _read_batches(store, [key for key in keys if key not in known]):
            with writing(self.engine) as connection:
                self._check_store(connection, store)
                new += Writer(connection).add(batch)
        return self._synced(new, began)

    def rebuild(self, store: Store) -> Synced:
        """Make the index anew from all records. Until it is done, others see it as it was. Raises as `sync` does."""
        began = time.monotonic()
        new = 0
        with writing(self.engine) as connection:
            for table in metadata.sorted_tables:
                if table is not meta:
                    connection.execute(delete(table))
            connection.execute(delete(meta).where(meta.c.name == "store"))
            self._check_store(connection, store)
            for batch in _read_batches(store, _record_keys(store)):
                new += Writer(connection).add(batch)
        return self._synced(new, began)

    def problems(self) -> list[str]:
        """Records that were passed over, and why."""
        with reading(self.engine) as connection:
            listed = select(records.c.problem).where(records.c.problem.is_not(None)).order_by(records.c.key)
            return [problem for problem in connection.execute(listed).scalars() if problem]

    def runs(self, text: str = "", limit: int = 50, offset: int = 0, order: str = "-started") -> Page[RunRow]:
        """Runs with a text in their name, recipe, status or failed stage; newest first by default."""
        return self._page(runs, select(runs), RUN_ORDERS, _run_row, text, limit, offset, order)

    def models(self, text: str = "", limit: int = 50, offset: int = 0, order: str = "-started") -> Page[ModelRow]:
        """Models with a text in their digest, output's name, stage, run or tags; newest first by default."""
        return self._page(
            items, select(items).where(items.c.model), MODEL_ORDERS, model_row, text, limit, offset, order
        )

    def data(self, text: str = "", limit: int = 50, offset: int = 0, order: str = "-started") -> Page[DataRow]:
        """Artifacts that are no models, and files from outside, with a text in their digest, name, address, kind, stage
        or run; newest first by default."""
        return self._page(
            items, select(items).where(~items.c.model), DATA_ORDERS, _data_row, text, limit, offset, order
        )

    def run(self, run: str) -> RunDetail:
        """All that is recorded of a run. Raises LineageError where there is no such run."""
        with reading(self.engine) as connection:
            row = connection.execute(select(runs).where(runs.c.run == plain(run))).first()
            if row is None:
                newest = newest_run(connection)
                hint = f"the newest is {newest}" if newest else "none has been recorded yet"
                raise LineageError(f"there is no run {run!r}; {hint}")
            told = (
                select(run_events).where(run_events.c.run == plain(run)).order_by(run_events.c.stamp, run_events.c.key)
            )
            events = [RunRecord.model_validate(unpack(event.body)) for event in connection.execute(told)]
            start = next((event for event in reversed(events) if event.event == "started"), None)
            end = events[-1] if events and events[-1].event == "ended" else None
            return RunDetail(_run_row(row), start, end, tuple(self._stage_records(connection, run)))

    def stage_record(self, run: str, stage: str) -> StageRecord:
        """What a run's stage ran with and what it made. Raises LineageError where the run has no such stage."""
        with reading(self.engine) as connection:
            for record in self._stage_records(connection, run, stage):
                return record
            raise LineageError(f"run {run!r} has no stage {stage!r}; `longhaul runs` lists runs")

    def execution(self, run: str, stage: str) -> StageRecord:
        """The record of the run that really ran a stage. Raises LineageError where it did not."""
        with reading(self.engine) as connection:
            at = (executions.c.run == plain(run), executions.c.stage == plain(stage))
            body = connection.execute(select(executions.c.body).where(*at)).scalar()
        if body is None:
            raise LineageError(f"run {run!r} has not run a stage {stage!r} itself")
        return StageRecord.model_validate(unpack(body))

    def earlier(self, stage: str, limit: int = 50) -> list[StageRecord]:
        """Executions of a stage that succeeded, newest first."""
        with reading(self.engine) as connection:
            listed = select(executions.c.body).where(executions.c.stage == plain(stage), ~executions.c.failed)
            listed = listed.order_by(executions.c.started.desc(), executions.c.run.desc()).limit(limit)
            return [StageRecord.model_validate(unpack(body)) for body in connection.execute(listed).scalars()]

    def last_failure(self, key: str) -> StageRecord | None:
        """The newest execution with a stage key that failed."""
        with reading(self.engine) as connection:
            listed = select(executions.c.body).where(executions.c.key == plain(key), executions.c.failed)
            listed = listed.order_by(executions.c.started.desc(), executions.c.run.desc()).limit(1)
            body = connection.execute(listed).scalar()
        return None if body is None else StageRecord.model_validate(unpack(body))

    def tags(self) -> list[TagRecord]:
        """The tags that are set, by name: what each was last set to."""
        with reading(self.engine) as connection:
            names = connection.execute(select(tags.c.tag).order_by(tags.c.tag)).scalars().all()
        return [self.tag_history(name)[0] for name in names]

    def tag_history(self, tag: str) -> list[TagRecord]:
        """What a tag was set to, newest first. Raises LineageError for a tag that was never set."""
        with reading(self.engine) as connection:
            told = select(tag_events.c.body).where(tag_events.c.tag == plain(tag))
            told = told.order_by(tag_events.c.stamp.desc(), tag_events.c.key.desc())
            found = [TagRecord.model_validate(unpack(body)) for body in connection.execute(told).scalars()]
        if not found:
            raise LineageError(f"there is no tag {tag!r}: `longhaul tag MODEL {tag}` sets it")
        return found

    def node(self, id: str) -> Node:
        """A node by its id. Raises LineageError where there is none."""
        with reading(self.engine) as connection:
            return read_nodes(connection, [number_of(connection, id)])[0]

    def find(self, name: str) -> Node:
        """A node by what a person calls it: its id, a run, RUN:STAGE, a stage of the newest run, a tag, the beginning
        of a digest, a file's address or its end. Raises LineageError for an unknown or ambiguous name, saying which
        there are."""
        with reading(self.engine) as connection:
            return find(connection, name)

    def neighbourhood(self, id: str, hops: int = 2, limit: int = 200) -> Subgraph:
        """The nodes at most `hops` edges away, whichever way they go, nearest first; `limit` of them at most."""
        with reading(self.engine) as connection:
            return neighbourhood(connection, id, hops, limit)

    def upstream(self, id: str, depth: int | None = None, limit: int | None = None) -> Subgraph:
        """All that a node came from, within `depth` edges, nearest first and the node itself before all.

        With a limit the walk ends at the first hop that goes beyond it.
        """
        return self._reach(id, "upstream", depth, limit)

    def downstream(self, id: str, depth: int | None = None, limit: int | None = None) -> Subgraph:
        """All that a node led to; otherwise as `upstream`."""
        return self._reach(id, "downstream", depth, limit)

    def _reach(self, id: str, direction: Direction, depth: int | None, limit: int | None) -> Subgraph:
        with reading(self.engine) as connection:
            found = reach(connection, [number_of(connection, id)], direction, depth, limit)
            shown = found if limit is None else found[:limit]
            return subgraph(connection, shown, len(found) - len(shown))

    def _page(
        self,
        table: Table,
        query: Select[Any],
        orders: Sequence[str],
        row: Callable[[Any], RowT],
        text: str,
        limit: int,
        offset: int,
        order: str,
    ) -> Page[RowT]:
        name = order.removeprefix("-")
        if name not in orders:
            raise LineageError(f"{order!r}: the order is one of {', '.join(orders)}, with a minus for greatest first")
        for word in plain(text).casefold().split():
            query = query.where(table.c.search.contains(word, autoescape=True))
        by: list[Any] = [table.c[name].nulls_last(), table.c.node]
        if order.startswith("-"):
            by = [table.c[name].desc().nulls_last(), table.c.node.desc()]
        with reading(self.engine) as connection:
            total = connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()
            # Numbers first: an index holds them in order, and the rows before the page need not be read.
            numbers = query.with_only_columns(table.c.node).order_by(*by).limit(limit).offset(offset)
            of = among(connection, table.c.node, connection.execute(numbers).scalars().all())
            found = connection.execute(select(table).where(of).order_by(*by))
            return Page(tuple(row(each) for each in found), total, offset)

    def _stage_records(self, connection: Connection, run: str, stage: str | None = None) -> Iterator[StageRecord]:
        listed = select(stage_runs.c.reused, executions.c.run, executions.c.body)
        listed = listed.join(executions, executions.c.node == stage_runs.c.execution).where(
            stage_runs.c.run == plain(run)
        )
        if stage is not None:
            listed = listed.where(stage_runs.c.stage == plain(stage))
        for row in connection.execute(listed.order_by(stage_runs.c.written, stage_runs.c.stage)):
            record = StageRecord.model_validate(unpack(row.body))
            yield record.model_copy(update={"run": run, "reused_from": row.run}) if row.reused else record

    def _check_store(self, connection: Connection, store: Store) -> None:
        """The store that the index is of is the one that it was first brought up to date from."""
        address = store.backend.address
        of = connection.execute(select(meta.c.value).where(meta.c.name == "store")).scalar()
        if of is None and connection.get_execution_options().get("writing"):
            connection.execute(meta.insert(), {"name": "store", "value": address})
        elif of is not None and of != address:
            raise LineageError(
                f"the index {address_of(self.engine)} is of the store {of}, not of {address}: name "
                "another with --index, or make it anew with `longhaul lineage index --rebuild`"
            )

    def _synced(self, new: int, began: float) -> Synced:
        with reading(self.engine) as connection:
            count = select(func.count()).select_from(records).where(records.c.problem.is_(None))
            total = connection.execute(count).scalar_one()
        return Synced(new, total, time.monotonic() - began, tuple(self.problems()))


def _record_keys(store: Store) -> list[str]:
    """Keys of the records that lineage is derived from, oldest first; what else there may be is passed over."""
    keys = [key for kind in KINDS for key in store.list_records(kind)]
    return sorted(keys, key=lambda key: key.rpartition("/")[2])


def _read_batches(store: Store, keys: Sequence[str]) -> Iterator[list[Read]]:
    """Records in batches; with progress, where there are several."""
    if len(keys) <= BATCH:
        yield from [_read_batch(store, keys)] if keys else []
        return
    with task("lineage", len(keys), "records") as progress:
        for first in range(0, len(keys), BATCH):
            batch = keys[first : first + BATCH]
            yield _read_batch(store, batch)
            progress.advance(len(batch))


def _read_batch(store: Store, keys: Sequence[str]) -> list[Read]:
    try:
        raws: Sequence[dict[str, Any] | None] = store.read_many(keys)
    except (Corrupted, ValueError):
        raws = [None] * len(keys)
    return [_read(store, key, raw) for key, raw in zip(keys, raws, strict=True)]


def _read(store: Store, key: str, raw: dict[str, Any] | None) -> Read:
    """A record, or why it is passed over: one that cannot be read must not hide what all the others tell."""
    try:
        raw = store.read_record(key) if raw is None else raw
        record = parse_record(KINDS[key.partition("/")[0]], raw, f"{store.backend.address}/records/{key}")
        _check_names(key, record)
    except (Corrupted, ValueError) as error:
        return Read(key, {}, None, plain(str(error)))
    return Read(key, raw, record, None)


def _check_names(key: str, record: Record) -> None:
    """Runs are parts of ids: a name with a colon in it could be taken for another node's. Raises Corrupted."""
    names = [getattr(record, name, None) for name in ("run", "reused_from")]
    for name in names:
        if name is not None and not NAME.fullmatch(name):
            raise Corrupted(f"record {key} is of the run {name!r}, which is no run's name")


def _run_row(row: Row[Any]) -> RunRow:
    return RunRow(
        **{name: row._mapping[name] for name in RunRow.__dataclass_fields__ if name != "id"}, id=f"run:{row.run}"
    )


def model_row(row: Row[Any]) -> ModelRow:
    """A model's line, from its row."""
    values = {name: row._mapping[name] for name in ModelRow.__dataclass_fields__ if name not in ("id", "tags")}
    return ModelRow(**values, id=artifact_id(row.digest), tags=tuple(json.loads(row.tags)))


def _data_row(row: Row[Any]) -> DataRow:
    values = {name: row._mapping[name] for name in DataRow.__dataclass_fields__ if name != "id"}
    return DataRow(**values, id=source_id(row.digest, row.address) if row.source else artifact_id(row.digest))
