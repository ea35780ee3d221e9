"""Homes of their own for commands that tests start, and one in which the smoke recipe has run."""

import fcntl
import json
import shutil
import subprocess
import sys
from pathlib import Path

from infra.environment import CACHE
from tests.processes import own_environment

ROOT = Path(__file__).parents[2]
LONGHAUL = [sys.executable, "-m", "flows.cli"]


def in_home(folder: Path) -> dict[str, str]:
    """The environment of a command whose home is a folder. What the engines compile is there already: in a new home
    they would do it for half a minute."""
    cache = CACHE.resolve()
    engines = {"TORCH_EXTENSIONS_DIR": str(cache / "torch_extensions"), "VLLM_CACHE_ROOT": str(cache / "vllm")}
    return {**own_environment(), "LONGHAUL_HOME": str(folder), **engines}


class Home:
    """A user's folder: everything that runs leave lies below it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.settings = ["--set", f"store={self.store}"]
        self.environment = in_home(folder)

    def longhaul(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command that has ended, whatever its exit code."""
        return subprocess.run(
            [*LONGHAUL, *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=1100
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`longhaul run` with the smoke recipe and this home's store."""
        return self.longhaul("run", "--config", "configs/smoke.yaml", *self.settings, *arguments)


AS_FINISHED = "store-as-finished"


def store_as_finished(home: Home) -> Path:
    """A copy of the store of `finished_smoke_run`, in which nothing has run since: tests run more in the store itself,
    whose newest run is then another one."""
    return home.folder.parent / AS_FINISHED


def finished_smoke_run(folder: Path) -> tuple[Home, subprocess.CompletedProcess[str]]:
    """A home in which the smoke recipe has run, and what that run printed.

    Whoever asks first runs it; others, in this process or another, wait for that. Raises AssertionError where it fails.
    """
    folder.mkdir(exist_ok=True)
    home, outcome = Home(folder / "home"), folder / "outcome.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not outcome.exists():
            done = home.run("--json")
            values = {"args": done.args, "returncode": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
            shutil.copytree(home.store, store_as_finished(home))
            outcome.write_text(json.dumps(values))
    done = subprocess.CompletedProcess(**json.loads(outcome.read_text()))
    assert done.returncode == 0, done.stderr[-3000:]
    return home, done
