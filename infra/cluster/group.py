"""Several machines as one: the first node of a group runs a stage, and the others do what it requests.

    first    with lead(node) as group: …     torchrun over all nodes, a Ray cluster, folders for every node
    others   serve(node, …)                  until the first has ended (infra/cluster/member.py)

On a cluster, `current.parallel` says which node is which. The first listens on its own address; whoever joins has
to know the group's key. Invariant: a group ends as one. A node that dies, falls silent or loses its ranks is noticed
within SILENCE_S, and then the first raises NodeLost wherever it is, so that the attempt can be tried again; and where
the first is gone, the others end what they run and raise.

Messages are JSON and, for files, bytes; nothing is unpickled. What runs between nodes then, torch's and Ray's own
traffic, is as open as it is everywhere: Ray requires the key (its token), torch nothing. Keep others out of the
nodes' network (docs/cluster.md).
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from queue import Empty, Queue
from subprocess import Popen
from types import FrameType
from typing import Any

from infra.cluster.connection import BEAT_S, SILENCE_S, Channel, Node, NodeLost
from infra.cluster.folder_sync import list_folder, send_files
from infra.cluster.placement import layout
from infra.cluster.processes import RAY_END_S, RanksStart, RayStart, end, start_ranks, start_ray

__all__ = ["Group", "Node", "NodeLost", "current_group", "lead"]

JOIN_S = 1800.0
"""Seconds for all nodes to come: a cluster may have to start machines, one after another, and each fetches an image."""
ANSWER_S = 1800.0
"""Seconds for a node to answer a request: to take a folder of weights, for instance."""
GRACE_S = 30.0
"""Seconds for the first node to come out of what it is in, once its group is lost; then its process ends."""
SIGNAL = signal.SIGUSR2


@dataclass
class _Member:
    """Another node, as the first sees it."""

    index: int
    address: str
    channel: Channel
    answers: "Queue[dict[str, Any]]" = field(default_factory=Queue)
    last_heard: float = field(default_factory=time.monotonic)


class Group:
    """The nodes, on the first of them. Any method may raise NodeLost."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.address = node.main
        self._members: dict[int, _Member] = {}
        self._lost: NodeLost | None = None
        self._over = threading.Event()
        self._joined = threading.Condition()
        self._ranks: Popen[bytes] | None = None
        self._ray: Popen[bytes] | None = None
        self._server = socket.create_server((node.main, node.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def wait_for_nodes(self, patience: float = JOIN_S) -> None:
        """Until all have joined."""
        with self._joined:
            if not self._joined.wait_for(lambda: len(self._members) == self.node.count - 1, patience):
                missing = sorted(set(range(1, self.node.count)) - self._members.keys())
                raise NodeLost(
                    f"of {self.node.count} nodes, {', '.join(map(str, missing))} did not join {self.node.main}:"
                    f"{self.node.port} within {patience:.0f} s: are their pods scheduled?"
                )
        threading.Thread(target=self._watch, daemon=True).start()

    def share(self, folder: Path) -> None:
        """Put a folder on every node, at the same path; files that are there and the same are not sent."""
        listing = list_folder(folder)
        for member in self._members.values():
            answer = self._request(member, {"do": "share", "folder": str(folder.absolute()), "files": listing})
            send_files(member.channel.send_bytes, folder, answer["missing"])
            self._answer(member)

    def launch(self, ranks: Sequence[int], module: str, arguments: Sequence[str], **popen: Any) -> "Popen[bytes]":
        """Start torchrun's ranks of a module on the nodes: `ranks[i]` of them on node i; rank 0 is on this one.

        `popen` is for the process here, which ends with its standard input, as all ranks do with theirs. The ranks of
        the other nodes end when it has.
        """
        nodes = sum(1 for count in ranks if count)
        with socket.create_server((self.node.main, 0)) as probe:
            port = probe.getsockname()[1]
        start = RanksStart(nodes, self.node.main, port, module, tuple(arguments))
        for member in self._members.values():
            if ranks[member.index]:
                self._request(member, {"do": "ranks", "count": ranks[member.index], **start.plain()})
        self._ranks = start_ranks(start, 0, ranks[0], self.address, **popen)
        return self._ranks

    def end_ranks(self) -> None:
        """End the ranks of the other nodes, after those of this one."""
        self._ranks = None
        for member in self._members.values():
            self._request(member, {"do": "end ranks"})

    def start_ray(self, gpus: Sequence[Sequence[int]], cpus: int) -> str:
        """Make the nodes one Ray cluster; node i gives it the GPUs `gpus[i]`, each `cpus` cores. Returns its address.

        RAY_ADDRESS, and the token that Ray asks for, are set in this process until the group ends.
        """
        with socket.create_server((self.node.main, 0)) as probe:
            port = probe.getsockname()[1]
        address = f"{self.node.main}:{port}"
        first = RayStart(address, self.node.key, tuple(gpus[0]), cpus)
        self._ray = start_ray(first, self.address, head=True)
        for member in self._members.values():
            start = RayStart(address, self.node.key, tuple(gpus[member.index]), cpus)
            self._request(member, {"do": "ray", **start.plain()})
        os.environ.update(first.environment())
        os.environ.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", None)
        return address

    def start_rollout(self, workers: int, ranks: int, shared: bool) -> str:
        """A Ray cluster for rollout workers, on the GPUs that the ranks leave, or on all where they take turns."""
        import torch

        gpus = torch.cuda.device_count()
        taken = [0] * self.node.count if shared or not gpus else layout(ranks, self.node.count, gpus)
        free = [range(taken[node], gpus) for node in range(self.node.count)]
        return self.start_ray(free, max(gpus, -(-workers // self.node.count)))

    def end(self, error: str | None) -> None:
        """Tell the nodes that the group ends, and end what runs here."""
        self._over.set()
        for member in self._members.values():
            with suppress(OSError):
                member.channel.send({"do": "end", "error": error})
        self._server.close()
        if self._ranks is not None:
            end(self._ranks)
        if self._ray is not None:
            end(self._ray, RAY_END_S)
        for member in self._members.values():
            member.channel.done()

    def _accept(self) -> None:
        while True:
            try:
                connection, address = self._server.accept()
            except OSError:  # closed
                return
            # Each in a thread of its own: one that never proves itself holds up nobody.
            threading.Thread(target=self._admit, args=(connection, address[0]), daemon=True).start()

    def _admit(self, accepted: socket.socket, address: str) -> None:
        connection = Connection(accepted.detach())
        try:
            deliver_challenge(connection, self.node.secret)
            answer_challenge(connection, self.node.secret)
            channel = Channel(connection)
            member = _Member(int(channel.receive()["index"]), address, channel)
        except (AuthenticationError, EOFError, OSError, ValueError, KeyError):
            connection.close()
            return
        with self._joined:
            if not 0 < member.index < self.node.count or member.index in self._members:
                connection.close()
                return
            self._members[member.index] = member
            self._joined.notify_all()
        self._listen(member)

    def _listen(self, member: _Member) -> None:
        try:
            while True:
                message = member.channel.receive()
                member.last_heard = time.monotonic()
                if "lost" in message:
                    self._lose(f"{_name(member)} has lost {message['lost']}")
                elif "beat" not in message:
                    member.answers.put(message)
        except (EOFError, OSError):
            self._lose(f"{_name(member)} is gone")
        finally:
            member.channel.connection.close()

    def _watch(self) -> None:
        while not self._over.wait(BEAT_S):
            for member in self._members.values():
                with suppress(OSError):  # _listen says so
                    member.channel.send({"do": "beat"})
                if (silent := time.monotonic() - member.last_heard) > SILENCE_S:
                    self._lose(f"{_name(member)} has been silent for {silent:.0f} s")

    def _lose(self, how: str) -> None:
        """Have the main thread raise, wherever it is."""
        if self._over.is_set() or self._lost is not None:
            return
        self._lost = NodeLost(f"{how}: the attempt on {self.node.count} nodes ends here")
        if self._ranks is not None:
            end(self._ranks, patience=0)
        os.kill(os.getpid(), SIGNAL)
        if not self._over.wait(GRACE_S):
            print(f"NodeLost: {self._lost}", file=sys.stderr, flush=True)
            os._exit(1)

    def raise_lost(self, number: int, frame: FrameType | None) -> None:
        """What the signal does."""
        if self._lost is not None and not self._over.is_set():
            raise self._lost

    def _request(self, member: _Member, message: Mapping[str, Any]) -> dict[str, Any]:
        if self._lost is not None:
            raise self._lost
        with suppress(OSError):  # then it is lost, and _lose has the main thread raise
            member.channel.send(message)
        return self._answer(member)

    def _answer(self, member: _Member) -> dict[str, Any]:
        try:
            answer = member.answers.get(timeout=ANSWER_S)
        except Empty:
            raise NodeLost(f"{_name(member)} did not answer within {ANSWER_S:.0f} s") from None
        if "error" in answer:
            raise NodeLost(f"{_name(member)}: {answer['error']}")
        return answer


def _name(member: _Member) -> str:
    return f"node {member.index} ({member.address})"


_current: Group | None = None


def current_group() -> Group | None:
    """The group that this process leads, if it leads one."""
    return _current


@contextmanager
def lead(node: Node, patience: float = JOIN_S) -> Iterator[Group]:
    """Lead a group, in the main thread, until the block ends. Raises NodeLost."""
    global _current
    environment = dict(os.environ)
    group = Group(node)
    before = signal.signal(SIGNAL, group.raise_lost)
    error: str | None = "the first node was ended"
    try:
        group.wait_for_nodes(patience)
        _current = group
        yield group
        error = None
    except BaseException as raised:
        error = f"{type(raised).__name__}: {raised}"
        raise
    finally:
        _current = None
        group.end(error)
        signal.signal(SIGNAL, before)
        os.environ.clear()
        os.environ.update(environment)
