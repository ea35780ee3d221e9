"""Programs that want out of the sandbox, more than their share, or a verdict that they have not earned.

Each stands with what must happen to it. `attempt` prints what error each of its lines raises, or DONE.
"""

import os
import socket
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from infra.sandbox.interface import Limits, Sandbox
from tests.infra.sandbox.boxes import left_behind

ROOT = Path(__file__).parents[3]
LIMITS = Limits(wall_seconds=2, cpu_seconds=1, memory_mb=128, output_bytes=10_000, processes=8, file_mb=4)
DENIED = {"PermissionError", "OSError", "FileNotFoundError", "BlockingIOError", "ConnectionRefusedError"}

LIBC = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    ctypes.set_errno(0)
    result = getattr(libc, name)(*arguments)
    print("DONE" if result >= 0 else os.strerror(ctypes.get_errno()))
"""


def attempt(*statements: str) -> str:
    """A program that prints, for each statement, the error that it raises, or DONE."""
    lines = ["import os, socket, signal, ctypes"]
    for statement in statements:
        lines += ["try:", f"    {statement}", "    print('DONE')", "except Exception as error:"]
        lines += ["    print(type(error).__name__)"]
    return "\n".join(lines)


@dataclass(frozen=True)
class Stopped:
    """It is ended for one of these reasons."""

    program: str
    ended: str
    memory_mb: int = LIMITS.memory_mb


STOPPED = {
    "a fork bomb": Stopped("import os\nwhile True: os.fork()", "pids"),
    "a patient fork bomb": Stopped("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "time"),
    "a thread bomb": Stopped(
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        "pids",
        memory_mb=2048,  # each thread reserves addresses
    ),
    "memory by one process": Stopped("x = []\nwhile True: x.append(bytearray(10**6))", "memory"),
    "one huge allocation": Stopped("x = bytearray(10**11)", "memory"),
    "memory by many processes": Stopped(
        "import os, time\nfor _ in range(6):\n    if os.fork() == 0:\n        x = bytearray(60 * 2**20)\n"
        "        time.sleep(60)\ny = bytearray(60 * 2**20)\nwhile True: time.sleep(1)",
        "memory or time",  # the kernel may end a child, which the parent does not notice
    ),
    "memory by files in memory": Stopped(  # each below the limit of a file
        "import os\nfiles = []\nwhile True:\n    files.append(os.memfd_create('x'))\n"
        "    for _ in range(30): os.write(files[-1], bytes(10**5))",
        "memory",
    ),
    "memory by full pipes": Stopped(
        "import os, time\nends = []\ntry:\n    while True:\n        ends.append(os.pipe())\n"
        "        os.set_blocking(ends[-1][1], False)\n        os.write(ends[-1][1], bytes(10**6))\n"
        "except OSError as error:\n    time.sleep(60)",
        "time",
    ),
    "a deep recursion": Stopped(
        "import sys\nsys.setrecursionlimit(10**9)\nclass A:\n"
        "    def __getattr__(self, name): return getattr(self, name + 'x')\nA().a",
        "signal or finished",  # from Python 3.12 on the C stack has a limit of its own, and this is a RecursionError
    ),
    "a computation without end": Stopped("while True: pass", "time"),
    "a big power": Stopped("x = 9 ** 9 ** 9", "time"),
    "a regular expression that explodes": Stopped("import re\nre.match('(a+)+$', 'a' * 40 + 'b')", "time"),
    "processors by many processes": Stopped("import os\nfor _ in range(2): os.fork()\nwhile True: pass", "time"),
    "endless standard output": Stopped("while True: print('x' * 1000)", "output"),
    "endless standard error": Stopped("import os\nwhile True: os.write(2, b'x' * 1000)", "output"),
    "output by many processes": Stopped(
        "import os\nfor _ in range(2): os.fork()\nwhile True: print('x' * 1000)", "output"
    ),
    "outputs that are closed, and sleep": Stopped("import os, time\nos.close(1)\nos.close(2)\ntime.sleep(60)", "time"),
    "ignored signals": Stopped(
        "import signal, time\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: pass",
        "time",
    ),
    "a program that stops itself": Stopped("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", "time"),
    "a program that stops everybody": Stopped(
        "import os, signal\nfor _ in range(3): os.fork()\nos.kill(-1, signal.SIGSTOP)\nos.kill(os.getpid(), 19)", "time"
    ),
    "killing the parent": Stopped("import os, time\nos.kill(os.getppid(), 9)\nos.kill(1, 9)\ntime.sleep(60)", "time"),
    # Where who started the tests ignores interrupts, as a background shell does, so does the parent.
    "interrupting the parent": Stopped("import os, time\nos.kill(1, 2)\ntime.sleep(60)", "signal or time"),
    "waiting for input that never comes": Stopped("import os\nr, w = os.pipe()\nos.read(r, 1)", "time"),
    "a zip bomb in the output": Stopped(
        "import zlib, sys\nbomb = zlib.compress(bytes(10**7))\nsys.stdout.write(zlib.decompress(bomb).decode())",
        "output",
    ),
    "exit from a thread while others hang": Stopped(
        "import threading, time\nt = threading.Thread(target=time.sleep, args=(60,))\nt.start()\nraise SystemExit(3)",
        "time",
    ),
}


@pytest.mark.parametrize("name", STOPPED)
def test_it_is_stopped_for_the_limit_that_it_passes(sandbox: Sandbox, name: str) -> None:
    hostile = STOPPED[name]
    result = sandbox.run(hostile.program, "", replace(LIMITS, memory_mb=hostile.memory_mb))
    assert result.ended in hostile.ended.split(" or ") and result.exit_code != 0, result
    # A box may have its files and its init beside the program's memory, and no more.
    assert result.peak_memory_mb is not None and result.peak_memory_mb <= hostile.memory_mb + 64, result
    assert result.wall_seconds < 4 and len(result.stdout) + len(result.stderr) <= LIMITS.output_bytes


REFUSED = {
    "reading /etc/shadow": attempt("open('/etc/shadow')", "open('/etc/passwd')"),
    "reading the host's processes": attempt(
        "os.listdir('/proc/1')", "open('/proc/self/environ')", "open('/sys/kernel')"
    ),
    "reading the project": attempt(
        f"os.listdir({str(ROOT)!r})", f"os.listdir({sys.prefix!r})", f"os.listdir({str(Path.home())!r})"
    ),
    "reading through links": attempt(
        "(os.symlink('/etc/shadow', 'link'), open('link'))", "(os.symlink('/proc/1/root', 'r'), os.listdir('r'))"
    ),
    "hard links out": attempt("os.link('/usr/lib/os-release', 'x')", "os.link('/opt/python/bin/python', 'python')"),
    "climbing out": attempt("open('../../../../../../etc/shadow')", "os.chroot('/tmp')"),
    "writing elsewhere": attempt(
        "open('/new', 'w')",
        "open('/usr/new', 'w')",
        "open('/opt/python/new', 'w')",
        "open('/box/new', 'w')",
        "open('/dev/new', 'w')",
    ),
    "overwriting itself or Python": attempt("open('/box/program.py', 'w')", "open('/opt/python/bin/python', 'r+b')"),
    "making devices": attempt(
        "os.mknod('sda', 0o60666, os.makedev(8, 0))",
        "open('/dev/mem', 'rb')",
        "open('/dev/sda', 'rb')",
        "open('/dev/kmsg')",
    ),
    "becoming root": attempt("os.setuid(0)", "os.setgid(0)", "os.setgroups([0])", "os.setresuid(0, 0, 0)"),
    "giving files away": attempt("(open('f', 'w'), os.chown('f', 0, 0))"),
    "a network by name": attempt("socket.create_connection(('example.com', 80), timeout=1)"),
    "a network by address": attempt(
        "socket.create_connection(('8.8.8.8', 53), timeout=1)", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"
    ),
    "packets and netlink": attempt(
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "socket.socket(40, socket.SOCK_STREAM)",
    ),
    "other processes by signals": attempt("os.kill(2000, 9)", "os.kill(os.getppid() + 500, 15)"),
    "processors of others": attempt(
        "os.setpriority(os.PRIO_PROCESS, 0, -20)", "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))"
    ),
    "huge arguments": attempt("os.execv('/opt/python/bin/python', ['x' * 10**7])"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(sandbox: Sandbox, name: str) -> None:
    result = sandbox.run(REFUSED[name], "", LIMITS)
    outcomes = result.stdout.split()
    assert outcomes and result.exit_code == 0, result
    assert "DONE" not in outcomes, result.stdout


SYSTEM_CALLS = {
    "unshare(CLONE_NEWUSER)": "call('unshare', 0x10000000)",
    "unshare(CLONE_NEWNS)": "call('unshare', 0x20000)",
    "clone(CLONE_NEWUSER)": "call('syscall', 56, 0x10000000 | 17, 0, 0, 0, 0)",
    "setns": "call('setns', 0, 0)",
    "mount": "call('mount', b'none', b'/tmp', b'tmpfs', 0, None)",
    "umount": "call('umount2', b'/tmp', 2)",
    "pivot_root": "call('syscall', 155, b'/tmp', b'/tmp')",
    "ptrace(PTRACE_ATTACH, 1)": "call('ptrace', 16, 1, 0, 0)",
    "process_vm_readv": "call('syscall', 310, 1, 0, 0, 0, 0, 0)",
    "pidfd_getfd": "call('syscall', 438, os.pidfd_open(1), 3, 0)",
    "keyctl": "call('syscall', 250, 0, -3, 1)",
    "add_key": "call('syscall', 248, b'user', b'x', b'y', 1, -3)",
    "bpf": "call('syscall', 321, 0, 0, 0)",
    "perf_event_open": "call('syscall', 298, 0, 0, -1, -1, 0)",
    "io_uring_setup": "call('syscall', 425, 8, ctypes.create_string_buffer(256))",
    "userfaultfd": "call('syscall', 323, 0)",
    "init_module": "call('syscall', 175, 0, 0, b'')",
    "kexec_load": "call('syscall', 246, 0, 0, 0, 0)",
    "reboot": "call('reboot', 0x1234567)",
    "sethostname": "call('sethostname', b'x', 1)",
    "settimeofday": "call('settimeofday', ctypes.create_string_buffer(16), None)",
    "personality": "call('personality', 0x0040000)",
    "quotactl": "call('syscall', 179, 0, 0, 0, 0)",
    "open_by_handle_at": "call('syscall', 304, 0, 0, 0)",
    "name_to_handle_at": "call('syscall', 303, 0, b'/tmp', 0, 0, 0)",
    "fanotify_init": "call('syscall', 300, 0, 0)",
    "chroot": "call('chroot', b'/tmp')",
    "swapon": "call('swapon', b'/tmp/x', 0)",
}


def test_system_calls_that_lead_out_are_not_to_be_had(sandbox: Sandbox) -> None:
    program = LIBC + "\n".join(SYSTEM_CALLS.values())
    outcomes = dict(zip(SYSTEM_CALLS, sandbox.run(program, "", LIMITS).stdout.splitlines(), strict=True))
    assert {name: said for name, said in outcomes.items() if said != "Operation not permitted"} == {}


def test_calls_of_other_architectures_end_the_program(sandbox: Sandbox) -> None:
    """int 0x80 enters the kernel by the table of 32-bit calls, where other numbers stand for the same deeds."""
    machine_code = "b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3'"  # mov eax, 20 (getpid); int 0x80; ret
    program = f"""
