"""Control groups: what the kernel counts and limits for all processes of a box together.

A group is made ahead for each slot and reused by box after box, since to make and remove one takes longer than a
short program. Where none can be had (no root, a read-only cgroup file system, a controller that is not delegated), the
limits hold for each process, and results say so.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from infra.sandbox.interface import Limits

MIB = 2**20
_OWN_MB = 48
"""What bwrap and the init use of a box's memory, beside the program's and the work folder's."""


@dataclass(frozen=True)
class Usage:
    """Counters of a group; they only grow, but for the peak."""

    cpu_seconds: float
    peak_memory_mb: float
    killed_for_memory: int
    denied_processes: int


class Group(Protocol):
    """A control group."""

    @property
    def entrances(self) -> tuple[Path, ...]:
        """The files that a process writes 0 into to enter."""
        ...

    def limit(self, limits: Limits, processes: int) -> None:
        """Set the limits of the next box, and forget the peak of the last one."""
        ...

    def usage(self) -> Usage:
        """What has been used so far."""
        ...

    def processes(self) -> set[int]:
        """Who is in it."""
        ...

    def remove(self) -> None:
        """Remove the group; nothing may run in it."""
        ...


def _fields(file: Path) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in file.read_text().splitlines())}


def _memory(limits: Limits) -> int:
    # Pages of the work folder are counted as memory.
    return (limits.memory_mb + limits.file_mb + _OWN_MB) * MIB


class GroupV1:
    """A folder under each of the controllers memory, pids and cpuacct."""

    def __init__(self, parents: dict[str, Path], name: str) -> None:
        folders = {controller: parent / name for controller, parent in parents.items()}
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
        self._memory, self._pids, self._cpu = folders["memory"], folders["pids"], folders["cpuacct"]
        self._folders = tuple(folders.values())
        # By single threads: the kernel need not wait for anything when a thread moves itself.
        self.entrances = tuple(folder / "tasks" for folder in self._folders)
        self._limits: tuple[int, int] | None = None
        self.limit(Limits(), Limits().processes)
        self.usage()

    def limit(self, limits: Limits, processes: int) -> None:
        """See `Group.limit`."""
        required = (_memory(limits), processes)
        if required != self._limits:
            (self._pids / "pids.max").write_text(str(processes))
            swap = self._memory / "memory.memsw.limit_in_bytes"
            with suppress(FileNotFoundError):
                swap.write_text("-1")  # it may not be below the other one at any time
            (self._memory / "memory.limit_in_bytes").write_text(str(required[0]))
            with suppress(FileNotFoundError):
                swap.write_text(str(required[0]))
            self._limits = required
        (self._memory / "memory.max_usage_in_bytes").write_text("0")

    def usage(self) -> Usage:
        """See `Group.usage`."""
        return Usage(
            cpu_seconds=int((self._cpu / "cpuacct.usage").read_text()) / 1e9,
            peak_memory_mb=int((self._memory / "memory.max_usage_in_bytes").read_text()) / MIB,
            killed_for_memory=_fields(self._memory / "memory.oom_control").get("oom_kill", 0),
            denied_processes=_fields(self._pids / "pids.events")["max"],
        )

    def processes(self) -> set[int]:
        """See `Group.processes`."""
        return set(map(int, (self._pids / "cgroup.procs").read_text().split()))

    def remove(self) -> None:
        """See `Group.remove`."""
        for folder in dict.fromkeys(self._folders):
            with suppress(FileNotFoundError):
                folder.rmdir()


