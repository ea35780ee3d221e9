"""Rows of files of every kind that is read, and what is said of damaged ones and of those that are not."""

import gzip
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from steps.data_files import compressed
from steps.data_files.read import read_file
from steps.problem import MalformedRow

ROWS = [{"a": f"row {number}", "b": {"c": [number]}} for number in range(3000)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def zstandard(data: bytes) -> bytes:
    return bytes(pyarrow.Codec("zstd").compress(data, asbytes=True))


def as_parquet(rows: list[Any]) -> bytes:
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


MADE: dict[str, bytes] = {
    "rows.jsonl": LINES,
    "rows.json": LINES,
    "list.json": json.dumps(ROWS).encode(),
    "rows.jsonl.gz": gzip.compress(LINES),
    "rows.jsonl.zst": zstandard(LINES),
    "by its bytes": gzip.compress(LINES),
    "rows.parquet": as_parquet(ROWS),
}


def rows(path: Path) -> list[tuple[int, Any]]:
    return list(read_file(path, str(path)))


@pytest.mark.parametrize("name", MADE)
def test_every_kind_of_file_has_the_same_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(MADE[name])
    assert rows(path) == list(enumerate(ROWS, 1))


def test_two_compressed_files_one_after_the_other_are_read_whole(tmp_path: Path) -> None:
    for name, squeeze in (("a.gz", gzip.compress), ("a.zst", zstandard)):
        (tmp_path / name).write_bytes(squeeze(LINES) * 2)
        assert len(rows(tmp_path / name)) == 2 * len(ROWS)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "half": lambda whole: whole[: len(whole) // 2],
    "without its end": lambda whole: whole[:-3],
    "other bytes": lambda whole: whole[:200] + b"\xff" * 64 + whole[264:],
    "another file": lambda whole: b"<html>404</html>\n",
}


# In Zstandard, other bytes are noticed by a checksum, which pyarrow does not write.
@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (name, damage)
        for name in ("rows.jsonl.gz", "rows.jsonl.zst", "rows.parquet")
        for damage in DAMAGES
        if (name, damage) != ("rows.jsonl.zst", "other bytes")
    ],
)
def test_a_damaged_file_is_refused_with_its_name_and_the_way_out(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / name
    path.write_bytes(DAMAGES[damage](MADE[name]))
    with pytest.raises(MalformedRow, match=r"cannot be (decompressed|read as Parquet) after .*; copy or") as error:
        rows(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl.zst"])
def test_a_file_that_decompresses_to_far_more_than_its_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(compressed, "SMALL", 1 << 20)
    lines = (b'{"a": "' + b"x" * 1000 + b'"}\n') * 4000
    (tmp_path / name).write_bytes((gzip.compress if name.endswith("gz") else zstandard)(lines))
    with pytest.raises(MalformedRow, match="decompresses to more than 200 times its size"):
        rows(tmp_path / name)


def test_a_parquet_file_with_far_more_inside_than_its_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steps.data_files.parquet.SMALL", 1 << 20)
    table = pyarrow.Table.from_pylist([{"a": "x" * 1000 + str(number % 2)} for number in range(20_000)])
    parquet.write_table(table, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    with pytest.raises(MalformedRow, match=r"a row group decompresses to \d+ MiB, more than 200 times the file"):
        rows(tmp_path / "a.parquet")


def test_a_line_that_does_not_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressed, "LONGEST_LINE", 1000)
    (tmp_path / "a.jsonl").write_bytes(b"{}\n" + b" " * 5000)
    with pytest.raises(MalformedRow, match=r"a.jsonl:2: longer than 0 MiB"):
        rows(tmp_path / "a.jsonl")


def test_a_line_without_a_row_is_named_and_those_after_it_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n[2]\n{"a": 3\n{"a": 4}\n')
    numbered = rows(tmp_path / "a.jsonl")
    assert [number for number, _ in numbered] == [1, 3, 4, 5]
    assert [str(row) for _, row in numbered[1:3]] == [
        f"{tmp_path}/a.jsonl:3: expected an object, found list",
        f"{tmp_path}/a.jsonl:4: not JSON (Expecting ',' delimiter: line 2 column 1 (char 8))",
    ]
    (tmp_path / "b.json").write_text('[{"a": 1}, 2]')
    first, second = rows(tmp_path / "b.json")
    assert first == (1, {"a": 1}) and "b.json:2: expected an object, found int" in str(second[1])


@pytest.mark.parametrize("name", ["a.csv", "a.arrow", "a.tar.gz", "a.zip"])
def test_a_file_of_a_kind_that_is_not_read_says_which_are(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a,b\n1,2\n")
    with pytest.raises(MalformedRow, match=rf"{name}: not a kind of file that is read: convert it to JSON lines"):
        rows(tmp_path / name)


def test_a_row_of_a_parquet_file_that_is_too_long_is_named_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steps.data_files.parquet.LONGEST_LINE", 10_000)
    (tmp_path / "a.parquet").write_bytes(as_parquet([{"a": "x" * (2000 if n != 299 else 20_000)} for n in range(400)]))
    with pytest.raises(MalformedRow, match=r"a.parquet:300: longer than \d+ MiB: leave the row out"):
        rows(tmp_path / "a.parquet")


def test_a_value_that_python_does_not_have_is_refused_with_its_file(tmp_path: Path) -> None:
    years = pyarrow.array([0, 10**15], pyarrow.timestamp("ms"))
    parquet.write_table(pyarrow.table({"a": ["b", "c"], "when": years}), tmp_path / "a.parquet")
    with pytest.raises(MalformedRow, match=r"a.parquet: a value after row 0 is none that Python has .*that column"):
        rows(tmp_path / "a.parquet")


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf\n  [{"a": 1}]')
    assert rows(tmp_path / "a.json") == [(1, {"a": 1})]


def test_parquet_columns_have_the_values_of_their_types(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(as_parquet([{"n": 1, "f": 0.5, "d": date(2024, 1, 2), "l": None}]))
    assert rows(tmp_path / "a.parquet") == [(1, {"n": 1, "f": 0.5, "d": date(2024, 1, 2), "l": None})]
