"""Thousands of mixed runs in the sandbox, and what they leave behind on this machine: nothing.

    python -m benchmarks.sandbox_endurance [--runs 10000] [--backend bubblewrap]

Right, wrong, crashing and hostile programs, drawn by a seed, in a process of its own with as many threads as cores.
When that process has ended, this one looks for what it left: processes of the slots' users, control groups, mounts,
files. While it runs, its own memory, descriptors and threads, and the machine's shared and unreclaimable memory, are
compared between a tenth of the runs and all of them.

The last line is JSON. The exit code is 1 if anything was left, grew, or ended in a way that it should not.

NOTE: the machine's memory is shared with whatever else runs on it; run nothing else.
"""

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.nano_start import machine
from infra.environment import CACHE
from infra.sandbox.config import SandboxConfig, open_sandbox
from infra.sandbox.interface import Limits, Result

MIB = 2**20
ORDINARY = Limits()
HOSTILE = Limits(wall_seconds=0.3, cpu_seconds=1, memory_mb=64, output_bytes=100_000, processes=8, file_mb=2)
EARLY = 0.1
"""Growth is measured from this share of the runs on: by then everything that is created once exists."""

GROWTH = {"rss_mb": 32.0, "descriptors": 8.0, "threads": 4.0, "host_shared_mb": 64.0, "host_unreclaimable_mb": 128.0}
"""How much more is allowed at the end than at a tenth of the runs. Ten thousand leaks of 8 KiB are 80 MB."""

FORK_BOMB = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for descriptor in range(3):
            os.close(descriptor)
        time.sleep(60)
    os._exit(0)
print('gone')
"""
FILLS = """
number = 0
while True:
    number += 1
    with open(f'/tmp/{number}', 'w') as file:
        file.write('x' * 10_000)
