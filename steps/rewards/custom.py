"""The reward of one's own: a function that the recipe names, in processes that can be killed, or in the sandbox.

Whatever the function does costs its own response a reward, and nothing else: it may raise, hang, print, end its process
or return something else than a number from 0 to 1. Then there is no verdict, with the reason in a few words.
"""

import hashlib
import json
import math
import os
import queue
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from infra.errors import LonghaulError
from infra.sandbox.config import open_sandbox
from infra.sandbox.interface import Limits, Sandbox
from steps.problem import Problem
from steps.rewards.score import NoVerdict

if TYPE_CHECKING:
    from steps.configs.custom_reward import CustomRewardConfig

VERSION = "custom@1"

START_SECONDS = 120.0
"""For one start: the function's file may import large packages."""

JUDGEMENTS_PER_PROCESS = 5000
"""A fresh process before what a function leaves in memory reaches the limit."""

LONGEST_REPLY = 10_000
"""Bytes of a line; the worker's own lines are shorter."""

KEY = "judging.custom.file"

_ROOT = Path(__file__).parents[2]
_PROGRAM = Path(__file__).with_name("custom_call.py")


class CustomRewardRefused(LonghaulError, ValueError):
    """The function cannot be loaded; the message names the key, the file and why."""


class _Ended(Exception):
    """A process gave no answer; the message is the reason in a few words."""


class _Worker:
    """One process with the function loaded. After an exception it is dead."""

    def __init__(self, begin: dict[str, Any], folder: str) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            # -P: what lies in the folder by chance is not imported.
            [sys.executable, "-P", "-m", "steps.rewards.custom_call"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=folder,
            env=environment,
            start_new_session=True,  # what the function starts is killed with it
        )
        self._read = b""
        self._closed = False
        self.judgements = 0
        self.first = self.ask(begin, START_SECONDS)

    @property
    def usable(self) -> bool:
        """Whether it can take another judgement."""
        return self._process.poll() is None and self.judgements < JUDGEMENTS_PER_PROCESS

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The answer to a request. Raises _Ended where there is none."""
        token = secrets.token_hex(8)
        try:
            return self._ask(request | {"token": token}, seconds)
        except _Ended:
            self.close()
            raise

    def _ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        assert self._process.stdin
        deadline = time.monotonic() + seconds
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise _Ended("ended its process") from None
        while True:
            reply = _reply(self._line(deadline), request["token"])
            if reply is not None:
                self.judgements += 1
                return reply

    def _line(self, deadline: float) -> bytes:
        assert self._process.stdout
        descriptor = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while b"\n" not in self._read:
                left = deadline - time.monotonic()
                # What writes without end is always ready to be read.
                if left <= 0 or not selector.select(left):
                    raise _Ended("timed out")
                chunk = os.read(descriptor, 65536)
                if not chunk or len(self._read) > LONGEST_REPLY:
                    raise _Ended("ended its process")
                self._read += chunk
        line, _, self._read = self._read.partition(b"\n")
        return line

    def close(self) -> None:
        """End the process, and what it started."""
        if self._closed:
            return  # its number may be another process's by now
        self._closed = True
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        # Not read to its end: a process that left the group may hold the other end open.
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()
        self._process.wait()


def _printable(text: object) -> str:
    """What a function's process says, as a log can hold it."""
    return "".join(one if one.isprintable() else "�" for one in str(text))[:1000]


def _reply(line: str | bytes, token: str) -> dict[str, Any] | None:
    """A line as the answer to the request with this token; None for any other line."""
    try:
        reply = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return reply if isinstance(reply, dict) and reply.get("token") == token else None


def _is_answer(reply: dict[str, Any]) -> bool:
    """Whether a reply is one of the program's own, and not what the function has written in its place."""
    value = reply.get("value")
    if "fault" in reply or isinstance(value, bool) or not isinstance(value, int | float):
        return "fault" in reply
    return 0 <= value <= 1


