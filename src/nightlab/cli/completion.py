"""Completion of commands, options and session tags in a shell."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from nightlab.cli.app import app

VARIABLE = "_NIGHTLAB_COMPLETE"  # set by the shell's script when it asks for completions


@app.command(
    epilog='Examples:  eval "$(nightlab completion bash)"   ·   eval "$(nightlab completion zsh)"   ·   '
    "nightlab completion fish | source"
)
def completion(
    shell: Annotated[
        Literal["bash", "zsh", "fish"], typer.Argument(metavar="bash|zsh|fish", help="The shell to complete in.")
    ],
) -> None:
    """Print the script that completes nightlab's commands in a shell.

    Load it from the shell's start-up file, for example ~/.bashrc.
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    typer.echo(get_completion_script(prog_name="nightlab", complete_var=VARIABLE, shell=shell))


def register_shells() -> None:
    """Make typer answer the shell's question, when ``VARIABLE`` is set."""
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()
