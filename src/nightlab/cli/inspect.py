"""Reading a session: log, show, diff, plot and report."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nightlab.cli.app import HERE, Json, Tag, Where, app, console, draw, last_trial, near, read_only, say

if TYPE_CHECKING:
    from nightlab.core.types import Experiment

LOOKS: dict[str, dict[str, Any]] = {
    "heading": {"bold": True},
    "keep": {"fg": "green", "bold": True},
    "discard": {"dim": True},
    "crash": {"fg": "red"},
}


@app.command(epilog="Examples:  nightlab log   ·   nightlab log --all   ·   nightlab log --json | jq '.[].metric'")
def log(
    lab: Where = HERE,
    tag: Tag = None,
    last: Annotated[
        int | None,
        typer.Option(
            "--last", "-n", min=1, help="Show the last N experiments; 30 if omitted, or all with --json.", metavar="N"
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show all experiments.")] = False,
    kept: Annotated[bool, typer.Option("--kept", help="Show only kept experiments.")] = False,
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Show only experiments by this proposer.")
    ] = None,
    front: Annotated[
        bool, typer.Option("--front", help="Show the experiments on the front of the lab's objectives.")
    ] = False,
    proposers: Annotated[
        bool, typer.Option("--proposers", help="Show the share, gain and cost of each proposer.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the experiments of a session, oldest first."""
    metric, ledger = read_only(lab, tag)
    if proposers:
        _log_proposers(metric, ledger, as_json)
        return
    if front:
        _log_front(metric, ledger, as_json)
        return
    last = None if everything else last or (None if kept or by or as_json else 30)
    rows = ledger.experiments(last, "keep" if kept else None, by)
    if by and not rows and by not in (names := sorted(ledger.proposals_by())):
        from nightlab.core.types import NightlabError

        raise NightlabError(f"no proposer of this session is called {by!r}", f"there are: {', '.join(names)}")
    if as_json:
        typer.echo(json.dumps([e.to_dict() for e in rows], indent=1))
        return
    from nightlab.ui.terminal.log import log_lines

    seen = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if seen else None
    lines = log_lines(metric, rows, width)
    typer.echo("\n".join(typer.style(line, **LOOKS.get(look, {})) if seen else line for look, line in lines))
    more = ledger.next_number() - len(rows)
    if more > 0 and not (kept or by):
        typer.secho(f"{more} earlier ones: nightlab log --all", dim=True)
    from nightlab.session.free import free_words

    if said := free_words(ledger):
        typer.secho(said, dim=True)


@app.command(epilog="Examples:  nightlab show 12   ·   nightlab show 12 --json")
def show(
    number: Annotated[int, typer.Argument(metavar="N", help="Number of the experiment; 0 is the baseline.")],
    lab: Where = HERE,
    tag: Tag = None,
    as_json: Json = False,
) -> None:
    """Show one experiment in full.

    Shows its verdict, times, memory, changes and the end of its output.
    """
    from nightlab.session.session import open_session
    from nightlab.session.warm_starts import best_answer
    from nightlab.ui.terminal.log import print_experiment

    session = open_session(lab, tag)
    experiment = session.ledger.experiment(number)
    trials = session.ledger.trials(number)
    if as_json:
        from nightlab.core.serialize import with_trials

        typer.echo(json.dumps(with_trials(experiment, trials), indent=1))
        return
    printed = session.local_engine.log(last_trial(session, experiment)) if trials else ""
    best = best_answer(session.ledger, session.metric, number)
    answer = str(session.local_engine.answers.path(best.answer)) if best and experiment.kept else ""
    print_experiment(console(), session.metric, experiment, trials, printed, answer)


