"""Queries of the samples of a stage: what a model was trained on, iteration by iteration, prompt by prompt.

DuckDB answers them from the Parquet files. It never opens a file itself: the files are read for it, and its own access
to files, network and settings is off, so that a query in free SQL can read the samples and nothing else.

NOTE: a folder of samples is compared with its manifest at a process's first query of it, and assumed to be unchanged
from then on. Prompts and responses are texts of others: escape them, also before they reach a terminal.
"""

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pyarrow.dataset
import pyarrow.parquet

from infra.errors import LonghaulError
from infra.lineage.prompt_digest import prompt_digests
from infra.lineage.sample_files import FORMAT, FORMAT_KEY, SCHEMA, SCHEMA_1
from infra.lineage.sample_row import KIND
from infra.store.store import Corrupted, Ref, Store, StoreError

SAMPLE_ORDERS = ("number", "iteration", "problem_id", "tokens", "reward", "total_reward", "advantage", "started")
PROMPT_ORDERS = ("problem_id", "responses", "times_trained", "iterations", "mean_tokens", "first_reward", "last_reward")
"""Columns that samples and prompts can be ordered by; with a minus in front, greatest first."""

SQL_SECONDS = 60.0
"""How long a SELECT in free SQL may take."""

_CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "python_enable_replacements": False,  # a name in SQL could otherwise refer to a variable of this process
    "temp_directory": "",
}

_SCHEMAS = {1: SCHEMA_1, FORMAT: SCHEMA}
"""The columns of each format that this version reads."""

_RENAMED = {(1, "times_trained"): "passes AS times_trained"}
"""By format and today's name, how a column is read that had another name."""

_ITERATIONS = """
    SELECT iteration, count(DISTINCT prompt_digest) AS prompts, count(*) AS responses,
        sum(times_trained) AS times_trained, avg(reward) AS mean_reward,
        avg(total_reward) AS mean_total_reward, avg(tokens) AS mean_tokens, max(tokens) AS longest,
        histogram(outcome) AS outcomes,
        min(list_min(list_transform(policies, lambda span: span.iteration))) AS oldest_policy
    FROM samples GROUP BY iteration ORDER BY iteration
"""

_PROMPTS = """
    WITH parts AS (
        SELECT prompt_digest, coalesce(iteration, 0) AS part, arg_min(problem_id, number) AS problem_id,
            arg_min(prompt, number) AS prompt, count(*) AS responses, sum(times_trained) AS times_trained,
            sum(tokens) AS tokens, avg(reward) AS mean_reward
        FROM samples GROUP BY ALL
    )
    SELECT prompt_digest, arg_min(problem_id, part) AS problem_id, arg_min(prompt, part) AS prompt,
        sum(responses)::BIGINT AS responses, sum(times_trained)::BIGINT AS times_trained, count(*) AS iterations,
        sum(tokens) / sum(responses) AS mean_tokens,
        arg_min(mean_reward, part) AS first_reward, arg_max(mean_reward, part) AS last_reward
    FROM parts GROUP BY prompt_digest
"""


class SamplesError(LonghaulError, ValueError):
    """A query that cannot be answered; the message says why, and which queries there are."""


def as_digests(prompt: str) -> tuple[str, ...]:
    """A prompt's digests, today's first, from its text; a digest stands for itself alone.

    Of a prompt with images only its digest will do.
    """
    return (prompt,) if re.fullmatch("[0-9a-f]{64}", prompt) else prompt_digests(prompt)


def samples_of(
    store: Store,
    ref: Ref,
    iteration: int | None = None,
    outcome: str | None = None,
    prompt: str | None = None,
    order: str = "number",
    limit: int | None = 100,
    offset: int = 0,
) -> list[dict[str, Any]]:
    """Rows of SCHEMA, of one iteration, outcome or prompt (text or digest); default: all of them.

    By default in the order in which they were written. Raises SamplesError for an unknown order, and for an artifact
    without samples; StoreError where its files cannot be fetched, or are of a newer version.
    """
    where, values = _where(iteration, outcome, prompt)
    by = order_by(order, SAMPLE_ORDERS, then="iteration, number")
    with open_samples(store, ref) as samples:
        return rows_of(
            samples.execute(f"SELECT * FROM samples {where} {by} LIMIT ? OFFSET ?", [*values, limit, offset])
        )


