"""The one door in a wall: a process with no network reaches the endpoints that it is allowed, and nothing else.

Two halves in one file. Outside, a proxy listens on a socket in the file system and connects to what is on its list
(HTTP's CONNECT, and plain requests with an absolute address). Inside, where that socket is mounted, this file is run
by its path, before the program: it listens on a loopback of the sandbox's own, hands all on to the socket, and tells
the program by HTTP_PROXY and its like. An endpoint on the machine's loopback is found at its own port too, so
programs that know no proxies reach a local model. Standard library only: it runs where nightlab can't be imported.
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
PATIENCE = 30.0  # seconds for a request's head, and for connecting
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ProxyRefused(Exception):
    """A request that is not let through."""


def address(endpoint: str, port: int | None = None) -> tuple[str, int]:
    """``host:port`` taken apart, in the one form in which endpoints are compared. Raises ValueError for all else."""
    parts = urlsplit(f"//{endpoint}")
    number = parts.port or port
    if not parts.hostname or not number or parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"{endpoint!r} is no host:port such as 'api.anthropic.com:443'")
    return parts.hostname.rstrip("."), number


class EgressProxy:
    """The outer half: a proxy on a Unix socket, in a thread of its own, that lives no longer than its process."""

    def __init__(self, path: Path, endpoints: Iterable[str]) -> None:
        """Listen, so that the socket can be mounted; nothing is answered before ``open``."""
        self.allowed = {address(endpoint) for endpoint in endpoints}
        self.refused: list[str] = []
        """What else was asked for, the first few: names that the program chose."""
        self._open = 0
        self._socket = socket.socket(socket.AF_UNIX)
        # An address has 107 bytes, a path may have more. The folder stays open: asyncio looks at the address again.
        self._folder = os.open(path.parent, os.O_PATH)
        self._socket.bind(f"/proc/self/fd/{self._folder}/{path.name}")
        path.chmod(0o666)  # whom it is mounted for may be nobody
        self._socket.listen(MOST_CONNECTIONS)

    def open(self) -> None:
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()

    async def _serve(self) -> None:
        async with await asyncio.start_unix_server(self._one, sock=self._socket, limit=MOST_HEAD) as server:
            await server.serve_forever()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= MOST_CONNECTIONS:
            writer.close()
            return
        self._open += 1
        try:
            await self._answer(reader, writer)
        finally:
            self._open -= 1

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            to, forward = self._wanted(head.decode("latin-1"))
            outside = await asyncio.wait_for(asyncio.open_connection(*to), PATIENCE)
        except ProxyRefused as refusal:
            await _farewell(writer, "403 Forbidden", str(refusal))
        except ValueError:
            await _farewell(writer, "400 Bad Request", "nightlab: this is no request to a proxy")
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            await _farewell(writer, "502 Bad Gateway", f"nightlab: {type(error).__name__} {error}")
        else:
            if forward:
                outside[1].write(forward)
            else:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await join((reader, writer), outside)

    def _wanted(self, head: str) -> tuple[tuple[str, int], bytes]:
        """Where a request goes, and what is sent there first: nothing after a CONNECT."""
        line, *headers = head.removesuffix("\r\n\r\n").split("\r\n")
        method, target, version = line.split(" ")
        if method == "CONNECT":
            self._check(to := address(target))
            return to, b""
        url = urlsplit(target)
        if url.scheme != "http":
            raise ValueError(target)
        self._check(to := address(url.netloc, 80))
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        # One request each connection: the next one may be for another place, and is looked at anew.
        own = [each for each in headers if each.split(":")[0].lower() not in ("connection", "proxy-connection")]
        lines = [f"{method} {path} {version}", *own, "Connection: close", "", ""]
        return to, "\r\n".join(lines).encode("latin-1")

    def _check(self, to: tuple[str, int]) -> None:
        if to not in self.allowed:
            name = f"{to[0][:100]}:{to[1]}"
            if name not in self.refused and len(self.refused) < MOST_REFUSED:
                self.refused.append(name)
            raise ProxyRefused(f"nightlab: {name} is not among this proposer's endpoints in lab.toml")


async def _farewell(writer: asyncio.StreamWriter, status: str, why: str) -> None:
    body = f"{why}\n".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with contextlib.suppress(OSError):
        writer.write(head.encode() + body)
        await writer.drain()
    writer.close()


async def join(one: Streams, other: Streams) -> None:
    """Hand on what either side says until both have ended, or one is lost."""

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


def _through(door: str, endpoint: str = "") -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """What is done with each connection: handed on as it is, or to the endpoint whose port it came to."""

    async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            outside = await asyncio.open_unix_connection(door)
            if endpoint:
                outside[1].write(f"CONNECT {endpoint} HTTP/1.1\r\n\r\n".encode())
                if b" 200 " not in await outside[0].readuntil(b"\r\n\r\n"):
                    raise ConnectionError(endpoint)
        except (OSError, asyncio.IncompleteReadError):
            writer.close()
        else:
            await join((reader, writer), outside)

    return hand_on


async def run(door: str, endpoints: list[str], argv: list[str]) -> int:
    """Run a program beside the door's inner half; returns its exit status."""
    proxy = await asyncio.start_server(_through(door), "127.0.0.1", 0)
    for endpoint in endpoints:
        host, port = address(endpoint)
        if host in LOOPBACK:
            with contextlib.suppress(OSError):  # a port of the system's: the proxy leads there too
                at = "127.0.0.1" if host == "localhost" else host
                await asyncio.start_server(_through(door, endpoint), at, port)
    url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    told = {spelled: url for name in names for spelled in (name, name.lower())}
    told |= {name: ",".join(LOOPBACK) for name in ("NO_PROXY", "no_proxy")}
    # Node looks at these since versions 22.21 and 24 only when it is told to.
    program = await asyncio.create_subprocess_exec(*argv, env={**os.environ, **told, "NODE_USE_ENV_PROXY": "1"})
    return await program.wait()


def main() -> None:
    door, endpoints, *argv = sys.argv[1:]
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # the program's output is its own: what it says last has a meaning
    try:
        status = loop.run_until_complete(run(door, endpoints.split(","), argv))
    except OSError as error:
        print(f"{argv[0]} could not be started: {error}", flush=True)
        status = 127
    sys.stdout.flush()
    os._exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
