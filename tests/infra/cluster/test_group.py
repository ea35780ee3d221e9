"""Several nodes as one: processes of their own, joined by nothing but the network, with real torchrun and Ray."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.cluster.folder_sync import missing_files
from infra.cluster.group import Group, Node, NodeLost, current_group, lead
from infra.cluster.placement import layout
from infra.cluster.processes import interface_of
from infra.inference.engine import Engine
from tests.infra.engine_process import requests
from tests.processes import running_below

RANK = "tests.infra.cluster.rank_that_waits"
ROOT = Path(__file__).parents[3]


def new_node(count: int = 2) -> Node:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return Node(0, count, "127.0.0.1", secrets.token_hex(32), probe.getsockname()[1])


@contextmanager
def others(first: Node, *around: str) -> Iterator[list[subprocess.Popen[str]]]:
    """The other nodes of a group, as processes; `around` is a command that each is started by."""
    command = [*around, sys.executable, "-m", "tests.infra.cluster.node_process"]
    processes = [
        subprocess.Popen(
            [*command, str(index), str(first.count), first.main, first.key, str(first.port)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(1, first.count)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_workers_on_two_nodes_of_one_ray_sample_what_one_engine_samples(engine: Engine, base: Path) -> None:
    node = new_node()
    command = [
        sys.executable,
        "-m",
        "tests.infra.cluster.first_process",
        node.key,
        str(node.port),
        str(base.absolute()),
    ]
    with others(node) as processes:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert processes[0].wait(30) == 0
    actual = json.loads(done.stdout.splitlines()[-1])
    assert actual == {"nodes": 2, "tokens": [one.tokens for one in engine.generate_all(requests())]}


def test_a_node_that_dies_ends_the_attempt_wherever_the_first_is(base: Path) -> None:
    first = new_node()
    began = time.monotonic()
    gone = pytest.raises(NodeLost, match=r"node 1 \(127.0.0.1\) is gone")
    with others(first) as processes, gone, lead(first, 60):
        processes[0].send_signal(signal.SIGKILL)
        began = time.monotonic()
        time.sleep(60)
    assert time.monotonic() - began < 5
    assert current_group() is None


def test_a_node_that_falls_silent_ends_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.cluster.group.SILENCE_S", 3.0)
    first = new_node()
    silent = pytest.raises(NodeLost, match=r"node 1 \(127.0.0.1\) has been silent for 3 s")
    with others(first) as processes, silent, lead(first, 60):
        processes[0].send_signal(signal.SIGSTOP)
        time.sleep(60)


def test_a_rank_that_dies_on_another_node_ends_the_attempt(base: Path, tmp_path: Path) -> None:
    first = new_node()
    lost = pytest.raises(NodeLost, match="has lost its ranks, which ended with status")
    with others(first) as processes, lost, lead(first, 60) as group:
        group.launch([1, 1], RANK, [])
        (rank,) = wait_for(lambda: ranks_below(processes[0].pid))
        rank.kill()
        time.sleep(60)
    assert wait_for(lambda: not ranks_below(os.getpid())), "ranks of the first node go on"


def ranks_below(pid: int) -> list[psutil.Process]:
    below = running_below(pid)
    return [one for one, words in below if words[-1:] == [RANK] and "torch.distributed.run" not in words]


def wait_for(condition: Any, patience: float = 60) -> Any:
    until = time.monotonic() + patience
    while not (there := condition()) and time.monotonic() < until:
        time.sleep(0.1)
    return there


def test_the_other_nodes_end_when_the_first_is_gone() -> None:
    node = new_node()
    program = "import sys, time\nfrom infra.cluster.group import Node, lead\n"
    program += (
        "with lead(Node(0, 2, '127.0.0.1', sys.argv[1], int(sys.argv[2]))): print('led', flush=True); time.sleep(60)"
    )
    first = subprocess.Popen([sys.executable, "-c", program, node.key, str(node.port)], stdout=subprocess.PIPE)
    assert first.stdout
    with others(node) as processes:
        assert first.stdout.readline() == b"led\n"
        first.kill()
        assert "NodeLost: the first node, 127.0.0.1, is gone" in processes[0].communicate(timeout=20)[0]
        assert processes[0].returncode == 3
    first.communicate()


def test_the_other_nodes_fail_where_the_first_fails() -> None:
    first = new_node()
    with others(first) as processes:
        with pytest.raises(ValueError), lead(first, 60):
            raise ValueError("the loss is not finite")
        reported = processes[0].communicate(timeout=20)[0]
        assert "GroupEnded: the first node failed: ValueError: the loss is not finite" in reported
        assert processes[0].returncode == 3


def test_nodes_that_do_not_come_are_named() -> None:
    with pytest.raises(NodeLost, match=r"of 3 nodes, 1, 2 did not join"), lead(new_node(3), patience=0.5):
        pass


def test_whoever_does_not_know_the_key_is_not_let_in() -> None:
    first = new_node()
    stranger = Node(1, 2, first.main, secrets.token_hex(32), first.port)
    group = Group(first)
    try:
        silent = socket.create_connection((first.main, first.port))  # says nothing, and holds nobody up
        with pytest.raises(Exception, match="digest"):
            Client((stranger.main, stranger.port), authkey=stranger.secret)
        with others(first):
            group.wait_for_nodes(60)
            silent.close()
            group.end(None)
    finally:
        group.end(None)


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="the far end's own disk is made by bubblewrap")
def test_a_folder_that_is_shared_arrives_whole(tmp_path: Path) -> None:
    near, far = tmp_path / "model", tmp_path / "far"
    (near / "sub").mkdir(parents=True)
    far.mkdir()
    (near / "weights.bin").write_bytes(os.urandom(40 << 20))
    (near / "sub" / "empty").touch()
    (far / "weights.bin").write_bytes(b"older")
    first = new_node()
    with others(first, "bwrap", "--dev-bind", "/", "/", "--bind", str(far), str(near)), lead(first, 60) as group:
        group.share(near)
        written = (far / "weights.bin").stat().st_ino
        group.share(near)
    assert (far / "weights.bin").read_bytes() == (near / "weights.bin").read_bytes()
    assert (far / "weights.bin").stat().st_ino == written, "what is there already was sent again"
    assert sorted(path.name for path in far.rglob("*")) == ["empty", "sub", "weights.bin"]


def test_a_folder_cannot_lead_out_of_itself(tmp_path: Path) -> None:
    for path in ("../x", "/etc/passwd", "a/../../x"):
        with pytest.raises(OSError, match="outside"):
            missing_files(tmp_path, {path: [1, "0"]})


@pytest.mark.parametrize(
    ("ranks", "nodes", "gpus", "placed"),
    [(8, 4, 8, [8, 0, 0, 0]), (32, 4, 8, [8, 8, 8, 8]), (12, 2, 8, [8, 4]), (2, 2, 0, [1, 1]), (3, 2, 0, [2, 1])],
)
def test_ranks_fill_the_first_nodes(ranks: int, nodes: int, gpus: int, placed: list[int]) -> None:
    assert layout(ranks, nodes, gpus) == placed


def test_more_ranks_than_gpus_are_refused() -> None:
    with pytest.raises(ValueError, match=r"trainer.ranks is 17, and 2 nodes have 8 GPUs each"):
        layout(17, 2, 8)


def test_the_interface_of_an_address_is_found() -> None:
    assert interface_of("127.0.0.1") == "lo"
    with pytest.raises(OSError, match=r"203\.0\.113\.9"):
        interface_of("203.0.113.9")
