"""The sandbox of this machine: boxes of one of the backends, in slots."""

import os
import re
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing
from typing import Protocol

from infra.sandbox import images
from infra.sandbox.box import Box
from infra.sandbox.images import Image
from infra.sandbox.interface import NO_FILES, Limits, Result, SandboxUnavailable
from infra.sandbox.launcher import Launcher
from infra.sandbox.slots import Slot, Slots

COMPILATION = Limits(wall_seconds=60.0, cpu_seconds=30, memory_mb=1024, file_mb=64, processes=16)
LONGEST_PROGRAM = 2**20
"""Bytes."""

MOST_FILES = 64
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_OWN_PROCESSES = 3
"""The launcher, what makes the box and waits for it, and the init."""


class Backend(Protocol):
    """Makes boxes."""

    name: str

    def launcher(self, slot: Slot) -> Launcher:
        """A new launcher for a slot."""
        ...

    def command(
        self, slot: Slot, language: str, program: bytes, files: Mapping[str, bytes], limits: Limits
    ) -> AbstractContextManager[tuple[list[str], Sequence[int]]]:
        """The command that makes a box, and the descriptors that it inherits; both last as long as the block.

        The first number that it sees, before those, is the init's socket.
        """
        ...


class LocalSandbox:
    """Runs programs in boxes on this machine, at most `slots` at one time; others wait.

    Raises SandboxUnavailable at once where no box can be made.
    """

    def __init__(self, backend: Backend, slots: int) -> None:
        self.backend = backend
        self._slots = Slots(slots)
        try:
            trial = self.run("print('ready')")
            if trial.stdout != "ready\n":
                raise SandboxUnavailable(f"{backend.name} starts, but Python in it does not: {trial.stderr.strip()}")
        except BaseException:
            self.close()
            raise

    @property
    def has_groups(self) -> bool:
        """Whether all of a box's processes are limited together, by control groups."""
        return self._slots.have_groups

    def run(
        self,
        program: str,
        stdin: str = "",
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        *,
        language: str = "python",
        files: Mapping[str, bytes] = NO_FILES,
    ) -> Result:
        """See `Sandbox.run`."""
        with closing(self.run_each(program, [stdin], limits, language=language, files=files)) as results:
            return next(results)

    def run_each(
        self,
        program: str,
        stdins: Iterable[str],
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        *,
        language: str = "python",
        files: Mapping[str, bytes] = NO_FILES,
    ) -> Generator[Result, None, None]:
        """See `Sandbox.run_each`."""
        # A lone surrogate is the program's mistake, and Python in the box says so.
        source = program.encode("utf-8", "surrogatepass")
        if reason := _refusal(source, language, files):
            for _ in stdins:
                yield Result("", reason, 1, "refused", 0.0, None, None)
            return
        image = images.image(language)
        images.root(language)  # the first time it takes seconds, which are no run's
        with self._slots.taken() as slot:
            box: Box | None = None
            failed: Result | None = None
            try:
                for stdin in stdins:
                    began = time.monotonic()
                    if box is None or not box.alive:
                        if box is not None:
                            box.close()
                        box = self._start(slot, language, source, files, limits)
                        if image.compile:
                            failed = self._compile(box, slot, image)
                            began = time.monotonic()
                    data = stdin.encode("utf-8", "surrogatepass")
                    yield failed or self._run(box, slot, image, data, limits, began)
            finally:
                if box is not None:
                    box.close()

    def run_joined(
        self,
        first: str,
        second: str,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        *,
        first_files: Mapping[str, bytes] = NO_FILES,
        second_files: Mapping[str, bytes] = NO_FILES,
    ) -> tuple[Result, Result]:
        """See `Sandbox.run_joined`."""
        programs = [(first.encode("utf-8", "surrogatepass"), first_files)]
        programs += [(second.encode("utf-8", "surrogatepass"), second_files)]
        for program, files in programs:
            if reason := _refusal(program, "python", files):
                refused = Result("", reason, 1, "refused", 0.0, None, None)
                return refused, refused
        image = images.image("python")
        images.root("python")
        with self._slots.two_taken() as slots, ExitStack() as stack:
            began = time.monotonic()
            boxes = []
            for slot, (program, files) in zip(slots, programs, strict=True):
                boxes.append(self._start(slot, "python", program, files, limits))
                stack.callback(boxes[-1].close)
            (read_by_second, written_by_first), (read_by_first, written_by_second) = os.pipe(), os.pipe()
            with ThreadPoolExecutor(1) as beside:
                ends = read_by_second, written_by_second
                second_result = beside.submit(self._run, boxes[1], slots[1], image, ends[0], limits, began, ends[1])
                first_result = self._run(boxes[0], slots[0], image, read_by_first, limits, began, written_by_first)
                return first_result, second_result.result()

    def _start(self, slot: Slot, language: str, program: bytes, files: Mapping[str, bytes], limits: Limits) -> Box:
        resources = ExitStack()
        try:
            if slot.launcher is None or not slot.launcher.alive:
                slot.launcher = self.backend.launcher(slot)
            making = self.backend.command(slot, language, program, files, limits)
            command, descriptors = resources.enter_context(making)
            return Box(command, descriptors, slot, resources)
        except OSError as error:
            resources.close()
            raise SandboxUnavailable(f"no box could be made: {error}") from error
        except BaseException:
            resources.close()
            raise

    def _compile(self, box: Box, slot: Slot, image: Image) -> Result | None:
        """Compile the program in a new box; the failure, if it is one."""
        processes = self._limit(slot, COMPILATION, 0)
        result = box.run(b"", COMPILATION, began=time.monotonic(), command=image.compile, processes=processes)
        return None if result.ended == "finished" and result.exit_code == 0 else result

    def _run(
        self,
        box: Box,
        slot: Slot,
        image: Image,
        stdin: bytes | int,
        limits: Limits,
        began: float,
        stdout: int | None = None,
    ) -> Result:
        return box.run(
            stdin,
            limits,
            began=began,
            processes=self._limit(slot, limits, image.threads),
            command=image.run,
            address_space=image.address_space,
            stdout=stdout,
        )

    def _limit(self, slot: Slot, limits: Limits, threads: int) -> int:
        """Set the limits of a slot's control group. Returns how many processes its user may have."""
        processes = limits.processes + threads
        if slot.group is None:
            return processes + 1  # the init is one of them
        slot.group.limit(limits, processes + _OWN_PROCESSES)
        # The group counts, and tells; this one only must not come first.
        return processes + 2 * _OWN_PROCESSES + 4

    def close(self) -> None:
        """See `Sandbox.close`. Waits for runs that are under way."""
        self._slots.close()


def _refusal(program: bytes, language: str, files: Mapping[str, bytes]) -> str | None:
    try:
        images.image(language)
    except KeyError as error:
        return str(error.args[0])
    if len(program) > LONGEST_PROGRAM:
        return f"the program has {len(program)} bytes; at most {LONGEST_PROGRAM} are taken"
    if len(files) > MOST_FILES:
        return f"{len(files)} files; at most {MOST_FILES} are taken"
    for name in files:
        if not _FILE_NAME.fullmatch(name):
            return f"file name {name!r}: letters, digits, and _ - . after the first, at most 64"
    return None
