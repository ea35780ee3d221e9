"""The sandbox, with real programs in real boxes of both backends. Hostile ones are in test_sandbox_hostile.py."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from infra.sandbox.bubblewrap import INIT, Bubblewrap
from infra.sandbox.config import SandboxConfig, configured_sandbox, open_sandbox
from infra.sandbox.interface import Limits, Sandbox, SandboxUnavailable
from infra.sandbox.local import LocalSandbox
from tests.infra.sandbox.boxes import left_behind, users
from tests.processes import running_below

SHORT = Limits(wall_seconds=2, cpu_seconds=1, memory_mb=256, output_bytes=10_000, processes=8, file_mb=4)


OTHERS: set[psutil.Process] = set()


@pytest.fixture(autouse=True)
def others() -> None:
    """Children that other tests of this process have started, a server for instance, are no box's."""
    OTHERS.clear()
    OTHERS.update(psutil.Process().children(recursive=True))


def box_processes() -> list[psutil.Process]:
    """Processes outside that belong to boxes of this process."""
    return [process for process, _ in running_below() if process not in OTHERS]


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
    program = "import os\ntry:\n    os.write(0, b'x')\nexcept PermissionError:\n    print('refused')"
    assert sandbox.run(program, "abc", SHORT).stdout == "refused\n"


def test_an_exception_is_an_exit_code_and_a_traceback(sandbox: Sandbox) -> None:
    result = sandbox.run("\n\n1 / 0", "", SHORT)
    assert (result.exit_code, result.ended) == (1, "finished")
    assert 'File "/box/program.py", line 3' in result.stderr and "ZeroDivisionError" in result.stderr


@pytest.mark.parametrize("program", ["\0", "print('\ud800')", "def", "# coding: nonsense", ""])
def test_text_that_is_not_a_program_does_not_raise_outside(sandbox: Sandbox, program: str) -> None:
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


ENDINGS = {
    "a file of its own": ("import os\nout = os.fdopen(os.dup(1), 'w')\nout.write('kept')", "kept", 0),
    "another standard output": (
        "import io, sys\nsys.stdout = open(1, 'w', closefd=False)\nprint('kept', end='')",
        "kept",
        0,
    ),
    "atexit": ("import atexit\natexit.register(print, 'kept', end='')\nexit(4)", "kept", 4),
    "a thread": (
        "import threading, time\ndef f():\n    time.sleep(0.2)\n    print('kept', end='')\n"
        "threading.Thread(target=f).start()",
        "kept",
        0,
    ),
    "a finaliser": ("class A:\n    def __del__(self): print('kept', end='')\na = A()", "kept", 0),
    "a text for exit": ("import sys\nsys.exit('why')", "", 1),
    "a large number for exit": ("exit(256 + 7)", "", 7),
    "no number for exit": ("exit(None)", "", 0),
    "a closed output": ("import sys\nprint('kept', end='', flush=True)\nsys.stdout.close()", "kept", 0),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_program_ends_as_in_python(sandbox: Sandbox, name: str) -> None:
    program, stdout, exit_code = ENDINGS[name]
    result = sandbox.run(program, "", SHORT)
    python = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.stdout, result.exit_code) == (python.stdout, python.returncode) == (stdout, exit_code), result


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
    assert not left_behind(sandbox, before)


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
    assert (result.stdout, result.ended) == ("parent done\n", "finished") and result.wall_seconds < 10
    assert not box_processes()


def test_runs_that_are_killed_leave_no_zombies(sandbox: Sandbox) -> None:
    def zombies() -> int:
        """Of this process's children, and of the boxes' users."""
        dead = [p.info for p in psutil.process_iter(["status", "ppid", "uids"])]
        dead = [each for each in dead if each["status"] == psutil.STATUS_ZOMBIE]
        return sum(each["ppid"] == os.getpid() or each["uids"].real in users(sandbox) for each in dead)

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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_started_by_root_the_program_is_not_root_outside_either(sandbox: Sandbox) -> None:
    thread = threading.Thread(target=sandbox.run, args=("import time\ntime.sleep(1)", "", SHORT))
    thread.start()
    time.sleep(0.5)
    inside = [p.uids().real for p in box_processes() if p.name() == "python"]
    assert inside and all(62_000 <= uid < 63_000 for uid in inside)
    thread.join()


def test_the_work_folder_takes_files_and_does_not_outlive_the_run(sandbox: Sandbox) -> None:
    program = """
import os
print(os.listdir("."), os.listdir("/dev/shm"))
open("a", "w").write("x")
print(open("/tmp/a").read())
"""
    for _ in range(2):
        assert sandbox.run(program, "", SHORT).stdout == "[] []\nx\n"


def test_files_are_given_read_only(sandbox: Sandbox) -> None:
    program = """
print(open("data.txt").read())
try:
    open("data.txt", "w")
except OSError as error:
    print("refused")
"""
    result = sandbox.run(program, "", SHORT, files={"data.txt": b"1 2 3"})
    assert result.stdout == "1 2 3\nrefused\n", result.stderr


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/b", "", ".hidden", "a" * 100, "a\nb"])
def test_a_file_name_that_leads_elsewhere_is_refused(sandbox: Sandbox, name: str) -> None:
    result = sandbox.run("print(1)", "", SHORT, files={name: b""})
    assert result.ended == "refused" and "file name" in result.stderr and result.stdout == ""


def test_an_unknown_language_is_refused_with_those_there_are(sandbox: Sandbox) -> None:
    result = sandbox.run("x", "", SHORT, language="../python")
    assert result.ended == "refused" and "cpp, cyaron, javascript, python" in result.stderr


