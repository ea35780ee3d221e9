"""The index: the graph and the tables of runs, models and data, kept in a database beside the records.

Invariant: the store's records are the truth. An update reads the records that the index has not read yet, and a rebuild
all of them, at any time; whoever deletes the index loses nothing.

NOTE: it answers from what it has read. Call `sync` before a query that is to include the newest records.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, delete, func, select

from infra.lineage.errors import LineageError
from infra.lineage.graph import Node, Subgraph
from infra.lineage.resolve import find, newest_run
from infra.lineage.row_values import artifact_id, evaluation_rank, plain, source_id, time_of_stamp, unpack
from infra.lineage.rows import DataRow, ModelRow, Page, RowT, RunDetail, RunRow, SyncResult
from infra.lineage.tables import (
    IndexUnusable,
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
from infra.lineage.writer import ReadRecord, Writer
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
    """The lineage of a store, to be queried. Several processes may use one index at once."""

    def __init__(self, url: str) -> None:
        """`url` is sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE; missing tables are created.

        Raises LineageError for another kind of address, for a database that cannot be opened, and for an index that a
        newer version made.
        """
        self.engine = open_engine(url)

    @classmethod
    def of(cls, store: Store, home: Path, url: str | None = None) -> Self:
        """The index of a store: at `url`, or else in a file of its own below `home`."""
        if url is None:
            file = index_file(store, home)
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                reason = f"{file.parent} cannot be made: {error.strerror}"
                raise IndexUnusable(reason, reason, damaged=False) from error
            url = f"sqlite:///{file}"
        return cls(url)

    def close(self) -> None:
        """Close the connections to the database."""
        self.engine.dispose()

    def sync(self, store: Store) -> SyncResult:
        """Read the new records. Cheap where there are none, apart from listing them.

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
        return self._sync_result(new, began)

    def rebuild(self, store: Store) -> SyncResult:
        """Rebuild the index from all records. Until that is done, others see the old one. Raises as `sync` does."""
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
        return self._sync_result(new, began)

    def problems(self) -> list[str]:
        """Records that were skipped, and why."""
        with reading(self.engine) as connection:
            query = select(records.c.problem).where(records.c.problem.is_not(None)).order_by(records.c.key)
            return [problem for problem in connection.execute(query).scalars() if problem]

    def runs(self, text: str = "", limit: int = 50, offset: int = 0, order: str = "-started") -> Page[RunRow]:
        """Runs with a text in their name, recipe, status or failed stage; newest first by default."""
        return self._page(runs, select(runs), RUN_ORDERS, run_row, text, limit, offset, order)

    def models(self, text: str = "", limit: int = 50, offset: int = 0, order: str = "-started") -> Page[ModelRow]:
        """Models with a text in their digest, output's name, stage, run or tags; newest first by default."""
        return self._page(
            items, select(items).where(items.c.model), MODEL_ORDERS, model_row, text, limit, offset, order
        )

    def data(self, text: str = "", limit: int = 50, offset: int = 0, order: str = "-started") -> Page[DataRow]:
        """Artifacts other than models, and files from outside, with a text in their digest, name, address, kind, stage
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
            query = select(run_events).where(run_events.c.run == plain(run))
            rows = connection.execute(query.order_by(run_events.c.stamp, run_events.c.key))
            events = [RunRecord.model_validate(unpack(event.body)) for event in rows]
            start = next((event for event in reversed(events) if event.event == "started"), None)
            end = events[-1] if events and events[-1].event == "ended" else None
            query = select(stage_runs.c.stage, stage_runs.c.written).where(stage_runs.c.run == plain(run))
            recorded = {each.stage: time_of_stamp(each.written) for each in connection.execute(query)}
            return RunDetail(run_row(row), start, end, tuple(self._stage_records(connection, run)), recorded)

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

    def succeeded(self, stage: str, limit: int = 50) -> list[StageRecord]:
        """Executions of a stage that succeeded, newest first."""
        with reading(self.engine) as connection:
            return _records_of(connection, executions.c.stage == plain(stage), ~executions.c.failed, limit=limit)

    def evaluations(self, digest: str) -> list[StageRecord]:
        """Evaluations of a model that succeeded, newest first."""
        with reading(self.engine) as connection:
            return _records_of(connection, executions.c.evaluates == digest, ~executions.c.failed)

    def newest_evaluations(self, limit: int) -> list[StageRecord]:
        """Executions that hold an evaluation, newest first."""
        with reading(self.engine) as connection:
            # Numbers first: the bodies need not be sorted.
            query = select(executions.c.node).where(executions.c.accuracy.is_not(None))
            numbers = connection.execute(query.order_by(executions.c.started.desc()).limit(limit)).scalars().all()
            return _records_of(connection, among(connection, executions.c.node, numbers))

    def evaluation_of(self, record: StageRecord) -> StageRecord | None:
        """The record that says how the model of an execution did: an evaluation's, or the execution's own.

        None where it was not evaluated. Of several evaluations, the one that the model's row shows.
        """
        model = record.outputs.get("model")
        evaluated = [record, *(self.evaluations(model.digest) if model else [])]
        return max(
            (each for each in evaluated if each.evaluation is not None),
            key=lambda each: evaluation_rank(each.stage, each.started, each.run),
            default=None,
        )

    def last_failure(self, key: str) -> StageRecord | None:
        """The newest execution with a stage key that failed."""
        with reading(self.engine) as connection:
            failures = _records_of(connection, executions.c.key == plain(key), executions.c.failed, limit=1)
        return next(iter(failures), None)

    def tags(self) -> list[TagRecord]:
        """The tags that are set, by name: what each was last set to."""
        with reading(self.engine) as connection:
            query = select(tag_events.c.tag, tag_events.c.body).join(tags, tags.c.tag == tag_events.c.tag)
            query = query.order_by(tag_events.c.tag, tag_events.c.stamp, tag_events.c.key)
            newest = {event.tag: event.body for event in connection.execute(query)}
        return [TagRecord.model_validate(unpack(body)) for body in newest.values()]

    def tag_history(self, tag: str) -> list[TagRecord]:
        """What a tag was set to, newest first. Raises LineageError for a tag that was never set."""
        with reading(self.engine) as connection:
            query = select(tag_events.c.body).where(tag_events.c.tag == plain(tag))
            query = query.order_by(tag_events.c.stamp.desc(), tag_events.c.key.desc())
            history = [TagRecord.model_validate(unpack(body)) for body in connection.execute(query).scalars()]
        if not history:
            raise LineageError(f"there is no tag {tag!r}: `longhaul tag MODEL {tag}` sets it")
        return history

    def node(self, id: str) -> Node:
        """A node by its id. Raises LineageError where there is none."""
        with reading(self.engine) as connection:
            return read_nodes(connection, [number_of(connection, id)])[0]

    def find(self, name: str) -> Node:
        """A node by the name that people use for it: its id, a run, RUN:STAGE, a stage of the newest run, a tag, the
        beginning of a digest, a file's address or its end. Raises LineageError for an unknown or ambiguous name, with
        those that there are."""
        with reading(self.engine) as connection:
            return find(connection, name)

    def neighbourhood(self, id: str, hops: int = 2, limit: int = 200, fold: bool = False) -> Subgraph:
        """The nodes at most `hops` edges away, whichever way they go, nearest first; `limit` of them at most.

        Args:
            fold: leave out evaluations, unless the node itself is one.
        """
        with reading(self.engine) as connection:
            return neighbourhood(connection, id, hops, limit, fold)

    def upstream(self, id: str, depth: int | None = None, limit: int | None = None) -> Subgraph:
        """All that a node came from, within `depth` edges, nearest first and the node itself before all.

        With a limit the traversal ends at the first hop that goes beyond it.
        """
        return self._reach(id, "upstream", depth, limit)

    def downstream(self, id: str, depth: int | None = None, limit: int | None = None) -> Subgraph:
        """All that a node led to; otherwise as `upstream`."""
        return self._reach(id, "downstream", depth, limit)

    def _reach(self, id: str, direction: Direction, depth: int | None, limit: int | None) -> Subgraph:
        with reading(self.engine) as connection:
            reached = reach(connection, [number_of(connection, id)], direction, depth, limit)
            retained = reached if limit is None else reached[:limit]
            return subgraph(connection, retained, len(reached) - len(retained))

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
            if offset >= total:
                return Page((), total, offset)
            # Numbers first: an index holds them in order, and the rows before the page need not be read.
            numbers = query.with_only_columns(table.c.node).order_by(*by).limit(limit).offset(offset)
            of_page = among(connection, table.c.node, connection.execute(numbers).scalars().all())
            rows = connection.execute(select(table).where(of_page).order_by(*by))
            return Page(tuple(row(each) for each in rows), total, offset)

    def _stage_records(self, connection: Connection, run: str, stage: str | None = None) -> Iterator[StageRecord]:
        query = select(stage_runs.c.reused, stage_runs.c.reused_despite, executions.c.run, executions.c.body)
        query = query.join(executions, executions.c.node == stage_runs.c.execution)
        query = query.where(stage_runs.c.run == plain(run))
        if stage is not None:
            query = query.where(stage_runs.c.stage == plain(stage))
        for row in connection.execute(query.order_by(stage_runs.c.written, stage_runs.c.stage)):
            record = StageRecord.model_validate(unpack(row.body))
            own = {"run": run, "reused_from": row.run, "reused_despite": json.loads(row.reused_despite)}
            yield record.model_copy(update=own) if row.reused else record

    def _check_store(self, connection: Connection, store: Store) -> None:
        """Raise LineageError unless the store is the one whose records the index first read."""
        address = store.backend.address
        known = connection.execute(select(meta.c.value).where(meta.c.name == "store")).scalar()
        if known is None and connection.get_execution_options().get("writing"):
            connection.execute(meta.insert(), {"name": "store", "value": address})
        elif known is not None and known != address:
            raise LineageError(
                f"the index {address_of(self.engine)} is of the store {known}, not of {address}: name "
                "another with --index, or rebuild it with `longhaul lineage index --rebuild`"
            )

    def _sync_result(self, new: int, began: float) -> SyncResult:
        with reading(self.engine) as connection:
            count = select(func.count()).select_from(records).where(records.c.problem.is_(None))
            total = connection.execute(count).scalar_one()
        return SyncResult(new, total, time.monotonic() - began, tuple(self.problems()))


def index_file(store: Store, home: Path) -> Path:
    """The usual file of a store's index, below `home`."""
    name = hashlib.sha256(store.backend.address.encode()).hexdigest()[:16]
    return home.absolute() / "lineage" / f"{name}.sqlite"


