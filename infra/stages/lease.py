"""A lease in the store: of all machines that share it, one at a time runs a stage with a given key.

    leases/<key>.json       who holds it and how often it was renewed; "holder" is null once it was released

It is taken, renewed and released by writes that succeed only if nobody else has written meanwhile (S3's If-Match and
If-None-Match). The holder renews it every RENEW_S. Another takes it over where it was released, where it was not
renewed for EXPIRES_S by the waiting machine's own clock (machines' clocks are never compared), or at once where its
process was on this machine and is gone.

NOTE: a holder that stands still for longer than EXPIRES_S loses the lease, and its stage is interrupted once it
continues. What it writes until then harms nobody: folders are stored by content, and checkpoints by attempt.
"""

import _thread
import json
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from infra.errors import LonghaulError
from infra.progress.tasks import say
from infra.signal_handlers import handling
from infra.store.backend import Backend, Corrupted, StoreError

EXPIRES_S = 60.0
"""Seconds without a renewal after which another may take a lease over."""
RENEW_S = 12.0
"""Seconds between renewals: four may fail."""
POLL_S = 1.0
"""Seconds between looks at a lease that another holds."""


class LeaseLost(LonghaulError, RuntimeError):
    """Another machine has taken over the stage; its outputs can be reused once it is done."""


class _Lease(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int = 1
    holder: str | None
    """A name of the attempt, unlike any other; None where nobody holds it."""
    host: str = ""
    machine: str = ""
    """Of the holder: its boot and its space of process ids."""
    process: str = ""
    """The process's id and when it started."""
    run: str = ""
    renewals: int = 0


@cache
def machine() -> str:
    """Names this boot of this machine and this space of process ids: within it, processes can be looked up."""
    with suppress(OSError):
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    return secrets.token_hex(8)


def process_name(number: int) -> str:
    """A process's id and start, which no later process of the same id shares; empty where there is no such process."""
    try:
        after_name = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    state, started = after_name[0], after_name[19]
    return "" if state in "ZX" else f"{number} {started}"


class Lease:
    """A lease that this process holds."""

    def __init__(self, backend: Backend, key: str, run: str) -> None:
        self._backend = backend
        self._place = f"leases/{key}.json"
        self._content = _Lease(
            holder=secrets.token_hex(8),
            host=socket.gethostname(),
            machine=machine(),
            process=process_name(os.getpid()),
            run=run,
        )
        self._tag: str | None = None
        self._renewed = 0.0
        self._lost = False
        self._over = threading.Event()

    @property
    def attempt(self) -> str:
        """Names this attempt; unlike any other."""
        return self._content.holder or ""

    @property
    def held(self) -> bool:
        """Whether nobody can have taken it over."""
        return not self._lost and time.monotonic() - self._renewed < EXPIRES_S

    @property
    def lost(self) -> bool:
        """Whether another has taken it over."""
        return self._lost

    def acquire(self, stage: str) -> None:
        """Wait until it is free and take it. Raises StoreError."""
        seen, unchanged_from = None, time.monotonic()
        said = False
        while True:
            state = self._backend.read_tagged(self._place)
            current = self._parsed(state[0]) if state else None
            tag = state[1] if state else None
            if seen != tag:
                seen, unchanged_from = tag, time.monotonic()
            if current is None or current.holder is None or self._is_over(current, unchanged_from):
                before = time.monotonic()
                self._tag = self._write(self._content, tag)
                if self._tag is not None:
                    self._renewed = before
                    if current is not None and current.holder is not None:
                        say(f"{stage}: taken over from {current.host} (run {current.run}), which is gone")
                    return
                continue
            if not said:
                said = True
                say(
                    f"{stage}: waiting for {current.host}, which is at this stage with the same key (run {current.run})"
                )
            time.sleep(POLL_S)

    def keep(self) -> None:
        """Renew it until `release`; to be run in a thread. Interrupts the main thread where it was taken over."""
        while not self._over.wait(RENEW_S):
            before = time.monotonic()
            self._content = self._content.model_copy(update={"renewals": self._content.renewals + 1})
            try:
                tag = self._write(self._content, self._tag)
            except StoreError:
                continue  # it may be reachable again before the lease expires
            if tag is None:
                self._lost = True
                if not self._over.is_set():
                    _thread.interrupt_main()
                return
            self._tag, self._renewed = tag, before

    @contextmanager
    def naming_loss(self, stage: str) -> Iterator[None]:
        """Raises LeaseLost for the interrupt of a block in which another took it over."""
        try:
            yield
        except KeyboardInterrupt as error:
            if not self._lost:
                raise
            raise LeaseLost(
                f"{stage}: this process stood still for more than {EXPIRES_S:.0f} s, and another machine has taken the "
                "stage over. Run again: its outputs are reused once it is done"
            ) from error

    def release(self, thread: threading.Thread) -> None:
        """Let others have it."""
        self._over.set()
        thread.join()
        if self._lost:
            return
        with suppress(StoreError):  # it expires by itself
            self._write(_Lease(holder=None, host=self._content.host, run=self._content.run), self._tag)

    def _write(self, content: _Lease, tag: str | None) -> str | None:
        """Write where nobody has written after `tag`; the new tag, or None."""
        text = content.model_dump_json()
        while True:
            written = self._backend.write_if(self._place, text, tag)
            # Our own write may have arrived without its answer, and a server without conditions accepts everybody's.
            state = self._backend.read_tagged(self._place)
            if state is not None and state[0] == text.encode():
                return state[1]
            if written is not None:
                raise StoreError(
                    f"{self._backend.address}/{self._place}: two writers succeeded at once, so the server ignores "
                    "If-Match and If-None-Match: use a store that supports conditional writes"
                )
            # So may an earlier renewal, whose write has failed as far as we know.
            if state is None or state[1] == tag or self._parsed(state[0]).holder != self._content.holder:
                return None
            tag = state[1]

    def _is_over(self, current: _Lease, unchanged_from: float) -> bool:
        """Whether a holder whose lease was not renewed after then is gone."""
        number = current.process.partition(" ")[0]
        here = current.machine == self._content.machine and number.isdecimal()
        return (here and process_name(int(number)) != current.process) or time.monotonic() - unchanged_from > EXPIRES_S

    def _parsed(self, text: bytes) -> _Lease:
        try:
            return _Lease.model_validate(json.loads(text))
        except (ValueError, ValidationError) as error:
            raise Corrupted(
                f"{self._backend.address}/{self._place} is not a lease: delete it, if no run is at this stage"
            ) from error


@contextmanager
def leased(backend: Backend, key: str, stage: str, run: str) -> Iterator[Lease]:
    """Hold the lease of a key while the block runs; others that want it wait.

    Raises StoreError where the store refuses, LeaseLost where another took it over meanwhile.
    """
    lease = Lease(backend, key, run)
    lease.acquire(stage)
    thread = threading.Thread(target=lease.keep, daemon=True)
    thread.start()
    # SIGINT may be ignored, under nohup or behind a script's `&`, and a loss would interrupt nothing.
    main = threading.current_thread() is threading.main_thread()
    try:
        with (
            lease.naming_loss(stage),
            handling([signal.SIGINT], signal.default_int_handler) if main else nullcontext(),
        ):
            yield lease
    finally:
        lease.release(thread)
