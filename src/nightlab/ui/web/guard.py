"""Access control for the web page: who may open it, and what the browser may do with its content."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    # No external and no inline content: markup in a candidate's text would not be executed.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
OURS = "x-nightlab"  # a header that forms can't send, and other origins' scripts only after a preflight request
KEPT = 30 * 24 * 3600  # lifetime of the token's cookie in seconds


class Guard:
    """Admits requests that name this machine by an address or its own name and, with a ``token``, present it.

    A foreign page can make its host name resolve to this machine (DNS rebinding) and then read as the same origin, so
    other host names are rejected, whatever they resolve to. The token comes in the address once (``/?token=…``), and is
    a cookie from then on.
    """

    def __init__(self, app: ASGIApp, *, token: str = "", names: tuple[str, ...] = ()) -> None:
        self.app, self.token = app, token
        self.names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-cache" if scope["path"].startswith("/page/") else "no-store")
            await send(message)

        answer = self._refusal(scope) or self.app
        await answer(scope, receive, sealed)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        """The response to a request that is rejected, or that has just brought the token."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._ours(host):
            return _no(421, f"{host!r} is no name of this machine: open the address that nightlab serve printed")
        if self.token:
            query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
            cookie = f"nightlab-{_split(host)[1] or 'window'}"  # cookies are shared between ports
            brought = query.pop("token", "")
            if self._is_token(brought) and scope["method"] == "GET":
                target = scope["path"] + (f"?{urlencode(query)}" if query else "")
                welcome = RedirectResponse(f"/{target.lstrip('/')}", 303)
                # Lax, because users follow links from mails or chats.
                welcome.set_cookie(cookie, self.token, max_age=KEPT, httponly=True, samesite="lax")
                return welcome
            if not self._is_token(cookie_parser(headers.get("cookie", "")).get(cookie, "")):
                return _no(401, "this window needs its token: open the whole address that nightlab serve printed")
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get("origin")
            same = origin is None or origin.partition("://")[2] == host
            if not (same and headers.get(OURS) and headers.get("sec-fetch-site", "same-origin") == "same-origin"):
                return _no(403, "only the page itself may do this")
        return None

    def _is_token(self, said: str) -> bool:
        return hmac.compare_digest(said.encode(), self.token.encode())

    def _ours(self, host: str) -> bool:
        name = _split(host)[0]
        return name in self.names or _is_address(name)


def _split(host: str) -> tuple[str, str]:
    """Host name and port of a Host header; an IPv6 address without its brackets."""
    name, colon, port = host.lower().rpartition(":")
    if not colon or port.endswith("]"):
        name, port = host.lower(), ""
    return name.removeprefix("[").removesuffix("]"), port


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _no(status: int, words: str) -> ASGIApp:
    return PlainTextResponse(f"nightlab: {words}\n", status)
