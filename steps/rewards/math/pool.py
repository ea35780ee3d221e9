"""Killable processes that compare expressions, started when first needed and replaced when one dies."""

import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Literal

from steps.rewards.math.forms import Expr
from steps.rewards.math.wire import encode

How = Literal["equal", "proportional", "positively proportional"]
"""How two expressions are compared: see `algebra`, which a worker alone imports."""

Comparison = Literal["equal", "different", "too large"]
"""What a worker answers. too large: its memory did not suffice."""

Outcome = Comparison | Literal["timed out", "killed"]
"""What the pool answers. killed: twice, by a signal that is not the timer's."""

CPU_SECONDS = 5.0
"""For one comparison; most take some milliseconds."""

WALL_SECONDS = 60.0
"""For one comparison or one start, where a process neither computes nor answers."""

COMPARISONS_PER_PROCESS = 5000
"""A fresh process before what constants and factorials leave in memory reaches the limit."""

REMEMBERED = 100_000
"""Outcomes kept. A group's responses give the same answers often, and one that hangs costs its seconds once."""

_ROOT = Path(__file__).parents[3]


class MathWorkerError(RuntimeError):
    """A worker does not start, or fails for a reason that no answer explains."""


class _Worker:
    """One process. `compare` may kill it: then `alive` is False."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        # A new program and not a fork: this process may hold an engine's threads and locks.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "steps.rewards.math.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self.comparisons = 0
        if self._line() != b"ready\n":
            self.close()
            raise MathWorkerError(f"the math worker does not start (exit code {self._process.returncode}), see stderr")

    @property
    def alive(self) -> bool:
        """Whether it can take another comparison."""
        return self._process.poll() is None and self.comparisons < COMPARISONS_PER_PROCESS

    def _line(self) -> bytes:
        """Its next line; empty where it has died or says nothing for WALL_SECONDS."""
        assert self._process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            # One line answers one request, so none waits in the reader's buffer.
            return self._process.stdout.readline() if selector.select(WALL_SECONDS) else b""

    def compare(self, pair: str, cpu_seconds: float) -> Outcome:
        assert self._process.stdin
        self.comparisons += 1
        request = json.loads(pair) | {"cpu_seconds": cpu_seconds}
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            line = self._line()
        except BrokenPipeError:
            line = b""
        if line:
            outcome: Outcome = json.loads(line)
            return outcome
        hung = self._process.poll() is None and not self._ended_soon()
        self.close()
        if hung or self._process.returncode == -signal.SIGPROF:
            return "timed out"
        if self._process.returncode < 0:
            return "killed"
        raise MathWorkerError(f"the math worker ended with exit code {self._process.returncode}, see stderr")

    def _ended_soon(self) -> bool:
        """Whether a process that has closed its output also ends; its exit code says why it did."""
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class MathPool:
    """Compares expressions in at most `workers` processes; calls from more threads wait."""

    def __init__(self, workers: int, cpu_seconds: float = CPU_SECONDS) -> None:
        self._cpu_seconds = cpu_seconds
        self._seen: OrderedDict[str, Outcome] = OrderedDict()
        self._lock = threading.Lock()
        # Last in, first out: a light load keeps one process warm and starts no other.
        self._slots: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._slots.put(None)

    def compare(self, reference: Expr, answer: Expr, how: How = "equal") -> Outcome:
        """Whether two expressions agree. Raises MathWorkerError where the fault is not theirs."""
        pair = json.dumps({"reference": encode(reference), "answer": encode(answer), "how": how})
        with self._lock:
            if pair in self._seen:
                self._seen.move_to_end(pair)
                return self._seen[pair]
        outcome = self._compare(pair)
        if outcome == "killed":
            # The machine's memory may have run out for a reason of its own; the expressions get a second chance.
            outcome = self._compare(pair)
        if outcome != "killed":
            with self._lock:
                self._seen[pair] = outcome
                if len(self._seen) > REMEMBERED:
                    self._seen.popitem(last=False)
        return outcome

    def _compare(self, pair: str) -> Outcome:
        worker = self._slots.get()
        try:
            if worker is None or not worker.alive:
                if worker is not None:
                    worker.close()
                worker = None
                worker = _Worker()
            return worker.compare(pair, self._cpu_seconds)
        finally:
            self._slots.put(worker)

    def close(self) -> None:
        """End the processes. No comparison may be under way."""
        for worker in [self._slots.get() for _ in range(self._slots.qsize())]:
            if worker is not None:
                worker.close()
            self._slots.put(None)