class CustomReward:
    """Judges by the function, in at most `workers` processes or boxes; calls from more threads wait."""

    def __init__(self, path: Path, address: str, config: "CustomRewardConfig", workers: int = 2) -> None:
        """`path` is the function's file on this machine, read once; `address` is what messages call it."""
        source = path.read_bytes()
        self.version = f"{VERSION}:{hashlib.sha256(source).hexdigest()[:12]}"
        """With the beginning of the SHA-256 of the function's file."""
        self._config = config
        self._begin = {
            "source": source.decode("utf-8", "replace"),
            "file": address,
            "function": config.function,
            "memory_mb": 0 if config.untrusted else config.memory_mb,
            "seconds": config.seconds,
        }
        self._address = address
        self._folder = tempfile.TemporaryDirectory(prefix="longhaul-custom-")
        self._sandbox: Sandbox | None = None
        self._lock = threading.Lock()
        self._loads = False
        # Last in, first out: a light load keeps one process warm and starts no other.
        self._slots: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._slots.put(None)

    def check(self) -> None:
        """Load the function once. Raises CustomRewardRefused where that fails."""
        with self._lock:
            if self._loads:
                return
            if self._config.untrusted:
                replies = self._run_box([])
                reply = replies[0] if replies else {"fault": "no answer", "detail": "the box ended"}
                if "fault" in reply:
                    self._refuse(reply)
            else:
                worker = self._slots.get()
                try:
                    worker = self._started(worker)
                finally:
                    self._slots.put(worker)
            self._loads = True

    def judge(self, problem: Problem, response: str) -> float:
        """The reward, from 0 to 1. Raises NoVerdict, and CustomRewardRefused where the function cannot be loaded."""
        self.check()
        request = {
            "prompt": problem.text,
            "response": response,
            "answer": problem.answer,
            "problem": problem.model_dump(mode="json"),
        }
        reply = self._in_box(request) if self._config.untrusted else self._in_process(request)
        if not _is_answer(reply):
            reply = {"fault": "gave no reward"}
        if "fault" in reply:
            reason, detail = _printable(reply["fault"])[:100], _printable(reply.get("detail") or "")
            raise NoVerdict(
                f"{self._config.function} in {self._address}, problem {problem.id!r}: {reason}"
                + (f": {detail}" if detail else ""),
                reason,
            )
        return float(reply["value"])

    def close(self) -> None:
        """End the processes. No judgement may be under way."""
        for worker in [self._slots.get() for _ in range(self._slots.qsize())]:
            if worker is not None:
                worker.close()
            self._slots.put(None)
        if self._sandbox is not None:
            self._sandbox.close()
        self._folder.cleanup()

    def _in_process(self, request: dict[str, Any]) -> dict[str, Any]:
        worker = self._slots.get()
        try:
            worker = self._started(worker)
            reply = worker.ask(request, self._config.seconds)
            if not _is_answer(reply):
                worker.close()  # the function is still at work
            return reply
        except _Ended as ended:
            return {"fault": str(ended)}
        finally:
            self._slots.put(worker)

    def _started(self, worker: _Worker | None) -> _Worker:
        """The worker, or another one in its place where it has ended."""
        if worker is not None and worker.usable:
            return worker
        if worker is not None:
            worker.close()
        try:
            worker = _Worker(self._begin, self._folder.name)
        except _Ended as ended:
            self._refuse({"fault": "cannot be loaded", "detail": str(ended)})
        if "fault" in worker.first:
            worker.close()
            self._refuse(worker.first)
        return worker

    def _refuse(self, reply: dict[str, Any]) -> NoReturn:
        where = " in the sandbox, which has the standard library alone" if self._config.untrusted else ""
        why = _printable(reply.get("detail") or reply["fault"])
        raise CustomRewardRefused(
            f"{KEY}: {self._config.function} of {self._address} cannot be loaded{where}: {why}; correct the file, or "
            "install what it imports"
        )

    def _in_box(self, request: dict[str, Any]) -> dict[str, Any]:
        replies = self._run_box([request])
        if len(replies) == 1 and "fault" not in replies[0]:
            return {"fault": "ended its process"}  # it was loaded, and then gave no answer
        return replies[-1]

    def _run_box(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answers of a box of its own: the first says whether the function was loaded. The last one may be why
        there is none."""
        token = secrets.token_hex(8)
        lines = [json.dumps(one | {"token": token}) for one in (self._begin, *requests)]
        config = self._config
        limits = Limits(
            wall_seconds=2 * config.seconds + 5,  # what only waits; a busy machine must not decide
            cpu_seconds=math.ceil(config.seconds),
            memory_mb=config.memory_mb,
        )
        result = self._opened().run(_PROGRAM.read_text(encoding="utf-8"), "\n".join(lines) + "\n", limits)
        replies = [reply for line in result.stdout.split("\n") if (reply := _reply(line, token)) is not None]
        if len(replies) <= len(requests) and result.ended != "finished":
            faults = {"time": "timed out", "memory": "out of memory"}
            fault = faults.get(result.ended, "ended its process")
            replies.append({"fault": fault, "detail": ""})
        return replies or [{"fault": "ended its process", "detail": " ".join(result.stderr.split())[-300:]}]

    def _opened(self) -> Sandbox:
        # Not in __init__: a stage without such problems needs no sandbox.
        if self._sandbox is None:
            self._sandbox = open_sandbox()
        return self._sandbox
