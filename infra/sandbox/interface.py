"""The requests and results of a sandbox, whichever backend runs the program."""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Literal, Protocol

from infra.errors import LonghaulError

Ended = Literal["finished", "time", "memory", "output", "pids", "signal", "refused"]
"""Why a run is over.

finished: the program ended by itself, with whatever exit code.
time: it used up its wall or CPU seconds.
memory: the kernel ended a process of it for memory, or it ended with a MemoryError (NOTE: the latter is known by the
    last line of its stderr, so a program can claim it).
output: stdout and stderr together passed the limit.
pids: it failed after it was denied another process or thread.
signal: a signal that no limit explains killed it.
refused: it was not started, because the request is malformed; stderr says why.
"""

NO_FILES: Mapping[str, bytes] = MappingProxyType({})


class SandboxUnavailable(LonghaulError, RuntimeError):
    """The sandbox itself cannot start programs here. Says nothing about any program."""


@dataclass(frozen=True)
class Limits:
    """What one run may use. All are above zero (ValueError)."""

    wall_seconds: float = 10.0
    cpu_seconds: int = 5  # whole seconds, as the kernel counts them
    memory_mb: int = 512  # MiB
    output_bytes: int = 1_000_000  # stdout and stderr together
    processes: int = 16  # processes and threads at one time, the program's own included
    file_mb: int = 16  # MiB: the writable folder as a whole

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ValueError(f"sandbox limit {field.name} is {value!r}; expected a number above 0")


@dataclass(frozen=True)
class Result:
    """What a run left behind."""

    stdout: str
    stderr: str
    exit_code: int  # minus the signal's number where a signal ended the program, as in subprocess
    ended: Ended
    wall_seconds: float  # from before the box was made, for its first run, until the run's processes were dead
    cpu_seconds: float | None  # None where the run was killed before it could be read
    peak_memory_mb: float | None  # MiB, of all processes where cgroups count them, or of the largest; None as above
    not_held: tuple[str, ...] = ()
    """Limits that hold here for each process and not for all of a run together, because they need cgroups."""


class Sandbox(Protocol):
    """Runs untrusted programs; calls may come from several threads.

    All methods raise SandboxUnavailable where no box could be made. Nothing that a program does raises.
    """

    def run(
        self,
        program: str,
        stdin: str = "",
        limits: Limits = ...,
        *,
        language: str = "python",
        files: Mapping[str, bytes] = NO_FILES,
    ) -> Result:
        """Run a program's text.

        Args:
            stdin: its standard input.
            language: the image it runs in, a folder of infra/sandbox/images.
            files: read-only files by their names in the program's work folder.
        """
        ...

    def run_each(
        self,
        program: str,
        stdins: Iterable[str],
        limits: Limits = ...,
        *,
        language: str = "python",
        files: Mapping[str, bytes] = NO_FILES,
    ) -> Generator[Result, None, None]:
        """Run a program on one standard input after another, each run in new processes and under the whole limits.

        The runs share a box, so a later one finds files that an earlier one wrote. A run that is not requested does not
        start: leave the loop at the first failure, and close the generator.
        """
        ...

    def run_joined(
        self,
        first: str,
        second: str,
        limits: Limits = ...,
        *,
        first_files: Mapping[str, bytes] = NO_FILES,
        second_files: Mapping[str, bytes] = NO_FILES,
    ) -> tuple[Result, Result]:
        """Run two Python programs side by side, each in a box of its own and under the whole limits. What one of them
        prints is the other's standard input; both results' stdout is empty, and not counted in output_bytes."""
        ...

    def close(self) -> None:
        """Wait for what runs, and give back what the sandbox holds of the machine."""
        ...