def _records_of(
    connection: Connection, *conditions: ColumnElement[bool], limit: int | None = None
) -> list[StageRecord]:
    """Records of executions, newest first."""
    query = select(executions.c.body).where(*conditions)
    query = query.order_by(executions.c.started.desc(), executions.c.run.desc(), executions.c.stage).limit(limit)
    return [StageRecord.model_validate(unpack(body)) for body in connection.execute(query).scalars()]


def _record_keys(store: Store) -> list[str]:
    """Keys of the records that the lineage is computed from, oldest first; other files are ignored."""
    keys = [key for kind in KINDS for key in store.list_records(kind)]
    return sorted(keys, key=lambda key: key.rpartition("/")[2])


def _read_batches(store: Store, keys: Sequence[str]) -> Iterator[list[ReadRecord]]:
    """Records in batches; with progress, where there are several."""
    if len(keys) <= BATCH:
        yield from [_read_batch(store, keys)] if keys else []
        return
    with task("lineage", len(keys), "records") as progress:
        for first in range(0, len(keys), BATCH):
            batch = keys[first : first + BATCH]
            yield _read_batch(store, batch)
            progress.advance(len(batch))


def _read_batch(store: Store, keys: Sequence[str]) -> list[ReadRecord]:
    try:
        raws: Sequence[dict[str, Any] | None] = store.read_many(keys)
    except (Corrupted, ValueError):
        raws = [None] * len(keys)
    return [_read(store, key, raw) for key, raw in zip(keys, raws, strict=True)]


def _read(store: Store, key: str, raw: dict[str, Any] | None) -> ReadRecord:
    """A record, or why it is skipped: one that cannot be read must not hide all the others."""
    try:
        raw = store.read_record(key) if raw is None else raw
        record = parse_record(KINDS[key.partition("/")[0]], raw, f"{store.backend.address}/records/{key}")
        _check_names(key, record)
    except (Corrupted, ValueError) as error:
        return ReadRecord(key, {}, None, plain(str(error)))
    return ReadRecord(key, raw, record, None)


def _check_names(key: str, record: Record) -> None:
    """Runs are parts of ids: a name with a colon in it could be taken for another node's. Raises Corrupted."""
    names = [getattr(record, name, None) for name in ("run", "reused_from")]
    for name in names:
        if name is not None and not NAME.fullmatch(name):
            raise Corrupted(f"record {key} is of the run {name!r}, which is not a valid name of a run")


def run_row(row: Row[Any]) -> RunRow:
    """A run's line, from its row."""
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
