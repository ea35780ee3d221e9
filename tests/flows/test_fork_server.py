"""The fork server by itself: what its forks do is what plain processes do, and where it cannot be so, it refuses."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from flows.fork_server.client import SOCKET
from flows.fork_server.start import ENGINES, SETTING, fork_server_variables, start_fork_server
from steps.recipe import load_recipe
from tests.flows.home import ROOT, in_home

PROBE = str(Path(__file__).with_name("fork_probe.py"))
FALLEN_BACK = "a plain process runs this step"


class Server(NamedTuple):
    """One that runs, with a copy of the code of its own."""

    process: subprocess.Popen[bytes]
    root: Path
    environment: dict[str, str]

    def command(self, *arguments: str) -> list[str]:
        client = self.root / "flows" / "fork_server" / "client.py"
        return [sys.executable, "-I", "-S", str(client), PROBE, "step", *arguments]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command, variables = self.command(*arguments), {**self.environment, **environment}
        return subprocess.run(
            command, cwd=self.root, env=variables, input="a line\n", capture_output=True, text=True, timeout=60
        )


def start(folder: Path) -> Server:
    root = folder / "code"
    for package in ("flows", "steps", "infra"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    script = (
        "import os\n"
        "from infra.environment import engine_environment\n"
        "os.environ.update(engine_environment(), PYTHONUNBUFFERED='x')\n"
        "from flows.flow_setup import enter_flow_environment\n"
        "enter_flow_environment()\n"
        "import json; print(json.dumps(dict(os.environ)))"
    )
    listening = folder / ("long" * 30) / "socket"  # a path that is too long for a socket's own address
    listening.parent.mkdir()
    environment = {**in_home(folder / "home"), "PYTHONPATH": str(root), SOCKET: str(listening), "PROBE_A": "1"}
    done = subprocess.run([sys.executable, "-c", script], cwd=root, env=environment, capture_output=True, check=True)
    environment = json.loads(done.stdout)
    server = root / "flows" / "fork_server" / "server.py"
    command = [sys.executable, str(server), str(os.getpid())]
    process = subprocess.Popen(command, cwd=root, env=environment, stdin=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not listening.exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    return Server(process, root, environment)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = start(tmp_path_factory.mktemp("fork"))
    yield server
    server.process.kill()
    server.process.wait()
    assert server.run("exit").returncode == 3, "a step runs in a plain process where the server is gone"


@pytest.mark.parametrize("what", ["print", "exit", "message", "raise", "interrupt"])
def test_a_fork_does_what_a_plain_process_does(server: Server, what: str) -> None:
    forked = server.run(what, PROBE_A="1")
    plain = subprocess.run(
        [sys.executable, PROBE, "step", what],
        cwd=server.root,
        env=server.environment,
        input="a line\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    errors = forked.stderr.removesuffix("step interrupt: its process was killed by SIGINT\n")  # its guard's
    assert (forked.stdout, errors, forked.returncode) == (plain.stdout, plain.stderr, plain.returncode)


def test_a_fork_has_everything_imported_already(server: Server) -> None:
    names = server.run("modules").stdout.split()
    assert {"flows.chain", "metaflow"} <= set(names)
    # Metaflow makes the options of its command line of the flow when this is imported.
    assert "metaflow.cli" not in names


def test_a_signal_that_kills_a_fork_kills_its_client_and_is_named(server: Server) -> None:
    done = server.run("killed")
    assert done.returncode == -signal.SIGKILL
    assert done.stderr == "step killed: its process was killed by SIGKILL (is there too little memory?)\n"


def test_a_variable_that_an_import_may_have_read_has_a_plain_process_run_the_step(server: Server) -> None:
    done = server.run("print", PROBE_A="2", OMP_NUM_THREADS="7")
    assert "the environment differs in OMP_NUM_THREADS, PROBE_A" in done.stderr and FALLEN_BACK in done.stderr
    assert "'PROBE_A': '2'" in done.stdout
    assert FALLEN_BACK not in server.run("print", METAFLOW_RUN_ID="7").stderr


def test_changed_code_is_run_by_a_plain_process(server: Server) -> None:
    source = server.root / "steps" / "sft.py"
    before = source.stat()
    source.write_text(source.read_text() + "\n")
    assert "code has changed" in server.run("print").stderr
    source.write_text(source.read_text()[:-1])
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert FALLEN_BACK not in server.run("print").stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_what_becomes_of_the_client_becomes_of_the_fork(server: Server, number: signal.Signals) -> None:
    client = subprocess.Popen(
        server.command("wait"),
        cwd=server.root,
        env=server.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdout
    step = psutil.Process(int(client.stdout.readline()))
    guard = step.parent()
    client.send_signal(number)
    # Without a client, a step is asked to end in good order.
    assert client.stdout.read() == ("" if number == signal.SIGTERM else "interrupted\n")
    assert client.wait(10) == -number
    assert guard is not None and not psutil.wait_procs([step, guard], 10)[1]


def test_a_server_whose_guard_is_gone_does_not_stay(server: Server) -> None:
    path = str(server.root.parent / "other")
    gone = subprocess.Popen(["true"])
    gone.wait()
    command = [sys.executable, str(server.root / "flows" / "fork_server" / "server.py"), str(gone.pid)]
    environment = {**server.environment, SOCKET: path}
    assert subprocess.run(command, cwd=server.root, env=environment, timeout=60).returncode == 0


def test_a_step_does_not_run_where_its_flow_has_gone_with_the_server(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A flow and its fork server end together while a client waits for an answer."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        step = tmp_path / "step.py"
        step.write_text(
            "import time\nfrom flows.guard import enter_guard\n"
            "enter_guard()\ntime.sleep(1)\nprint('done', flush=True)\n"
        )
        command = [*server.command()[:-2], str(step), "step", "wait"]
        flow = f"import os, subprocess\nprint(subprocess.Popen({command!r}).pid, flush=True)\nos.read(0, 1)"
        with subprocess.Popen(
            [sys.executable, "-c", flow],
            env={**server.environment, SOCKET: path},
            cwd=server.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as starter:
            assert starter.stdout
            assert starter.stdout.readline()
            connection, _ = listener.accept()
            starter.kill()
            starter.wait()
            connection.close()
            assert starter.stdout.read() == "", "the step ran to its end"
        assert "step wait: the process that started it is gone" in capfd.readouterr().err


def test_a_fork_server_that_cannot_be_started_is_done_without(capfd: pytest.CaptureFixture[str]) -> None:
    assert start_fork_server({SOCKET: "socket", "PROBE": "x" * (1 << 20)}) is None
    assert "a plain process runs each step" in capfd.readouterr().err


def test_only_a_run_whose_steps_can_be_forks_names_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(ROOT / "configs" / "smoke.yaml")
    several = recipe.model_copy(update={"trainer": recipe.trainer.model_copy(update={"ranks": 2})})
    monkeypatch.delenv(SETTING, raising=False)
    monkeypatch.setattr(os.path, "exists", lambda path: False)  # no GPU, whatever machine this is
    assert fork_server_variables("/tmp/run", recipe, ["data"]) == {SOCKET: "/tmp/run/fork-server"}
    assert fork_server_variables("/tmp/run", recipe, ["data", "import"]).keys() == {SOCKET, ENGINES}
    assert fork_server_variables("/tmp/run", several, ["rl"]) == {}
    monkeypatch.setenv(SETTING, "off")
    assert fork_server_variables("/tmp/run", recipe, ["rl"]) == {}
