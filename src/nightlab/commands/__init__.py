"""The commands. Thin: each opens what it needs, calls one thing, and prints. What they share is here.

Exit status: 0 done · 1 a problem you can mend (the message says how) · 2 wrong usage · 3 the trial or the
claim did not hold (``try`` did not keep, ``replay`` differs, ``demo`` found nothing) · 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from nightlab.records import Experiment
    from nightlab.session import Session

MENDABLE, REFUTED, STOPPED = 1, 3, 130

app = typer.Typer(
    name="nightlab",
    help="The lab that runs while you sleep: experiments proposed, measured, judged and recorded, unattended.",
    epilog="Start with: nightlab demo. In a lab of your own: nightlab init, nightlab check, nightlab run.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Where = Annotated[Path, typer.Option("--lab", "-C", metavar="FOLDER", help="The lab's folder.")]
Tag = Annotated[str | None, typer.Option("--tag", "-t", metavar="TAG", help="Which session; the latest if left out.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Device = Annotated[
    Literal["cuda", "mps", "cpu"] | None,
    typer.Option("--device", metavar="cuda|mps|cpu", help="Instead of the device that was found."),
]
Allow = Annotated[
    list[str],
    typer.Option(
        "--allow-missing",
        envvar="NIGHTLAB_ALLOW_MISSING",
        metavar="NAME",
        help="Go on without a protection of the sandbox: files, network, processes, privileges, or all.",
    ),
]
Plain = Annotated[bool, typer.Option("--plain", help="Lines instead of a screen, as in a pipe.")]
HERE = Path()


def allowed(names: list[str]) -> set[str]:
    """The protections that the user can do without; ``all`` names each."""
    from nightlab.sandbox.bubblewrap import PROTECTIONS

    given = {name for words in names for name in words.replace(",", " ").split()}
    if unknown := given - {*PROTECTIONS, "all"}:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: the protections are {', '.join(PROTECTIONS)}, all")
    return set(PROTECTIONS) if "all" in given else given


def last_trial(session: Session, experiment: Experiment) -> str:
    return session.ledger.trials(experiment.number)[-1][0].id


def near(path: Path) -> str:
    """The path as one would type it here."""
    here = Path.cwd()
    path = path.resolve()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def draw(session: Session, out: Path | None = None) -> str:
    """Draw the progress chart; returns where, as one would type it here."""
    from nightlab.watch.chart import progress, save

    path = out or session.folder / "progress.png"
    save(progress(session.metric, session.ledger.experiments()), path)
    return near(path)


def view(quiet: bool = False) -> Any:
    from nightlab.watch.view import Lines, View

    return View() if quiet else Lines(console())


def window(plain: bool) -> Any:
    """The view of what runs for long: a screen where standard output is an outlet to a terminal, else lines."""
    from nightlab.watch.outlet import Outlet
    from nightlab.watch.terminal import usable

    if plain or not isinstance(sys.stdout, Outlet) or not usable(sys.stdout.fd):
        return view()
    from nightlab.following import Follower
    from nightlab.watch.window import Window

    return Window(sys.stdout, Follower, console())


def console() -> Any:
    from rich.console import Console

    return Console()


def escape(words: str) -> str:
    from rich import markup

    return markup.escape(words)


def say(words: str) -> None:
    console().print(words, highlight=False, soft_wrap=True)
