"""What the sandbox's tests look at from outside."""

import os

import psutil

from infra.sandbox.interface import Sandbox
from infra.sandbox.local import LocalSandbox


def users(sandbox: Sandbox) -> set[int]:
    """Whom a sandbox's programs are outside."""
    assert isinstance(sandbox, LocalSandbox)
    return {slot.uid if os.geteuid() == 0 else os.geteuid() for slot in sandbox._slots._all}


def left_behind(sandbox: Sandbox, before: set[int]) -> list[psutil.Process]:
    """Processes of a sandbox's boxes that were not there before."""
    new = [p for p in psutil.process_iter(["cmdline", "uids"]) if p.pid not in before]
    inside = [p for p in new if "/opt/python/bin/python" in (p.info["cmdline"] or [])]
    return [p for p in inside if p.info["uids"].real in users(sandbox)]
