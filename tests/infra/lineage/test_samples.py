"""Samples: written as the same bytes each time, whole or not at all, and asked about without a way to anything else."""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import infra.lineage.sample_files as sample_files
from infra.lineage.prompt_digest import prompt_digest
from infra.lineage.sample_files import FORMAT_KEY, SCHEMA, write_samples
from infra.lineage.sample_row import KIND, PolicySpan, SampleRow
from infra.lineage.samples import (
    SamplesError,
    closed_connection,
    count_of,
    iterations_of,
    prompts_in,
    prompts_of,
    query,
    rows_of_prompt,
    samples_of,
    samples_within,
)
from infra.store.open import open_store
from infra.store.store import Corrupted, Ref, Store, StoreError

HOSTILE = "<script>alert(1)</script>\x1b[2J'; DROP TABLE samples; --\0 \u202e"


def rollout(iteration: int, number: int, **changed: Any) -> SampleRow:
    """A response of an iteration; of each prompt there are four, and every fifth prompt is stale."""
    rng = Random(f"{iteration} {number}")
    stale = number // 4 % 5 == 4
    prompt = f"prompt {number // 4}"
    values: dict[str, Any] = {
        "problem_id": f"p{number // 4}",
        "prompt_digest": prompt_digest(prompt),
        "prompt": prompt,
        "response": HOSTILE if number == 3 else "so " * rng.randint(1, 90),
        "tokens": rng.randint(1, 90),
        "role": "rollout",
        "outcome": "stale" if stale else "trained",
        "times_trained": int(not stale),
        "iteration": iteration,
        "started": max(0, iteration - 1),
        "policies": [PolicySpan(max(0, iteration - 1), 5), PolicySpan(iteration, 7)],
        "seed": rng.getrandbits(31),
        "stop": "end",
        "reward": None if stale else float(rng.random() < 0.5),
        "reward_reason": "right",
        "verifier": "math@3",
        "total_reward": None if stale else rng.random(),
        "advantage": None if stale else rng.random() - 0.5,
    }
    return SampleRow(**values | changed)


ROWS = [[rollout(iteration, number) for number in range(40)] for iteration in range(3)]


@pytest.fixture(scope="module")
def in_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Ref]:
    # The folder's name holds what SQL and file patterns act on.
    place = tmp_path_factory.mktemp("in_store")
    for iteration, rows in enumerate(ROWS):
        write_samples(place / "samples" / f"{iteration:06d}.parquet", rows)
    store = open_store(place / "it's [a] st*re")
    return store, store.put(place / "samples", KIND)


def digest(folder: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.iterdir()))).hexdigest()


def test_the_same_rows_are_the_same_bytes_and_nothing_of_time_or_place_is_in_them(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_samples(tmp_path / folder / "000000.parquet", iter(ROWS[0]))
        os.utime(tmp_path / folder / "000000.parquet", (0, 0))
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    file = pq.ParquetFile(tmp_path / "a" / "000000.parquet")
    assert file.schema_arrow.metadata == {FORMAT_KEY: b"2"}
    assert file.metadata.created_by.startswith("parquet-cpp-arrow version")
    assert {file.metadata.row_group(0).column(i).compression for i in range(file.metadata.num_columns)} == {"ZSTD"}


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(TEXT, TEXT, st.none() | st.floats(allow_nan=False)), max_size=12), st.integers(1, 5))
def test_any_text_and_reward_come_back_as_they_were_across_row_groups(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[str, str, float | None]], group: int
) -> None:
    rows = [rollout(0, 0, prompt=prompt, response=response, reward=reward) for prompt, response, reward in values]
    path = tmp_path_factory.mktemp("any") / "000000.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample_files, "ROW_GROUP", group)
        assert write_samples(path, rows) == len(rows)
    read = pq.read_table(path).to_pylist()
    assert [(row["prompt"], row["response"], row["reward"]) for row in read] == values
    assert [row["number"] for row in read] == list(range(len(rows)))


def test_half_a_character_does_not_end_a_stage(tmp_path: Path) -> None:
    write_samples(tmp_path / "a.parquet", [rollout(0, 0, response="a\ud800b", reward_reason="\udfff")])
    (row,) = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert (row["response"], row["reward_reason"]) == ("a\ufffdb", "\ufffd")


