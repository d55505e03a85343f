"""Watching a session that runs in another process."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nightlab.cli.app import HERE, Plain, Tag, Where, app, console

if TYPE_CHECKING:
    from nightlab.ui.monitor import Follower
    from nightlab.ui.terminal.outlet import Outlet

FIRST = 10  # experiments that plain lines begin with
EVERY = 1.0  # seconds between two looks of plain lines


@app.command(
    epilog="Examples:  nightlab watch   ·   nightlab watch --read-only   ·   nightlab watch --plain | tee night.log"
)
def watch(
    lab: Where = HERE,
    tag: Tag = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Disable the keys that control the session.")] = False,
    plain: Plain = False,
) -> None:
    """Watch a running session from another terminal.

    Press ? for the keys; q leaves and the session goes on. In a pipe, prints each verdict as it comes until the session
    stops.
    """
    from nightlab.storage.ledger import find_session, state_folder
    from nightlab.ui.monitor import Follower
    from nightlab.ui.terminal.outlet import Outlet
    from nightlab.ui.terminal.terminal import usable

    folder = state_folder(lab) / find_session(lab, tag)
    followed = Follower(folder)
    followed.look()  # what can't be read says so before there is a screen
    if plain or not usable(sys.stdout.fileno()):
        _lines(followed)
    else:
        _screen(followed, Outlet(sys.stdout.fileno()), may_write=not read_only and os.access(folder, os.W_OK))


def _screen(followed: Follower, outlet: Outlet, *, may_write: bool) -> None:
    from nightlab.ui.terminal.screen import Screen
    from nightlab.ui.terminal.terminal import SuspendHandler, Terminal

    def leave(*_: Any) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    terminal = Terminal(outlet, sys.stdin.fileno(), console())
    SuspendHandler(terminal)
    screen = Screen(terminal, may_leave=True, may_write=may_write)
    try:
        screen.run(followed)
    except KeyboardInterrupt:
        pass
    finally:
        terminal.leave()
        outlet.drain(1)


def _lines(followed: Follower) -> None:
    """The latest verdicts, and each that comes, until the session stops."""
    from nightlab.ui.monitor import LAST
    from nightlab.ui.terminal.rows import columns, row

    picture, last = followed.look(), 0.0
    typer.echo(columns(picture, None).plain)
    while True:
        judged = sorted((p for p in picture.points if p.judged_at), key=lambda point: point.judged_at or 0.0)
        for point in [point for point in judged if (point.judged_at or 0.0) > last][-(FIRST if not last else LAST) :]:
            typer.echo(row(picture, point, None).plain)
            last = point.judged_at or last
        if not picture.alive:
            typer.echo(picture.fault or picture.stopped or "no process runs this session")
            return
        time.sleep(EVERY)
        picture = followed.look()