"""
STOPS = "import os, signal\nif os.fork() == 0:\n    os.kill(os.getppid(), signal.SIGSTOP)\nimport time\ntime.sleep(60)"
IGNORES = "import signal\nfor n in set(range(1, 32)) - {9, 19}:\n    signal.signal(n, signal.SIG_IGN)\nwhile True: pass"
SHARES = "import os, mmap, time\nm = mmap.mmap(-1, 2**25)\nfor _ in range(6): os.fork()\nm.write(bytes(2**25))"

PROGRAMS: dict[str, tuple[int, str, Limits, set[str]]] = {
    "right": (60, "import os\nprint(os.getuid())", ORDINARY, {"finished"}),
    "wrong": (30, "print('no')", ORDINARY, {"finished"}),
    "reads": (20, "import sys\nprint(len(sys.stdin.read()))", ORDINARY, {"finished"}),
    "raises": (15, "1 / 0", ORDINARY, {"finished"}),
    "is none": (5, "def", ORDINARY, {"finished"}),
    "exits": (10, "import os\nos._exit(7)", ORDINARY, {"finished"}),
    "crashes": (10, "import os\nos.kill(os.getpid(), 11)", ORDINARY, {"signal"}),
    "daemon": (4, DAEMON, ORDINARY, {"finished"}),
    "kills its parent": (4, "import os, time\nos.kill(os.getppid(), 9)\ntime.sleep(60)", HOSTILE, {"time", "signal"}),
    "memory": (4, "x = []\nwhile True: x.append(' ' * 10**6)", HOSTILE, {"memory", "time"}),
    "shared memory": (4, SHARES, HOSTILE, {"memory", "time", "finished", "pids"}),
    "output": (4, "while True: print('x' * 1000)", HOSTILE, {"output", "time"}),
    "fills files": (4, FILLS, HOSTILE, {"finished", "time", "memory"}),
    "fork bomb": (4, FORK_BOMB, HOSTILE, {"time", "pids"}),
    "sleeps": (4, "import os, time\nos.close(1)\nos.close(2)\ntime.sleep(60)", HOSTILE, {"time"}),
    "stops": (4, STOPS, HOSTILE, {"time", "pids"}),
    "ignores signals": (4, IGNORES, HOSTILE, {"time"}),
}
"""Weight in the mix, text, limits, and the ways in which it can end: on a busy machine, hostile ones by time."""

INPUTS = 3
"""Inputs of a run-each, of which the last is not requested."""


def work(connection: Connection, runs: int, backend: str, seed: int) -> None:
    """Do the runs and send what was measured."""
    threads = len(os.sched_getaffinity(0))
    sandbox = open_sandbox(SandboxConfig.model_validate({"backend": backend, "slots": threads}))
    ends: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    not_held: set[str] = set()
    users: set[int] = set()
    lock = threading.Lock()

    def note(name: str, result: Result) -> None:
        with lock:
            ends[f"{name}: {result.ended}"] += 1
            not_held.update(result.not_held)
            if result.ended not in PROGRAMS[name][3]:
                wrong[f"{name}: {result.ended}, exit code {result.exit_code}, {result.stderr[-200:]}"] += 1
            elif name == "right":
                users.add(int(result.stdout))

    def one(name: str, each: bool) -> None:
        _, text, limits, _ = PROGRAMS[name]
        if not each:
            note(name, sandbox.run(text, "x" * 1000, limits))
            return
        results = sandbox.run_each(text, ["x" * 1000] * INPUTS, limits)
        for _ in range(INPUTS - 1):
            note(name, next(results))
        results.close()

    draw = random.Random(seed)
    names = draw.choices(list(PROGRAMS), [program[0] for program in PROGRAMS.values()], k=runs)
    each = [draw.random() < 0.05 for _ in names]
    early: dict[str, float] = {}
    start = time.monotonic()
    columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ThreadPoolExecutor(threads) as pool, Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=runs)
        for done, _ in enumerate(pool.map(one, names, each), 1):
            progress.advance(task)
            if done == int(runs * EARLY):
                early = usage()
    late = usage()
    seconds = time.monotonic() - start
    sandbox.close()
    connection.send(
        {
            "seconds": seconds,
            "ended": dict(sorted(ends.items())),
            "wrong": dict(wrong),
            "not_held": sorted(not_held),
            "users": sorted(users),
            "at_a_tenth": early,
            "at_the_end": late,
        }
    )


def usage() -> dict[str, float]:
    """What this process and the machine use."""
    process = psutil.Process()
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    host = {fields[0].rstrip(":"): int(fields[1]) / 1024 for fields in lines}
    return {
        "rss_mb": process.memory_info().rss / MIB,
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
        "host_shared_mb": host["Shmem"],
        "host_unreclaimable_mb": host["SUnreclaim"],
    }


@dataclass(frozen=True)
class Worker:
    """How to recognise what the runs may have left."""

    pid: int
    users: frozenset[int]
    """Of its slots; empty if this process is not root, and programs run as nobody."""
    others: frozenset[int]
    """Children of this process that have nothing to do with it."""

    def processes(self) -> set[str]:
        """Processes of its users, and children of this process, zombies included."""
        leftovers = set()
        for process in psutil.process_iter(["pid", "ppid", "uids", "status", "cmdline"]):
            info = process.info
            child = info["ppid"] == os.getpid() and info["pid"] not in self.others
            if child or (info["uids"] and info["uids"].real in self.users):
                leftovers.add(f"{info['pid']} ({info['status']}): {' '.join(info['cmdline'] or [])[:100]}")
        return leftovers

    def control_groups(self) -> set[str]:
        """Control groups of its slots, which are named after their user or its process."""
        names = tuple(f"longhaul-box-{number}" for number in (*self.users, self.pid))
        return {folder for folder, _, _ in os.walk("/sys/fs/cgroup") if os.path.basename(folder).startswith(names)}

    def mounts(self) -> set[str]:
        """What is mounted."""
        return set(Path("/proc/self/mountinfo").read_text().splitlines())

    def files(self) -> set[str]:
        """Files and folders that boxes could leave: owned by its users, with our name, or unfinished images."""
        leftovers = set()
        for folder in {Path(tempfile.gettempdir()), Path("/tmp"), Path("/dev/shm")}:
            for path in folder.iterdir() if folder.is_dir() else ():
                if "longhaul" in path.name or path.lstat().st_uid in self.users:
                    leftovers.add(str(path))
        return leftovers | {str(path) for path in (CACHE / "sandbox").glob(".*")}

    def left(self, before: dict[str, set[str]] | None = None) -> dict[str, set[str]]:
        """What exists, or what is new compared with `before` and stays: other sandboxes' things come and go."""
        looks = {"processes": self.processes, "control groups": self.control_groups}
        looks |= {"mounts": self.mounts, "files": self.files}
        leftovers = {name: look() for name, look in looks.items()}
        if before is None:
            return leftovers
        leftovers = {name: leftovers[name] - before[name] for name in leftovers}
        for _ in range(10):
            if any(leftovers.values()):
                time.sleep(1)
                leftovers = {name: leftovers[name] & look() for name, look in looks.items()}
        return leftovers


def main() -> None:
    """Run, look, print JSON."""
    parser = argparse.ArgumentParser(description="Thousands of mixed runs, and what they leave behind.")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--backend", default="auto", choices=["auto", "bubblewrap", "crun"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    # The image's root and the locks of users are created once and kept, so they exist before the comparison.
    open_sandbox(SandboxConfig.model_validate({"backend": arguments.backend})).close()
    before = Worker(0, frozenset(), frozenset()).left()
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=work, args=(there, arguments.runs, arguments.backend, arguments.seed)
    )
    process.start()
    there.close()
    others = frozenset(child.pid for child in psutil.Process().children())  # multiprocessing's own
    try:
        measured: dict[str, Any] = here.recv()
    except EOFError:
        sys.exit("the process ended before its runs did")
    process.join()
    users = frozenset(measured["users"]) if os.geteuid() == 0 else frozenset()
    left = {name: sorted(leftovers) for name, leftovers in Worker(process.pid or 0, users, others).left(before).items()}
    early, late = measured["at_a_tenth"], measured["at_the_end"]
    grown = {name: late[name] - early[name] for name, most in GROWTH.items() if late[name] - early[name] > most}
    faults = {name: things for name, things in (left | {"grown": grown, "wrong": measured["wrong"]}).items() if things}
    console = Console(stderr=True)
    console.print(f"{arguments.runs} runs, {measured['seconds']:.0f} s", highlight=False)
    for name, things in faults.items():
        console.print(f"{name}: {things}", markup=False, style="red", soft_wrap=True)
    print(json.dumps({"runs": arguments.runs, **measured, "left": left, "grown": grown, "machine": machine()}))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