def test_a_file_that_could_not_be_written_leaves_the_one_before_and_nothing_else(tmp_path: Path) -> None:
    write_samples(tmp_path / "000000.parquet", ROWS[0])
    before = digest(tmp_path)

    def broken() -> Any:
        yield ROWS[1][0]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_samples(tmp_path / "000000.parquet", broken())
    assert [path.name for path in tmp_path.iterdir()] == ["000000.parquet"] and digest(tmp_path) == before


def test_an_iteration_that_handed_nothing_out_is_a_file_without_rows(tmp_path: Path) -> None:
    write_samples(tmp_path / "samples" / "000000.parquet", [])
    store = open_store(tmp_path / "store")
    ref = store.put(tmp_path / "samples", KIND)
    assert samples_of(store, ref) == iterations_of(store, ref) == prompts_of(store, ref) == []


def test_samples_come_in_the_order_of_training_with_every_column(in_store: tuple[Store, Ref]) -> None:
    actual = samples_of(*in_store, limit=None)
    flattened = [row for rows in ROWS for row in rows]
    assert [list(row) for row in actual] == [SCHEMA.names] * len(flattened)
    assert [(row["iteration"], row["number"], row["response"]) for row in actual] == [
        (row.iteration, number % 40, row.response) for number, row in enumerate(flattened)
    ]
    assert actual[40]["policies"] == [{"iteration": 0, "tokens": 5}, {"iteration": 1, "tokens": 7}]


def test_samples_are_chosen_ordered_and_paged(in_store: tuple[Store, Ref]) -> None:
    chosen = [row for row in ROWS[1] if row.outcome == "trained"]
    longest = sorted((row.tokens for row in chosen), reverse=True)
    pages = [
        samples_of(*in_store, iteration=1, outcome="trained", order="-tokens", limit=10, offset=offset)
        for offset in range(0, 40, 10)
    ]
    assert [row["tokens"] for page in pages for row in page] == longest
    assert count_of(*in_store, iteration=1, outcome="trained") == len(chosen)
    assert {row["prompt"] for row in samples_of(*in_store, prompt="  prompt \t 7\n")} == {"prompt 7"}
    assert samples_of(*in_store, prompt=prompt_digest("prompt 7")) == samples_of(*in_store, prompt="prompt 7")
    assert samples_of(*in_store, outcome="' OR 1=1 --") == []
    # The stale ones have no reward, and come last whichever way.
    assert [row["reward"] for row in samples_of(*in_store, order="-reward", limit=None)][-24:] == [None] * 24
    for order in ("reward; DROP TABLE samples", "response", ""):
        with pytest.raises(SamplesError, match="the order is one of number, iteration"):
            samples_of(*in_store, order=order)


def test_iterations_are_summed_up(in_store: tuple[Store, Ref]) -> None:
    for iteration, (actual, rows) in enumerate(zip(iterations_of(*in_store), ROWS, strict=True)):
        assert actual.pop("mean_reward") == pytest.approx(fmean(r.reward for r in rows if r.reward is not None))
        assert actual.pop("mean_total_reward") == pytest.approx(
            fmean(r.total_reward for r in rows if r.total_reward is not None)
        )
        assert actual.pop("mean_tokens") == pytest.approx(fmean(r.tokens for r in rows))
        assert actual == {
            "iteration": iteration,
            "prompts": 10,
            "responses": 40,
            "times_trained": sum(row.times_trained for row in rows),
            "longest": max(row.tokens for row in rows),
            "outcomes": dict(Counter(row.outcome for row in rows)),
            "oldest_policy": max(0, iteration - 1),
        }


def test_prompts_are_summed_up_from_their_first_iteration_to_their_last(in_store: tuple[Store, Ref]) -> None:
    actual = {row["problem_id"]: row for row in prompts_of(*in_store)}
    assert len(actual) == 10

    def mean(iteration: int) -> float:
        return fmean(row.reward or 0.0 for row in ROWS[iteration] if row.problem_id == "p2")

    two = actual["p2"]
    assert (two["prompt"], two["prompt_digest"]) == ("prompt 2", prompt_digest("prompt 2"))
    assert (two["responses"], two["times_trained"], two["iterations"]) == (12, 12, 3)
    assert (two["first_reward"], two["last_reward"]) == (mean(0), mean(2))
    assert (actual["p4"]["times_trained"], actual["p4"]["first_reward"]) == (0, None)
    assert [row["problem_id"] for row in prompts_of(*in_store, order="-problem_id", limit=2)] == ["p9", "p8"]


