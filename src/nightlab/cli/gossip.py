"""Live gossip with other peers."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from nightlab.cli.app import app, say
from nightlab.core.text import counted

LOOPBACK = "tcp/127.0.0.1:0"
LOOK = 0.5  # seconds between looks at what came


@app.command(
    epilog="Examples:  nightlab gossip --listen tcp/192.168.1.7:7447   ·   "
    "nightlab gossip --listen tcp/192.168.1.8:7447 --connect tcp/192.168.1.7:7447"
)
def gossip(
    listen: Annotated[
        list[str],
        typer.Option(
            metavar="ENDPOINT",
            help="Address on which peers reach this one; only this machine if omitted.",
            show_default=False,
        ),
    ] = [LOOPBACK],  # noqa: B006
    connect: Annotated[list[str], typer.Option(metavar="ENDPOINT", help="Address of a known peer; repeatable.")] = [],  # noqa: B006
) -> None:
    """Exchange findings with peers live, until Ctrl-C.

    A finding reaches the other peers within seconds. Only findings signed with nightlab share are sent. Links are not
    encrypted: findings are public.
    """
    from nightlab.commons.gossip import PATIENCE, Gossip, Zenoh
    from nightlab.commons.places import open_commons

    commons = open_commons()
    transport = Zenoh(listen, connect)
    peer = Gossip(commons, transport)
    say(f"peer {transport.name[:12]} listens at {', '.join(listen)}; Ctrl-C ends it")
    try:
        while True:
            taken = peer.step()
            if taken.records:
                what = f"{counted(taken.records, 'new record')} by {counted(taken.authors, 'author')}"
                say(f"{time.strftime('%H:%M:%S')} {what}")
            if taken.rejected:
                why = ", ".join(f"{count} {name}" for name, count in sorted(taken.rejected.items()))
                say(f"{time.strftime('%H:%M:%S')} refused: {why} (see nightlab commons)")
            for silent in peer.silent:
                words = f"peer {silent[:12]} sent nothing in {PATIENCE:.0f} s; for what it has, use nightlab sync"
                say(f"{time.strftime('%H:%M:%S')} {words}")
            peer.silent.clear()
            time.sleep(LOOK)
    finally:
        transport.close()
