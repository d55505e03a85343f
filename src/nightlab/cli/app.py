"""The commands. Thin: each opens what it needs, calls one thing, and prints. What they share is here.

Exit status: 0 done · 1 a problem you can fix (the message says how) · 2 wrong usage · 3 the trial or the
claim did not hold (``try`` did not keep, ``replay`` differs, ``demo`` found nothing) · 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nightlab.cli.help import App, Program, current_name
from nightlab.cli.session_tags import complete_tag

if TYPE_CHECKING:
    from nightlab.analysis.charts import Kind
    from nightlab.core.types import Experiment
    from nightlab.loop.scheduler import Scheduler
    from nightlab.session.session import Session

FIXABLE, REFUTED, STOPPED = 1, 3, 130

app = App(
    name="nightlab",
    cls=Program,
    help="Run machine-learning experiments unattended: proposed, measured, judged and recorded.",
    epilog="Start with: nightlab demo. In your own project: nightlab init, nightlab check, nightlab run. "
    "Help on a command: nightlab run --help. Shell completion: nightlab completion --help.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": current_name},
)

Where = Annotated[
    Path,
    typer.Option(
        "--lab", "-C", metavar="FOLDER", help="Folder of the lab; this folder if omitted.", show_default=False
    ),
]


def tag_option(words: str) -> Any:
    """The option ``--tag``, completed in a shell with the tags of the lab's sessions."""
    return typer.Option("--tag", "-t", metavar="TAG", help=words, autocompletion=complete_tag)


Tag = Annotated[str | None, tag_option("Tag of the session; the latest session if omitted.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Device = Annotated[
    Literal["cuda", "mps", "cpu"] | None,
    typer.Option("--device", metavar="cuda|mps|cpu", help="Device for the trials; detected if omitted."),
]
OnEngine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="ENGINE",
        help="Where trials run: local-ray, auto, ray://HOST:PORT, HOST:PORT or slurm; this machine if omitted.",
    ),
]
Allow = Annotated[
    list[str],
    typer.Option(
        "--allow-missing",
        envvar="NIGHTLAB_ALLOW_MISSING",
        metavar="NAME",
        help="Run even if the sandbox lacks this protection: files, network, processes, privileges or all; repeatable.",
    ),
]
Plain = Annotated[bool, typer.Option("--plain", help="Print plain lines instead of a full screen.")]
HERE = Path()


def allowed(names: list[str]) -> set[str]:
    """The protections that may be missing; ``all`` names each."""
    from nightlab.core.types import NightlabError
    from nightlab.session.preflight import protections

    try:
        return protections(names)
    except NightlabError as error:
        raise typer.BadParameter(f"{error}: {error.hint}") from None


def last_trial(session: Session, experiment: Experiment) -> str:
    return session.ledger.trials(experiment.number)[-1][0].id


def near(path: Path) -> str:
    """The path relative to the current folder, if it lies in it."""
    here = Path.cwd()
    path = path.resolve()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def draw(session: Session, kind: Kind = "progress", out: Path | None = None) -> str:
    """Draw one of a session's pictures; returns its path, for printing."""
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
    from nightlab.core.observer import Observer
    from nightlab.ui.terminal.lines import LineObserver

    return _with_signals(Observer() if quiet else LineObserver(console()))


@contextmanager
def measuring(session: Session, quiet: bool = False) -> Iterator[Scheduler]:
    """A session that runs trials, which are shown; it is closed at the end of the block."""
    from nightlab.loop.scheduler import Scheduler

    with closing(session), closing(view(quiet)) as shown:
        yield Scheduler(session, shown)


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
