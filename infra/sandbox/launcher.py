"""A process per slot that starts the slot's boxes: it stands ready in the slot's control group, as the slot's user.

To enter a control group takes longer than to make a box, and to start a process from one with an engine's memory is not
shorter. So both are done once.
"""

import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from infra.sandbox.images import PYTHON_HOME
from infra.sandbox.memory_file import memory_file, text_of

FIRST_DESCRIPTOR = 100
"""The number that a command sees for the first descriptor that it gets; the others follow."""

_TEXT = Path(__file__).with_name("launcher_process.py").read_text(encoding="utf-8")
_ENTER_GROUP = 'while [ "$1" != -- ]; do echo 0 >"$1" || exit; shift; done; shift; exec "$@"'


class Launcher:
    """Starts commands, one after the other ends.

    Args:
        entrances: files of a control group to enter (see `Group.entrances`).
        prefix: what the process is to be started by, as another user for instance.
        root: the root of the Python image, where the prefix sees it.
    """

    def __init__(self, entrances: Sequence[Path], prefix: Sequence[str], root: str) -> None:
        enter = ["/bin/sh", "-c", _ENTER_GROUP, "sh", *map(str, entrances), "--"] if entrances else []
        python = [f"{root}{PYTHON_HOME}/bin/python", "-I", "-S", "-B", "-c", _TEXT]
        self._stack = ExitStack()
        self._errors = self._stack.enter_context(memory_file("errors"))
        self._socket, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._stack.enter_context(self._socket)
        with inside:
            self._process = subprocess.Popen(
                [*enter, *prefix, *python, str(inside.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[inside.fileno()],
                # Nothing of this process: what a library to preload says would stand among the errors of boxes.
                env={"LD_LIBRARY_PATH": f"{root}{PYTHON_HOME}/lib"},
            )
        self.running = False

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can start anything."""
        return self._process.poll() is None

    def start(self, command: Sequence[str], errors: int, descriptors: Sequence[int]) -> None:
        """Start a command; nothing may be running. Raises OSError where the launcher is gone."""
        message = b"\0".join(word.encode() for word in command)
        socket.send_fds(self._socket, [message], [errors, *descriptors])
        self.running = True

    def wait(self, seconds: float | None = None) -> str:
        """Wait until the command has ended. Returns why it was not started, or why nothing can be any more, if so.

        Raises TimeoutError.
        """
        if not self.running:
            return ""
        self._socket.settimeout(seconds)
        try:
            message = self._socket.recv(4096)
        except ConnectionError:
            message = b""
        if not message:
            said = text_of(self._errors)
            self.close()
            return said or "the launcher was killed"
        self.running = False
        return "" if message == b"ended" else message.decode(errors="replace")

    def still_running(self) -> bool:
        """Whether the command has not ended yet."""
        with suppress(TimeoutError, BlockingIOError):
            self.wait(0.0)
        return self.running

    def close(self) -> None:
        """End the launcher, and what it has started."""
        self.running = False
        self._socket.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stack.close()
