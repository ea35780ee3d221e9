"""What it costs to run a program in the sandbox: from the call until the result of a Python program that prints 1.

    python -m benchmarks.sandbox

For each backend that works on this machine and for the service (`longhaul sandbox serve`, a process of its own on this
machine), beside bare Python (`python -S -c` as a subprocess, no sandbox) and the report's own figures (§2.6.4: 40 ms to
start, 120 containers per second on 16 cores).

- `median_ms`: single runs, one after the other.
- `per_second_per_core`: runs per second with one thread per core, divided by the cores; the median of the rounds.

The backends take turns, so that a machine that becomes slower or faster does so for all. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.nano_start import ROOT, machine
from infra.sandbox.client import SandboxClient
from infra.sandbox.config import SandboxConfig, open_sandbox
from infra.sandbox.interface import Sandbox, SandboxUnavailable
from infra.sandbox.token import read_token

PROGRAM = "print(1)"
BACKENDS = ("bubblewrap", "crun")
REPORT = {"median_ms": 40.0, "per_second_per_core": 120 / 16}
WARM_UP = 20


def bare_python() -> Callable[[], str]:
    """Runs the program without a sandbox, with the Python that boxes have."""
    command = [os.path.realpath(getattr(sys, "_base_executable", sys.executable)), "-S", "-c", PROGRAM]
    return lambda: subprocess.run(command, capture_output=True, text=True).stdout


def seconds_of(run: Callable[[], str]) -> float:
    """Seconds of one run. Ends the process if the program did not run."""
    start = time.perf_counter()
    written = run()
    seconds = time.perf_counter() - start
    if written != "1\n":
        sys.exit(f"the program printed {written!r}, expected '1\\n'")
    return seconds


def per_second(run: Callable[[], str], threads: ThreadPoolExecutor, runs: int) -> float:
    """Runs per second of all threads together."""
    start = time.perf_counter()
    list(threads.map(lambda _: seconds_of(run), range(runs)))
    return runs / (time.perf_counter() - start)


@contextmanager
def service(slots: int) -> Iterator[SandboxClient]:
    """A client of a service in a process of its own."""
    command = [sys.executable, "-m", "flows.cli.sandbox", "serve", "--port", "0", "--slots", str(slots)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        client = SandboxClient(process.stdout.readline().split(" listens on ")[1].split()[0], read_token(None))
        try:
            yield client
        finally:
            client.close()
            process.terminate()


def measure(runs: int, rounds: int) -> dict[str, Any]:
    """Figures of each backend, in the shape of the JSON."""
    console = Console(stderr=True)
    cores = len(os.sched_getaffinity(0))
    ways: dict[str, Callable[[], str]] = {"python": bare_python()}
    figures: dict[str, Any] = {"report": REPORT}
    sandboxes: list[Sandbox] = []
    for name in BACKENDS:
        try:
            sandbox = open_sandbox(SandboxConfig.model_validate({"backend": name, "slots": cores}))
        except SandboxUnavailable as error:
            console.print(f"{name} is skipped: {error}", markup=False, highlight=False)
            figures[name] = {"unavailable": str(error)}
            continue
        sandboxes.append(sandbox)
        ways[name] = lambda sandbox=sandbox: sandbox.run(PROGRAM).stdout  # type: ignore[misc]
    stack = ExitStack()
    if sandboxes:
        client = stack.enter_context(service(cores))
        ways["service"] = lambda: client.run(PROGRAM).stdout
    single: dict[str, list[float]] = {name: [] for name in ways}
    together: dict[str, list[float]] = {name: [] for name in ways}
    with stack, ThreadPoolExecutor(cores) as threads:
        for run in ways.values():
            per_second(run, threads, WARM_UP)
        for number in range(rounds):
            for name, run in ways.items():
                single[name] += [seconds_of(run) for _ in range(runs)]
                together[name].append(per_second(run, threads, runs * cores) / cores)
                at = f"round {number + 1} of {rounds}, {name}"
                console.print(f"{at}: {together[name][-1]:.1f} per second and core", markup=False, highlight=False)
    for sandbox in sandboxes:
        sandbox.close()
    for name in ways:
        figures[name] = {
            "median_ms": statistics.median(single[name]) * 1000,
            "per_second_per_core": statistics.median(together[name]),
        }
    return figures


def main() -> None:
    """Measure, show a table, print JSON."""
    parser = argparse.ArgumentParser(description="What it costs to run a program in the sandbox.")
    parser.add_argument("--runs", type=int, default=100, help="runs of each backend in each round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    figures = measure(arguments.runs, arguments.rounds)
    table = Table("", "median, ms", "per second and core")
    for name, figure in figures.items():
        if "median_ms" in figure:
            table.add_row(name, f"{figure['median_ms']:.1f}", f"{figure['per_second_per_core']:.1f}")
    Console(stderr=True).print(table)
    print(json.dumps(figures | {"machine": machine()}))


if __name__ == "__main__":
    main()
