"""Who may ask the page for what, and what browsers may do with the answers."""

import hashlib
import hmac
from collections.abc import Collection
from urllib.parse import parse_qs, quote

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.lineage.web.templating import page

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
LOGIN = "/login"
COOKIE = "longhaul_lineage"
LONGEST_FORM = 4096
OPEN = ("/static/style.css", "/static/theme.js", "/static/icon.svg")
"""What the login form needs, and so has no secrets."""

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
"""No inline script, no inline style, nothing from elsewhere: what slips through escaping can do nothing."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Headers:
    """Puts HEADERS on every answer that does not set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class KnownHost:
    """Answers only to names that are this machine's: a name that an attacker points here (DNS rebinding) is none."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts} | LOOPBACK_HOSTS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(given) == 1 and _without_port(given[0]) in self._hosts:
            await self._app(scope, receive, send)
            return
        known = ", ".join(sorted(self._hosts))
        message = f"This page answers to {known} only. Another name of this machine is given by --allow-host.\n"
        await PlainTextResponse(message, 400)(scope, receive, send)


def _without_port(host: str) -> str:
    name, colon, port = host.strip().lower().rpartition(":")
    return name if colon and port.isdecimal() else host.strip().lower()


class ReadOnly:
    """Refuses every method that could mean a change, except of the login form."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in ("GET", "HEAD") or (scope["method"], scope["path"]) == ("POST", LOGIN):
            await self._app(scope, receive, send)
            return
        await PlainTextResponse("The page is read-only.\n", 405, {"Allow": "GET, HEAD"})(scope, receive, send)


class TokenGate:
    """Lets nobody in without the token, which comes in a header or, from the login form, as a cookie.

    The cookie holds a digest that the token is not known by.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if self._token is None:
            if scope["path"] == LOGIN:
                await RedirectResponse("/", 303)(scope, receive, send)
            else:
                await self._app(scope, receive, send)
        elif request.method == "POST":
            await (await self._login(request, self._token))(scope, receive, send)
        elif scope["path"] in OPEN or self._knows(request, self._token):
            await self._app(scope, receive, send)
        else:
            await self._form(request)(scope, receive, send)

    def _knows(self, request: Request, token: str) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode()):
            return True
        cookie = request.cookies.get(COOKIE, "")
        return hmac.compare_digest(cookie.encode(), _cookie_of(token).encode())

    async def _login(self, request: Request, token: str) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > LONGEST_FORM:
                return PlainTextResponse("The form is too long.\n", 413, {"Connection": "close"})
        form = parse_qs(body.decode("latin-1"))
        given = form.get("token", [""])[0].strip()
        if not hmac.compare_digest(given.encode(), token.encode()):
            return self._form(request, "That is not the token.", to=form.get("to", ["/"])[0])
        answer = RedirectResponse(_local(form.get("to", ["/"])[0]), 303)
        answer.set_cookie(COOKIE, _cookie_of(token), max_age=12 * 3600, httponly=True, samesite="strict", path="/")
        return answer

    def _form(self, request: Request, problem: str = "", to: str | None = None) -> HTMLResponse:
        if to is None:
            path, query = request.scope["path"], request.url.query
            to = "/" if path == LOGIN else quote(path) + (f"?{query}" if query else "")
        back = _local(to)
        headers = {"WWW-Authenticate": "Bearer"}
        return HTMLResponse(page("login.html", problem=problem, to=back, section=""), 401, headers)


def _cookie_of(token: str) -> str:
    return hmac.digest(token.encode(), b"the lineage page's cookie", hashlib.sha256).hex()


def _local(address: str) -> str:
    """An address on this page; where it leads elsewhere, the first page."""
    plain = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if plain else "/"
