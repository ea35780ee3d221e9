"""Runs whose processes are killed: nothing of them is left, and it is recorded how they ended."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from flows.fork_server.client import SCRIPT
from flows.fork_server.start import SERVER
from flows.guard import KILLED
from flows.leftovers import SHARED_MEMORY, TEMPORARY
from tests.flows.home import LONGHAUL, ROOT, Home
from tests.processes import running_below

LONG = ["--until", "data", "--set", "data.nano_world.sft_examples=400000"]
"""A stage that takes a minute and needs no engine."""


class Running:
    """`longhaul run` in the stage `data`, started in a session of its own."""

    def __init__(self, folder: Path, *prefix: str) -> None:
        self.home = Home(folder / "home")
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        environment = {**self.home.environment, "TMPDIR": str(self.temporary)}
        command = [*prefix, *LONGHAUL, "run", "--config", "configs/smoke.yaml", *self.home.settings, *LONG]
        self.output = folder / "output"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
                # The tests themselves may run under nohup.
                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
            )
        until = time.monotonic() + 120
        while not self._in_stage():
            assert self.process.poll() is None and time.monotonic() < until, self.output.read_text()
            time.sleep(0.1)
        self.below = psutil.Process(self.process.pid).children(recursive=True)

    def _in_stage(self) -> bool:
        return any("wandb-core" in " ".join(line) for _, line in running_below(self.process.pid))

    def pid(self, part: str) -> int:
        """The process of a part of the run; not its guard, which comes before it, nor a fork server's client."""
        words = {"flow": "run", "stage": "step"}
        if part == "fork server":
            return next(p.pid for p in self.below if SERVER in p.cmdline())
        if part not in words:
            return self.process.pid
        return [p.pid for p in self.below if words[part] in p.cmdline() and SCRIPT not in p.cmdline()][-1]

    def left(self) -> list[psutil.Process]:
        """What still runs, in the end."""
        return psutil.wait_procs(self.below, 40)[1]

    def runs(self) -> list[dict[str, str]]:
        done = self.home.longhaul("runs", "--store", str(self.home.store), "--json")
        return list(json.loads(done.stdout)["runs"])

    def status(self) -> str:
        return self.runs()[-1]["status"]

    def error(self) -> str:
        run = self.runs()[-1]["run"]
        end = json.loads(self.home.longhaul("show", run, "--store", str(self.home.store), "--json").stdout)["end"]
        return str(end["error"])

    def end(self) -> None:
        """As Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 1

    def temporary_entries(self) -> list[str]:
        return [path.name for path in self.temporary.iterdir() if path.name.startswith(TEMPORARY)]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    for process in running.below:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    running.process.kill()
    running.process.wait()


@pytest.mark.parametrize(
    ("part", "number", "error"),
    [
        ("stage", signal.SIGKILL, f"data: {KILLED}SIGKILL (is there too little memory?)"),
        ("flow", signal.SIGKILL, "data: the flow's process was killed by SIGKILL (is there too little memory?)"),
        ("run", signal.SIGHUP, "interrupted"),
        ("run", signal.SIGKILL, None),
    ],
    ids=["stage", "flow", "closed terminal", "run"],
)
def test_whatever_is_killed_ends_the_rest_and_is_recorded(
    run: Running, part: str, number: int, error: str | None
) -> None:
    os.kill(run.pid(part), number)
    assert not run.left()
    run.process.wait(20)
    if error is not None:
        assert error in run.output.read_text()
    recorded = {"flow": "the flow's process", "stage": KILLED, "run": "longhaul run was killed"}
    assert run.status() == ("interrupted" if number == signal.SIGHUP else "failed")
    assert (recorded[part] if number == signal.SIGKILL else "interrupted") in run.error()
    assert not run.temporary_entries()


def test_what_a_run_left_that_was_killed_with_all_its_processes_is_cleared_by_the_next(
    run: Running, tmp_path: Path
) -> None:
    # Stopped first, so that none of them sees another's end.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (run.process.pid, *(process.pid for process in run.below)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
    run.process.wait()
    assert not run.left()
    (SHARED_MEMORY / f"longhaul-ranks-{run.process.pid}-x").mkdir()
    own = SHARED_MEMORY / f"longhaul-ranks-{os.getpid()}-x"
    own.mkdir()
    assert run.status() == "running" and run.temporary_entries() and any(run.home.folder.glob("scratch/*"))
    running = list(run.temporary.iterdir())
    after = Running(tmp_path)
    try:
        assert [one["status"] for one in after.runs()] == ["running", "failed"]
        assert not any(path.exists() for path in running)
        assert [len([*run.home.folder.glob(each)]) for each in ("scratch/*", "runs/*/lock")] == [1, 1]
        assert not (SHARED_MEMORY / f"longhaul-ranks-{run.process.pid}-x").exists()
        assert own.exists()
    finally:
        own.rmdir()
        after.end()
    assert [one["status"] for one in after.runs()] == ["interrupted", "failed"]
    assert not after.temporary_entries()


def test_a_run_without_terminal_and_fork_server_continues_until_it_is_stopped(tmp_path: Path) -> None:
    run = Running(tmp_path, "nohup")
    server = run.pid("fork server")
    assert server in [each.pid for each in psutil.Process(run.pid("stage")).parents()]
    run.process.send_signal(signal.SIGHUP)
    os.kill(server, signal.SIGKILL)
    assert [each.pid for each in psutil.wait_procs(run.below, 3)[0]] == [server]
    assert run.status() == "running"
    name = run.runs()[-1]["run"]
    stopped = run.home.longhaul("stop", name)
    assert stopped.returncode == 0, stopped.stderr
    assert run.process.wait(10) == 1 and not run.left()
    assert run.status() == "interrupted"
    again = run.home.longhaul("stop", name)
    assert again.returncode == 1 and "is not running on this machine" in again.stderr
