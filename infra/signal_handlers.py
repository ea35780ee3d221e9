"""Handlers of signals that last as long as a block."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def handling(
    signals: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], object] | signal.Handlers
) -> Iterator[None]:
    """Handle signals by `handler` within the block, in the main thread; raises ValueError in another.

    What handled them before does so again afterwards, so that a command leaves its process as it found it.
    """
    before = {number: signal.getsignal(number) for number in signals}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, handled in before.items():
            # None: not installed from Python, and cannot be put back from it.
            signal.signal(number, signal.SIG_DFL if handled is None else handled)
