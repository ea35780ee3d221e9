"""Files in memory, by which boxes get what they read and say what went wrong."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SHRINK, F_SEAL_WRITE, fcntl


@contextmanager
def memory_file(name: str, content: bytes = b"", *, sealed: bool = False) -> Iterator[int]:
    """The descriptor of a file in memory, at its start. Sealed, nobody who inherits it can write to it."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        if sealed:
            fcntl(descriptor, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK)
        yield descriptor
    finally:
        os.close(descriptor)


def text_of(descriptor: int) -> str:
    """The beginning of what such a file holds."""
    return os.pread(descriptor, 4096, 0).decode(errors="replace").strip()
