"""Who may come in: the bounded queue in front of the slots of a sandbox's service.

A request has a *place* from before its body is read until its answer is sent. `slots` places may run at one time, and
`queue` more may send their bodies and wait, so that what the service holds in memory is bounded. First come, first run.

NOTE: for one event loop; none of this may be called from other threads.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class Full(Exception):
    """As many requests wait as may."""


class Draining(Exception):
    """Nothing new starts any more."""


@dataclass(frozen=True, eq=False)
class Ticket:
    """A request's turn."""

    slots: int
    called: asyncio.Future[None]
    """Done once the slots are its own; raises Draining if they will not be. NOTE: wait for it by asyncio.wait, for who
    awaits it and is cancelled cancels it."""


class Admission:
    """Counts who is inside."""

    def __init__(self, slots: int, queue: int) -> None:
        self.slots = slots
        self.queue = queue
        self.places = 0
        """Requests inside."""
        self.served = 0
        """Those of them that have their slots."""
        self.in_use = 0
        """Slots that they have."""
        self.draining = False
        self._waiting: deque[Ticket] = deque()

    @property
    def waiting(self) -> int:
        """Requests inside that have no slot yet."""
        return self.places - self.served

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

    def ticket(self, slots: int = 1) -> Ticket:
        """Stand in the queue for slots, or for all that there are. Give it to `give_back` in any case."""
        ticket = Ticket(min(slots, self.slots), asyncio.get_running_loop().create_future())
        self._waiting.append(ticket)
        self._call_next()
        return ticket

    def give_back(self, ticket: Ticket) -> None:
        """Free the ticket's slots, or take it out of the queue."""
        if not ticket.called.done():
            ticket.called.cancel()
            self._waiting.remove(ticket)
        elif ticket.called.exception() is None:
            self.served -= 1
            self.in_use -= ticket.slots
        self._call_next()

    def drain(self) -> None:
        """From now on nothing starts: who waits and who comes is refused."""
        self.draining = True
        self._call_next()

    def _call_next(self) -> None:
        while self._waiting and (self.draining or self.in_use + self._waiting[0].slots <= self.slots):
            ticket = self._waiting.popleft()
            if self.draining:
                ticket.called.set_exception(Draining())
            else:
                self.served += 1
                self.in_use += ticket.slots
                ticket.called.set_result(None)