def test_one_box_runs_a_program_on_one_input_after_another(sandbox: Sandbox) -> None:
    requested = []

    def inputs() -> Iterator[str]:
        for number in range(10):
            requested.append(number)
            yield f"{number}\n"

    program = "x = int(input())\nassert x != 3, 'three'\nprint(2 * x)"
    results = sandbox.run_each(program, inputs(), SHORT)
    outputs = [next(results).stdout for _ in range(3)]
    failed = next(results)
    results.close()
    assert outputs == ["0\n", "2\n", "4\n"] and failed.exit_code == 1 and "three" in failed.stderr
    assert requested == [0, 1, 2, 3]


def test_a_run_that_is_killed_does_not_end_those_after_it(sandbox: Sandbox) -> None:
    program = "import os, time\nx = int(input())\nif x == 1: time.sleep(60)\nif x == 2: os.kill(1, 2)\nprint(x)"
    limits = Limits(wall_seconds=1, memory_mb=256)
    results = list(sandbox.run_each(program, ["0", "1", "0", "2", "0"], limits))
    assert [result.ended for result in results] == ["finished", "time", "finished", "signal", "finished"]
    assert [result.stdout for result in results[::2]] == ["0\n"] * 3


def test_processes_of_a_run_are_gone_before_the_next_one(sandbox: Sandbox) -> None:
    program = """
import os, time
own = "alive " + input()

def sizes():
    return {name: os.path.getsize(name) for name in os.listdir() if name.startswith("alive") and name != own}

before = sizes()
if os.fork() == 0:
    os.setsid()
    while True:
        open(own, "a").write("x")
        time.sleep(0.01)
while not os.path.exists(own):
    time.sleep(0.01)
time.sleep(0.1)
print(len(before), sizes() == before)
"""
    actual = [result.stdout for result in sandbox.run_each(program, ["1\n", "2\n"], SHORT)]
    assert actual == ["0 True\n", "1 True\n"]


def test_two_programs_talk_to_each_other_and_to_nobody_else(sandbox: Sandbox) -> None:
    first = "import sys\nprint('ping', flush=True)\nsys.exit(0 if input() == 'PING' else 1)"
    second = "print(input().upper(), flush=True)"
    asking, answering = sandbox.run_joined(first, second, SHORT)
    assert (asking.exit_code, answering.exit_code, asking.stdout, answering.stdout) == (0, 0, "", "")


def test_a_program_that_says_nothing_to_the_other_meets_its_time(sandbox: Sandbox) -> None:
    asking, answering = sandbox.run_joined("input()", "import time\ntime.sleep(60)", SHORT)
    assert answering.ended == "time" and asking.wall_seconds < 4


CPP = """
#include <iostream>
int main() { long long x; std::cin >> x; if (x < 0) { int *p = nullptr; *p = 1; } std::cout << 2 * x << std::endl; }
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")
def test_cpp_is_compiled_once_and_runs(sandbox: Sandbox) -> None:
    results = list(sandbox.run_each(CPP, ["1", "21", "-1"], language="cpp"))
    assert [result.stdout for result in results] == ["2\n", "42\n", ""], results
    assert [result.ended for result in results] == ["finished", "finished", "signal"]
    assert all(result.wall_seconds < 1 for result in results[1:])
    failed = sandbox.run("int main() { return nonsense; }", language="cpp")
    assert failed.exit_code != 0 and "nonsense" in failed.stderr and failed.stdout == ""


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
def test_javascript_runs(sandbox: Sandbox) -> None:
    program = "const text = require('fs').readFileSync(0, 'utf8'); console.log(2 * Number(text));"
    result = sandbox.run(program, "21", language="javascript")
    assert result.stdout == "42\n", result


def test_the_generator_library_is_in_its_own_image_only(sandbox: Sandbox) -> None:
    program = "import cyaron\nprint(len(cyaron.Graph.tree(10).edges))"
    assert sandbox.run(program, language="cyaron").ended == "finished"
    assert "ModuleNotFoundError" in sandbox.run(program).stderr


def test_without_a_backend_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match=r"apt-get install bubblewrap.*apt-get install crun"):
        open_sandbox()


def test_a_box_that_cannot_be_made_is_not_a_verdict_on_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(open_sandbox(SandboxConfig(backend="bubblewrap"))) as sandbox:
        monkeypatch.setattr("infra.sandbox.bubblewrap.INIT", ("/no/such/python",))
        with pytest.raises(SandboxUnavailable, match="no/such"):
            sandbox.run("print(1)", "", SHORT)
        monkeypatch.undo()
        assert sandbox.run("print(1)", "", SHORT).stdout == "1\n"


def test_a_backend_whose_python_fails_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.sandbox.bubblewrap.INIT", (*INIT[:-1], "-c", "print('hello')"))
    with pytest.raises(SandboxUnavailable, match="no box could be made"):
        LocalSandbox(Bubblewrap(), 2)


def test_the_machine_says_which_sandbox_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert configured_sandbox() == SandboxConfig()
    monkeypatch.setenv("LONGHAUL_SANDBOX", "http://sandbox:8080")
    assert configured_sandbox().service == "http://sandbox:8080"
    monkeypatch.setenv("LONGHAUL_SANDBOX", "docker")
    with pytest.raises(SandboxUnavailable, match="LONGHAUL_SANDBOX is 'docker'; expected auto, bubblewrap, crun"):
        open_sandbox()


def test_a_limit_of_nothing_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="cpu_seconds is 0"):
        Limits(cpu_seconds=0)
