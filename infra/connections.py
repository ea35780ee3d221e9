"""Connections to the project's servers, whoever opens them: bounded in number, and in the time that a request may take
to arrive. Both hold before anything asks for a token.
"""

import asyncio
import resource
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 20.0
"""How long a request's headers may take."""


def bounded_protocol(most: int, seconds: float = REQUEST_SECONDS, body_seconds: float | None = None) -> type[Any]:
    """uvicorn's protocol with limits.

    Where one connection more than `most` is made, the one that has waited longest for a request is closed; the new one,
    where all of them are being answered.

    Args:
        seconds: for the headers, from the connection or the first byte of a further request.
        body_seconds: for headers and body together; None where the application limits the body's time.
    """

    class BoundedProtocol(H11Protocol):
        _arrives: asyncio.TimerHandle | None = None
        _idle_from = 0.0

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._idle_from = self.loop.time()
            self._expect(seconds)
            # One that was just aborted is still among them until the loop's next turn.
            open_ones = [one for one in self.connections if not one.transport.is_closing()]
            if len(open_ones) > most:
                waiting = [one for one in open_ones if isinstance(one, BoundedProtocol) and one._is_waiting()]
                min(waiting, key=lambda one: one._idle_from).transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._arrives is None and self._is_waiting():
                self._expect(seconds)  # the beginning of a further request
            super().data_received(data)
            if self.conn.their_state is h11.SEND_BODY:
                if body_seconds is None:
                    self._forget()
                elif self._arrives is not None and self._arrives.when() < self._idle_from + body_seconds:
                    self._expect(self._idle_from + body_seconds - self.loop.time())
            elif self.conn.their_state is not h11.IDLE:
                self._forget()

        def on_response_complete(self) -> None:
            self._idle_from = self.loop.time()
            super().on_response_complete()

        def _is_waiting(self) -> bool:
            """Whether no request is being answered."""
            return self.cycle is None or bool(self.cycle.response_complete)

        def _expect(self, within: float) -> None:
            self._forget()
            self._arrives = self.loop.call_later(within, self.transport.abort)

        def _forget(self) -> None:
            if self._arrives is not None:
                self._arrives.cancel()
                self._arrives = None

    return BoundedProtocol


def affordable(connections: int, reserved: int) -> int:
    """`connections`, or as many as this process has file descriptors for beside `reserved` ones; at least 8."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return connections if most == resource.RLIM_INFINITY else max(8, min(connections, most - reserved))
