"""Serves the web page: a small server in a separate process beside the session's."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Callable
from urllib.parse import quote

import uvicorn
from starlette.types import ASGIApp

from nightlab.core.types import NightlabError
from nightlab.ui.web.app import WebApp, make_app

LOOPBACK = "127.0.0.1"
PORT = 8470
NEXT = 20  # further ports tried when the first is taken


def serve_web(window: WebApp, host: str | None, port: int | None, opened: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; ``opened`` is called with the address once it accepts connections.

    Loopback needs no token. With a ``host`` a token is required even on loopback, as other users may share it.
    """
    token = secrets.token_urlsafe(24) if host else ""
    listening = _listen(host or LOOPBACK, port)
    at = listening.getsockname()[1]
    app = make_app(window, token=token, names=(host,) if host else ())
    opened(f"http://{_named(host or LOOPBACK)}:{at}/{f'?token={quote(token)}' if token else ''}")
    server(app).run([listening])


def server(app: ASGIApp) -> uvicorn.Server:
    """The server: silent, and closed within a second when stopped, even with open connections."""
    config = uvicorn.Config(
        app, access_log=False, log_level="critical", server_header=False, timeout_graceful_shutdown=1,
        timeout_keep_alive=60,
    )  # fmt: skip
    return uvicorn.Server(config)


def _listen(host: str, port: int | None) -> socket.socket:
    """A listening socket, at the next free port if none was requested."""
    tried = [port] if port is not None else [*range(PORT, PORT + NEXT), 0]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in tried:
        try:
            return socket.create_server((host, number), family=family)
        except OSError as error:
            fault = error
    hint = f"choose another: nightlab serve --port {tried[0] + 1}" if port else "choose another: nightlab serve --host"
    raise NightlabError(f"can't listen at {host}, port {tried[0]}: {fault.strerror or fault}", hint)


def _named(host: str) -> str:
    """The host in a form that a browser can open; for all interfaces, this machine's name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return socket.gethostname()
    return f"[{host}]" if address.version == 6 else host
