"""The index's tables, and the database engines: a SQLite file, or PostgreSQL.

Invariant: a writer has the one lock of the index from the start of its transaction to its end, so that two processes
that update the index do so one after the other. Readers never wait.
"""

import json
import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    any_,
    bindparam,
    create_engine,
    event,
    func,
    select,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError

from infra.lineage.errors import LineageError
from infra.lineage.row_values import DamagedRow

SCHEMA = 7
"""Version of these tables. An older index is rebuilt; a newer one is refused."""

WAIT_SECONDS = 300
"""How long a writer waits for another: a rebuild from a remote store takes minutes."""

LOCK = 0x6C6F6E67
"""Number of the advisory lock in PostgreSQL that writers hold."""

metadata = MetaData()

meta = Table(
    "lineage_meta",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)

records = Table(
    "lineage_records",
    metadata,
    Column("key", String, primary_key=True),
    Column("problem", String),  # why it was skipped; NULL where it was not
)

nodes = Table(
    "lineage_nodes",
    metadata,
    Column("node", Integer, primary_key=True, autoincrement=False),
    Column("id", String, nullable=False, unique=True),
    Column("kind", String, nullable=False),
    Column("label", String, nullable=False),
    Column("facts", String, nullable=False),  # JSON
    Column("folded", Boolean, nullable=False),  # an evaluation, which drawings show as a part of its model
)

edges = Table(
    "lineage_edges",
    metadata,
    Column("source", Integer, primary_key=True, autoincrement=False),
    Column("target", Integer, primary_key=True, autoincrement=False),
    Column("role", String, primary_key=True),
    Index("lineage_edges_back", "target", "source"),
    sqlite_with_rowid=False,
)

