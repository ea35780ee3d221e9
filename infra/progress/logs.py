"""Keep engines' noise out of the terminal: while `quiet_to` holds, what they print goes to a log file.

Inference and training libraries write through Python logging, through print, and from C++ straight to file descriptors
1 and 2. All three are sent to the file. What the user is meant to see is written to `terminal` and `output`, which stay
on standard error and standard output as they were before, so progress still shows while engines are quiet.

NOTE: descriptors belong to the whole process. While one thread is quiet, all are; child processes inherit it.
"""

import ctypes
import io
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, TextIO, cast

ENGINES = ("vllm", "deepspeed", "DeepSpeed", "transformers", "torch", "accelerate", "ray", "py.warnings")
"""Loggers that print on their own; DeepSpeed's and Ray's names are theirs."""

_lock = threading.RLock()


class StandardStream(io.TextIOBase):
    """A standard stream that `quiet_to` leaves where it was. Safe to write from several threads."""

    def __init__(self, name: Literal["stdout", "stderr"], descriptor: int) -> None:
        self._name = name
        self._descriptor = descriptor
        self._copy: TextIO | None = None

    @property
    def _stream(self) -> TextIO:
        # Asked for each time, because notebooks and tests replace the standard streams.
        return self._copy or cast(TextIO, getattr(sys, self._name))

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read-only here
        return self._stream.encoding or "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        with _lock:
            return self._stream.write(text)

    def flush(self) -> None:
        with _lock:
            self._stream.flush()

    def isatty(self) -> bool:
        with _lock:
            return self._stream.isatty()

    def fileno(self) -> int:
        with _lock:
            return self._stream.fileno()

    def hold(self) -> TextIO | None:
        """Hold on to where the stream goes now. None where it is not a descriptor, or is held on to already."""
        if self._copy is not None or not self._is_on_descriptor():
            return None
        self._copy = os.fdopen(
            os.dup(self._descriptor), "w", buffering=1, encoding=self.encoding, errors="backslashreplace"
        )
        return self._copy

    def release(self, copy: TextIO) -> None:
        """Let go of what `hold` returned."""
        with _lock:
            self._copy = None
            copy.close()

    def _is_on_descriptor(self) -> bool:
        try:
            return self._stream.fileno() == self._descriptor
        except (OSError, ValueError, AttributeError):
            return False  # a notebook's stream, or one that is closed


output = StandardStream("stdout", 1)
"""Where a command's result goes."""

terminal = StandardStream("stderr", 2)
"""Where progress and messages for the user go."""


def _flush() -> None:
    """Send on what Python and the C library still hold back, or it turns up on the wrong side of the switch."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    ctypes.CDLL(None).fflush(None)


@contextmanager
def quiet_to(path: Path) -> Iterator[None]:
    """Send engines' logging and all of descriptors 1 and 2 to the end of a file, until the block is left.

    Blocks may be nested: the inner file takes over, then the outer one again. An exception that leaves it carries
    a note with the file's path. Raises OSError where the file cannot be written.

    NOTE: sys.stdout and sys.stderr are not replaced, only the descriptors under them. A library that is imported in the
    block keeps the stream that it found; if that were this one, it would be a closed file afterwards.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with _lock:
            _flush()
            held = [(stream, copy) for stream in (output, terminal) if (copy := stream.hold())]
            saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
            for descriptor in saved:
                os.dup2(log, descriptor)
    finally:
        os.close(log)
    try:
        with _loggers_to(path):
            yield
    except Exception as error:
        note = f"What the engines printed is in {path}"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        raise
    finally:
        with _lock:
            _flush()
            for descriptor, original in saved.items():
                os.dup2(original, descriptor)
                os.close(original)
            for stream, copy in held:
                stream.release(copy)


@contextmanager
def _loggers_to(path: Path) -> Iterator[None]:
    """Engines' loggers write to the file alone, and neither to handlers of their own nor to the root's."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    before = {}
    for name in ENGINES:
        logger = logging.getLogger(name)
        before[logger] = (logger.handlers[:], logger.propagate)
        logger.handlers[:] = [handler]
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (handlers, propagate) in before.items():
            # Without our handler, the library has configured itself meanwhile: what it set up is its own to keep.
            if handler in logger.handlers:
                added = [each for each in logger.handlers if each is not handler]
                logger.handlers[:] = handlers + added
                logger.propagate = propagate
        handler.close()
