"""A proxy through which a proposer reaches its allowed endpoints, or any; it counts what passes.

Listens on a Unix socket that is mounted into the sandbox (where ``egress_inside`` leads to it), or on this machine's
loopback, and connects to allowed endpoints: HTTP CONNECT, plain HTTP requests with an absolute URL, and requests to a
gateway, which is a path that stands for an endpoint's URL. Every connection that is not TLS carries one request and its
answer, which is read as it passes. A gateway speaks TLS to its endpoint and adds the keys, which the sandbox never
holds; so it can read the answers, which is not possible in a tunnel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nightlab.sandbox.answers import AnswerReader, has_tools, is_model_request
from nightlab.sandbox.egress_inside import GATEWAY, parse_endpoint
from nightlab.sandbox.http_stream import MOST_BODY, PIECE, Decoder, Head, Streams, body_pieces, parse_head, read_head
from nightlab.sandbox.traffic import Traffic, TrafficCaps, TurnEnded
from nightlab.sandbox.upstream import connect

MOST_CONNECTIONS, MOST_HEAD, MOST_REFUSED = 128, 65536, 5
PATIENCE = 30.0  # seconds to wait for a request's head, and for a connection
BURST = 200  # bytes that a program sends after an answer and that look like another request inside TLS
COUNTING = ("/count_tokens", ":countTokens")  # ends of paths that only count, and bill nothing
SPOKEN = b"HTTP/1."
LOST = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError)  # what reading a connection raises
Connect = Callable[[], Awaitable[Streams]]


class ProxyRefused(Exception):
    """A request to an endpoint that is not allowed."""


class ClientGone(Exception):
    """The program went away before the end of an answer."""


class Gateway:
    """A path of the proxy that stands for the URL of an endpoint."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.tls, self.path = parts.scheme == "https", parts.path.rstrip("/")
        self.to = parse_endpoint(parts.netloc, 443 if self.tls else 80)
        self.host = parts.netloc


