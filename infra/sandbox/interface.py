"""What a sandbox is asked and what it answers, whichever backend runs the program."""

from dataclasses import dataclass, fields
from typing import Literal, Protocol

Ended = Literal["finished", "time", "memory", "output", "signal"]
"""Why a run is over.

finished: the program ended by itself, with whatever exit code.
time: it used up its wall or CPU seconds.
memory: it ended with a MemoryError (NOTE: known by the last line of its stderr, so a program can claim it).
output: stdout and stderr together passed the limit.
signal: a signal that no limit explains killed it.
"""


class SandboxUnavailable(RuntimeError):
    """The sandbox itself cannot start programs here. Says nothing about any program."""


@dataclass(frozen=True)
class Limits:
    """What one run may use. All are above zero (ValueError)."""

    wall_seconds: float = 10.0
    cpu_seconds: int = 5  # of each process; whole seconds, as the kernel counts them
    memory_mb: int = 512  # MiB of address space, of each process
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
    """What a run left behind. The last two are None where the run was killed before they could be read."""

    stdout: str
    stderr: str
    exit_code: int  # minus the signal's number where a signal ended the program, as in subprocess
    ended: Ended
    wall_seconds: float  # from before the box was made until all in it was dead
    cpu_seconds: float | None
    peak_memory_mb: float | None  # MiB of resident memory, of the program's largest process


class Sandbox(Protocol):
    """Runs one untrusted Python program at a time per call; calls may come from several threads."""

    def run(self, program: str, stdin: str, limits: Limits) -> Result:
        """Run a program's text on a text for its standard input.

        Raises SandboxUnavailable where no box could be made. Nothing that a program does raises.
        """
        ...
