"""Files and folders that appear whole or not at all."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from infra.files import folder_written_aside, write_text_atomically


def test_text_is_written_as_it_is_and_readable_by_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file.txt"
    write_text_atomically(path, "ü\r\n\u2028\n")
    assert path.read_bytes() == "ü\r\n\u2028\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text_atomically(path, "x" * 100_000 + "\ud800")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_reader_never_sees_a_part_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    texts = ["a" * 200_000, "b" * 300_000]
    write_text_atomically(path, texts[0])
    finished = threading.Event()
    seen: set[str] = set()

    def read() -> None:
        while not finished.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(40):
        write_text_atomically(path, texts[i % 2])
    finished.set()
    reader.join()
    assert seen <= set(texts)


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text_atomically(path, "old")
    program = (
        "import os, sys; from pathlib import Path; import infra.files as files\n"
        "os.replace = lambda *names: os.kill(os.getpid(), 9)\n"
        "files.write_text_atomically(Path(sys.argv[1]), 'new')"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == -9
    assert path.read_text() == "old"


def test_a_folder_appears_when_its_block_ends_well(tmp_path: Path) -> None:
    destination = tmp_path / "deep" / "folder"
    with folder_written_aside(destination) as aside:
        (aside / "sub").mkdir()
        (aside / "sub" / "file").write_text("x")
        assert not destination.exists()
    assert (destination / "sub" / "file").read_text() == "x"
    assert stat.S_IMODE(destination.stat().st_mode) == 0o755
    assert os.listdir(destination.parent) == ["folder"]


def test_a_folder_vanishes_when_its_block_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyError), folder_written_aside(tmp_path / "folder") as aside:
        (aside / "file").write_text("x")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_already_stays(tmp_path: Path) -> None:
    destination = tmp_path / "folder"
    for text in ("first", "second"):
        with folder_written_aside(destination) as aside:
            (aside / "file").write_text(text)
    assert (destination / "file").read_text() == "first" and os.listdir(tmp_path) == ["folder"]


def test_a_file_in_the_folders_place_is_an_error_and_stays(tmp_path: Path) -> None:
    destination = tmp_path / "folder"
    destination.write_text("a file")
    with pytest.raises(OSError, match="folder"), folder_written_aside(destination) as aside:
        (aside / "file").write_text("x")
    assert destination.read_text() == "a file" and os.listdir(tmp_path) == ["folder"]
