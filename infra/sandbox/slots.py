"""Slots: how many boxes run at one time, and what each of them has to itself: a user and a control group."""

import fcntl
import os
import queue
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.sandbox.cgroups import Group, Usage, make_group
from infra.sandbox.interface import SandboxUnavailable
from infra.sandbox.launcher import Launcher

FIRST_UID = 62_000
UIDS = 1_000
"""Users that no distribution gives to anybody, and that systemd knows as dynamic. Only root can become them."""

CLAIMS = (Path("/run"), Path("/dev/shm"), Path("/tmp"))
"""Where users are claimed, in the first that can be written: places of the machine, whatever TMPDIR says, since two
sandboxes that claim in different places have the same users and control groups."""

NOBODY = 65534
"""Where we are not root, programs are nobody inside and we outside."""


EMPTY_SECONDS = 60.0


@dataclass(eq=False)
class Slot:
    """One box's place."""

    uid: int
    """User and group of the programs, inside and, where we are root, outside as well: the kernel exempts the real root
    from limits even in a user namespace."""
    group: Group | None
    launcher: Launcher | None = None
    """What starts its boxes, once there was one."""
    _usage: Usage | None = None

    def usage(self, *, refresh: bool = False) -> Usage | None:
        """What its boxes have used; as it was last read, since nothing runs between them, unless `refresh` is set."""
        if self.group and (refresh or self._usage is None):
            self._usage = self.group.usage()
        return self._usage

    def wait_until_empty(self) -> None:
        """Wait until a box's processes are gone, which memory without end may keep busy with dying for a while.

        Raises SandboxUnavailable where they do not go.
        """
        if self.group is None:
            return
        launcher = {self.launcher.pid} if self.launcher else set()
        deadline = time.monotonic() + EMPTY_SECONDS
        while left := self.group.processes() - launcher:
            if time.monotonic() > deadline:
                raise SandboxUnavailable(f"processes of a box do not end: {', '.join(map(str, left))}")
            time.sleep(0.001)

    def close(self) -> None:
        """End the launcher and remove the group; no box may run."""
        if self.launcher:
            self.launcher.close()
        self.wait_until_empty()
        if self.group:
            self.group.remove()


def _claims() -> Path:
    """The folder with a file for each user, locked while the user is in use."""
    reasons = []
    for place in CLAIMS:
        folder = place / "longhaul-boxes"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            status = folder.lstat()
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror}")
            continue
        if status.st_uid != 0 or not stat.S_ISDIR(status.st_mode):
            raise SandboxUnavailable(f"{folder} is not a folder of root's: remove it")
        if os.access(folder, os.W_OK):
            return folder
        reasons.append(f"{folder}: read-only")
    raise SandboxUnavailable(
        f"no place for root to claim sandbox users ({'; '.join(reasons)}): make one of them writable"
    )


class Slots:
    """A fixed number of slots, two at least, shared by threads. No other process has a slot's user at that time."""

    def __init__(self, count: int) -> None:
        self._locks: list[int] = []
        self._all = [self._make(number) for number in range(max(2, count))]
        self._pairs = threading.Lock()
        # Last in, first out: what the last box used is still in the caches.
        self._free: queue.LifoQueue[Slot] = queue.LifoQueue()
        for slot in self._all:
            self._free.put(slot)

    def _make(self, number: int) -> Slot:
        if os.geteuid() != 0:
            return Slot(NOBODY, make_group(f"longhaul-box-{os.getpid()}-{number}"))
        uid = self._claim_uid()
        return Slot(uid, make_group(f"longhaul-box-{uid}"))

    def _claim_uid(self) -> int:
        folder = _claims()
        for uid in range(FIRST_UID, FIRST_UID + UIDS):
            descriptor = os.open(folder / str(uid), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            self._locks.append(descriptor)
            return uid
        raise SandboxUnavailable(f"all {UIDS} users of sandboxes are in use on this machine")

    @property
    def have_groups(self) -> bool:
        """Whether each slot has a control group."""
        return all(slot.group is not None for slot in self._all)

    @contextmanager
    def taken(self) -> Iterator[Slot]:
        """A slot for as long as the block runs; waits until one is free."""
        slot = self._free.get()
        try:
            yield slot
        finally:
            self._free.put(slot)

    @contextmanager
    def two_taken(self) -> Iterator[tuple[Slot, Slot]]:
        """Two slots at once. Whoever waits for a second one holds the first: nobody else does meanwhile."""
        with ExitStack() as stack:
            with self._pairs:
                pair = stack.enter_context(self.taken()), stack.enter_context(self.taken())
            yield pair

    def close(self) -> None:
        """Remove the groups and give the users back, once no box runs any more."""
        for _ in self._all:
            self._free.get().close()
        for descriptor in self._locks:
            os.close(descriptor)
        self._locks.clear()
        self._all.clear()
