"""How a process is started whose only way to the network is the egress proxy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nightlab.sandbox.bubblewrap import PROXY_SOCKET, interpreter

INNER_PROXY = Path(__file__).with_name("egress_inside.py")
"""The inner half of the proxy, which the process has to be able to read."""


def proxied(argv: list[str], endpoints: Iterable[str] = (), gateway: Iterable[str] = ()) -> list[str]:
    """The command that runs ``argv`` with the inner half beside it. ``gateway``: the variables that name gateways."""
    return [interpreter(), "-P", str(INNER_PROXY), PROXY_SOCKET, ",".join(endpoints), ",".join(gateway), *argv]


def stand_in(variable: str) -> str:
    """What a process gets in place of a key that stays outside its sandbox."""
    return f"nightlab-keeps-{variable}"
