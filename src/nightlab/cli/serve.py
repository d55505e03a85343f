"""The window in a browser."""

from __future__ import annotations

from typing import Annotated

import typer

from nightlab.cli.app import HERE, Tag, Where, app, say


@app.command(
    epilog="Examples:  nightlab serve   ·   nightlab serve --tag nov21 --read-only   ·   nightlab serve --host 0.0.0.0"
)
def serve(
    lab: Where = HERE,
    tag: Tag = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Listen there, for whoever has the token; this machine alone if left out."
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="8470 if left out, or the next that is free.")
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Nobody can pause, skip, pin or note from it.")
    ] = False,
) -> None:
    """Show a session in the browser, live: what was tried, what came of it, and what descends from what.

    It reads the session beside whatever runs it, and can be started, stopped and restarted at any time.
    """
    from nightlab.core.types import NightlabError
    from nightlab.storage.ledger import find_session

    try:
        from nightlab.ui.web.app import WebApp
        from nightlab.ui.web.serve import serve_web as start
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "anyio"):
            raise
        raise NightlabError(f"{error.name} is not installed", "pip install 'nightlab[web]'") from error
    window = WebApp(lab.resolve(), find_session(lab, tag), read_only)

    def opened(address: str) -> None:
        say(f"session {window.tag} of {window.lab}: {address}")
        say("[dim]Ctrl-C closes the window; the session goes on[/]")

    start(window, host, port, opened)
