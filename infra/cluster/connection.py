"""What the nodes of a group have in common: who they are, and the connection between two of them."""

import json
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

BEAT_S = 1.0
"""Seconds between signs of life."""
SILENCE_S = 15.0
"""Seconds without one after which a node is lost."""


class NodeLost(RuntimeError):
    """A node of the group is gone, and so the attempt is over; the message says which and how."""


@dataclass(frozen=True)
class Node:
    """One node of a group, by what `current.parallel` says."""

    index: int
    """0 is the first."""
    count: int
    main: str
    """The first node's address."""
    key: str
    """64 hexadecimal digits, which the nodes of this group alone know."""
    port: int = 29500
    """Where the first one listens."""

    @property
    def secret(self) -> bytes:
        """The key's bytes."""
        return bytes.fromhex(self.key)


class Channel:
    """A connection on which several threads send."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._sending = threading.Lock()

    def send(self, message: Mapping[str, Any]) -> None:
        with self._sending:
            self.connection.send_bytes(json.dumps(message).encode())

    def send_bytes(self, data: bytes | memoryview) -> None:
        with self._sending:
            self.connection.send_bytes(data)

    def done(self) -> None:
        """Send no more. What was sent arrives; the other end closes, and so whoever receives here comes to an end."""
        with suppress(OSError), socket.fromfd(self.connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as own:
            own.shutdown(socket.SHUT_WR)

    def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.connection.recv_bytes())
        return message