def count_of(
    store: Store, ref: Ref, iteration: int | None = None, outcome: str | None = None, prompt: str | None = None
) -> int:
    """How many rows samples_of has without a limit."""
    where, values = _where(iteration, outcome, prompt)
    with open_samples(store, ref) as samples:
        return int(rows_of(samples.execute(f"SELECT count(*) AS count FROM samples {where}", values))[0]["count"])


def iterations_of(store: Store, ref: Ref) -> list[dict[str, Any]]:
    """What each iteration was trained on; outside RL there is one, whose number is None.

    Of each: iteration, prompts (different ones), responses, times_trained, mean_reward, mean_total_reward, mean_tokens,
    longest (tokens), outcomes (responses by outcome), oldest_policy (the earliest iteration whose policy wrote a part).
    """
    with open_samples(store, ref) as samples:
        return rows_of(samples.execute(_ITERATIONS))


def prompts_of(
    store: Store, ref: Ref, order: str = "problem_id", limit: int | None = 100, offset: int = 0
) -> list[dict[str, Any]]:
    """Each prompt, with its results.

    Of each: prompt_digest, problem_id, prompt, responses, times_trained (of all of them), iterations
    (in how many it was handed out), mean_tokens, first_reward and last_reward (means in the first and last of these).
    """
    by = order_by(order, PROMPT_ORDERS, then="prompt_digest")
    with open_samples(store, ref) as samples:
        return rows_of(samples.execute(f"{_PROMPTS} {by} LIMIT ? OFFSET ?", [limit, offset]))


def prompts_in(store: Store, ref: Ref) -> list[tuple[str, int, int, float | None]]:
    """Of each prompt, and of each image in prompts: its digest, responses, times trained and mean reward."""
    with open_samples(store, ref) as samples:
        return samples.execute(
            "SELECT digest, count(*), sum(times_trained)::BIGINT, avg(reward) FROM "
            "(SELECT prompt_digest AS digest, times_trained, reward FROM samples UNION ALL "
            "SELECT unnest(list_distinct(images)), times_trained, reward FROM samples WHERE images IS NOT NULL) "
            "GROUP BY ALL ORDER BY ALL"
        ).fetchall()


def query(
    store: Store, ref: Ref, sql: str, most: int | None = None, seconds: float = SQL_SECONDS
) -> list[dict[str, Any]]:
    """The first `most` rows that one SELECT has; the samples are the view `samples`.

    It reads nothing else and writes nothing. Raises SamplesError for anything but one SELECT, and for one that fails or
    takes longer than `seconds`.
    """
    with open_samples(store, ref) as samples, _interrupted_after(seconds, samples):
        try:
            statements = samples.extract_statements(sql)
            if len(statements) != 1 or statements[0].type is not duckdb.StatementType.SELECT:
                raise SamplesError("expected one SELECT, as in: SELECT iteration, avg(reward) FROM samples GROUP BY 1")
            return rows_of(samples.execute(statements[0]), most)
        except duckdb.InterruptException as error:
            raise SamplesError(
                f"the SELECT took longer than {seconds:g} seconds and was ended: ask for less, as by a join on a key "
                "rather than of all rows with all, or a recursion that ends"
            ) from error
        except duckdb.Error as error:
            raise SamplesError(f"{error}\nThe columns of samples: {', '.join(SCHEMA.names)}") from error


