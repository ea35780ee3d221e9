"""Guards: a small process over each process of a flow, so that nothing of a run is left when one of them is killed.

    longhaul run → guard → flow → guard → stage → tracker, engines, boxes

The process that was started stays as the guard and forks before anything large is imported; the child becomes the flow
or the stage. Then:

- Where the process that started the guard is gone, the guard has the child end as by Ctrl-C, so that it records what it
  was at and removes its temporary files. What still runs PATIENCE_S later is killed.
- Where the child ends, what it started gets the same time to end. A signal that killed it is named on standard error,
  and then kills the guard too.
- Where the guard is killed, the kernel kills the child.

Where a fork server runs (flows/fork_server), the guard of a step is a fork of it, as the step is:

    guard → flow → client ⇢ guard → stage → …
      └─ fork server ─────────┘

What the client is to Metaflow, its connection is to the guard: its end is that of whoever started the step.

A run that nobody is left to end records that as failed here (`end_abandoned`). What a killed guard leaves behind, the
next run clears (flows/leftovers.py).
"""

import ctypes
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Protocol

from flows.fork_server.client import STARTED_BY, STATUS
from flows.fork_server.start import start_fork_server

PATIENCE_S = 15.0
"""Seconds to end in good order: Metaflow gives its tasks five, and then writes their logs."""

KILLED = "its process was killed by "
"""What the guard prints of a child that a signal has killed."""

_GUARDED = "LONGHAUL_GUARDED_PROCESS"
PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def signal_name(number: int) -> str:
    """SIGKILL for 9; what may have sent it, where that is not obvious."""
    with suppress(ValueError):
        name = signal.Signals(number).name
        return f"{name} (is there too little memory?)" if number == signal.SIGKILL else name
    return f"signal {number}"


def enter_guard() -> None:
    """Put a guard over this process if it is a flow that `longhaul run` has started, or a flow's step.

    Returns in the child. To be called before other threads exist. The guard of a flow starts a fork server for the
    flow's steps, where the environment says so.
    """
    if os.environ.get(_GUARDED) == str(os.getpid()):
        return  # the child, after it was restarted for a library to be preloaded
    name = step_of(sys.argv)
    starter = os.environ.pop(STARTED_BY, None)
    if name is None and starter is None:
        return
    parent = _ParentProcess(os.getppid() if starter is None else int(starter))
    if name is not None and parent.news() == 0:
        sys.exit(f"{name}: the process that started it is gone")
    _guard_child(parent, name, None if name is not None else start_fork_server)


def guard_fork(connection: socket.socket, name: str | None) -> None:
    """Put a guard over this process, which is a fork that a client of the fork server asked for. Returns in the child.

    Args:
        connection: to the client, in place of which the guard is: its end is that of whoever started the step.
        name: see `step_of`.
    """
    _guard_child(_Client(connection), name)
    connection.close()


def step_of(arguments: Sequence[str]) -> str | None:
    """What a flow's arguments say it is: "step NAME"; None for the flow itself."""
    names = arguments[arguments.index("step") + 1 :][:1] if "step" in arguments else []
    return f"step {names[0]}" if names else None