import ctypes, mmap
memory = mmap.mmap(-1, 4096, prot=7)
memory.write({machine_code})
print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))())
"""
    result = sandbox.run(program, "", LIMITS)
    assert (result.ended, result.stdout) == ("signal", ""), result


def test_boxes_cannot_signal_each_other_over_files_of_an_image(sandbox: Sandbox) -> None:
    program = (
        LIBC
        + """
import fcntl, os, struct
file = os.open(os.__file__, os.O_RDONLY)
lock = struct.pack("hhqqi", fcntl.F_RDLCK, 0, 0, 0, 0)
for attempt in (
    lambda: fcntl.flock(file, fcntl.LOCK_SH),
    lambda: fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK),
    lambda: fcntl.fcntl(file, fcntl.F_NOTIFY, fcntl.DN_ACCESS),
    lambda: fcntl.fcntl(file, 37, lock),  # F_OFD_SETLK
):
    try:
        attempt()
        print("allowed")
    except PermissionError:
        print("denied")
print(libc.inotify_init())
import sqlite3
with sqlite3.connect("/tmp/own") as own:
    own.execute("CREATE TABLE t (x)")
"""
    )
    result = sandbox.run(program, "", LIMITS)
    assert (result.stdout, result.exit_code) == ("denied\n" * 4 + "-1\n", 0), result


def test_a_setuid_program_is_none_in_a_box(sandbox: Sandbox) -> None:
    program = (
        LIBC + "print(libc.prctl(39, 0, 0, 0, 0), os.getresuid()[0] > 0, len(set(os.getresuid())), os.getgroups())"
    )
    assert sandbox.run(program, "", LIMITS).stdout in ("1 True 1 []\n", f"1 True 1 [{os.getgid()}]\n")


def test_neither_the_environment_nor_descriptors_of_the_service_are_inside(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "hunter2")
    program = """
