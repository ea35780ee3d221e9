"""Who may request which page, and what browsers may do with the responses."""

import hashlib
import hmac
from collections.abc import Collection
from urllib.parse import parse_qs, quote, unquote

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.lineage.web.templating import page

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
LOGIN = "/login"
ACTIONS = "/actions"
COOKIE = "longhaul_lineage"
LONGEST_FORM = 4096
PUBLIC = ("/static/style.css", "/static/theme.js", "/static/icon.svg")
"""Files that the login form needs; they have no secrets."""

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
"""No inline script, no inline style, nothing from other origins: markup that slips through escaping can do nothing."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Headers:
    """Adds HEADERS to every response that does not set them itself."""

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


class AllowedHosts:
    """Responds only to this machine's names: one that an attacker points here (DNS rebinding) is refused."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts} | LOOPBACK_HOSTS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        names = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(names) == 1 and _without_port(names[0]) in self._hosts:
            await self._app(scope, receive, send)
            return
        known = ", ".join(sorted(self._hosts))
        message = f"This page responds to {known} only. --allow-host allows another name of this machine.\n"
        await PlainTextResponse(message, 400)(scope, receive, send)


def _without_port(host: str) -> str:
    name, colon, port = host.strip().lower().rpartition(":")
    return name if colon and port.isdecimal() else host.strip().lower()


class ReadOnly:
    """Refuses every method that could change something, except for the login form and, where they are allowed, for
    confirmed actions."""

    def __init__(self, app: ASGIApp, actions: bool = False) -> None:
        self._app = app
        self._forms = {LOGIN, ACTIONS} if actions else {LOGIN}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in ("GET", "HEAD") or (scope["method"] == "POST" and scope["path"] in self._forms):
            await self._app(scope, receive, send)
            return
        await PlainTextResponse("The page is read-only.\n", 405, {"Allow": "GET, HEAD"})(scope, receive, send)


class TokenGate:
    """Admits only visitors with the token, which comes in a header or, from the login form, as a cookie.

    The cookie has a digest, which does not disclose the token.
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
        elif request.method == "POST" and scope["path"] == LOGIN:
            await (await self._login(request, self._token))(scope, receive, send)
        elif scope["path"] in PUBLIC or self._has_token(request, self._token):
            await self._app(scope, receive, send)
        elif request.method == "POST":
            refusal = PlainTextResponse("This needs the token: log in again.\n", 401, {"WWW-Authenticate": "Bearer"})
            await refusal(scope, receive, send)
        else:
            await self._form(request)(scope, receive, send)

    def _has_token(self, request: Request, token: str) -> bool:
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(credentials.strip().encode(), token.encode()):
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
        entered = form.get("token", [""])[0].strip()
        if not hmac.compare_digest(entered.encode(), token.encode()):
            return self._form(request, "This is not the token.", to=form.get("to", ["/"])[0])
        response = RedirectResponse(_local(form.get("to", ["/"])[0]), 303)
        response.set_cookie(COOKIE, _cookie_of(token), max_age=12 * 3600, httponly=True, samesite="strict", path="/")
        return response

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
    """An address on this page; for any other, that of the first page."""
    # Also as whoever decodes it reads it: behind an escaped tab, a second slash would begin another host.
    forms = (address, unquote(address.partition("?")[0]))
    local = all(form.startswith("/") and not form.startswith(("//", "/\\")) and form.isprintable() for form in forms)
    return address if local else "/"
