"""A box from outside: started by a backend, it runs a program on one input after another, is watched, and killed."""

import math
import os
import selectors
import signal
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from infra.sandbox.cgroups import Usage
from infra.sandbox.interface import Ended, Limits, Result, SandboxUnavailable
from infra.sandbox.memory_file import memory_file, text_of
from infra.sandbox.slots import Slot

MIB = 2**20
OPEN_FILES = 64
START_SECONDS = 30.0
"""How long a box may take to be made before its maker is killed."""

_CPU_CHECK_SECONDS = 0.2
_CREDENTIALS = struct.Struct("3i")


@dataclass
class _Run:
    """One run in progress."""

    stdout: bytearray
    stderr: bytearray
    stopped: Ended | None = None
    """The limit for which it was stopped from outside."""
    report: tuple[int, float, float] | None = None
    """Exit code, CPU seconds and peak MiB by the box's init."""


class Box:
    """A box that a command makes; closing it ends all in it. Raises SandboxUnavailable where it is not made.

    Args:
        command: what makes the box.
        descriptors: what the command inherits, after the init's socket.
        slot: whose launcher starts the command.
        resources: what has to last as long as the box; closed with it.
    """

    def __init__(self, command: Sequence[str], descriptors: Sequence[int], slot: Slot, resources: ExitStack) -> None:
        assert slot.launcher is not None
        self._slot = slot
        self._launcher = slot.launcher
        self._stack = resources
        self._clean = True
        """Whether the init has reported that each run's processes are gone."""
        self._outside, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._stack.enter_context(self._outside)
        # The kernel then says who sends, as seen from here.
        self._outside.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        errors = self._stack.enter_context(memory_file("errors"))
        with inside, suppress(OSError):  # what is wrong with the launcher is said below
            self._launcher.start(command, errors, [inside.fileno(), *descriptors])
        self._init = self._wait_until_made(errors)
        self._stack.callback(os.close, self._init)

    def _wait_until_made(self, errors: int) -> int:
        """A pidfd of the box's init, once it has said that it is ready."""
        self._outside.settimeout(START_SECONDS)
        try:
            message, ancillary, _, _ = self._outside.recvmsg(256, socket.CMSG_SPACE(_CREDENTIALS.size))
            if message == b"ready":
                pid, _, _ = _CREDENTIALS.unpack(ancillary[0][2])
                self._outside.settimeout(None)
                return os.pidfd_open(pid)
        except (OSError, IndexError):
            pass
        try:
            said = self._launcher.wait(1.0)
        except TimeoutError:
            self._launcher.close()
            said = f"it was not made in {START_SECONDS:.0f} s"
        raise SandboxUnavailable(f"no box could be made: {text_of(errors) or said or 'what makes it said nothing'}")

    @property
    def alive(self) -> bool:
        """Whether another program can run in it."""
        return self._launcher.still_running()

    def run(
        self,
        stdin: bytes | int,
        limits: Limits,
        *,
        began: float,
        processes: int,
        command: Sequence[str] = (),
        address_space: bool = True,
        stdout: int | None = None,
    ) -> Result:
        """Run a command, or the program in the box's Python without one, on a standard input; once it has ended,
        nothing of it is left running.

        Args:
            stdin: what it reads; a descriptor is used as it is, and closed.
            stdout: where its standard output goes, closed as well; without it, into the result.
            began: when the run was requested, by time.monotonic; wall seconds count from there.
            processes: how many its user may have at most, as the kernel counts them for each user.
        """
        memory = limits.memory_mb * MIB if address_space else 0
        numbers = (memory, limits.file_mb * MIB, processes, math.ceil(limits.cpu_seconds), OPEN_FILES)
        message = b"\0".join(["\n".join(command).encode(), *(str(number).encode() for number in numbers)])
        before = self._slot.usage()
        run = _Run(bytearray(), bytearray())
        with ExitStack() as stack:
            outputs = {}
            descriptors = [
                stdin if isinstance(stdin, int) else stack.enter_context(memory_file("stdin", stdin, sealed=True))
            ]
            for output, end in ((run.stdout, stdout), (run.stderr, None)):
                if end is None:
                    read, end = os.pipe()
                    stack.callback(os.close, read)
                    outputs[read] = output
                descriptors.append(end)
            try:
                with suppress(OSError):  # the box is gone; that is seen below
                    socket.send_fds(self._outside, [message], descriptors)
            finally:
                for descriptor in descriptors[isinstance(stdin, bytes) :]:
                    os.close(descriptor)
            self._watch(run, outputs, began + limits.wall_seconds, limits, before)
        after = self._slot.usage(refresh=True)
        return self._result(run, limits, began, before, after)

    def _watch(
        self, run: _Run, outputs: dict[int, bytearray], deadline: float, limits: Limits, before: Usage | None
    ) -> None:
        """Read both outputs until the run's processes are gone, or kill them where they pass a limit."""
        control = self._outside.fileno()
        with selectors.DefaultSelector() as selector:
            for descriptor in (*outputs, control):
                selector.register(descriptor, selectors.EVENT_READ)
            while selector.get_map():
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    run.stopped = "time"
                    break
                ready = selector.select(min(remaining, _CPU_CHECK_SECONDS) if before else remaining)
                for key, _ in ready:
                    if key.fd == control:
                        selector.unregister(control)
                        run.report = _report(self._receive())
                        continue
                    chunk = os.read(key.fd, 65536)
                    if not chunk:
                        selector.unregister(key.fd)
                    outputs[key.fd] += chunk
                if len(run.stdout) + len(run.stderr) > limits.output_bytes:
                    run.stopped = "output"
                    break
                if before and not ready and self._used_since(before) > limits.cpu_seconds + 1:
                    run.stopped = "time"  # each process has its own limit; this one is of all of them together
                    break
        if run.report is None:
            self._clean = False
            self.kill()

    def _used_since(self, before: Usage) -> float:
        """CPU seconds of all processes in the box."""
        return self._slot.group.usage().cpu_seconds - before.cpu_seconds if self._slot.group else 0.0

    def _receive(self) -> bytes:
        """The init's report; empty where it is gone."""
        try:
            return self._outside.recv(256)
        except ConnectionError:
            return b""

    def kill(self) -> None:
        """End all in the box.

        Killing the box's PID 1 ends the rest, and what made the box then reaps it. To kill that instead would leave
        PID 1 to be reaped by whatever process is the machine's init, which in containers often does not.
        """
        with suppress(ProcessLookupError):  # it may have died by itself by now
            signal.pidfd_send_signal(self._init, signal.SIGKILL)
        self._launcher.wait()

    def close(self) -> None:
        """End all in the box and forget it."""
        try:
            self.kill()
            if not self._clean:
                self._slot.wait_until_empty()
        finally:
            self._stack.close()

    def _result(self, run: _Run, limits: Limits, began: float, before: Usage | None, after: Usage | None) -> Result:
        stdout, stderr = (bytes(o[: limits.output_bytes]).decode(errors="replace") for o in (run.stdout, run.stderr))
        exit_code, cpu_seconds, peak = run.report or (-signal.SIGKILL, None, None)
        if before and after and run.report is None:
            cpu_seconds, peak = after.cpu_seconds - before.cpu_seconds, after.peak_memory_mb
        cpu_used_up = (cpu_seconds or 0.0) >= limits.cpu_seconds
        return Result(
            stdout=stdout,
            stderr=stderr,
            exit_code=exit_code,
            ended=run.stopped or _why_ended(exit_code, stderr, cpu_used_up, before, after),
            wall_seconds=time.monotonic() - began,
            cpu_seconds=cpu_seconds,
            peak_memory_mb=peak,
            not_held=() if self._slot.group else ("cpu_seconds", "memory_mb"),
        )


def _report(message: bytes) -> tuple[int, float, float] | None:
    if not message:
        return None
    status, cpu_seconds, peak_kib = message.split()
    return os.waitstatus_to_exitcode(int(status)), float(cpu_seconds), int(peak_kib) / 1024


def _why_ended(exit_code: int, stderr: str, cpu_used_up: bool, before: Usage | None, after: Usage | None) -> Ended:
    if exit_code == 0:
        return "finished"
    if before and after and after.killed_for_memory > before.killed_for_memory:
        return "memory"
    if exit_code == -signal.SIGXCPU or (exit_code == -signal.SIGKILL and cpu_used_up):
        return "time"
    last_line = stderr.rstrip().rpartition("\n")[2]
    if exit_code == 1 and last_line.startswith("MemoryError"):
        return "memory"
    if before and after and after.denied_processes > before.denied_processes:
        return "pids"
    return "signal" if exit_code < 0 else "finished"
