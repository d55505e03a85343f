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
    from nightlab.analysis.charts import Kind
    from nightlab.core.types import Experiment
    from nightlab.session.session import Session

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
    from nightlab.core.types import NightlabError
    from nightlab.session.preflight import protections

    try:
        return protections(names)
    except NightlabError as error:
        raise typer.BadParameter(f"{error}: {error.hint}") from None


def last_trial(session: Session, experiment: Experiment) -> str:
    return session.ledger.trials(experiment.number)[-1][0].id


def near(path: Path) -> str:
    """The path as one would type it here."""
    here = Path.cwd()
    path = path.resolve()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def draw(session: Session, kind: Kind = "progress", out: Path | None = None) -> str:
    """Draw one of a session's pictures; returns where, as one would type it here."""
    from nightlab.analysis import report
    from nightlab.analysis.charts import save

    path = out or session.folder / f"{kind}.png"
    save(report.draw(session, kind), path)
    return near(path)


def read_only(lab: Path, tag: str | None) -> tuple[Any, Any]:
    """Metric and ledger without the rest of a session, so that looking is quick."""
    from nightlab.storage.ledger import find_ledger

    ledger = find_ledger(lab, tag)
    return ledger.metric, ledger


def view(quiet: bool = False) -> Any:
    """What a command shows of the trials that it runs; signals end it."""
    from nightlab.core.observer import LineObserver, Observer

    return _with_signals(Observer() if quiet else LineObserver(console()))


def window(plain: bool) -> Any:
    """The view of what runs for long: a screen where standard output is an outlet to a terminal, else lines."""
    from nightlab.ui.terminal.outlet import Outlet
    from nightlab.ui.terminal.terminal import usable

    if plain or not isinstance(sys.stdout, Outlet) or not usable(sys.stdout.fd):
        return view()
    from nightlab.ui.monitor import Follower
    from nightlab.ui.terminal.live_screen import LiveScreen

    return _with_signals(LiveScreen(sys.stdout, Follower, console()))


def _with_signals(shown: Any) -> Any:
    from nightlab.cli.signals import StopOnSignals
    from nightlab.core.observer import Observers

    return Observers([shown, StopOnSignals(shown)])


def console() -> Any:
    from rich.console import Console

    return Console()


def escape(words: str) -> str:
    from rich import markup

    return markup.escape(words)


def say(words: str) -> None:
    console().print(words, highlight=False, soft_wrap=True)
