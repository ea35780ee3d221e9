"""The backend bubblewrap (bwrap): needs no root, only user namespaces.

What a program sees: its image, read-only; an empty environment but for the few variables below; one writable folder,
/tmp (also /dev/shm), of bounded size; its own processes. No /proc, /sys or /etc, and no network.
"""

import functools
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from infra.sandbox import images, seccomp
from infra.sandbox.box import MIB
from infra.sandbox.images import PYTHON_HOME, Image
from infra.sandbox.interface import Limits, SandboxUnavailable
from infra.sandbox.launcher import FIRST_DESCRIPTOR, Launcher
from infra.sandbox.memory_file import memory_file
from infra.sandbox.slots import Slot

ENVIRONMENT = {
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "LD_LIBRARY_PATH": f"{PYTHON_HOME}/lib",
    "PATH": "/usr/bin:/bin",
    "PYTHONHASHSEED": "0",  # the order of a set of strings, and so a verdict, is the same in every run
    "PYTHONINTMAXSTRDIGITS": "0",  # as judges set it
    "PYTHONUTF8": "1",
    "TMPDIR": "/tmp",
}
# Not -I, which would ignore the hash seed; -P and -s are the rest of it.
INIT = (f"{PYTHON_HOME}/bin/python", "-P", "-s", "-S", "-B", images.INIT)
BUILD_MB = 64
"""MiB of /build, where an image's compiler writes."""


# A tmpfs over /tmp, in a mount namespace that nobody else sees, with the roots in it, and a /dev for boxes. The roots
# may lie below /tmp themselves: the shell enters their folder before it is covered, and `mount` must not look up its
# path.
_MOUNT_READABLY = """
cd "$1"
mount -t tmpfs -o mode=755 none /tmp
mkdir /tmp/images
mount --no-canonicalize --bind . /tmp/images
cd /
mkdir /tmp/dev
ln -s /tmp /tmp/dev/shm
device() {
    # Without the capability to make one, the machine's own is mounted.
    mknod -m 666 "/tmp/dev/$1" c 1 "$2" 2>/dev/null || { : >"/tmp/dev/$1"; mount --bind "/dev/$1" "/tmp/dev/$1"; }
}
device null 3
device zero 5
device random 8
device urandom 9
"""

_HOLD = """
echo ready
read _ || :
"""


def environment(image: Image) -> dict[str, str]:
    """The variables that a box's programs have."""
    if not image.packages:
        return ENVIRONMENT
    return ENVIRONMENT | {"PYTHONPATH": images.site_packages()}


def mount_namespace(script: str, *arguments: str) -> int:
    """A file descriptor of a mount namespace of our own, in which a shell script has mounted something; it lasts as
    long as this process. Raises SandboxUnavailable with what the script said."""
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script + _HOLD, "sh", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as holder:
        assert holder.stdin and holder.stdout and holder.stderr
        if holder.stdout.readline() != "ready\n":
            raise SandboxUnavailable(f"as root, cannot make a mount namespace: {holder.stderr.read().strip()}")
        return os.open(f"/proc/{holder.pid}/ns/mnt", os.O_RDONLY)


@functools.cache
def _images_mounted() -> int:
    """A mount namespace in which /tmp/images holds all roots.

    Roots in a folder that root alone may enter could not be found by bwrap, which is started as another user.
    """
    images.FOLDER.mkdir(parents=True, exist_ok=True)
    return mount_namespace(_MOUNT_READABLY, str(images.FOLDER))


def _seen(root: Path) -> str:
    """Where a launcher sees a root."""
    return f"/tmp/images/{root.name}" if os.geteuid() == 0 else str(root)


class Bubblewrap:
    """Makes boxes with bwrap. Raises SandboxUnavailable where a tool is missing."""

    name = "bubblewrap"

    def __init__(self) -> None:
        tools = ("bwrap", *(("nsenter", "unshare") if os.geteuid() == 0 else ()))
        paths = {tool: shutil.which(tool) for tool in tools}
        for tool, path in paths.items():
            if path is None:
                raise SandboxUnavailable(f"no `{tool}` on PATH: apt-get install bubblewrap util-linux")
        self._bwrap, self._nsenter = str(paths["bwrap"]), str(paths.get("nsenter"))

    def launcher(self, slot: Slot) -> Launcher:
        """See `Backend.launcher`."""
        prefix = []
        if os.geteuid() == 0:
            namespace = f"/proc/{os.getpid()}/fd/{_images_mounted()}"
            prefix = [self._nsenter, f"--mount={namespace}", "--setuid", str(slot.uid), "--setgid", str(slot.uid), "--"]
        return Launcher(slot.group.entrances if slot.group else (), prefix, _seen(images.root("python")))

    @contextmanager
    def command(
        self, slot: Slot, language: str, program: bytes, files: Mapping[str, bytes], limits: Limits
    ) -> Iterator[tuple[list[str], Sequence[int]]]:
        """See `Backend.command`."""
        image, root = images.image(language), images.root(language)
        with ExitStack() as stack:
            descriptors: list[int] = []

            def descriptor_of(name: str, content: bytes) -> str:
                descriptors.append(stack.enter_context(memory_file(name, content)))
                return str(FIRST_DESCRIPTOR + len(descriptors))

            arguments = [
                *_namespaces(slot),
                "--seccomp",
                descriptor_of("seccomp", seccomp.compiled(slot.group is not None)),
            ]
            arguments += _image_mounts(str(root), _seen(root))
            arguments += ["--file", descriptor_of("program", program), f"/box/{image.source}"]
            arguments += _devices()
            arguments += ["--size", str(limits.file_mb * MIB), "--perms", "1777", "--tmpfs", "/tmp"]
            for name, content in files.items():
                arguments += ["--perms", "0444", "--ro-bind-data", descriptor_of("file", content), f"/tmp/{name}"]
            if image.compile:
                arguments += ["--size", str(BUILD_MB * MIB), "--perms", "1777", "--tmpfs", "/build"]
            # bwrap's own root is a tmpfs without a limit: made read-only once all is in place.
            arguments += ["--remount-ro", "/", "--chdir", "/tmp"]
            for name, value in environment(image).items():
                arguments += ["--setenv", name, value]
            yield [self._bwrap, *arguments, "--", *INIT, str(FIRST_DESCRIPTOR)], descriptors


def _namespaces(slot: Slot) -> tuple[str, ...]:
    uid = str(slot.uid)
    return (
        *("--unshare-user", "--disable-userns", "--uid", uid, "--gid", uid, "--cap-drop", "ALL"),
        *("--unshare-pid", "--as-pid-1", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *("--hostname", "box", "--new-session", "--die-with-parent", "--clearenv"),
    )


def _devices() -> list[str]:
    """bwrap's arguments for /dev: as root, one mount does for all."""
    if os.geteuid() == 0:
        return ["--dev-bind", "/tmp/dev", "/dev"]
    bound = [["--dev-bind", f"/dev/{name}", f"/dev/{name}"] for name in ("null", "zero", "random", "urandom")]
    return [*itertools.chain(*bound), "--symlink", "/tmp", "/dev/shm"]


def _image_mounts(root: str, inside: str) -> list[str]:
    """bwrap's arguments for what is at the top of an image's root, where that is mounted as `inside`."""
    arguments = []
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        if entry.is_symlink():
            arguments += ["--symlink", os.readlink(entry.path), f"/{entry.name}"]
        elif entry.name not in images.MOUNT_POINTS:
            arguments += ["--ro-bind", f"{inside}/{entry.name}", f"/{entry.name}"]
    return arguments
