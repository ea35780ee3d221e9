"""The sandbox, with real programs in real boxes. Hostile ones must fail in the way that is named, and only inside."""

import os
import socket
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from infra.sandbox import BubblewrapSandbox, Limits, Sandbox, SandboxUnavailable

ROOT = Path(__file__).parents[2]
SHORT = Limits(wall_seconds=2, cpu_seconds=1, memory_mb=256, output_bytes=10_000, processes=8, file_mb=4)


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return BubblewrapSandbox()


def attempt(body: str) -> str:
    """A program that prints what error the body raises, or DONE."""
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    return (
        f"import os, socket\ntry:\n{indented}    print('DONE')\nexcept Exception as e:\n    print(type(e).__name__)\n"
    )


OTHERS: set[psutil.Process] = set()


@pytest.fixture(autouse=True)
def others() -> None:
    """Children that other tests of this process have started, a server for instance, are no box's."""
    OTHERS.clear()
    OTHERS.update(psutil.Process().children(recursive=True))


def box_processes() -> list[psutil.Process]:
    """Processes outside that belong to boxes of this process."""
    children = [child for child in psutil.Process().children(recursive=True) if child not in OTHERS]
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]


def test_output_and_exit_code_come_back(sandbox: Sandbox) -> None:
    result = sandbox.run("import sys\nprint('é')\nprint('e', file=sys.stderr)\nexit(3)", "", SHORT)
    assert (result.stdout, result.stderr, result.exit_code, result.ended) == ("é\n", "e\n", 3, "finished")
    assert result.cpu_seconds is not None and 0 < result.cpu_seconds < result.wall_seconds < 2
    assert result.peak_memory_mb is not None and 2 < result.peak_memory_mb < 50


