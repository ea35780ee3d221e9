"""What stands between a request and an action: it comes from this page, was confirmed there, and is done once.

A confirmation is written into the form that asks for it, signed for one action, and works once within a few minutes.
Another site's page cannot read it (so it cannot forge a request), and cannot send its own origin as this page's.
"""

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from starlette.requests import Request

from infra.lineage.web.host import Action

VALID_SECONDS = 600.0


class ActionRefused(Exception):
    """An action is not done; the message is for people.

    Args:
        status: of the response: 403 for what is not allowed, 404 for what does not exist, 409 for what cannot be now.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def check_origin(request: Request) -> None:
    """Raise ActionRefused for a request that a page of another origin may have sent.

    Behind a proxy that ends TLS the scheme differs, so that host and port are compared with the Host header, whose
    names are limited already.
    """
    origin = request.headers.get("origin")
    host = request.headers.get("host", "").lower()
    if origin is not None:
        try:
            parts = urlsplit(origin)
        except ValueError:
            parts = urlsplit("")
        allowed = parts.scheme in ("http", "https") and parts.netloc.lower() == host
    else:
        allowed = request.headers.get("sec-fetch-site") == "same-origin"
    if not allowed:
        raise ActionRefused("The request does not come from this page: open it here, and confirm it here.", 403)


class Confirmations:
    """Issues and takes confirmations, and lets one action on one thing run at a time."""

    def __init__(self, valid_seconds: float = VALID_SECONDS) -> None:
        self._secret = secrets.token_bytes(32)
        self._valid_seconds = valid_seconds
        self._lock = threading.Lock()
        self._used: dict[str, float] = {}
        self._under_way: set[str] = set()

    def issue(self, action: Action) -> str:
        """A confirmation for one action; its reason may still be written."""
        basis = f"{secrets.token_hex(16)}.{time.time() + self._valid_seconds:.0f}"
        return f"{basis}.{self._signature(basis, action)}"

    @contextmanager
    def take(self, confirmation: str, action: Action) -> Iterator[None]:
        """Hold the action's turn while the block runs. Raises ActionRefused."""
        basis, _, signature = confirmation.rpartition(".")
        nonce, _, until = basis.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(basis, action).encode()):
            raise ActionRefused("The action was not confirmed on this page.", 403)
        now = time.time()
        with self._lock:
            self._used = {name: expires for name, expires in self._used.items() if expires > now}
            if float(until) <= now:  # from then on it is not remembered whether it was used
                raise ActionRefused("The confirmation is too old: confirm the action again.", 403)
            if nonce in self._used:
                raise ActionRefused("This was confirmed once and is done or under way: it is not done twice.", 409)
            if action.target in self._under_way:
                raise ActionRefused(f"Another action on {action.target} is under way: wait for its end.", 409)
            self._used[nonce] = float(until)
            self._under_way.add(action.target)
        try:
            yield
        finally:
            with self._lock:
                self._under_way.discard(action.target)

    def _signature(self, basis: str, action: Action) -> str:
        # Lengths stand before the texts, so that no two actions are signed alike.
        texts = [basis, action.kind, action.target, action.detail]
        signed = "".join(f"{len(text)}:{text}" for text in texts)
        return hmac.digest(self._secret, signed.encode("utf-8", "surrogatepass"), hashlib.sha256).hex()
