"""What Metaflow starts for a step where a fork server runs: it has the server fork, and ends as the fork does.

    python -I -S flows/fork_server/client.py FLOW ARGUMENT…

The server is asked at the socket that LONGHAUL_FORK_SERVER_SOCKET names. The fork is the step's guard (flows/guard.py),
which forks once more. It writes to this process's standard streams. What becomes of this process becomes of the fork:
signals are passed on, and where this process is gone, the guard ends the step.

Where no server answers, or it refuses, this process becomes the one that Metaflow would have started: nothing is lost
but the time that the server would have saved. Only the standard library is imported, so that this takes 50 ms.
"""

import array
import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SOCKET = "LONGHAUL_FORK_SERVER_SOCKET"
"""Names the server's socket: a file in the run's folder for temporary files."""
STARTED_BY = "LONGHAUL_RUN_PROCESS"
"""The process that a flow ends with, or a step whose start took a while. Guards take it out of the environment."""
SCRIPT = os.path.abspath(__file__)
ENTRYPOINT = [sys.executable, "-I", "-S", SCRIPT]
"""What stands before a flow's file and its arguments."""

ACCEPTED, REFUSED = b"a", b"r"
"""How an answer begins. A refusal's reason follows, and nothing else; in the end, an acceptance's status."""
STATUS = struct.Struct("!i")
"""An exit status, as `os.waitstatus_to_exitcode` has it: the negative number of the signal that killed a process."""
LENGTH = struct.Struct("!Q")
ANSWER_S = 300.0
"""Seconds to wait for an answer: the server may be at an import, which takes long where a disk is cold."""


@contextmanager
def address(path: str) -> Iterator[str]:
    """A name for a socket, of any length: by itself a path may have 107 bytes (unix(7)). Raises OSError."""
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)


def send_request(connection: socket.socket, arguments: "list[str]") -> None:
    """Ask for a fork that runs a Python file with its arguments, with this process's environment, folder and streams.

    Raises OSError.
    """
    request = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    body = json.dumps(request).encode()
    streams = array.array("i", (0, 1, 2))
    connection.sendmsg([LENGTH.pack(len(body))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    connection.sendall(body)


def main() -> None:
    """See the module. Returns where a plain process is to run the step."""
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_S)
        try:
            with address(os.environ[SOCKET]) as name:
                connection.connect(name)
            send_request(connection, sys.argv[1:])
            answer = connection.recv(1)
            if answer == REFUSED:
                reason = connection.makefile("rb").read().decode(errors="replace")
            else:
                reason = "" if answer == ACCEPTED else "it ended"
        except (OSError, ValueError, KeyError) as error:
            reason = str(error) or type(error).__name__
        if reason:
            print(f"No fork of the fork server ({reason}): a plain process runs this step", file=sys.stderr, flush=True)
            os.environ[STARTED_BY] = str(parent)  # which may have gone with the server
            return
        connection.settimeout(None)
        _end_as(_wait(connection, parent))


def _wait(connection: socket.socket, parent: int) -> "int | None":
    """The fork's exit status; None where whoever would report it is gone."""

    def forward(number: int, frame: object) -> None:
        with suppress(OSError):  # it has ended
            connection.send(bytes([number]))

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the step, in the same group
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, forward)
    events = select.poll()
    events.register(connection, select.POLLIN)
    try:
        events.register(os.pidfd_open(parent), select.POLLIN)
    except ProcessLookupError:
        sys.exit(1)
    received = b""
    while len(received) < STATUS.size:
        events.poll(1000)
        if os.getppid() != parent:
            sys.exit(1)  # the connection closes with that, by which the guard knows
        try:
            part = connection.recv(STATUS.size - len(received), socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
        except ConnectionError:
            return None
        if not part:
            return None
        received += part
    return int(STATUS.unpack(received)[0])


def _end_as(status: "int | None") -> None:
    if status is None:
        step = sys.argv[sys.argv.index("step") + 1] if "step" in sys.argv[:-1] else "?"
        print(f"step {step}: its process was lost, and so was the guard over it", file=sys.stderr, flush=True)
        sys.exit(1)
    if status < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main()
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