@app.command(
    epilog="Examples:  nightlab diff 12 (against its parent)   ·   nightlab diff 0 12   ·   nightlab diff best"
)
def diff(
    one: Annotated[str, typer.Argument(metavar="N", help="Number of an experiment, or 'best'.")] = "best",
    other: Annotated[str | None, typer.Argument(metavar="M", help="Experiment to compare with.")] = None,
    lab: Where = HERE,
    tag: Tag = None,
) -> None:
    """Show what an experiment changed.

    Compares N with its parent, 'best' with the baseline, or N with M.
    """
    from nightlab.session.session import open_session

    session = open_session(lab, tag)

    def find(word: str) -> Experiment:
        if word == "best":
            return session.champion()
        if not word.isdigit():
            raise typer.BadParameter(f"{word!r} is neither a number nor 'best'")
        return session.ledger.experiment(int(word))

    def there(commit: str, who: str) -> str:
        if session.repo.resolve(commit) is None:
            from nightlab.core.types import NightlabError

            hint = "import its log with --repo FOLDER" if session.imported else "restore it from a clone that has it"
            raise NightlabError(f"the commit of {who}, {commit or 'unnamed'}, is not in this repository", hint)
        return commit

    if other is not None:
        old, to = find(one).candidate.commit, find(other).candidate.commit
    elif one == "best":
        old, to = session.base, find(one).candidate.commit
    else:
        old, to = find(one).candidate.parent, find(one).candidate.commit
    old, to = there(old, f"what {one} is compared with"), there(to, f"experiment {one if other is None else other}")
    typer.echo(session.repo.diff(old, to, colour=sys.stdout.isatty()), nl=False)


@app.command(
    epilog="Examples:  nightlab plot   ·   nightlab plot worth   ·   nightlab plot effects --out effects.svg"
    "   ·   nightlab plot duty --tag nov21"
)
def plot(
    kind: Annotated[
        Literal["progress", "worth", "effects", "duty"],
        typer.Argument(
            metavar="progress|worth|effects|duty", help="Kind of chart; progress if omitted.", show_default=False
        ),
    ] = "progress",
    lab: Where = HERE,
    tag: Tag = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write to this .png or .svg file.", metavar="PATH")
    ] = None,
) -> None:
    """Draw a chart of a session.

    progress: the metric over time; worth: the gain of each kept change; effects: every effect beside the noise;
    duty: the share of time spent training.
    """
    from nightlab.session.session import open_session

    if out is not None and out.suffix not in (".png", ".svg"):
        from nightlab.core.types import NightlabError

        raise NightlabError(f"{out} is neither a .png nor a .svg file", "name one: nightlab plot --out night.svg")
    session = open_session(lab, tag)
    say(f"wrote {draw(session, kind, out)}")


@app.command(epilog="Examples:  nightlab report   ·   nightlab report --show   ·   nightlab report --session-branch")
def report(
    lab: Where = HERE,
    tag: Tag = None,
    show: Annotated[bool, typer.Option("--show", help="Print the report as Markdown.")] = False,
    session_branch: Annotated[
        bool, typer.Option("--session-branch", help="Prepare a branch for publishing the session; nothing is pushed.")
    ] = False,
) -> None:
    """Write the report of a session: gains, evidence and failures."""
    from nightlab.analysis import report as reports
    from nightlab.session.session import open_session

    session = open_session(lab, tag)
    text, page = reports.write_report(session)
    if show:
        typer.echo(text.read_text(encoding="utf-8"), nl=False)
    else:
        say(f"wrote {near(text)} and {near(page)}")
    if session_branch:
        name, head = reports.session_branch(session)
        say(f"{name} is at {head[:7]}: the kept changes as commits, results.tsv and the report on top")
        say(f"to publish it: git push REMOTE {name}")


def _log_front(metric: Any, ledger: Any, as_json: bool) -> None:
    from nightlab.analysis.front import front
    from nightlab.core.types import NightlabError

    objectives = ledger.session().lab.get("objectives")
    if not objectives:
        raise NightlabError("this session's lab has no objectives", '[objectives] in lab.toml: size = "minimise"')
    found = front(ledger.experiments(), metric, objectives)
    if as_json:
        typer.echo(json.dumps([e.to_dict() for e, _ in found.members], indent=1))
        return
    from nightlab.ui.terminal.log import front_table

    console().print(front_table(found))


def _log_proposers(metric: Any, ledger: Any, as_json: bool) -> None:
    """What each proposer had, what that gained, and what it cost."""
    from dataclasses import asdict

    from nightlab.session.credit import by_proposer
    from nightlab.ui.terminal.log import proposers_table

    parts = by_proposer(ledger, metric)
    if as_json:
        typer.echo(json.dumps([asdict(part) for part in parts], indent=1))
    else:
        console().print(proposers_table(parts))
        typer.secho(f"gained: {metric.name}, by the champion's bar; trials, waited: time of a slot", dim=True)
