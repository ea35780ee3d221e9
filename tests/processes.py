"""Processes that tests start, and look at from outside."""

import os

import psutil


def own_environment() -> dict[str, str]:
    """This process's environment but for the variables of its process group, whose port a trainer here may have."""
    group = ("MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE")
    return {name: value for name, value in os.environ.items() if name not in group}


def running_below(parent: int | None = None) -> list[tuple[psutil.Process, list[str]]]:
    """The processes that run below `parent` (below the tests' own by default), with their command lines. They may
    end at any moment."""
    results = []
    for process in psutil.Process(parent).children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                results.append((process, process.cmdline()))
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            pass  # ended in between
    return results