executions = Table(
    "lineage_executions",
    metadata,
    Column("node", Integer, primary_key=True, autoincrement=False),
    Column("run", String, nullable=False),
    Column("stage", String, nullable=False),
    Column("stamp", String, nullable=False),  # which record it was taken from; the greatest wins
    Column("key", String, nullable=False, index=True),
    Column("started", String, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("seed", BigInteger),
    Column("failed", Boolean, nullable=False),
    Column("accuracy", Float),
    Column("mean_tokens", Float),
    Column("evaluates", String, index=True),  # digest of the model; NULL for what is not an evaluation
    Column("body", LargeBinary, nullable=False),  # the record, compressed JSON
    Index("lineage_executions_name", "run", "stage", unique=True),
    Index("lineage_executions_stage", "stage", "started"),
    Index("lineage_executions_evaluated", "started", "accuracy"),
)

stage_runs = Table(
    "lineage_stage_runs",
    metadata,
    Column("run", String, primary_key=True),
    Column("stage", String, primary_key=True),
    Column("stamp", String, nullable=False),  # which record it was taken from; the greatest wins
    Column("written", String, nullable=False),  # stages are ordered by it
    Column("execution", Integer, nullable=False, index=True),
    Column("reused", Boolean, nullable=False),
    Column("reused_despite", String, nullable=False),  # JSON
)

run_events = Table(
    "lineage_run_events",
    metadata,
    Column("key", String, primary_key=True),
    Column("stamp", String, nullable=False),
    Column("run", String, nullable=False, index=True),
    Column("event", String, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

tag_events = Table(
    "lineage_tag_events",
    metadata,
    Column("key", String, primary_key=True),
    Column("stamp", String, nullable=False),
    Column("tag", String, nullable=False, index=True),
    Column("body", LargeBinary, nullable=False),
)

tags = Table(
    "lineage_tags",
    metadata,
    Column("tag", String, primary_key=True),
    Column("node", Integer, nullable=False),
    Column("artifact", Integer, nullable=False, index=True),
)

runs = Table(
    "lineage_runs",
    metadata,
    Column("node", Integer, primary_key=True, autoincrement=False),
    Column("run", String, nullable=False, unique=True),
    Column("recipe", String),
    Column("status", String, nullable=False),
    Column("started", String, nullable=False, index=True),
    Column("seconds", Float),
    Column("stages", Integer, nullable=False),
    Column("reused", Integer, nullable=False),
    Column("failed_stage", String),
    Column("accuracy", Float),
    Column("seed", BigInteger),
    Column("search", String, nullable=False),
)

run_settings = Table(
    "lineage_run_settings",  # settings of the recipe that a run started with
    metadata,
    Column("name", String, primary_key=True),
    Column("run", String, primary_key=True),
    Column("number", Float),  # NULL for what is not a number
    Column("text", String, nullable=False),
    Index("lineage_run_settings_run", "run"),
    sqlite_with_rowid=False,
)

stage_figures = Table(
    "lineage_stage_figures",  # figures of executions
    metadata,
    Column("execution", Integer, primary_key=True, autoincrement=False),
    Column("name", String, primary_key=True),
    Column("number", Float, nullable=False),
    sqlite_with_rowid=False,
)

items = Table(
    "lineage_items",
    metadata,
    Column("node", Integer, primary_key=True, autoincrement=False),
    Column("source", Boolean, nullable=False),  # read from outside the store; otherwise an artifact
    Column("model", Boolean, nullable=False),
    Column("digest", String, nullable=False, index=True),
    Column("kind", String, nullable=False),
    Column("name", String, nullable=False),  # of the output, or the file's address
    Column("address", String, nullable=False),
    Column("files", BigInteger),
    Column("size", BigInteger),
    Column("stage", String),
    Column("run", String),
    Column("started", String),
    Column("accuracy", Float),
    Column("mean_tokens", Float),
    Column("tags", String, nullable=False),  # JSON
    Column("search", String, nullable=False),
    Index("lineage_items_newest", "model", "started", "node").ddl_if(dialect="postgresql"),
    # With the text to search and the columns to sort by, SQLite need not read the rows; PostgreSQL's index entries are
    # not that long.
    Index("lineage_items_search", "model", "started", "node", "search").ddl_if(dialect="sqlite"),
    Index("lineage_items_columns", "model", "size", "node", "kind", "stage", "run", "name", "search").ddl_if(
        dialect="sqlite"
    ),
    Index("lineage_items_name", "source", "name"),
    Index("lineage_items_kind", "kind", "source", "started", "node"),  # samples are few among the artifacts
)


class IndexUnusable(LineageError):
    """The database of an index fails: it is damaged, or cannot be opened, read or written.

    Args:
        reason: what the database says.
        damaged: whether what it holds is wrong, so that a new one in the same place would work.
    """

    def __init__(self, message: str, reason: str, damaged: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.damaged = damaged


_DAMAGED = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT)
"""SQLite's errors for a file that is not the index that it should be; the first one is for a missing table."""


def open_engine(url: str) -> Engine:
    """An engine on an index, with its tables, which are created where they are missing.

    Raises LineageError for another kind of address, for a database that cannot be opened, and for an index of a newer
    version.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:  # ValueError: of a port
        raise LineageError(f"{url!r} is not an address of an index: {_FORMS}") from error
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        engine = create_engine(parsed, connect_args={"timeout": WAIT_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    elif parsed.drivername == "postgresql+psycopg":
        engine = create_engine(parsed)
    else:
        raise LineageError(f"{parsed.render_as_string()}: no index can be there; {_FORMS}")
    try:
        _make_tables(engine)
    except UnicodeError as error:  # of a host's name
        raise LineageError(f"{url!r} is not an address of an index ({error}): {_FORMS}") from error
    return engine


_FORMS = "it is sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # Transactions are begun below, so that a writer takes the lock before it reads what it builds on.
    connection.isolation_level = None
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except (
            sqlite3.OperationalError
        ) as error:  # the switch of the mode does not wait for another process that opens the file
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.05)
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writing") else "BEGIN")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees the index as it is now, whatever is committed meanwhile: a rebuild gives nodes other
    numbers. Raises LineageError where the database fails."""
    with _named_errors(engine), engine.connect() as connection:
        if engine.dialect.name == "postgresql":  # SQLite's transactions always are
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """The only transaction that writes, committed unless the block raises. Raises as `reading` does."""
    with _named_errors(engine), engine.connect() as connection:
        connection = connection.execution_options(writing=True)
        with connection.begin():
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            yield connection


def address_of(engine: Engine) -> str:
    """The index's address for messages: without the password."""
    return engine.url.render_as_string()


@contextmanager
def _named_errors(engine: Engine) -> Iterator[None]:
    try:
        yield
    except (DatabaseError, DamagedRow) as error:
        original = error.orig if isinstance(error, DatabaseError) else error
        reason = str(original).strip()
        damaged = original is error or getattr(original, "sqlite_errorcode", -1) & 0xFF in _DAMAGED
        raise IndexUnusable(
            f"the index {address_of(engine)} cannot be used: {reason}. All of it is also in the store: if it is "
            "broken, delete it, or name another with --index",
            reason,
            damaged,
        ) from error


def _make_tables(engine: Engine) -> None:
    with writing(engine) as connection:
        version = schema_of(connection)
        if version is not None and version > SCHEMA:
            raise LineageError(
                f"the index {address_of(engine)} was made by a newer version of Longhaul (schema {version}; this one "
                f"knows up to {SCHEMA}): upgrade it, or name another index with --index"
            )
        if version != SCHEMA:
            # All of it is also in the store's records.
            metadata.drop_all(connection)
            metadata.create_all(connection)
            connection.execute(meta.insert(), {"name": "schema", "value": str(SCHEMA)})


def schema_of(connection: Connection) -> int | None:
    """Version of the existing tables; None where there are none."""
    if not connection.dialect.has_table(connection, meta.name):
        return None
    value = connection.execute(select(meta.c.value).where(meta.c.name == "schema")).scalar()
    try:
        return int(value) if value is not None else None
    except ValueError as error:
        raise DamagedRow(f"its schema is {value!r}") from error


def among(connection: Connection, column: ColumnElement[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """Whether a column's value is one of any number of values: one parameter, however many there are."""
    if connection.dialect.name == "postgresql":
        return column == any_(bindparam(None, list(values), type_=ARRAY(column.type), unique=True))
    return column.in_(select(func.json_each(json.dumps(list(values))).table_valued("value").c.value))