class EgressProxy:
    """The proxy of one turn, served by a daemon thread. ``traffic`` is what passed."""

    def __init__(
        self,
        listening: socket.socket,
        endpoints: Iterable[str],
        gateways: Iterable[str] = (),
        keys: Mapping[str, str] | None = None,
        caps: TrafficCaps | None = None,
        route: str = GATEWAY,
    ) -> None:
        """``keys``: what stands for a key in a request to a gateway, and the key. Answers only after ``open``.

        Without endpoints and gateways it connects to any endpoint that is not on this machine's loopback.
        """
        self.allowed = {parse_endpoint(endpoint) for endpoint in endpoints}
        self.gateways, self.keys, self.route = [Gateway(url) for url in gateways], dict(keys or {}), route
        self.anywhere = not self.allowed and not self.gateways
        self.traffic = Traffic(caps or TrafficCaps())
        self.refused: list[str] = []
        """The first few endpoints that were refused, as the program named them."""
        self._count = 0
        self._socket = listening
        self._serving = threading.Event()

    def open(self) -> None:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self._serving.wait()

    def close(self) -> None:
        """End all connections and stop listening."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(lambda *_: None)
        listen = asyncio.start_server if self._socket.family == socket.AF_INET else asyncio.start_unix_server
        server = await listen(self._connection, sock=self._socket, limit=MOST_HEAD)
        self._serving.set()
        await self._stop.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._count >= MOST_CONNECTIONS:
            writer.close()
            return
        self._count += 1
        try:
            await self._handle((reader, writer))
        finally:
            self._count -= 1
            writer.close()

    async def _handle(self, client: Streams) -> None:
        try:
            head = await asyncio.wait_for(read_head(client[0]), PATIENCE)
            method, target, _ = head.first.split(" ")
            if method == "CONNECT":
                await self._tunnel(client, target)
            elif target.startswith(f"{self.route}/"):
                await self._to_gateway(client, head, method, target.removeprefix(f"{self.route}/"))
            else:
                await self._plain(client, head, method, target)
        except ProxyRefused as refusal:
            await _send_error(client[1], "403 Forbidden", str(refusal))
        except TurnEnded as end:
            await _send_error(client[1], "403 Forbidden", f"nightlab ends this turn: {end}")
        except ValueError:
            await _send_error(client[1], "400 Bad Request", "nightlab: not a proxy request")
        except ClientGone:
            client[1].transport.abort()
        except LOST as error:
            await _send_error(client[1], "502 Bad Gateway", f"nightlab: {type(error).__name__} {error}")

    async def _tunnel(self, client: Streams, target: str) -> None:
        """A connection to an endpoint: plain HTTP in it is read like any other, anything else is only counted."""
        self._check(to := parse_endpoint(target))
        self.traffic.check()
        outside = await self._connected(_name(to), lambda: connect(to, loopback=not self.anywhere))
        client[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            ours, theirs = asyncio.ensure_future(client[0].read(1)), asyncio.ensure_future(outside[0].read(1))
            await asyncio.wait((ours, theirs), return_when=asyncio.FIRST_COMPLETED)
            if theirs.done() or not (first := ours.result()).isalpha():
                await self._sealed(client, outside, ours, theirs)
                return
            raw = first + await client[0].readuntil(b"\r\n\r\n")
            if raw.startswith(b"PRI * HTTP/2"):
                ours = asyncio.ensure_future(_give(raw))
                await self._sealed(client, outside, ours, theirs)
                return
            theirs.cancel()
            await asyncio.gather(theirs, return_exceptions=True)
            await self._exchange(client, parse_head(raw), _name(to), lambda: _give(outside))
        finally:
            outside[1].close()

    async def _plain(self, client: Streams, head: Head, method: str, target: str) -> None:
        url = urlsplit(target)
        if url.scheme != "http":
            raise ValueError(target)
        self._check(to := parse_endpoint(url.netloc, 80))
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        head.first = f"{method} {path} HTTP/1.1"
        await self._exchange(client, head, _name(to), lambda: connect(to, loopback=not self.anywhere))

    async def _to_gateway(self, client: Streams, head: Head, method: str, target: str) -> None:
        number, _, path = target.partition("/")
        if not number.isdecimal() or int(number) >= len(self.gateways):
            raise ValueError(target)
        gateway = self.gateways[int(number)]
        head.first = f"{method} {gateway.path}/{path} HTTP/1.1"
        head.set("host", gateway.host)
        for stands, key in self.keys.items():
            head.first = head.first.replace(stands, key)
            head.fields = [(name, value.replace(stands, key)) for name, value in head.fields]
        await self._exchange(client, head, _name(gateway.to), lambda: connect(gateway.to, tls=gateway.tls))

    async def _exchange(self, client: Streams, head: Head, endpoint: str, connecting: Connect) -> None:
        """One request and its answer. A connection carries no second one, because that could be for another place."""
        reader, writer = client
        for name in ("proxy-connection", "proxy-authorization", "keep-alive"):
            head.set(name, "")
        head.set("connection", "close")
        if head.get("accept-encoding"):
            head.set("accept-encoding", "gzip")  # what can be read as it passes
        if head.get("expect"):
            head.set("expect", "")
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        wire, content = b"", b""
        async for piece, part in body_pieces(reader, head, request=True):
            wire, content = wire + piece, content + part
            if len(content) > MOST_BODY:
                raise ValueError("a request that is too large")
        method, path, _ = head.first.split(" ")
        counting = path.split("?")[0].endswith(COUNTING)
        said = None if counting or method != "POST" else is_model_request(content)
        while said and (wait := self.traffic.wait(endpoint)):
            self.traffic.check()
            await asyncio.sleep(min(wait, 1.0))
        self.traffic.admit(said)
        self.traffic.pending.append(endpoint)
        try:
            outside = await self._connected(endpoint, connecting)
            try:
                outside[1].write(raw := head.encode() + wire)
                self.traffic.sent += len(raw)
                answer = AnswerReader() if said else None
                await self._answer(writer, outside, endpoint, answer, tools=has_tools(content), method=method)
            finally:
                outside[1].close()
        finally:
            self.traffic.pending.remove(endpoint)

    async def _connected(self, endpoint: str, connecting: Connect) -> Streams:
        try:
            return await connecting()
        except LOST as error:
            self.traffic.failed(endpoint, f"it can't be reached: {_why(error)}")
            raise ConnectionError(_why(error)) from error

    async def _answer(
        self,
        writer: asyncio.StreamWriter,
        outside: Streams,
        endpoint: str,
        answer: AnswerReader | None,
        *,
        tools: bool,
        method: str,
    ) -> None:
        """Pass an answer on, and read it where it is a model's."""
        head = await self._head(outside[0], endpoint)
        after, decoder = _seconds(head.get("retry-after")), Decoder(head.get("content-encoding"))
        for name in ("keep-alive", "proxy-connection"):
            head.set(name, "")
        head.set("connection", "close")
        pieces = body_pieces(outside[0], head, request=method == "HEAD" or head.status in (204, 304))
        held = head.encode()  # the end passes when the answer is counted, an error as a whole: its reader may ask again
        try:
            async for wire, content in pieces:
                self.traffic.received += len(wire)
                if answer:
                    answer.feed(decoder.feed(content))
                if head.status < 400 or len(held) > MOST_HEAD:
                    await _give_on(writer, held)
                    held = b""
                held += wire
                self.traffic.check()
        except (*LOST, ClientGone, TurnEnded, asyncio.CancelledError) as end:
            if answer:
                answer.end()
                lost = isinstance(end, LOST)
                self.traffic.broke_off(endpoint, answer, tools=tools, why="its answer broke off" if lost else "")
            writer.transport.abort()
            if isinstance(end, asyncio.CancelledError):
                raise
            return
        if answer:
            answer.end()
            self.traffic.answered(endpoint, head.status, after, answer, tools=tools)
        await _give_on(writer, held)

    async def _head(self, outside: asyncio.StreamReader, endpoint: str) -> Head:
        """The head of an answer; those of status 1xx before it are passed over."""
        try:
            first = await outside.readexactly(len(SPOKEN))
        except (OSError, asyncio.IncompleteReadError) as error:
            self.traffic.failed(endpoint, why := "it disconnected without an answer")
            raise ConnectionError(why) from error
        if first != SPOKEN:
            self.traffic.failed(endpoint, "it does not answer in HTTP/1.1")
            raise ConnectionError("no answer in HTTP/1.1")
        try:
            head = parse_head(first + await outside.readuntil(b"\r\n\r\n"))
            while 100 <= head.status < 200:
                head = await read_head(outside)
        except LOST as error:
            self.traffic.failed(endpoint, "its answer broke off")
            raise ConnectionError("the answer broke off") from error
        return head

    async def _sealed(
        self, client: Streams, outside: Streams, ours: asyncio.Future[bytes], theirs: asyncio.Future[bytes]
    ) -> None:
        """Copy data both ways until both sides have ended; what is in it can't be known, so bytes are counted."""
        self.traffic.sealed += 1
        heard = [False]

        def sent(size: int) -> None:
            self.traffic.sent += size
            if heard[0] and size > BURST:
                heard[0] = False
                self.traffic.admit(None)

        def received(size: int) -> None:
            self.traffic.received += size
            heard[0] = True
            self.traffic.check()

        async def pour(
            first: asyncio.Future[bytes], one: Streams, other: Streams, count: Callable[[int], None]
        ) -> None:
            with contextlib.suppress(OSError, TurnEnded):
                piece = await first
                while piece:
                    count(len(piece))
                    other[1].write(piece)
                    await other[1].drain()
                    piece = await one[0].read(PIECE)
                other[1].write_eof()
                return
            for lost in (one[1], other[1]):
                lost.close()

        await asyncio.gather(pour(ours, client, outside, sent), pour(theirs, outside, client, received))

    def _check(self, to: tuple[str, int]) -> None:
        if not self.anywhere and to not in self.allowed:
            name = f"{to[0][:100]}:{to[1]}"
            if name not in self.refused and len(self.refused) < MOST_REFUSED:
                self.refused.append(name)
            raise ProxyRefused(f"nightlab: {name} is not among this proposer's endpoints in lab.toml")