def _guard_child(starter: "_Starter", name: str | None, start_helper: Callable[[], int | None] | None = None) -> None:
    """Fork: the child returns, and this process guards it.

    Args:
        start_helper: starts a process that the child uses; returns a descriptor of it.
    """
    guard = os.getpid()
    child = os.fork()
    if child:
        helper = start_helper() if start_helper is not None else None
        _Guard(starter, child, name, helper).watch()
    call_kernel(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:
        os._exit(1)
    os.environ[_GUARDED] = str(os.getpid())


def call_kernel(option: int, value: int) -> None:
    """prctl(2) with one of its options."""
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class _Starter(Protocol):
    """Who started what is guarded."""

    def descriptor(self) -> int | None:
        """Readable where there may be news; None where the starter was gone before the guard began."""

    def news(self) -> int | None:
        """0 where the starter is gone, the number of a signal to pass on, or None."""

    def report(self, status: int) -> None:
        """Say how the guarded process ended, by its exit status."""


class _ParentProcess:
    """The process that started the guard."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._descriptor: int | None = None
        with suppress(ProcessLookupError):
            self._descriptor = os.pidfd_open(process)

    def descriptor(self) -> int | None:
        return self._descriptor

    def news(self) -> int | None:
        return 0 if self._descriptor is None or os.getppid() != self._process else None

    def report(self, status: int) -> None:
        """The guard's own end says it."""


class _Client:
    """The process at the other end of a connection (flows/fork_server/client.py)."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def descriptor(self) -> int | None:
        return self._connection.fileno()

    def news(self) -> int | None:
        try:
            received = self._connection.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except ConnectionError:
            return 0
        return received[0] if received else 0

    def report(self, status: int) -> None:
        with suppress(OSError):  # nobody is there to hear it
            self._connection.send(STATUS.pack(status), socket.MSG_NOSIGNAL)


class _Guard:
    """The guard's own part.

    Args:
        name: of the step; None for a flow.
        helper: a descriptor of a process that ends with the child.
    """

    def __init__(self, starter: _Starter, child: int, name: str | None, helper: int | None) -> None:
        self._starter = starter
        self._child = child
        self._name = name
        self._helper = helper
        self._status: int | None = None
        # What the child's children leave becomes the guard's: it would be lost to init otherwise.
        call_kernel(_PR_SET_CHILD_SUBREAPER, 1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the child, in the same group
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._forward)

    def _forward(self, number: int, frame: FrameType | None = None) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._child, number)

    def watch(self) -> None:
        """Never returns."""
        try:
            abandoned = self._wait_for_end()
            if self._helper is not None:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._helper, signal.SIGKILL)
            self._end_descendants()
            if abandoned and self._name is None:
                from flows.leftovers import end_abandoned

                end_abandoned()
        except BaseException as error:  # the child's copy of the stack is below
            print(f"the guard of a flow failed: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
        if self._status is not None and os.WIFSIGNALED(self._status):
            number = os.WTERMSIG(self._status)
            if self._name is not None and not abandoned:
                print(f"{self._name}: {KILLED}{signal_name(number)}", file=sys.stderr, flush=True)
            self._starter.report(-number)
            resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
            with suppress(OSError):
                signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        status = os.waitstatus_to_exitcode(self._status) if self._status is not None else 1
        self._starter.report(status)
        os._exit(status)

    def _wait_for_end(self) -> bool:
        """Wait until the child has ended; whether that is because nobody is left who started it."""
        ends = select.poll()
        ends.register(os.pidfd_open(self._child), select.POLLIN)
        starter = self._starter.descriptor()
        if starter is not None:
            ends.register(starter, select.POLLIN)
        while True:
            news = self._starter.news()
            if news == 0:
                self._reap()
                if self._status is None:
                    self._interrupt()
                return True
            if news is not None:
                self._forward(news)
            ends.poll(1000)
            self._reap()
            if self._status is not None:
                return False

    def _interrupt(self) -> None:
        with suppress(ProcessLookupError):
            # A flow leads a group with its steps, whom Ctrl-C reaches as well; a step's group is the flow's.
            if self._name is None and os.getpgrp() == os.getpid():
                os.killpg(os.getpgrp(), signal.SIGINT)
            else:
                os.kill(self._child, signal.SIGINT)

    def _end_descendants(self) -> None:
        """Give all that is left below time to end, then kill it."""
        until = time.monotonic() + PATIENCE_S
        while self._reap():
            if time.monotonic() > until:
                for process in _descendants(os.getpid()):
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
            time.sleep(0.05)

    def _reap(self) -> bool:
        """Take the exit status of what has ended; whether anything is left."""
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if process == 0:
                return True
            if process == self._child:
                self._status = status


def _descendants(root: int) -> list[int]:
    """Processes below one, from /proc."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            parent = int(file.read().rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(int(name))
    descendants, waiting = [], [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        descendants += below
        waiting += below
    return descendants
