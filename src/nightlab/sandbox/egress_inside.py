"""The inner half of the egress proxy: executed by its path inside the sandbox, where it starts the program.

It listens on the sandbox's loopback, forwards every connection to the proxy's socket, which is mounted there, and sets
HTTP_PROXY and the related variables. An endpoint on the machine's loopback is forwarded at its own port as well, for
programs without proxy support. A variable that names a gateway is set to its path on this port.
Standard library only, because nightlab cannot be imported inside the sandbox.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")
GATEWAY = "/nightlab-gateway"  # the path below which the proxy's gateways are
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def parse_endpoint(endpoint: str, port: int | None = None) -> tuple[str, int]:
    """Split ``host:port`` into its normalised parts. Raises ValueError for anything else."""
    parts = urlsplit(f"//{endpoint}")
    number = parts.port or port
    if not parts.hostname or not number or parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"{endpoint!r} is no host:port such as 'api.anthropic.com:443'")
    return parts.hostname.rstrip("."), number


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


async def run_with_proxy(proxy_socket: str, endpoints: list[str], gateways: list[str], argv: list[str]) -> int:
    """Run a program with the inner half beside it; returns its exit status."""
    proxy = await asyncio.start_server(_forwarder(proxy_socket), "127.0.0.1", 0)
    for endpoint in filter(None, endpoints):
        host, port = parse_endpoint(endpoint)
        if host in LOOPBACK:
            with contextlib.suppress(OSError):  # a privileged port; the endpoint is still reachable through the proxy
                at = "127.0.0.1" if host == "localhost" else host
                await asyncio.start_server(_forwarder(proxy_socket, endpoint), at, port)
    url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    told = {spelled: url for name in names for spelled in (name, name.lower())}
    told |= {name: ",".join(LOOPBACK) for name in ("NO_PROXY", "no_proxy")}
    told |= {variable: f"{url}{GATEWAY}/{number}" for number, variable in enumerate(filter(None, gateways))}
    # Node (from 22.21 and 24 on) reads these variables only when NODE_USE_ENV_PROXY is set.
    program = await asyncio.create_subprocess_exec(*argv, env={**os.environ, **told, "NODE_USE_ENV_PROXY": "1"})
    return await program.wait()


def proxy_main() -> None:
    proxy_socket, endpoints, gateways, *argv = sys.argv[1:]
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # print nothing: the end of the program's output is read by nightlab
    try:
        status = loop.run_until_complete(run_with_proxy(proxy_socket, endpoints.split(","), gateways.split(","), argv))
    except OSError as error:
        print(f"{argv[0]} could not be started: {error}", flush=True)
        status = 127
    sys.stdout.flush()
    os._exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    proxy_main()
