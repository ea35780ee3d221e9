"""Runs untrusted programs within limits, or refuses: there is no way to run a program unprotected."""

from infra.sandbox.config import SandboxConfig, configured_sandbox, open_sandbox
from infra.sandbox.interface import Ended, Limits, Result, Sandbox, SandboxUnavailable

__all__ = [
    "Ended",
    "Limits",
    "Result",
    "Sandbox",
    "SandboxConfig",
    "SandboxUnavailable",
    "configured_sandbox",
    "open_sandbox",
]
