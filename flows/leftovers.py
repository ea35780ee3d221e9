"""What a run has while it runs (a lock, a folder for temporary files), and what runs that were killed have left.

Every run holds a lock in its folder, HOME/runs/RUN/lock, with the address of its temporary files and its process
in it; the kernel releases it when the run's processes are gone. So whoever can lock it knows that the run is over.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from flows.home import HOME, open_store
from flows.notify import report_failure
from flows.runs import end_run
from flows.stop import identity
from infra.store import records
from infra.store.records import RunRecord
from infra.store.store import StoreError
from steps.recipe import ConfigRefused, check_recipe

TEMPORARY = "longhaul-run-"
SHARED_MEMORY = Path("/dev/shm")
OF_PROCESS = re.compile(r"(?:__KMP_REGISTERED_LIB_|torch_|longhaul-(?:ranks|box|lineage)-)(\d+)(?:[_-].*)?")
"""Files in shared memory that have the number of their process in their names: OpenMP's, torch's and our own."""
LONGEST_SOCKETS_FOLDER = 40
"""Characters. A socket's path has at most 107, and Ray adds 66 to the folder's."""
KILLED = "longhaul run was killed"


@contextmanager
def running(folder: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Hold the lock of a run as long as the block runs. Yields its descriptor, for processes that the run is to last
    as long as, and environment variables that have temporary files written where they are cleared."""
    before = tempfile.gettempdir()
    temporary = tempfile.mkdtemp(prefix=TEMPORARY)
    variables = {"TMPDIR": temporary}
    if len(temporary) > LONGEST_SOCKETS_FOLDER and "RAY_TMPDIR" not in os.environ:
        variables["RAY_TMPDIR"] = before
    lock = folder / "lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{temporary}\n{identity(os.getpid())}\n")
        file.flush()
        try:
            yield file.fileno(), variables
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            lock.unlink(missing_ok=True)


def end_abandoned() -> None:
    """Record the end of this run, whose `longhaul run` is gone, and clear its temporary files."""
    _end_killed(HOME / "runs" / os.environ["LONGHAUL_RUN"])


def clear_leftovers() -> None:
    """Record the end of runs of this home that were killed, and clear what they and other dead processes of this user
    have left: temporary files, scratch folders, shared memory. Nothing of a process that lives is touched."""
    for lock in HOME.glob("runs/*/lock"):
        with suppress(OSError), lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _end_killed(lock.parent)
    for scratch in HOME.glob("scratch/*"):
        with suppress(OSError), (HOME / "locks" / scratch.name).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(scratch, ignore_errors=True)
    with suppress(OSError):
        for entry in os.scandir(SHARED_MEMORY):
            match = OF_PROCESS.fullmatch(entry.name)
            if match and not os.path.exists(f"/proc/{match[1]}"):
                _remove_own(Path(entry.path))


def _end_killed(folder: Path) -> None:
    """Record that a run was killed, report it, and clear what it has left."""
    lock, run = folder / "lock", folder.name
    temporary = Path(lock.read_text().partition("\n")[0])
    if temporary.name.startswith(TEMPORARY):
        _remove_own(temporary)
    try:
        recipe = check_recipe(yaml.safe_load((folder / "config.yaml").read_text()), "the run's recipe")
        store = open_store(recipe.store)
        events = [record.event for record in records.read(store, RunRecord, f"runs/{run}")]
        if "started" in events and "ended" not in events:
            end_run(store, run, "failed", KILLED)
            started = next(iter(records.read(store, RunRecord, f"runs/{run}")))
            report_failure(recipe, run, None, KILLED, started.command, folder / "metaflow.log")
    except (StoreError, ConfigRefused, OSError):
        return  # a store that cannot be reached now may be later
    lock.unlink(missing_ok=True)


def _remove_own(path: Path) -> None:
    """Remove a file or folder of this user's."""
    with suppress(OSError):
        if path.lstat().st_uid == os.geteuid():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
