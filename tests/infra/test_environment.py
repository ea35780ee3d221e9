"""The engines' environment variables, in a process that was started with them."""

import os
import subprocess
import sys

import pytest

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


def test_vllm_compiles_and_deepspeed_looks_for_itself_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for_a_cpu = {"DS_ACCELERATOR", "OMP_NUM_THREADS", "TORCHDYNAMO_DISABLE"}
    for name in for_a_cpu:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    assert for_a_cpu <= engine_environment().keys()
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/dev/nvidiactl")
    assert not for_a_cpu & engine_environment().keys()