class GroupV2:
    """A folder in the one hierarchy."""

    def __init__(self, parent: Path, name: str) -> None:
        self._folder = parent / name
        self._folder.mkdir(exist_ok=True)
        self.entrances: tuple[Path, ...] = (self._folder / "cgroup.procs",)
        self._limits: tuple[int, int] | None = None
        self.limit(Limits(), Limits().processes)
        self.usage()

    def limit(self, limits: Limits, processes: int) -> None:
        """See `Group.limit`."""
        required = (_memory(limits), processes)
        if required != self._limits:
            (self._folder / "pids.max").write_text(str(processes))
            (self._folder / "memory.max").write_text(str(required[0]))
            with suppress(FileNotFoundError):
                (self._folder / "memory.swap.max").write_text("0")
            self._limits = required
        with suppress(OSError):  # the peak can be reset since Linux 6.12
            (self._folder / "memory.peak").write_text("0")

    def usage(self) -> Usage:
        """See `Group.usage`."""
        peak = self._folder / "memory.peak"  # since Linux 5.19
        return Usage(
            cpu_seconds=_fields(self._folder / "cpu.stat")["usage_usec"] / 1e6,
            peak_memory_mb=int(peak.read_text()) / MIB if peak.exists() else 0.0,
            killed_for_memory=_fields(self._folder / "memory.events")["oom_kill"],
            denied_processes=_fields(self._folder / "pids.events")["max"],
        )

    def processes(self) -> set[int]:
        """See `Group.processes`."""
        return set(map(int, (self._folder / "cgroup.procs").read_text().split()))

    def remove(self) -> None:
        """See `Group.remove`."""
        with suppress(FileNotFoundError):
            self._folder.rmdir()


def _mounts(mountinfo: str) -> Iterator[tuple[str, str, Path, set[str]]]:
    """Type, root within the hierarchy, mount point and controllers of each cgroup mount."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        root, mount_point = before.split()[3:5]
        kind, _, options = after.split()[:3]
        if kind in ("cgroup", "cgroup2"):
            yield kind, root, Path(mount_point), set(options.split(","))


def _own_folder(root: str, mount_point: Path, path: str) -> Path:
    """Where this process's group is to be seen. Outside the mounted part, the mount is as near as one gets."""
    place = os.path.relpath(path, root)
    return mount_point if place.startswith("..") else (mount_point / place).resolve()


def _v1_parents(mountinfo: str, own: dict[str, str]) -> dict[str, Path] | None:
    parents: dict[str, Path] = {}
    for kind, root, mount_point, options in _mounts(mountinfo):
        for controller in {"memory", "pids", "cpuacct"} & options if kind == "cgroup" else ():
            if controller in own:
                parents.setdefault(controller, _own_folder(root, mount_point, own[controller]))
    return parents if len(parents) == 3 else None


def _v2_parent(mountinfo: str, own: dict[str, str]) -> Path | None:
    """This process's group with the controllers handed on to its children."""
    for kind, root, mount_point, _ in _mounts(mountinfo):
        if kind != "cgroup2" or "" not in own:
            continue
        parent = _own_folder(root, mount_point, own[""])
        required = {"memory", "pids"}
        if not required <= set((parent / "cgroup.controllers").read_text().split()):
            return None
        if not required <= set((parent / "cgroup.subtree_control").read_text().split()):
            _make_room(parent)
            (parent / "cgroup.subtree_control").write_text("+memory +pids")
        return parent
    return None


def _make_room(parent: Path) -> None:
    """Move all processes of a group into a child of it: one with processes may not hand on its controllers.

    Only done in a container, whose group's processes are all there is: elsewhere they are not the sandbox's to move.
    """
    if os.getpid() != 1 and Path("/proc/1/cgroup").read_text() != Path("/proc/self/cgroup").read_text():
        raise PermissionError(f"{parent} has other processes than a container's")
    child = parent / "longhaul-service"
    child.mkdir(exist_ok=True)
    for process in (parent / "cgroup.procs").read_text().split():
        with suppress(ProcessLookupError):
            (child / "cgroup.procs").write_text(process)


def make_group(name: str) -> Group | None:
    """A group of that name under this process's own; the one that is there, if an earlier process left it. None where
    this machine does not let us."""
    try:
        mountinfo = Path("/proc/self/mountinfo").read_text()
        own = {}
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            own.update(dict.fromkeys(controllers.split(","), path))
        if parents := _v1_parents(mountinfo, own):
            return GroupV1(parents, name)
        if parent := _v2_parent(mountinfo, own):
            return GroupV2(parent, name)
    except (OSError, KeyError, ValueError):
        pass
    return None
