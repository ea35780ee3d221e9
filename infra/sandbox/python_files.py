"""The files that a box's Python needs, and no others: the running interpreter, its standard library, shared libraries.

Inside a box Python lives in /opt/python, wherever it lives outside, so tracebacks are the same on every machine.
"""

import functools
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from infra.sandbox.interface import SandboxUnavailable

PYTHON_HOME = "/opt/python"
NOBODY = "65534"
"""The uid and gid of programs, inside and, where we are root, outside as well: the kernel exempts the real root from
RLIMIT_NPROC even in a user namespace, and a fork bomb would then not be contained."""

_SHARED_LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")

# A tmpfs over /tmp, in a mount namespace that nobody else sees, with one entry a path: 0, 1, ...
_MOUNT_READABLY = """
mount -t tmpfs -o mode=755 none /tmp
cd /tmp
number=0
for source in "$@"; do
    if [ -d "$source" ]; then mkdir "$number"; else touch "$number"; fi
    mount --bind "$source" "$number"
    number=$((number + 1))
done
echo ready
read _ || :
"""


@dataclass(frozen=True)
class PythonFiles:
    """How bwrap is started and what it binds."""

    launcher: tuple[str, ...]  # the command that bwrap's own is appended to
    bwrap_arguments: tuple[str, ...]


def _interpreter() -> dict[str, str]:
    """Paths outside, by the paths inside that stand for them."""
    base = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    files = {
        f"{PYTHON_HOME}/bin/python": os.path.realpath(getattr(sys, "_base_executable", sys.executable)),
        f"{PYTHON_HOME}/{sys.platlibdir}/{version}": sysconfig.get_path("stdlib"),
    }
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        library = base / "lib" / sysconfig.get_config_var("INSTSONAME")
        # A distribution's Python has its library in a folder of _SHARED_LIBRARIES instead.
        if library.exists():
            files[f"{PYTHON_HOME}/lib/{library.name}"] = str(library)
    return files


def _shared_libraries() -> list[str]:
    arguments = []
    for folder in _SHARED_LIBRARIES:
        if os.path.islink(folder):
            arguments += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            arguments += ["--ro-bind", folder, folder]
    return arguments


def _mount_where_nobody_can_read(sources: list[str]) -> int:
    """A file descriptor of a mount namespace in which the n-th source is also /tmp/n.

    An interpreter under root's home can be read by root alone, so bwrap started as nobody would not find it.
    """
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", _MOUNT_READABLY, "sh", *sources]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as holder:
        assert holder.stdin and holder.stdout and holder.stderr
        if holder.stdout.readline() != "ready\n":
            raise SandboxUnavailable(f"as root, cannot make a mount namespace: {holder.stderr.read().strip()}")
        return os.open(f"/proc/{holder.pid}/ns/mnt", os.O_RDONLY)


@functools.cache
def python_files() -> PythonFiles:
    """What this process's boxes are made of. The mount namespace, where there is one, lasts as long as the process.

    Raises SandboxUnavailable where root may not make one.
    """
    files = _interpreter()
    launcher: tuple[str, ...] = ()
    if os.geteuid() == 0:
        descriptor = _mount_where_nobody_can_read(list(files.values()))
        files = {inside: f"/tmp/{number}" for number, inside in enumerate(files)}
        # By our own /proc entry, so that no descriptor of the outer mounts is open in a box.
        launcher = ("nsenter", f"--mount=/proc/{os.getpid()}/fd/{descriptor}", "--setuid", NOBODY, "--setgid", NOBODY)
    arguments = _shared_libraries()
    for inside, outside in files.items():
        arguments += ["--ro-bind", outside, inside]
    return PythonFiles(launcher, tuple(arguments))
