"""Who may come in: the bounded queue in front of the slots of a sandbox's service.

A request has a *place* from before its body is read until its answer is sent. `slots` places may run at one time, and
`queue` more may send their bodies and wait, so that what the service holds in memory is bounded. First come, first run.

NOTE: for one event loop; none of this may be called from other threads.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Full(Exception):
    """As many requests wait as may."""


class Draining(Exception):
    """Nothing new starts any more."""


class Admission:
    """Counts who is inside."""

    def __init__(self, slots: int, queue: int) -> None:
        self.slots = slots
        self.queue = queue
        self.places = 0
        """Requests inside."""
        self.running = 0
        """Those of them that have a slot."""
        self.draining = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """Requests inside that have no slot yet."""
        return self.places - self.running

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for as long as the block runs. Raises Full or Draining at once."""
        if self.draining:
            raise Draining
        if self.places >= self.slots + self.queue:
            raise Full
        self.places += 1
        try:
            yield
        finally:
            self.places -= 1

    def ticket(self) -> asyncio.Future[None]:
        """A future that is done once a slot is its own, and raises Draining if none will be. Give it to `give_back`."""
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(ticket)
        self._call_next()
        return ticket

    def give_back(self, ticket: asyncio.Future[None]) -> None:
        """Free the ticket's slot, or take it out of the queue."""
        if not ticket.done():
            ticket.cancel()
            self._waiting.remove(ticket)
        elif not ticket.cancelled() and ticket.exception() is None:
            self.running -= 1
            self._call_next()

    def drain(self) -> None:
        """From now on nothing starts: who waits and who comes is refused."""
        self.draining = True
        self._call_next()

    def _call_next(self) -> None:
        while self._waiting and (self.draining or self.running < self.slots):
            ticket = self._waiting.popleft()
            if self.draining:
                ticket.set_exception(Draining())
            else:
                self.running += 1
                ticket.set_result(None)