def test_a_library_that_cannot_be_preloaded_is_not_heard_of(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/nowhere/library.so")
    assert sandbox.run("print(1)", "", SHORT).stderr == ""


def test_stdin_reaches_the_program_whole(sandbox: Sandbox) -> None:
    text = "first\n" + "x" * 3_000_000
    result = sandbox.run("print(input())\nimport sys\nprint(len(sys.stdin.read()))", text, SHORT)
    assert result.stdout == "first\n3000000\n"


def test_stdin_cannot_be_written_to_as_unlimited_memory(sandbox: Sandbox) -> None:
    assert sandbox.run(attempt("os.write(0, b'x')"), "abc", SHORT).stdout == "PermissionError\n"


def test_an_exception_is_an_exit_code_and_a_traceback(sandbox: Sandbox) -> None:
    result = sandbox.run("\n\n1 / 0", "", SHORT)
    assert (result.exit_code, result.ended) == (1, "finished")
    assert 'File "/box/program.py", line 3' in result.stderr and "ZeroDivisionError" in result.stderr


@pytest.mark.parametrize("program", ["\0", "print('\ud800')", "def", "# coding: nonsense", ""])
def test_text_that_is_no_program_does_not_raise_outside(sandbox: Sandbox, program: str) -> None:
    assert sandbox.run(program, "", SHORT).ended == "finished"


def test_a_program_has_a_main_module_of_its_own(sandbox: Sandbox) -> None:
    program = """
from __future__ import annotations
import pickle, dataclasses, sys
assert __name__ == "__main__" and set(globals()) <= {"__name__", "__doc__", "__package__", "__loader__", "__spec__",
    "__builtins__", "__file__", "annotations", "pickle", "dataclasses", "sys"}, globals()
@dataclasses.dataclass
class Point:
    x: int
print(pickle.loads(pickle.dumps(Point(1))), sys.argv)
"""
    assert sandbox.run(program, "", SHORT).stdout == "Point(x=1) ['/box/program.py']\n"


def test_the_order_of_a_set_is_the_same_in_every_run(sandbox: Sandbox) -> None:
    program = "print({'a', 'b', 'c', 'd', 'e', 'f'})"
    assert len({sandbox.run(program, "", SHORT).stdout for _ in range(4)}) == 1


@pytest.mark.parametrize(
    ("program", "ended"),
    [
        ("while True: pass", "time"),
        ("import time\ntime.sleep(60)", "time"),
        ("import os, time\nos.close(1)\nos.close(2)\ntime.sleep(60)", "time"),
        ("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", "time"),
        ("x = 'x' * 10**9", "memory"),
        ("x = []\nwhile True: x.append(' ' * 10**6)", "memory"),
        ("while True: print('x' * 1000)", "output"),
        ("import os\nwhile True: os.write(2, b'x' * 1000)", "output"),
        ("import os\nos.kill(os.getpid(), 11)", "signal"),
        ("import os, time\nos.kill(1, 2)\ntime.sleep(60)", "signal"),
    ],
)
def test_what_ended_a_run_is_named(sandbox: Sandbox, program: str, ended: str) -> None:
    result = sandbox.run(program, "", SHORT)
    assert result.ended == ended and result.exit_code != 0
    assert result.wall_seconds < 4 and len(result.stdout) + len(result.stderr) <= SHORT.output_bytes


def test_a_fork_bomb_is_contained_and_leaves_nothing(sandbox: Sandbox) -> None:
    before = {p.pid for p in psutil.process_iter()}
    program = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    most = 0
    thread = threading.Thread(target=sandbox.run, args=(program, "", SHORT))
    thread.start()
    while thread.is_alive():
        most = max(most, len(box_processes()))
        time.sleep(0.05)
    assert 1 < most <= SHORT.processes + 3  # and the init, and bwrap
    assert not box_processes()
    left = [p for p in psutil.process_iter(["cmdline"]) if p.pid not in before]
    assert not [p for p in left if "/opt/python/bin/python" in (p.info["cmdline"] or [])]


def test_a_program_may_have_as_many_processes_as_its_limit_says_and_no_more(sandbox: Sandbox) -> None:
    program = """
import os, time
made = 1
try:
    while True:
        if os.fork() == 0:
            time.sleep(0.5)
            os._exit(0)
        made += 1
except OSError:
    print(made)
"""
    assert sandbox.run(program, "", SHORT).stdout == f"{SHORT.processes}\n"


@pytest.mark.parametrize("start", ["os.setsid()", "pass"])
def test_a_daemon_dies_with_its_box(sandbox: Sandbox, start: str) -> None:
    program = f"import os, time\nif os.fork() == 0:\n    {start}\n    time.sleep(60)\nprint('parent done')"
    result = sandbox.run(program, "", SHORT)
    assert (result.stdout, result.ended) == ("parent done\n", "finished") and result.wall_seconds < 1
    assert not box_processes()


def test_runs_that_are_killed_leave_no_zombies(sandbox: Sandbox) -> None:
    def zombies() -> int:
        return sum(p.info["status"] == psutil.STATUS_ZOMBIE for p in psutil.process_iter(["status"]))

    before = zombies()
    for _ in range(5):
        sandbox.run("import time\ntime.sleep(60)", "", Limits(wall_seconds=0.1))
        sandbox.run("print(1)", "", Limits())
    assert zombies() <= before


def test_a_box_that_is_killed_while_it_is_being_made_leaves_nothing(sandbox: Sandbox) -> None:
    memory_mb = 1000 + os.getpid()  # tells this test's boxes from others by their command line
    for step in range(60):
        limits = Limits(wall_seconds=0.0005 + step * 0.0002, memory_mb=memory_mb)
        assert sandbox.run("import time\ntime.sleep(60)", "", limits).ended == "time"
    commands = [p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if str(memory_mb * 2**20) in command]


def test_there_is_no_network_not_even_to_this_machine(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = f"socket.create_connection(('127.0.0.1', {port}), timeout=1)"
        assert sandbox.run(attempt(connect), "", SHORT).stdout == "ConnectionRefusedError\n"
    assert sandbox.run("import socket\nprint([n for _, n in socket.if_nameindex()])", "", SHORT).stdout == "['lo']\n"


@pytest.mark.parametrize(
    "path",
    ["/etc/shadow", "/etc/passwd", str(ROOT / "pyproject.toml"), sys.prefix, str(Path.home()), "/proc/1/environ"],
)
def test_files_outside_cannot_be_seen(sandbox: Sandbox, path: str) -> None:
    assert sandbox.run(attempt(f"os.stat({path!r})"), "", SHORT).stdout == "FileNotFoundError\n"


def test_the_environment_outside_cannot_be_seen(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "hunter2")
    program = "import os\nprint(sorted(os.environ))"
    assert "SECRET" not in sandbox.run(program, "", SHORT).stdout


def test_no_descriptor_of_ours_is_open_inside(sandbox: Sandbox) -> None:
    program = (
        "import os\nfor n in range(4096):\n    try:\n        os.fstat(n)\n        print(n)\n    except OSError: pass"
    )
    assert sandbox.run(program, "", SHORT).stdout == "0\n1\n2\n"


@pytest.mark.parametrize("folder", ["/", "/box", "/dev", "/opt/python/lib", "/usr/lib", "/opt", "/lib64"])
def test_nothing_outside_the_work_folder_can_be_written(sandbox: Sandbox, folder: str) -> None:
    body = f"os.chdir({folder!r})\nopen('new', 'w')"
    assert sandbox.run(attempt(body), "", SHORT).stdout in ("OSError\n", "PermissionError\n")


def test_the_work_folder_takes_files_and_does_not_outlive_the_run(sandbox: Sandbox) -> None:
    program = """
import os
print(os.listdir("."), os.listdir("/dev/shm"))
open("a", "w").write("x")
print(open("/tmp/a").read())
"""
    for _ in range(2):
        assert sandbox.run(program, "", SHORT).stdout == "[] []\nx\n"


def test_the_work_folder_cannot_be_filled_without_limit(sandbox: Sandbox) -> None:
    program = """
written = 0
try:
    for number in range(50):
        with open(f"/dev/shm/{number}", "wb", buffering=0) as file:
            written += file.write(bytes(10**6))
except OSError as error:
    print(error.strerror, written < 6_000_000)
"""
    assert sandbox.run(program, "", SHORT).stdout == "No space left on device True\n"


def test_the_program_is_nobody_and_can_become_no_one_else(sandbox: Sandbox) -> None:
    program = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(os.getresuid(), os.getgroups(), os.getpid() > 1)
print([libc.unshare(0x10000000), libc.unshare(0x20000), libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)])
print(os.path.exists("/usr/bin/sudo"), libc.prctl(39, 0, 0, 0, 0))  # 39: PR_GET_NO_NEW_PRIVS
"""
    result = sandbox.run(program, "", SHORT)
    assert result.stdout == "(65534, 65534, 65534) [] True\n[-1, -1, -1]\nFalse 1\n", result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_started_by_root_the_program_is_not_root_outside_either(sandbox: Sandbox) -> None:
    thread = threading.Thread(target=sandbox.run, args=("import time\ntime.sleep(1)", "", SHORT))
    thread.start()
    time.sleep(0.5)
    assert {p.uids().real for p in box_processes()} == {65534}
    thread.join()


def test_without_bwrap_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap"):
        BubblewrapSandbox()


@pytest.mark.parametrize(
    ("name", "value"), [("_NAMESPACES", ("--ro-bind", "/no/such/folder", "/x")), ("_PYTHON", ("/no/such/python",))]
)
def test_a_box_that_cannot_be_made_is_no_verdict_on_the_program(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, name: str, value: tuple[str, ...]
) -> None:
    monkeypatch.setattr(f"infra.sandbox.bubblewrap.{name}", value)
    with pytest.raises(SandboxUnavailable, match="no/such"):
        sandbox.run("print(1)", "", SHORT)


def test_a_limit_of_nothing_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="cpu_seconds is 0"):
        Limits(cpu_seconds=0)
