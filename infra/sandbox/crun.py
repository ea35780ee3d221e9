"""The backend crun, the OCI runtime that the report's sandbox uses (§2.6.4): needs root, and no user namespaces.

What a program sees is what it sees in bubblewrap, but for the files in /dev that OCI asks for.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from infra.sandbox import images, seccomp
from infra.sandbox.box import MIB
from infra.sandbox.bubblewrap import BUILD_MB, INIT, environment, mount_namespace
from infra.sandbox.interface import Limits, SandboxUnavailable
from infra.sandbox.launcher import FIRST_DESCRIPTOR, Launcher
from infra.sandbox.slots import Slot

FILES = 1024
"""Inodes of the writable folder."""

_FREE = ("mode=1777", f"nr_inodes={FILES}")
_NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")


class Crun:
    """Makes boxes with crun. Raises SandboxUnavailable where it is missing or this is not root."""

    name = "crun"

    def __init__(self) -> None:
        crun = shutil.which("crun")
        if crun is None:
            raise SandboxUnavailable("no `crun` on PATH: apt-get install crun")
        if os.geteuid() != 0:
            raise SandboxUnavailable("crun needs root here; bubblewrap does not")
        self._crun = crun
        self._prefix: list[str] = []
        if _hybrid_cgroups():
            # crun ends at the sight of them, even where it has to leave control groups alone.
            nsenter = shutil.which("nsenter")
            if nsenter is None:
                raise SandboxUnavailable("no `nsenter` on PATH: apt-get install util-linux")
            namespace = mount_namespace("mount -t tmpfs none /sys/fs/cgroup")
            self._prefix = [nsenter, f"--mount=/proc/{os.getpid()}/fd/{namespace}", "--"]

    def launcher(self, slot: Slot) -> Launcher:
        """See `Backend.launcher`."""
        entrances = slot.group.entrances if slot.group else ()
        return Launcher(entrances, self._prefix, str(images.root("python")))

    @contextmanager
    def command(
        self, slot: Slot, language: str, program: bytes, files: Mapping[str, bytes], limits: Limits
    ) -> Iterator[tuple[list[str], Sequence[int]]]:
        """See `Backend.command`."""
        image = images.image(language)
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        with tempfile.TemporaryDirectory(prefix=f"longhaul-box-{os.getpid()}-", dir=memory) as folder:
            bundle = Path(folder)
            box = bundle / "box"
            box.mkdir()
            mounted = {name: box / f"file-{name}" for name in files}
            for place, content in [(box / image.source, program), *((mounted[name], files[name]) for name in files)]:
                place.write_bytes(content)
                place.chmod(0o444)
            mounts = [
                _mount("/box", "bind", str(box), "bind", "ro", "nosuid", "nodev"),
                _mount("/dev", "tmpfs", "tmpfs", "nosuid", "mode=755", "size=65536"),
                _tmpfs("/dev/shm", limits.file_mb),
                _tmpfs("/tmp", limits.file_mb),
                *(_mount(f"/tmp/{name}", "bind", str(place), "bind", "ro") for name, place in mounted.items()),
            ]
            if image.compile:
                mounts.append(_tmpfs("/build", BUILD_MB))
            config = {
                "ociVersion": "1.0.0",
                "process": {
                    "terminal": False,
                    "user": {"uid": slot.uid, "gid": slot.uid},
                    "args": [*INIT, str(FIRST_DESCRIPTOR)],
                    "env": [f"{name}={value}" for name, value in environment(image).items()],
                    "cwd": "/tmp",
                    "capabilities": {},
                    "noNewPrivileges": True,
                },
                "root": {"path": str(images.root(language)), "readonly": True},
                "hostname": "box",
                "mounts": mounts,
                "linux": {
                    "namespaces": [{"type": kind} for kind in _NAMESPACES],
                    "seccomp": seccomp.for_oci(slot.group is not None),
                },
            }
            (bundle / "config.json").write_text(json.dumps(config))
            run = ["--root", f"{folder}/state", "--cgroup-manager=disabled", "run", "--bundle", folder]
            yield [self._crun, *run, f"--preserve-fds={FIRST_DESCRIPTOR - 2}", bundle.name], ()


def _hybrid_cgroups() -> bool:
    """Whether this machine has controllers in both versions of the control groups' file system."""
    controllers = Path("/sys/fs/cgroup/unified/cgroup.controllers")
    return controllers.exists() and bool(controllers.read_text().strip())


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, object]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _tmpfs(destination: str, megabytes: int) -> dict[str, object]:
    return _mount(destination, "tmpfs", "tmpfs", "nosuid", "nodev", f"size={megabytes * MIB}", *_FREE)
