"""Connections to endpoints, through the proxy that this machine uses where it names one."""

from __future__ import annotations

import asyncio
import base64
import ssl
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from nightlab.sandbox.egress_inside import LOOPBACK
from nightlab.sandbox.http_stream import Streams, read_head

PATIENCE = 30.0  # seconds to wait for a connection


async def connect(to: tuple[str, int], *, tls: bool = False, loopback: bool = True) -> Streams:
    """A connection to a host and port, checked against the system's certificate authorities with ``tls``.

    Raises OSError (ssl.SSLError included) where there is none, naming the proxy in between if that refused; and
    without ``loopback`` where the host turns out to be this machine.
    """
    streams = await asyncio.wait_for(_connect(to, tls=tls), PATIENCE)
    if not loopback and not _proxy_for(to) and ip_address(streams[1].get_extra_info("peername")[0]).is_loopback:
        streams[1].close()
        raise PermissionError("it is on this machine, and not among this proposer's endpoints in lab.toml")
    return streams


async def _connect(to: tuple[str, int], *, tls: bool) -> Streams:
    proxy = _proxy_for(to)
    if not proxy:
        return await asyncio.open_connection(*to, ssl=_tls() if tls else None)
    url = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    streams = await asyncio.open_connection(url.hostname, url.port or 80)
    name = f"{to[0]}:{to[1]}"
    user = f"{unquote(url.username)}:{unquote(url.password or '')}" if url.username else ""
    login = f"Proxy-Authorization: Basic {base64.b64encode(user.encode()).decode()}\r\n" if user else ""
    streams[1].write(f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n{login}\r\n".encode())
    if (head := await read_head(streams[0])).status != 200:
        streams[1].close()
        raise ConnectionError(f"the proxy {url.hostname}:{url.port} does not let it through to {name}: {head.first}")
    if tls:
        await streams[1].start_tls(_tls(), server_hostname=to[0])
    return streams


def _tls() -> ssl.SSLContext:
    """Checks certificates, and says that HTTP/1.1 is what is spoken: an endpoint without it refuses at once."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _proxy_for(to: tuple[str, int]) -> str:
    """The proxy that the environment names for an endpoint; none for this machine's own."""
    if to[0] in LOOPBACK or proxy_bypass(to[0]):
        return ""
    named = getproxies_environment()
    order = ("http", "all") if to[1] == 80 else ("https", "all")
    return next((named[kind] for kind in order if named.get(kind)), "")
