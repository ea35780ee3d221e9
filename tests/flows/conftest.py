"""The smoke recipe's run, once for all tests that look at it."""

import os
import subprocess

import pytest

from tests.flows.home import Home, finished_smoke_run


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, subprocess.CompletedProcess[str]]:
    """A home in which the smoke recipe has run, and what that run printed. Tests may run more in it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which the workers of one session share
    return finished_smoke_run(folder / "smoke")
