"""The program ``nightlab``: its commands, and how an error becomes a message and an exit status."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from nightlab.cli import (  # noqa: F401 (each adds its commands to the app)
    arena,
    commons,
    commons_view,
    completion,
    confirm,
    control,
    data,
    gossip,
    inspect,
    labs,
    pbt,
    plugins,
    records,
    redteam,
    run,
    serve,
    study,
    submit,
    watch,
)
from nightlab.cli.app import FIXABLE, STOPPED, app
from nightlab.cli.completion import VARIABLE


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from nightlab import __version__

        typer.echo(f"nightlab {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        from nightlab.cli.overview import print_overview

        print_overview()


def main() -> None:
    """The program ``nightlab``: runs a command, and turns an error into a message and an exit status."""
    if VARIABLE in os.environ:
        completion.register_shells()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a locale that lacks a character loses that, not the command
    sys.exit(_guarded(app))


def _guarded(command: Callable[[], Any]) -> int:
    from nightlab.core.types import NightlabError

    try:
        command()
    except NightlabError as error:
        return _tell(str(error), error.hint)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        return STOPPED
    except BrokenPipeError:
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _tell(
            f"{where}{error.strerror or error}",
            "free disk space or fix the path, then run the command again: the session resumes",
        )
    except Exception as error:
        if type(error).__module__ != "sqlite3":
            raise
        hint = "restore ledger.db from a backup, or start a new session: nightlab run --tag NEW"
        return _tell(f"the session's ledger can't be read: {error}", hint)
    return 0


def _tell(message: str, hint: str) -> int:
    typer.echo(f"nightlab: {message}", err=True)
    if hint:
        typer.echo(f"  hint: {hint}", err=True)
    return FIXABLE
