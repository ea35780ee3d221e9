"""What runs on each node of a group: torchrun's ranks, and a node of a Ray cluster."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any, Self

from infra.environment import shared_engine_environment

RAY_START_S = 120.0
"""Seconds for a node of Ray to be up: a cold start imports a lot."""
RANKS_END_S = 20.0
"""Seconds for ranks to end in good order."""
RAY_END_S = 3.0
"""Seconds for a node of Ray to end in good order: nothing that it holds is needed any more."""
STARTED = "Ray runtime started"
_CODE = Path(__file__).resolve().parents[2]


class Ended(RuntimeError):
    """A process ended while it was starting; the message has its last output."""


@dataclass(frozen=True)
class _Plain:
    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Self:
        """From JSON; other keys are ignored."""
        fields = {name: message[name] for name in cls.__dataclass_fields__}
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


@dataclass(frozen=True)
class RanksStart(_Plain):
    """One start of torchrun, as all nodes get it."""

    nodes: int
    """Nodes that have ranks; these are the first ones."""
    main: str
    port: int
    """Where the ranks find one another."""
    module: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class RayStart(_Plain):
    """A node's part in a Ray cluster."""

    address: str
    """HOST:PORT of the first node's."""
    token: str
    gpus: tuple[int, ...]
    """The GPUs of this machine that Ray may hand out."""
    cpus: int

    def environment(self) -> dict[str, str]:
        """What Ray, and whoever joins it, needs."""
        return {"RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}


def interface_of(address: str) -> str:
    """The network interface that has an address; the loopback for an address of its own block."""
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            return str(name)
    if address.startswith("127."):
        return "lo"
    raise OSError(f"no network interface of this machine has the address {address}")


def start_ranks(start: RanksStart, index: int, count: int, address: str, **popen: Any) -> "Popen[bytes]":
    """torchrun with this node's ranks. They end with its standard input; see `infra.training.rank`."""
    interface = interface_of(address)
    environment = {
        **os.environ,
        **shared_engine_environment(count),
        "PYTHONPATH": os.pathsep.join(path for path in (str(_CODE), os.environ.get("PYTHONPATH", "")) if path),
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore::FutureWarning",
        # Both would otherwise look up this machine's name, which may lead to another interface, or to none.
        "GLOO_SOCKET_IFNAME": interface,
        "NCCL_SOCKET_IFNAME": interface,
        **popen.pop("env", {}),
    }
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", str(start.nodes), "--node-rank", str(index)),
        *("--nproc-per-node", str(count), "--master-addr", start.main, "--master-port", str(start.port)),
        *("--local-addr", address, "--max-restarts", "0", "-m", start.module, *start.arguments),
    ]
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "start_new_session": True, **popen}
    return Popen(command, env=environment, **options)


def start_ray(start: RayStart, address: str, head: bool) -> "Popen[bytes]":
    """A node of Ray, which is up when this returns. Raises Ended where it does not come up."""
    port = start.address.rpartition(":")[2]
    environment = {**os.environ, **start.environment(), "RAY_USAGE_STATS_ENABLED": "0"}
    # `ray start` takes this one for a cluster to join, also where it is to begin one.
    del environment["RAY_ADDRESS"]
    environment.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", None)
    if start.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, start.gpus))
    place = ["--head", "--port", port, "--include-dashboard", "false"] if head else ["--address", start.address]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *place, "--node-ip-address", address, "--block"]
    command += ["--num-cpus", str(start.cpus), "--num-gpus", str(len(start.gpus)), "--disable-usage-stats"]
    # Any free ports: the range that Ray takes otherwise may hold the first node's own.
    command += ["--min-worker-port", "0", "--max-worker-port", "0"]
    process = Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    printed: deque[str] = deque(maxlen=40)
    up = threading.Event()
    threading.Thread(target=_read, args=(process, printed, up), daemon=True).start()
    until = time.monotonic() + RAY_START_S
    while not up.wait(0.1):
        if process.poll() is not None or time.monotonic() > until:
            end(process)
            raise Ended(f"ray start at {address} did not come up:\n{''.join(printed)}")
    return process


def _read(process: "Popen[bytes]", printed: "deque[str]", up: threading.Event) -> None:
    assert process.stdout
    for line in process.stdout:
        printed.append(line.decode(errors="replace"))
        if STARTED in printed[-1]:
            up.set()


def end(process: "Popen[bytes]", patience: float = RANKS_END_S) -> None:
    """End a process and its children: in good order, and else by force."""
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience if number == signal.SIGTERM else 20)
            if number == signal.SIGKILL or not _group_lives(process.pid):
                return


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
