"""A node of a group that is not the first: it does what the first requests, and ends with it."""

import socket
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Client, Connection
from pathlib import Path
from subprocess import Popen
from typing import Any

from infra.cluster.connection import BEAT_S, SILENCE_S, Channel, Node, NodeLost
from infra.cluster.folder_sync import missing_files, receive_files
from infra.cluster.processes import RANKS_END_S, RAY_END_S, Ended, RanksStart, RayStart, end, start_ranks, start_ray


class GroupEnded(RuntimeError):
    """Raised by the other nodes where the first ended badly; the message says why."""


def serve(node: Node, patience: float) -> None:
    """Do what the first node requests, until it has ended.

    Raises NodeLost where it is gone, GroupEnded where it failed.
    """
    connection = _join(node, patience)
    own = socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM)
    with own:
        address = own.getsockname()[0]
    channel = Channel(connection)
    channel.send({"index": node.index})
    running: dict[str, Popen[bytes]] = {}
    over = threading.Event()
    threading.Thread(target=_beat, args=(channel, over), daemon=True).start()
    try:
        while (message := _next(channel, node))["do"] != "end":
            if message["do"] != "beat":
                channel.send(_do(message, node, address, channel, running))
    finally:
        over.set()
        for name, process in running.items():
            end(process, RAY_END_S if name == "ray" else RANKS_END_S)
        connection.close()
    if message["error"]:
        raise GroupEnded(f"the first node failed: {message['error']}")


def _join(node: Node, patience: float) -> Connection:
    until = time.monotonic() + patience
    while True:
        try:
            return Client((node.main, node.port), family="AF_INET", authkey=node.secret)
        except (OSError, EOFError) as error:
            if time.monotonic() > until:
                raise NodeLost(
                    f"the first node, {node.main}:{node.port}, could not be reached within {patience:.0f} s: {error}"
                ) from error
            time.sleep(0.2)


def _next(channel: Channel, node: Node) -> dict[str, Any]:
    try:
        if channel.connection.poll(SILENCE_S):
            return channel.receive()
    except (EOFError, OSError) as error:
        raise NodeLost(f"the first node, {node.main}, is gone") from error
    raise NodeLost(f"the first node, {node.main}, has been silent for {SILENCE_S:.0f} s")


def _beat(channel: Channel, over: threading.Event) -> None:
    with suppress(OSError):
        while not over.wait(BEAT_S):
            channel.send({"beat": 1})


def _do(
    message: dict[str, Any], node: Node, address: str, channel: Channel, running: "dict[str, Popen[bytes]]"
) -> dict[str, Any]:
    """Handle one request of the first node. Returns the answer."""
    try:
        if message["do"] == "share":
            folder, files = Path(message["folder"]), message["files"]
            missing = missing_files(folder, files)
            channel.send({"missing": missing})
            receive_files(channel.connection.recv_bytes, folder, files, missing)
        elif message["do"] == "ranks":
            process = start_ranks(RanksStart.of(message), node.index, message["count"], address)
            running["ranks"] = process
            threading.Thread(target=_report_end, args=("ranks", process, channel, running), daemon=True).start()
        elif message["do"] == "end ranks":
            if (ranks := running.pop("ranks", None)) is not None:
                end(ranks)
        elif message["do"] == "ray":
            running["ray"] = start_ray(RayStart.of(message), address, head=False)
            threading.Thread(target=_report_end, args=("ray", running["ray"], channel, running), daemon=True).start()
        else:
            return {"error": f"does not know how to {message['do']!r}: do all nodes run the same code?"}
    except (OSError, Ended) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"done": message["do"]}


def _report_end(name: str, process: "Popen[bytes]", channel: Channel, running: "dict[str, Popen[bytes]]") -> None:
    """Report a process that ended by itself to the first node."""
    status = process.wait()
    # Ranks that are done end with 0; a node of Ray ends on request, and not before.
    if running.get(name) is process and (status or name == "ray"):
        with suppress(OSError):
            channel.send({"lost": f"its {name}, which ended with status {status}"})