def unix_socket(path: Path) -> socket.socket:
    """A listening socket at a path that may be longer than a socket's address, 107 bytes."""
    listening = socket.socket(socket.AF_UNIX)
    folder = os.open(path.parent, os.O_PATH)  # stays open: asyncio looks the address up again
    listening.bind(f"/proc/self/fd/{folder}/{path.name}")
    path.chmod(0o666)  # the sandboxed process may run as `nobody`
    listening.listen(MOST_CONNECTIONS)
    return listening


def loopback_socket() -> socket.socket:
    """A listening socket on this machine's loopback, at a free port."""
    return socket.create_server(("127.0.0.1", 0))


def _name(to: tuple[str, int]) -> str:
    return f"{to[0]}:{to[1]}"


async def _give(value: Any) -> Any:
    return value


async def _give_on(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write to the program. Raises ClientGone if it is not there any more."""
    try:
        writer.write(data)
        await writer.drain()
    except OSError:
        raise ClientGone from None


def _why(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    if isinstance(error, asyncio.IncompleteReadError):
        return "it disconnected"
    return f"{getattr(error, 'strerror', '') or error or type(error).__name__}"


def _seconds(retry_after: str) -> float:
    """Seconds of a Retry-After field: a number, or a date; 0 for none."""
    with contextlib.suppress(ValueError):
        return max(float(retry_after), 0.0)
    from email.utils import parsedate_to_datetime
    from time import time

    with contextlib.suppress(ValueError, TypeError):
        return max(parsedate_to_datetime(retry_after).timestamp() - time(), 0.0)
    return 0.0


async def _send_error(writer: asyncio.StreamWriter, status: str, why: str) -> None:
    body = f"{why}\n".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with contextlib.suppress(OSError):
        writer.write(head.encode() + body)
        await writer.drain()
