"""Starts what makes boxes, one at a time, for the sandbox on the other end of a socket.

Never imported: the text of this file goes to a Python of its own as `-c`, followed by the number of the socket. That
Python is in a slot's control group already and, for bubblewrap, the slot's user, so that what it starts need not move
there. A message is a command (its words between zero bytes) with the descriptors that it inherits: the first one as its
standard error, the others from 100 on. The answer, once the command has ended, is "ended", or why it did not start.

When the sandbox's process is gone, so is the other end, and this ends what it has started, and itself.
"""

import _socket
import posix
import select
import sys

FIRST_DESCRIPTOR = 100
SIGKILL = 9


def main() -> None:
    """Serve until the socket's other end is closed."""
    outside = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, int(sys.argv[1]))
    posix.set_inheritable(outside.fileno(), False)
    while True:
        room = _socket.CMSG_SPACE(4 * 128)
        message, ancillary, _, _ = outside.recvmsg(2**18, room, _socket.MSG_CMSG_CLOEXEC)
        if not message:
            return
        data = ancillary[0][2]
        received = [int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, len(data), 4)]
        places = [2, *range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + len(received) - 1)]
        actions = [(posix.POSIX_SPAWN_DUP2, source, its) for source, its in zip(received, places)]  # noqa: B905
        words = message.split(b"\0")
        try:
            child = posix.posix_spawn(words[0], words, {}, file_actions=actions)
        except OSError as error:
            outside.send(b"%s cannot be started: %s" % (words[0], str(error).encode()))
            continue
        finally:
            for descriptor in received:
                posix.close(descriptor)
        if not wait_for(child, outside):
            return
        outside.send(b"ended")


def wait_for(child: int, outside: _socket.socket) -> bool:
    """Whether the child ended by itself; false where the other end went first, and the child was killed."""
    death = posix.pidfd_open(child)
    poll = select.poll()
    for descriptor in (death, outside.fileno()):
        poll.register(descriptor, select.POLLIN)
    ready = [descriptor for descriptor, _ in poll.poll()]
    if death not in ready:
        posix.kill(child, SIGKILL)
    posix.waitpid(child, 0)
    posix.close(death)
    return death in ready


if __name__ == "__main__":
    main()
