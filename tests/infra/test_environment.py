"""The engines' environment variables, in a process that was started with them."""

import os
import subprocess
import sys

from infra.environment import engine_environment

FORKS = """
import os, subprocess, sys, torch
torch.randn(400, 400) @ torch.randn(400, 400)
child = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]
subprocess.run(child, preexec_fn=lambda: None, check=True)
"""


def test_a_process_forked_from_an_engines_may_use_all_cores() -> None:
    environment = os.environ | engine_environment() | {"OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", FORKS], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(os.sched_getaffinity(0))
