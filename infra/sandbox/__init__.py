"""Runs one untrusted Python program within limits, or refuses: there is no way to run a program unprotected."""

from infra.sandbox.bubblewrap import BubblewrapSandbox
from infra.sandbox.interface import Ended, Limits, Result, Sandbox, SandboxUnavailable

__all__ = ["BubblewrapSandbox", "Ended", "Limits", "Result", "Sandbox", "SandboxUnavailable"]