def test_outside_rl_there_is_one_iteration_without_a_number(tmp_path: Path) -> None:
    rows = [SampleRow("p", prompt_digest("?"), "?", "1", 2, "imitated", "trained", 3)]
    write_samples(tmp_path / "samples" / "samples.parquet", rows)
    store = open_store(tmp_path / "store")
    ref = store.put(tmp_path / "samples", KIND)
    (iteration,) = iterations_of(store, ref)
    assert (iteration["iteration"], iteration["times_trained"], iteration["mean_reward"]) == (None, 3, None)
    assert [row["times_trained"] for row in prompts_of(store, ref)] == [3]


def test_free_sql_is_answered(in_store: tuple[Store, Ref]) -> None:
    sql = "SELECT iteration, count(*) AS n FROM samples WHERE outcome = 'stale' GROUP BY 1 ORDER BY 1"
    assert query(*in_store, sql) == [{"iteration": iteration, "n": 8} for iteration in range(3)]
    assert query(*in_store, "FROM samples", most=5) == samples_of(*in_store, limit=5)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{secret}')",
        "SELECT * FROM read_text('{secret}')",
        "SELECT * FROM '{secret}'",
        "SELECT * FROM read_parquet('{parquet}')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM secret_frame",
        "SELECT getenv('HOME')",
        "COPY samples TO '{out}'",
        "COPY (SELECT 1) TO '{out}'",
        "EXPORT DATABASE '{out}'",
        "ATTACH '{out}'",
        "CREATE TABLE own AS SELECT 1",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "SELECT 1; COPY samples TO '{out}'",
        "DROP VIEW samples; SELECT 1",
        "",
        "SELECT nothing FROM samples",
        "SELEC",
    ],
)
def test_free_sql_has_no_way_to_files_settings_or_variables(
    in_store: tuple[Store, Ref], tmp_path: Path, sql: str
) -> None:
    secret_frame = pa.table({"secret": [1]})
    (tmp_path / "secret").write_text("secret")
    pq.write_table(secret_frame, tmp_path / "secret.parquet")
    names = {"secret": tmp_path / "secret", "parquet": tmp_path / "secret.parquet", "out": tmp_path / "out"}
    with pytest.raises(SamplesError):
        query(*in_store, sql.format(**names))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret", "secret.parquet"]


def in_format_1(path: Path) -> None:
    """Write a file of samples as versions before format 2 did."""
    table = pq.read_table(path)
    names = ["passes" if name == "times_trained" else name for name in table.column_names]
    pq.write_table(table.rename_columns(names).replace_schema_metadata({FORMAT_KEY: "1"}), path)


@pytest.mark.parametrize("old", [1, 2, 3])
def test_samples_of_format_1_read_as_todays_also_beside_files_of_today(
    in_store: tuple[Store, Ref], tmp_path: Path, old: int
) -> None:
    for iteration, rows in enumerate(ROWS):
        path = tmp_path / "samples" / f"{iteration:06d}.parquet"
        write_samples(path, rows)
        if iteration < old:
            in_format_1(path)
    store = open_store(tmp_path / "store")
    ref = store.put(tmp_path / "samples", KIND)
    assert samples_of(store, ref, limit=None) == samples_of(*in_store, limit=None)
    assert iterations_of(store, ref) == iterations_of(*in_store)
    assert prompts_of(store, ref) == prompts_of(*in_store)
    assert prompts_in(store, ref) == prompts_in(*in_store)
    sql = "SELECT sum(times_trained)::BIGINT AS n FROM samples"
    assert query(store, ref, sql) == query(*in_store, sql)
    prompt, columns = ROWS[0][0].prompt_digest, ("iteration", "number", "response", "images")
    expected = [{name: row[name] for name in columns} for row in samples_of(*in_store, prompt=prompt, limit=None)]
    assert rows_of_prompt(store, ref, prompt, columns) == rows_of_prompt(*in_store, prompt, columns) == expected