@contextmanager
def _interrupted_after(seconds: float, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    timer = threading.Timer(seconds, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _where(iteration: int | None, outcome: str | None, prompt: str | None) -> tuple[str, list[Any]]:
    columns = {"iteration": iteration, "outcome": outcome}
    conditions = [f"{column} = ?" for column, value in columns.items() if value is not None]
    values: list[Any] = [value for value in columns.values() if value is not None]
    if prompt is not None:
        digests = as_digests(prompt)
        conditions.append(f"prompt_digest IN ({', '.join('?' * len(digests))})")
        values += digests
    return (f"WHERE {' AND '.join(conditions)}" if conditions else ""), values


def order_by(order: str, known: Sequence[str], then: str) -> str:
    """An ORDER BY clause for a column, greatest first with a minus in front. Raises SamplesError for an unknown one."""
    column = order.removeprefix("-")
    if column not in known:
        raise SamplesError(f"{order!r}: the order is one of {', '.join(known)}, with a minus for greatest first")
    if order == "number":
        return f"ORDER BY {then}"
    return f"ORDER BY {column} {'DESC' if order.startswith('-') else 'ASC'} NULLS LAST, {then}"


def rows_of(result: duckdb.DuckDBPyConnection, most: int | None = None) -> list[dict[str, Any]]:
    """The first `most` rows of a result (default: all), by column."""
    names = [column[0] for column in result.description or ()]
    rows = result.fetchall() if most is None else result.fetchmany(most)
    return [dict(zip(names, row, strict=True)) for row in rows]


@contextmanager
def open_samples(store: Store, ref: Ref) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that has the samples as the view `samples`, and no way to anything else. Raises as samples_of."""
    with closed_connection() as connection, samples_within(connection, store, ref):
        connection.execute("SET lock_configuration = true")
        yield connection


@contextmanager
def closed_connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection without a way to files, network or this process. To open one takes longer than most queries."""
    with duckdb.connect(config=_CLOSED) as connection:
        yield connection


@contextmanager
def samples_within(connection: duckdb.DuckDBPyConnection, store: Store, ref: Ref) -> Iterator[None]:
    """Have samples as the view `samples` of a connection while the block runs, in place of others. Raises as
    samples_of, also where a query within the block fails."""
    with _read(ref):
        _register(connection, sample_paths(store, ref))
        yield


def rows_of_prompt(store: Store, ref: Ref, digest: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Some columns of all rows of a prompt, by its digest. Read from the files themselves: of one prompt that takes
    less than half the time that DuckDB does. Raises as samples_of."""
    with _read(ref):
        files = pyarrow.dataset.dataset(sample_paths(store, ref), schema=SCHEMA, format="parquet")
        rows = files.to_table(list(columns), filter=pyarrow.dataset.field("prompt_digest") == digest)
        return list(rows.to_pylist())


@contextmanager
def _read(ref: Ref) -> Iterator[None]:
    """Raise StoreError where the block cannot read samples."""
    try:
        yield
    except (OSError, duckdb.Error, pyarrow.ArrowException, Corrupted) as error:
        _fetched.cache_clear()  # they were whole when they were fetched: the next query compares every byte again
        if isinstance(error, Corrupted):
            raise
        raise StoreError(f"the samples {ref.digest} cannot be read: {error}") from error


def _register(connection: duckdb.DuckDBPyConnection, files: Sequence[str]) -> None:
    """Make the files the view `samples`, with today's columns."""
    # A stage that a newer version continued has both formats, the older one first.
    formats = [_format(files[-1])] * len(files)
    if _format(files[0]) != formats[-1]:
        formats = [_format(file) for file in files]
    parts = []
    for number, schema in _SCHEMAS.items():
        if own := [file for file, its in zip(files, formats, strict=True) if its == number]:
            connection.register(f"samples_{number}", pyarrow.dataset.dataset(own, schema=schema, format="parquet"))
            columns = ", ".join(_RENAMED.get((number, name), name) for name in SCHEMA.names)
            parts.append(f"SELECT {columns} FROM samples_{number}")
    connection.execute(f"CREATE OR REPLACE TEMP VIEW samples AS {' UNION ALL '.join(parts)}")


def _format(path: str) -> int:
    """A file's format. Raises ValueError for a file that is not one of samples, OSError for one that is gone."""
    metadata = pyarrow.parquet.read_schema(path).metadata or {}
    if FORMAT_KEY not in metadata:
        raise ValueError(f"it has no {FORMAT_KEY.decode()} in its metadata")
    return int(metadata[FORMAT_KEY])


def sample_paths(store: Store, ref: Ref) -> list[str]:
    """The files of a folder of samples on this machine, in the order of their iterations. Raises as samples_of."""
    if ref.kind != KIND:
        raise SamplesError(f"{ref.digest[:12]} is of kind {ref.kind!r}, and samples are of kind {KIND!r}")
    paths = sorted(_fetched(store, ref).iterdir())
    if not paths:
        raise Corrupted(f"the samples {ref.digest} cannot be read: their folder is empty")
    try:
        number = _format(str(paths[-1]))
    except (ValueError, OSError) as error:
        raise Corrupted(f"{paths[-1]} is not a file of samples: {error}") from error
    if number > FORMAT:
        raise StoreError(
            f"{paths[-1]} was written by a newer version of Longhaul (format {number}; this one reads up to {FORMAT}): "
            "upgrade it"
        )
    return [str(path) for path in paths]


@lru_cache(maxsize=4096)
def _fetched(store: Store, ref: Ref) -> Path:
    return store.fetch(ref)
