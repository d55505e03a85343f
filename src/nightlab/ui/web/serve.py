"""Opens the window: a small server in a process of its own, beside the one that runs the session."""

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
NEXT = 20  # ports that are tried when the first is taken


def serve_web(window: WebApp, host: str | None, port: int | None, opened: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; ``opened`` is told the address once it can be opened.

    Loopback needs no token. Whoever names a ``host`` gets one, also for loopback: others use the machine too.
    """
    token = secrets.token_urlsafe(24) if host else ""
    listening = _listen(host or LOOPBACK, port)
    at = listening.getsockname()[1]
    app = make_app(window, token=token, names=(host,) if host else ())
    opened(f"http://{_named(host or LOOPBACK)}:{at}/{f'?token={quote(token)}' if token else ''}")
    server(app).run([listening])


def server(app: ASGIApp) -> uvicorn.Server:
    """The server for a window: silent, and gone a second after it is asked to, whoever still listens."""
    config = uvicorn.Config(
        app, access_log=False, log_level="critical", server_header=False, timeout_graceful_shutdown=1,
        timeout_keep_alive=60,
    )  # fmt: skip
    return uvicorn.Server(config)


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens, at the next free port where none was asked for."""
    tried = [port] if port is not None else [*range(PORT, PORT + NEXT), 0]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in tried:
        try:
            return socket.create_server((host, number), family=family)
        except OSError as error:
            fault = error
    hint = f"choose another: nightlab serve --port {tried[0] + 1}" if port else "choose another: nightlab serve --host"
    raise NightlabError(f"{host}, port {tried[0]} can't be listened at: {fault.strerror or fault}", hint)


def _named(host: str) -> str:
    """The host as part of an address that a browser can open; all of them is this machine, by its name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return socket.gethostname()
    return f"[{host}]" if address.version == 6 else host
