"""A proxy through which a sandboxed process without a network reaches a few allowed endpoints, and nothing else.

Two halves in one file. Outside the sandbox, a proxy listens on a Unix socket and connects to allowed endpoints (HTTP
CONNECT, and plain HTTP requests with an absolute URL). Inside, where that socket is mounted, this file is executed by
its path and starts the program: it listens on the sandbox's loopback, forwards every connection to the socket, and
sets HTTP_PROXY and the related variables. An endpoint on the machine's loopback is forwarded at its own port as well,
so that programs without proxy support reach a local model. Standard library only, because nightlab cannot be imported
inside the sandbox.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_CONNECTIONS, MOST_HEAD, MOST_REFUSED = 128, 65536, 5
PATIENCE = 30.0  # seconds to wait for a request's head, and for a connection
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ProxyRefused(Exception):
    """A request to an endpoint that is not allowed."""


def parse_endpoint(endpoint: str, port: int | None = None) -> tuple[str, int]:
    """Split ``host:port`` into its normalised parts. Raises ValueError for anything else."""
    parts = urlsplit(f"//{endpoint}")
    number = parts.port or port
    if not parts.hostname or not number or parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"{endpoint!r} is no host:port such as 'api.anthropic.com:443'")
    return parts.hostname.rstrip("."), number


class EgressProxy:
    """The outer half: a proxy on a Unix socket, served by a daemon thread."""

    def __init__(self, path: Path, endpoints: Iterable[str]) -> None:
        """Listen, so that the socket can be mounted; requests are answered only after ``open``."""
        self.allowed = {parse_endpoint(endpoint) for endpoint in endpoints}
        self.refused: list[str] = []
        """The first few endpoints that were refused, as the program named them."""
        self._open = 0
        self._socket = socket.socket(socket.AF_UNIX)
        # A socket address has at most 107 bytes, a path more. The folder stays open: asyncio looks it up again.
        self._folder = os.open(path.parent, os.O_PATH)
        self._socket.bind(f"/proc/self/fd/{self._folder}/{path.name}")
        path.chmod(0o666)  # the sandboxed process may run as `nobody`
        self._socket.listen(MOST_CONNECTIONS)

    def open(self) -> None:
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()

    async def _serve(self) -> None:
        async with await asyncio.start_unix_server(self._connection, sock=self._socket, limit=MOST_HEAD) as server:
            await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= MOST_CONNECTIONS:
            writer.close()
            return
        self._open += 1
        try:
            await self._handle(reader, writer)
        finally:
            self._open -= 1

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            to, forward = self._parse_head(head.decode("latin-1"))
            outside = await asyncio.wait_for(asyncio.open_connection(*to), PATIENCE)
        except ProxyRefused as refusal:
            await _send_error(writer, "403 Forbidden", str(refusal))
        except ValueError:
            await _send_error(writer, "400 Bad Request", "nightlab: not a proxy request")
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            await _send_error(writer, "502 Bad Gateway", f"nightlab: {type(error).__name__} {error}")
        else:
            if forward:
                outside[1].write(forward)
            else:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await relay((reader, writer), outside)

    def _parse_head(self, head: str) -> tuple[tuple[str, int], bytes]:
        """The endpoint that a request is for, and what to send there first: nothing for a CONNECT."""
        line, *headers = head.removesuffix("\r\n\r\n").split("\r\n")
        method, target, version = line.split(" ")
        if method == "CONNECT":
            self._check(to := parse_endpoint(target))
            return to, b""
        url = urlsplit(target)
        if url.scheme != "http":
            raise ValueError(target)
        self._check(to := parse_endpoint(url.netloc, 80))
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        # One request per connection, because the next one may be for another endpoint and has to be checked too.
        own = [each for each in headers if each.split(":")[0].lower() not in ("connection", "proxy-connection")]
        lines = [f"{method} {path} {version}", *own, "Connection: close", "", ""]
        return to, "\r\n".join(lines).encode("latin-1")

    def _check(self, to: tuple[str, int]) -> None:
        if to not in self.allowed:
            name = f"{to[0][:100]}:{to[1]}"
            if name not in self.refused and len(self.refused) < MOST_REFUSED:
                self.refused.append(name)
            raise ProxyRefused(f"nightlab: {name} is not among this proposer's endpoints in lab.toml")


async def _send_error(writer: asyncio.StreamWriter, status: str, why: str) -> None:
    body = f"{why}\n".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with contextlib.suppress(OSError):
        writer.write(head.encode() + body)
        await writer.drain()
    writer.close()


async def relay(one: Streams, other: Streams) -> None:
    """Copy data in both directions until both sides have ended or one is lost."""

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
            writer.write_eof()
            return
        for lost in (one[1], other[1]):
            lost.close()

    await asyncio.gather(pour(one[0], other[1]), pour(other[0], one[1]))
    for _, writer in (one, other):
        writer.close()


# -- inside ------------------------------------------------------------------------------------------


def _forwarder(
    proxy_socket: str, endpoint: str = ""
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """A connection handler that forwards to the proxy socket, or through it to ``endpoint``."""

    async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            outside = await asyncio.open_unix_connection(proxy_socket)
            if endpoint:
                outside[1].write(f"CONNECT {endpoint} HTTP/1.1\r\n\r\n".encode())
                if b" 200 " not in await outside[0].readuntil(b"\r\n\r\n"):
                    raise ConnectionError(endpoint)
        except (OSError, asyncio.IncompleteReadError):
            writer.close()
        else:
            await relay((reader, writer), outside)

    return hand_on


async def run_with_proxy(proxy_socket: str, endpoints: list[str], argv: list[str]) -> int:
    """Run a program with the inner half beside it; returns its exit status."""
    proxy = await asyncio.start_server(_forwarder(proxy_socket), "127.0.0.1", 0)
    for endpoint in endpoints:
        host, port = parse_endpoint(endpoint)
        if host in LOOPBACK:
            with contextlib.suppress(OSError):  # a privileged port; the endpoint is still reachable through the proxy
                at = "127.0.0.1" if host == "localhost" else host
                await asyncio.start_server(_forwarder(proxy_socket, endpoint), at, port)
    url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    told = {spelled: url for name in names for spelled in (name, name.lower())}
    told |= {name: ",".join(LOOPBACK) for name in ("NO_PROXY", "no_proxy")}
    # Node (from 22.21 and 24 on) reads these variables only when NODE_USE_ENV_PROXY is set.
    program = await asyncio.create_subprocess_exec(*argv, env={**os.environ, **told, "NODE_USE_ENV_PROXY": "1"})
    return await program.wait()


def proxy_main() -> None:
    proxy_socket, endpoints, *argv = sys.argv[1:]
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # print nothing: the end of the program's output is read by nightlab
    try:
        status = loop.run_until_complete(run_with_proxy(proxy_socket, endpoints.split(","), argv))
    except OSError as error:
        print(f"{argv[0]} could not be started: {error}", flush=True)
        status = 127
    sys.stdout.flush()
    os._exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    proxy_main()
