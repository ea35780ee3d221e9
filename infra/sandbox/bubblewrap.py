"""A sandbox of bubblewrap (bwrap): each program in new namespaces, as nobody, with no network and no files of ours.

What a program sees: the standard library and shared libraries, read-only; an empty environment but for the few
variables below; one writable folder, /tmp (also /dev/shm), of bounded size; its own processes. No /proc, /sys or /etc.

What this does *not* cover: memory is bounded for each process and not for the box as a whole, and neither are the
kernel's own structures (files in /tmp have no limit in number, only in bytes), because both need cgroups; system
calls are not filtered, so the kernel's whole surface is open to the program. Time bounds both.
"""

import json
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SHRINK, F_SEAL_WRITE, fcntl
from pathlib import Path

from infra.sandbox.interface import Ended, Limits, Result, SandboxUnavailable
from infra.sandbox.python_files import NOBODY, PYTHON_HOME, python_files

MIB = 2**20
PROGRAM_PATH = "/box/program.py"
_BOX_INIT = Path(__file__).with_name("box_init.py").read_text(encoding="utf-8")

_NAMESPACES = (
    *("--unshare-user", "--disable-userns", "--uid", NOBODY, "--gid", NOBODY, "--cap-drop", "ALL"),
    *("--unshare-pid", "--as-pid-1", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
    *("--hostname", "box", "--new-session", "--die-with-parent", "--clearenv"),
)
_ENVIRONMENT = {
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "LD_LIBRARY_PATH": f"{PYTHON_HOME}/lib",
    "PYTHONHASHSEED": "0",  # the order of a set of strings, and so a verdict, is the same in every run
}
# Not -I, which would ignore the hash seed; -P and -s are the rest of it.
_PYTHON = (f"{PYTHON_HOME}/bin/python", "-P", "-s", "-S", "-B", "-c", _BOX_INIT)


@contextmanager
def _memory_file(name: str, text: str = "", *, sealed: bool = False) -> Iterator[int]:
    """The descriptor of a file in memory, at its start. Sealed, nobody who inherits it can write to it."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            # A lone surrogate is the program's mistake, and Python in the box says so.
            file.write(text.encode("utf-8", "surrogatepass"))
        os.lseek(descriptor, 0, os.SEEK_SET)
        if sealed:
            fcntl(descriptor, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK)
        yield descriptor
    finally:
        os.close(descriptor)


def _box(limits: Limits) -> list[str]:
    """bwrap's arguments for the box's files. The order matters: each acts on what the ones before it made."""
    arguments = [*_NAMESPACES, *python_files().bwrap_arguments]
    for device in ("null", "zero", "random", "urandom"):
        arguments += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    arguments += ["--symlink", "/tmp", "/dev/shm", "--size", str(limits.file_mb * MIB), "--perms", "1777"]
    # bwrap's own root is a tmpfs without a limit: made read-only once all is in place.
    arguments += ["--tmpfs", "/tmp", "--remount-ro", "/", "--chdir", "/tmp"]
    for name, value in _ENVIRONMENT.items():
        arguments += ["--setenv", name, value]
    return arguments


class _Run:
    """One started box: its output as it is read, and how to kill it."""

    def __init__(self, process: subprocess.Popen[bytes], status: int) -> None:
        self.process = process
        self.status = status
        self.stdout = bytearray()
        self.stderr = bytearray()

    def read_until_dead(self, deadline: float, output_bytes: int) -> Ended | None:
        """Read both outputs until the box is gone; the limit that it passed, if any, and for which it was killed."""
        assert self.process.stdout and self.process.stderr
        buffers = {self.process.stdout.fileno(): self.stdout, self.process.stderr.fileno(): self.stderr}
        death = os.pidfd_open(self.process.pid)
        try:
            with selectors.DefaultSelector() as selector:
                for descriptor in (*buffers, death):
                    selector.register(descriptor, selectors.EVENT_READ)
                while selector.get_map():
                    remaining = deadline - time.monotonic()
                    if remaining <= 0:
                        return "time"
                    for key, _ in selector.select(remaining):
                        chunk = b"" if key.fd == death else os.read(key.fd, 65536)
                        if not chunk:
                            selector.unregister(key.fd)
                            continue
                        buffers[key.fd] += chunk
                        if len(self.stdout) + len(self.stderr) > output_bytes:
                            return "output"
            return None
        finally:
            os.close(death)
            self._kill()

    def _kill(self) -> None:
        """End all in the box, where it has not ended.

        Killing the box's PID 1 ends the rest, and bwrap then reaps it. To kill bwrap instead would leave PID 1 to be
        reaped by whatever process is the machine's init, which in containers often does not; and a PID 1 that bwrap
        has made but not yet released would wait for ever. So a box that is still being made is first made.
        """
        while self.process.poll() is None:
            child = self.report().get("child-pid")
            if child is not None:
                with suppress(ProcessLookupError):  # it may have died by itself by now; bwrap then ends too
                    os.kill(child, signal.SIGKILL)
                break
            time.sleep(0.001)
        self.process.wait()

    def report(self) -> dict[str, int]:
        """What bwrap reports so far: `child-pid` once there is one, `exit-code` if the box's Python was started."""
        merged: dict[str, int] = {}
        for line in os.pread(self.status, 65536, 0).splitlines(keepends=True):
            if line.endswith(b"\n"):
                merged.update(json.loads(line))
        return merged


def _usage(report: int) -> tuple[int, float, float] | None:
    """Exit code, CPU seconds and peak MiB from the init's report; None where it was killed before writing one.

    NOTE: written inside the box, so a program could forge it, about itself only: nothing here may raise or be trusted.
    """
    try:
        status, cpu_seconds, peak_kib = os.pread(report, 100, 0).split()
        return os.waitstatus_to_exitcode(int(status)), float(cpu_seconds), int(peak_kib) / 1024
    except (ValueError, OverflowError):
        return None


def _why_ended(exit_code: int, stderr: str, cpu_used_up: bool) -> Ended:
    if exit_code == -signal.SIGXCPU or (exit_code == -signal.SIGKILL and cpu_used_up):
        return "time"
    if exit_code < 0:
        return "signal"
    last_line = stderr.rstrip().rpartition("\n")[2]
    return "memory" if exit_code == 1 and last_line.startswith("MemoryError") else "finished"


class BubblewrapSandbox:
    """Runs programs in bubblewrap boxes. Raises SandboxUnavailable at once where bwrap is missing or does not work."""

    def __init__(self) -> None:
        for tool in ("bwrap", *(("unshare", "nsenter") if os.geteuid() == 0 else ())):
            if shutil.which(tool) is None:
                raise SandboxUnavailable(f"no `{tool}` on PATH: apt-get install bubblewrap util-linux")
        trial = self.run("print('ready')")
        if trial.stdout != "ready\n":
            raise SandboxUnavailable(f"bwrap starts, but Python in it does not: {trial.stderr.strip()}")

    def run(self, program: str, stdin: str = "", limits: Limits = Limits()) -> Result:  # noqa: B008 - it is frozen
        """See `Sandbox.run`."""
        start = time.monotonic()
        with ExitStack() as stack:
            source = stack.enter_context(_memory_file("program", program))
            standard_input = stack.enter_context(_memory_file("stdin", stdin, sealed=True))
            status = stack.enter_context(_memory_file("status"))
            usage = stack.enter_context(_memory_file("usage"))
            command = [*python_files().launcher, "bwrap", "--json-status-fd", str(status)]
            command += ["--file", str(source), PROGRAM_PATH, *_box(limits), "--", *_PYTHON, str(usage), PROGRAM_PATH]
            command += [str(limits.memory_mb * MIB), str(limits.file_mb * MIB)]
            command += [str(limits.processes + 1), str(limits.cpu_seconds)]  # the init is a process too
            process = stack.enter_context(
                subprocess.Popen(
                    command,
                    stdin=standard_input,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=(source, status, usage),
                    env={},  # bwrap's own: what a library to preload says would stand in the program's output
                )
            )
            box = _Run(process, status)
            passed = box.read_until_dead(start + limits.wall_seconds, limits.output_bytes)
            outputs = (box.stdout, box.stderr)
            stdout, stderr = (bytes(o[: limits.output_bytes]).decode(errors="replace") for o in outputs)
            if passed is None and "exit-code" not in box.report():
                raise SandboxUnavailable(
                    f"bwrap could not make a box ({stderr.strip()}); it needs user namespaces and, on Debian, "
                    "apt-get install bubblewrap"
                )
            exit_code, cpu_seconds, peak = _usage(usage) or (None, None, None)
            if exit_code is None:
                code = process.returncode
                exit_code = -signal.SIGKILL if passed else code if code <= 128 else 128 - code
            return Result(
                stdout=stdout,
                stderr=stderr,
                exit_code=exit_code,
                ended=passed or _why_ended(exit_code, stderr, (cpu_seconds or 0.0) >= limits.cpu_seconds),
                wall_seconds=time.monotonic() - start,
                cpu_seconds=cpu_seconds,
                peak_memory_mb=peak,
            )