import os
print(sorted(os.environ), [n for n in range(4096) if os.path.exists(f"/proc/self/fd/{n}")])
for n in range(4096):
    try:
        os.fstat(n)
        print(n, end=" ")
    except OSError:
        pass
"""
    stdout = sandbox.run(program, "", LIMITS).stdout
    assert "SECRET" not in stdout and stdout.splitlines()[1] == "0 1 2 "


def test_a_service_of_this_machine_is_out_of_reach(sandbox: Sandbox, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0longhaul-test")
        abstract.listen()
        port = server.getsockname()[1]
        program = attempt(
            f"socket.create_connection(('127.0.0.1', {port}), timeout=1)",
            "socket.socket(socket.AF_UNIX).connect('\\0longhaul-test')",
            "socket.socket(socket.AF_UNIX).connect('/run/dbus/system_bus_socket')",
        )
        outcomes = sandbox.run(program, "", LIMITS).stdout.split()
    assert len(outcomes) == 3 and set(outcomes) <= DENIED


def test_slots_do_not_see_each_other(sandbox: Sandbox) -> None:
    program = """
import os, socket, time
server = socket.socket(socket.AF_UNIX)
server.bind("\\0shared")
open("/tmp/shared", "x")
time.sleep(0.3)
assert os.listdir("/tmp") == ["shared"] and os.getpid() < 10
"""
    first, second = sandbox.run_joined(program, program, LIMITS)
    assert (first.exit_code, second.exit_code) == (0, 0), (first.stderr, second.stderr)


def test_the_work_folder_takes_its_bytes_and_no_more(sandbox: Sandbox) -> None:
    program = """
