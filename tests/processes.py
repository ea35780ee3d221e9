"""Processes that tests look at from outside, which may end at any moment."""

import psutil


def running_below(parent: int | None = None) -> list[tuple[psutil.Process, list[str]]]:
    """The processes that run below `parent` (below the tests' own by default), with their command lines."""
    found = []
    for process in psutil.Process(parent).children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append((process, process.cmdline()))
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            pass  # ended in between
    return found
