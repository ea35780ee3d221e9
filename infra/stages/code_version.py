"""Which code runs: the commit of the checkout, and a digest of what differs from it."""

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class CodeVersion:
    """Commit and uncommitted changes. Both None where this is not a git checkout, as in a package or a container."""

    commit: str | None
    diff: str | None
    """SHA-256 of `git diff HEAD`, None where nothing differs."""


def _git(git: str, *arguments: str) -> bytes | None:
    root = Path(__file__).parents[2]
    done = subprocess.run([git, "-C", str(root), *arguments], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


@cache
def code_version() -> CodeVersion:
    """Of this process's code, as it was at the first call."""
    git = shutil.which("git")
    commit = _git(git, "rev-parse", "HEAD") if git else None
    if git is None or commit is None:
        return CodeVersion(None, None)
    changes = _git(git, "diff", "--no-ext-diff", "--binary", "HEAD")
    return CodeVersion(commit.decode().strip(), hashlib.sha256(changes).hexdigest() if changes else None)