written = 0
try:
    for number in range(50):
        with open(f"/tmp/{number}", "wb", buffering=0) as file:
            written += file.write(bytes(10**6))
except OSError as error:
    print(error.strerror, written < 6_000_000)
"""
    assert sandbox.run(program, "", LIMITS).stdout == "No space left on device True\n"


def test_files_without_end_meet_a_limit(sandbox: Sandbox) -> None:
    program = """
import os
number = 0
try:
    while True:
        os.close(os.open(f"/tmp/{number:0200}", os.O_CREAT))
        number += 1
except OSError:
    print("no more")
"""
    limits = Limits(wall_seconds=10, cpu_seconds=8, memory_mb=64, file_mb=1)
    result = sandbox.run(program, "", limits)
    # bubblewrap's /tmp counts as memory, crun's holds so many files.
    assert (result.ended, result.stdout) in (("memory", ""), ("finished", "no more\n")), result
    assert result.peak_memory_mb is not None and result.peak_memory_mb <= 64 + 64


def test_a_daemon_dies_with_its_box(sandbox: Sandbox) -> None:
    before = {process.pid for process in psutil.process_iter()}
    program = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(60)
        os._exit(0)
print("parent done")
"""
    result = sandbox.run(program, "", LIMITS)
    assert (result.stdout, result.ended) == ("parent done\n", "finished") and result.wall_seconds < 10
    assert not left_behind(sandbox, before)


def test_what_a_program_says_of_itself_is_not_believed(sandbox: Sandbox) -> None:
    """It writes what its init would, to every descriptor that it can think of."""
    program = """
import os
for n in range(3, 64):
    try: os.write(n, b"0 0.000001 1\\n")
    except OSError: pass
print("ready", flush=True)
os.write(2, b"0 0.0 1\\n")
os._exit(5)
"""
    result = sandbox.run(program, "", LIMITS)
    assert (result.exit_code, result.ended, result.stdout) == (5, "finished", "ready\n")
    assert result.peak_memory_mb is not None and result.peak_memory_mb > 1
