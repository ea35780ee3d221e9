"""Engines' noise goes to the log by every road, what the user should see does not, and all is put back."""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from infra.progress.logs import ENGINES, output, quiet_to, terminal

NOISE = """
import ctypes, logging, os, subprocess, sys, warnings
def noise(tag):
    print("python", tag)
    print("python error", tag, file=sys.stderr)
    os.write(1, f"descriptor {tag}\\n".encode())
    ctypes.CDLL(None).printf(f"c library {tag}\\n".encode())
    subprocess.run(["echo", "child", tag])
    logging.getLogger("vllm.engine").warning("logger %s", tag)
    warnings.warn(f"warning {tag}")
ROADS = ["python", "python error", "descriptor", "c library", "child", "logger", "warning"]
"""


def run(program: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, in `tmp_path`: descriptors 1 and 2 are pytest's here."""
    return subprocess.run(
        [sys.executable, "-c", NOISE + program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_noise_by_every_road_lands_in_the_log_and_comes_back_afterwards(tmp_path: Path) -> None:
    done = run(
        """
from pathlib import Path
from infra.progress.logs import output, quiet_to, terminal
with quiet_to(Path("logs/engine.log")):
    noise("inside")
    print("for the user", file=terminal)
    print("the result", file=output)
noise("outside")
""",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "logs/engine.log").read_text()
    roads = ["python", "python error", "descriptor", "c library", "child", "warning"]
    assert all(f"{road} inside" in log for road in [*roads, "logger"])
    assert log.count("logger inside") == 1
    assert "inside" not in done.stdout + done.stderr
    assert all(f"{road} outside" in done.stdout + done.stderr for road in [*roads, "logger"])
    assert "outside" not in log
    assert done.stderr.startswith("for the user\n")
    assert "the result\n" in done.stdout


def test_the_inner_log_takes_over_and_the_outer_one_again(tmp_path: Path) -> None:
    done = run(
        """
from pathlib import Path
from infra.progress.logs import quiet_to, terminal
with quiet_to(Path("outer.log")):
    noise("before")
    with quiet_to(Path("inner.log")):
        noise("within")
        print("seen", file=terminal)
    noise("after")
noise("outside")
""",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    outer, inner = (tmp_path / "outer.log").read_text(), (tmp_path / "inner.log").read_text()
    assert "within" not in outer and outer.count(" before") == outer.count(" after") >= 7
    assert "before" not in inner and "after" not in inner and inner.count(" within") >= 7
    assert done.stderr.startswith("seen\n") and "within" not in done.stderr + done.stdout


def test_an_exception_tells_where_the_log_is_and_everything_is_put_back(tmp_path: Path) -> None:
    done = run(
        """
from pathlib import Path
from infra.progress.logs import quiet_to
before = len(__import__("os").listdir("/proc/self/fd"))
for i in range(3):
    try:
        with quiet_to(Path("outer.log")), quiet_to(Path("inner.log")):
            raise MemoryError("no room")
    except MemoryError as error:
        assert error.__notes__ == [f"What the engines printed is in {name}.log" for name in ("inner", "outer")]
assert len(__import__("os").listdir("/proc/self/fd")) == before
with quiet_to(Path("inner.log")):
    raise RuntimeError("engine died")
""",
        tmp_path,
    )
    assert done.returncode == 1
    assert "RuntimeError: engine died\nWhat the engines printed is in inner.log" in done.stderr


def test_a_handler_made_inside_still_works_outside(tmp_path: Path) -> None:
    """Engines make handlers on sys.stdout when they are imported, which is inside the block."""
    done = run(
        """
from pathlib import Path
from infra.progress.logs import quiet_to
with quiet_to(Path("engine.log")):
    logger = logging.getLogger("vllm")
    logger.handlers[:] = [logging.StreamHandler(sys.stdout)]
    logger.warning("first")
logger.warning("second")
""",
        tmp_path,
    )
    assert (tmp_path / "engine.log").read_text() == "first\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, "second\n", "")


def test_loggers_get_their_handlers_and_propagation_back(tmp_path: Path) -> None:
    logger = logging.getLogger("deepspeed")
    own = logging.NullHandler()
    logger.addHandler(own)
    try:
        before = [(logging.getLogger(name).handlers[:], logging.getLogger(name).propagate) for name in ENGINES]
        with quiet_to(tmp_path / "engine.log"):
            logger.warning("step 1")
            assert own not in logger.handlers
        assert before == [(logging.getLogger(name).handlers[:], logging.getLogger(name).propagate) for name in ENGINES]
    finally:
        logger.removeHandler(own)
    assert "WARNING deepspeed: step 1" in (tmp_path / "engine.log").read_text()


def test_the_log_is_appended_to(tmp_path: Path) -> None:
    for word in ("first", "second"):
        with quiet_to(tmp_path / "engine.log"):
            os.write(1, f"{word}\n".encode())
    assert (tmp_path / "engine.log").read_text() == "first\nsecond\n"


def test_a_log_that_cannot_be_written_changes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError), quiet_to(tmp_path / "folder"):
        pass
    os.write(1, b"still here\n")
    assert capfd.readouterr().out == "still here\n"


def test_threads_may_write_while_the_switch_turns(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stop, written = threading.Event(), [0, 0]

    def write(place: int) -> None:
        while not stop.is_set():
            (output, terminal)[place].write("x\n")
            written[place] += 1

    threads = [threading.Thread(target=write, args=(place,)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        with quiet_to(tmp_path / "engine.log"):
            pass
    stop.set()
    for thread in threads:
        thread.join()
    seen = capfd.readouterr()
    assert (seen.out.count("x"), seen.err.count("x")) == tuple(written)
    assert (tmp_path / "engine.log").read_text() == ""
