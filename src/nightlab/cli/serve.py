"""The web page of a session."""

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
            metavar="ADDRESS", help="Address to listen on; only this machine if omitted. Access needs the token."
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port to listen on; 8470 or the next free one if omitted.", metavar="N"),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Disable the controls: pause, skip, pin and note.")
    ] = False,
) -> None:
    """Show a session live in the browser.

    Only reads the session, so it can be started and stopped at any time, also while the session runs.
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
        say("[dim]Ctrl-C stops the server; the session goes on[/]")

    start(window, host, port, opened)