def test_one_connection_reads_one_set_of_samples_after_the_other(in_store: tuple[Store, Ref], tmp_path: Path) -> None:
    other = changed(tmp_path, lambda folder: in_format_1(folder / "000000.parquet"))
    with closed_connection() as connection:
        for samples, rows in ((in_store, 120), (other, 40), (in_store, 120)):
            with samples_within(connection, *samples):
                assert connection.execute("SELECT count(*) FROM samples").fetchall() == [(rows,)]
        with pytest.raises(StoreError, match="cannot be read"), samples_within(connection, *in_store):
            connection.execute("SELECT * FROM read_csv('/etc/passwd')")


def changed(tmp_path: Path, change: Any, names: Sequence[str] = ("000000.parquet",)) -> tuple[Store, Ref]:
    for name in names:
        write_samples(tmp_path / "samples" / name, ROWS[0])
    change(tmp_path / "samples")
    store = open_store(tmp_path / "store")
    return store, store.put(tmp_path / "samples", KIND)


def test_samples_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    def newer(folder: Path) -> None:
        table = pq.read_table(folder / "000000.parquet").replace_schema_metadata({FORMAT_KEY: "3"})
        pq.write_table(table, folder / "000000.parquet")

    with pytest.raises(StoreError, match=r"newer version of Longhaul \(format 3; this one reads up to 2\): upgrade"):
        iterations_of(*changed(tmp_path, newer))


def test_what_holds_no_samples_is_refused(tmp_path: Path, in_store: tuple[Store, Ref]) -> None:
    store, ref = in_store
    with pytest.raises(SamplesError, match="is of kind 'model', and samples are of kind 'samples'"):
        iterations_of(store, ref.model_copy(update={"kind": "model"}))
    with pytest.raises(Corrupted, match="is not a file of samples"):
        iterations_of(*changed(tmp_path, lambda folder: (folder / "000000.parquet").write_bytes(b"PAR1 no")))


def test_a_stored_file_that_was_changed_is_not_read(tmp_path: Path) -> None:
    store, ref = changed(tmp_path, lambda folder: None)
    (file,) = Path(ref.address).iterdir()
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(Corrupted, match=r"000000\.parquet"):
        samples_of(store, ref)


def test_a_file_damaged_after_it_was_read_is_a_store_error_until_it_is_whole_again(
    tmp_path: Path,
) -> None:
    store, ref = changed(tmp_path, lambda folder: None)
    before = samples_of(store, ref)
    (file,) = Path(ref.address).iterdir()
    whole = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(whole[:50] + bytes(400) + whole[450:])
    with pytest.raises(StoreError, match=f"the samples {ref.digest} cannot be read: .*"):
        samples_of(store, ref)
    with pytest.raises(Corrupted, match=r"000000\.parquet has another SHA-256"):
        samples_of(store, ref)
    file.write_bytes(whole)
    assert samples_of(store, ref) == before


def test_samples_in_s3_are_read_as_local_ones(s3: None, tmp_path: Path, in_store: tuple[Store, Ref]) -> None:
    import boto3

    boto3.client("s3").create_bucket(Bucket="samples")
    for iteration, rows in enumerate(ROWS):
        write_samples(tmp_path / "samples" / f"{iteration:06d}.parquet", rows)
    store = open_store("s3://samples/store", tmp_path / "cache")
    ref = store.put(tmp_path / "samples", KIND)
    assert iterations_of(store, ref) == iterations_of(*in_store)
    assert samples_of(store, ref, iteration=2) == samples_of(*in_store, iteration=2)


@pytest.mark.parametrize(
    "sql",
    [
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
        "SELECT sum(hash(a.range, b.range, c.range)) FROM range(100000) a, range(100000) b, range(100000) c",
    ],
    ids=["endless recursion", "cross join"],
)
def test_free_sql_ends_when_its_time_is_over(in_store: tuple[Store, Ref], sql: str) -> None:
    began = time.monotonic()
    with pytest.raises(SamplesError, match="took longer than 0"):
        query(*in_store, sql, seconds=0.5)
    assert time.monotonic() - began < 20
