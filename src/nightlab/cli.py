"""The commands. Thin: each opens what it needs, calls one thing, and prints.

Exit status: 0 done · 1 a problem you can mend (the message says how) · 2 wrong usage · 3 the trial or the
claim did not hold (``try`` did not keep, ``replay`` differs, ``demo`` found nothing) · 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from nightlab.night import Night
    from nightlab.records import Experiment, Measurement
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
HERE = Path()
LOOKS: dict[str, dict[str, Any]] = {
    "heading": {"bold": True},
    "keep": {"fg": "green", "bold": True},
    "discard": {"dim": True},
    "crash": {"fg": "red"},
}


@app.command(epilog="Examples:  nightlab new my-lm   ·   nightlab new faster --from speed")
def new(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="The folder to make.")],
    template: Annotated[str, typer.Option("--from", metavar="LAB", help="Which shipped lab: lm or speed.")] = "lm",
) -> None:
    """Make a new lab from one that ships: a git folder, ready to run."""
    from nightlab.start import make_lab

    folder = make_lab(name, template)
    say(f"made {folder}/ from the lab '{template}', committed")
    say(f"next: cd {folder} && nightlab check && nightlab run")


@app.command(epilog="Examples:  nightlab init   ·   nightlab init --show")
def init(
    lab: Where = HERE,
    show: Annotated[bool, typer.Option("--show", help="Print the contract, write nothing.")] = False,
) -> None:
    """Write the lab.toml that nightlab infers for this folder, to be read and edited."""
    from nightlab.start import infer

    text, source = infer(lab)
    if show:
        typer.echo(text, nl=False)
        return
    path = lab / "lab.toml"
    if path.exists():
        from nightlab.records import NightlabError

        raise NightlabError(f"{path} exists already", "edit it, or look at what is inferred: nightlab init --show")
    path.write_text(text)
    say(f"wrote {path}, inferred from {source}")
    say("read it, then: git add lab.toml && git commit -m 'the contract' && nightlab check")


@app.command(epilog="Examples:  nightlab check   ·   nightlab check -C path/to/lab --json")
def check(lab: Where = HERE, as_json: Json = False, allow: Allow = []) -> None:  # noqa: B006
    """Say whether this lab can run, and what is missing."""
    from nightlab.lineage import Repo
    from nightlab.session import inspect, memory_limit, sealed, this_sandbox
    from nightlab.trial.machine import this_platform

    contract, source, checks = inspect(Repo(lab))
    checks += [*sealed(this_sandbox(), {*contract.sandbox.allow_missing, *_allowed(allow)}), memory_limit()]
    platform = this_platform()
    budget = contract.budget.on(platform.device).record()
    good = all(c.ok or not c.fatal for c in checks)
    if as_json:
        facts = [{"what": c.what, "ok": c.ok, "mend": c.mend, "fatal": c.fatal} for c in checks]
        typer.echo(json.dumps({"ok": good, "source": source, "checks": facts}, indent=1))
    else:
        say(f"lab {contract.name}: {contract.metric.goal} {contract.metric.name}, from {source}")
        say(f"a trial trains for {budget} on {platform}")
        for c in checks:
            mark = "[green]ok[/]  " if c.ok else "[red]no[/]  " if c.fatal else "[yellow]note[/]"
            say(f"{mark} {_escape(c.what)}" + (f"\n     mend: {_escape(c.mend)}" if not c.ok else ""))
        say("ready: nightlab run" if good else "not ready: mend what says 'no'")
    raise typer.Exit(0 if good else MENDABLE)


@app.command(
    epilog="Examples:  nightlab run   ·   nightlab run --hours 8   ·   nightlab run --tag wide --experiments 50"
)
def run(
    lab: Where = HERE,
    tag: Annotated[str | None, typer.Option("--tag", "-t", help="Start or continue this session.")] = None,
    hours: Annotated[float | None, typer.Option(min=0.001, help="Stop after so many hours.")] = None,
    experiments: Annotated[
        int | None, typer.Option("--experiments", "-n", min=1, help="Stop when the session has so many.")
    ] = None,
    stall: Annotated[int | None, typer.Option(min=1, help="Stop after so many in a row without a keep.")] = None,
    slots: Annotated[int, typer.Option(min=1, help="Trials at once. More than one disturbs a wall clock.")] = 1,
    device: Device = None,
    allow: Allow = [],  # noqa: B006
) -> None:
    """Run experiments until stopped. The latest session goes on where it was, unless the lab has changed.

    Ctrl-C once finishes the trial in flight and stops; twice stops now. Nothing finished is ever lost.
    """
    from nightlab.lab import Stop
    from nightlab.start import begin

    view = _view()
    session, said = begin(lab, tag, device, _allowed(allow))
    if said:
        view.say(said)
    given = {"hours": hours, "experiments": experiments, "stall": stall}
    rules = session.lab.stop.model_copy(update={k: v for k, v in given.items() if v is not None})
    _run(session, Stop.model_validate(rules.model_dump()), view, slots)


@app.command("try", epilog="Example:  edit train.py, then: nightlab try -m 'a longer warmdown'")
def try_(
    hypothesis: Annotated[str, typer.Option("--message", "-m", help="Why it should be better.")] = "a change by hand",
    lab: Where = HERE,
    tag: Tag = None,
    device: Device = None,
    allow: Allow = [],  # noqa: B006
) -> None:
    """Measure your own uncommitted edit of the genome as a candidate of the session. Exit status 3: not kept."""
    from nightlab.start import begin
    from nightlab.watch.log import print_experiment

    view = _view()
    session, _ = begin(lab, tag, device, _allowed(allow), dirty_genome=True)
    night = _night(session, view)
    try:
        experiment = night.try_working_copy(hypothesis)
    finally:
        view.close()
    log = "" if experiment.kept else session.box.log(_last_trial(session, experiment))
    print_experiment(_console(), session.metric, experiment, session.ledger.trials(experiment.number), log)
    session.close()
    raise typer.Exit(0 if experiment.kept else REFUTED)


@app.command(epilog="Examples:  nightlab log   ·   nightlab log --all   ·   nightlab log --json | jq '.[].metric'")
def log(
    lab: Where = HERE,
    tag: Tag = None,
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="How many of the last experiments.")] = 30,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    kept: Annotated[bool, typer.Option("--kept", help="Only the kept ones.")] = False,
    as_json: Json = False,
) -> None:
    """The experiments of a session, oldest first."""
    metric, ledger = _read_only(lab, tag)
    rows = ledger.experiments(None if everything or kept or as_json else last, "keep" if kept else None)
    if as_json:
        typer.echo(json.dumps([_as_json(e) for e in rows], indent=1))
        return
    from nightlab.watch.log import log_lines

    seen = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if seen else None
    lines = log_lines(metric, rows, width)
    typer.echo("\n".join(typer.style(line, **LOOKS.get(look, {})) if seen else line for look, line in lines))
    more = ledger.next_number() - len(rows)
    if more > 0 and not kept:
        typer.secho(f"{more} earlier ones: nightlab log --all", dim=True)


@app.command(epilog="Examples:  nightlab show 12   ·   nightlab show 12 --json")
def show(
    number: Annotated[int, typer.Argument(help="The experiment's number; 0 is the baseline.")],
    lab: Where = HERE,
    tag: Tag = None,
    as_json: Json = False,
) -> None:
    """Everything about one experiment: verdict, times, memory, what changed, the end of its output."""
    from nightlab.session import open_session
    from nightlab.watch.log import print_experiment

    session = open_session(lab, tag)
    experiment = session.ledger.experiment(number)
    trials = session.ledger.trials(number)
    if as_json:
        runs = [{"trial": t.id, "seed": t.seed, "measurement": m.to_dict() if m else None} for t, m in trials]
        typer.echo(json.dumps({**_as_json(experiment), "trials": runs}, indent=1))
        return
    printed = session.box.log(_last_trial(session, experiment)) if trials else ""
    print_experiment(_console(), session.metric, experiment, trials, printed)


@app.command(
    epilog="Examples:  nightlab diff 12 (against its parent)   ·   nightlab diff 0 12   ·   nightlab diff best"
)
def diff(
    one: Annotated[str, typer.Argument(metavar="N", help="An experiment's number, or 'best'.")] = "best",
    other: Annotated[str | None, typer.Argument(metavar="[M]", help="Another to compare with.")] = None,
    lab: Where = HERE,
    tag: Tag = None,
) -> None:
    """What an experiment changed: N against its parent, 'best' against the baseline, or N to M."""
    from nightlab.session import open_session

    session = open_session(lab, tag)

    def find(word: str) -> Experiment:
        if word == "best":
            return session.champion()
        if not word.isdigit():
            raise typer.BadParameter(f"{word!r} is neither a number nor 'best'")
        return session.ledger.experiment(int(word))

    if other is not None:
        old, to = find(one).candidate.commit, find(other).candidate.commit
    elif one == "best":
        old, to = session.base, find(one).candidate.commit
    else:
        old, to = find(one).candidate.parent, find(one).candidate.commit
    typer.echo(session.repo.diff(old, to, colour=sys.stdout.isatty()), nl=False)


@app.command(epilog="Examples:  nightlab replay 12   ·   nightlab replay 12 --work 200000 --times 2")
def replay(
    number: Annotated[int, typer.Argument(help="The experiment's number; 0 is the baseline.")],
    times: Annotated[int, typer.Option(min=1, help="How often.")] = 1,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the seed it had.")] = None,
    work: Annotated[
        float | None,
        typer.Option(min=1, help="A fixed amount of work instead of the budget: same seed, same number."),
    ] = None,
    lab: Where = HERE,
    tag: Tag = None,
    as_json: Json = False,
) -> None:
    """Run an experiment again from its commit, and put the numbers side by side.

    With a work budget (here or in the contract) on a CPU the metric must be identical: exit status 3 if not.
    """
    from nightlab.records import Budget
    from nightlab.session import SEED, open_session

    session = open_session(lab, tag, writer=True)
    view = _view(quiet=as_json)
    night = _night(session, view)
    budget = Budget("work", work) if work else session.budget.record()
    try:
        found = night.measure(number, "replay", [SEED if seed is None else seed] * times, budget)
    finally:
        view.close()
    experiment = session.ledger.experiment(number)
    comparable = budget == session.budget.record() and seed is None and experiment.measurement is not None
    first = [experiment.measurement] if comparable and experiment.measurement else []
    values = [m.metric for m in [*first, *found]]
    same = len(set(values)) == 1 and values[0] is not None
    if as_json:
        typer.echo(json.dumps({"number": number, "identical": same, "metrics": values}))
    else:
        say(f"{session.metric.name}: {', '.join('failed' if v is None else repr(v) for v in values)}")
        if len(values) > 1:
            say("identical" if same else "not identical" + ("" if budget.clock == "work" else ": the budget is time"))
    session.close()
    failed = any(m.metric is None for m in found)
    raise typer.Exit(REFUTED if failed or (budget.clock == "work" and len(values) > 1 and not same) else 0)


@app.command(epilog="Examples:  nightlab confirm   ·   nightlab confirm --seeds 8 --json")
def confirm(
    seeds: Annotated[int, typer.Option(min=2, help="How many fresh seeds.")] = 4,
    lab: Where = HERE,
    tag: Tag = None,
    as_json: Json = False,
) -> None:
    """Measure the baseline and the champion again on fresh seeds, and say what the gain is, with its interval."""
    from nightlab.session import open_session

    session = open_session(lab, tag, writer=True)
    view = _view(quiet=as_json)
    sure = _confirm(session, _night(session, view), seeds, as_json)
    session.close()
    raise typer.Exit(0 if sure else REFUTED)


@app.command(epilog="Examples:  nightlab plot   ·   nightlab plot --out night.svg")
def plot(
    lab: Where = HERE,
    tag: Tag = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A .png or .svg file.")] = None,
) -> None:
    """Draw the progress chart: every experiment, and the best so far."""
    from nightlab.session import open_session

    if out is not None and out.suffix not in (".png", ".svg"):
        from nightlab.records import NightlabError

        raise NightlabError(f"{out} is neither a .png nor a .svg file", "name one: nightlab plot --out night.svg")
    session = open_session(lab, tag)
    say(f"wrote {_plot(session, out)}")


@app.command(epilog="Examples:  nightlab demo   ·   nightlab demo my-demo --experiments 40")
def demo(
    name: Annotated[Path | None, typer.Argument(metavar="[FOLDER]", help="Where; a new folder if left out.")] = None,
    experiments: Annotated[int, typer.Option("--experiments", "-n", min=1, help="How many.")] = 20,
    seeds: Annotated[int, typer.Option(min=2, help="Fresh seeds for the final comparison.")] = 4,
    device: Device = None,
) -> None:
    """A real session on a real language model, on any machine, in minutes: no account, no key.

    Makes a lab, runs the experiments, and measures what was gained again on fresh seeds.
    """
    from nightlab.lab import Stop
    from nightlab.start import begin, demo_folder, make_lab

    folder = demo_folder(name)
    if not folder.exists():
        make_lab(folder, "lm")
    view = _view()
    view.say(f"[bold]nightlab demo[/] in {folder}/ · a small GPT on two centuries of speeches")
    session, said = begin(folder, None, device, _allowed(["all"]))
    if said:
        view.say(said)
    _run(session, Stop(experiments=experiments), view, slots=1, close=False)
    view.say("")
    view.say(f"measuring baseline and champion again on {seeds} fresh seeds, in turn")
    sure = _confirm(session, _night(session, view), seeds, as_json=False)
    _places(session)
    session.close()
    raise typer.Exit(0 if sure else REFUTED)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from nightlab import __version__

        typer.echo(f"nightlab {__version__}")
        raise typer.Exit


# -- shared by the commands ----------------------------------------------------------------------------


def _run(session: Session, stop: Any, view: Any, slots: int, *, close: bool = True) -> None:
    """Run the night and print its summary; with ``close`` also say where things are, and end."""
    import time

    from nightlab.night import Interrupted
    from nightlab.watch.log import closing_words

    night = _night(session, view, stop, slots)
    begun, stopped = time.time(), False
    try:
        reason = night.run()
    except Interrupted:
        reason, stopped = "stopped now; what was in flight runs again next time", True
    finally:
        view.close()
    stopped = stopped or reason == "stopped by the user"
    rows = session.ledger.experiments()
    say(closing_words(session.metric, rows, reason, time.time() - begun, night.trained))
    if rows and rows[0].verdict:
        _plot(session, None)
    if close or stopped:
        _places(session)
        session.close()
    if stopped:
        raise typer.Exit(STOPPED)


def _places(session: Session) -> None:
    from nightlab.watch.log import places_words

    folder = _near(session.folder)
    say(
        places_words(
            [
                ("log", f"{folder}/results.tsv"),
                ("chart", f"{folder}/progress.png"),
                ("branch", f"{session.branch} (git diff {session.base[:7]} {session.branch})"),
                ("more", f"nightlab log -C {_near(session.repo.lab)}"),
            ]
        )
    )


def _confirm(session: Session, night: Night, seeds: int, as_json: bool) -> bool:
    """Confirm and print; returns whether the interval excludes zero on the side of a gain."""
    try:
        confirmed = night.confirm(seeds)
    finally:
        night.view.close()
    if confirmed is None:
        if as_json:
            typer.echo(json.dumps({"confirmed": False, "reason": "the champion is the baseline"}))
        else:
            say("the champion is still the baseline: there is no gain to confirm")
        return False
    gain = confirmed.gain
    if as_json:
        facts = {
            "confirmed": gain.low > 0,
            "gain": gain.mean,
            "low": gain.low,
            "high": gain.high,
            "level": gain.level,
            "seeds": confirmed.seeds,
            "baseline": confirmed.baseline,
            "champion": confirmed.champion,
        }
        typer.echo(json.dumps(facts, indent=1))
    else:
        from nightlab.watch.log import confirmed_words

        say(confirmed_words(session.metric, confirmed.seeds, confirmed.baseline, confirmed.champion, gain))
    return gain.low > 0


def _allowed(names: list[str]) -> set[str]:
    """The protections that the user can do without; ``all`` names each."""
    from nightlab.trial.sandbox import PROTECTIONS

    given = {name for words in names for name in words.replace(",", " ").split()}
    if unknown := given - {*PROTECTIONS, "all"}:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: the protections are {', '.join(PROTECTIONS)}, all")
    return set(PROTECTIONS) if "all" in given else given


def _night(session: Session, view: Any, stop: Any = None, slots: int = 1) -> Night:
    from nightlab.lab import Stop
    from nightlab.night import Night

    return Night(session, stop or Stop(), view, slots=slots)


def _plot(session: Session, out: Path | None) -> str:
    from nightlab.watch.chart import progress, save

    path = out or session.folder / "progress.png"
    save(progress(session.metric, session.ledger.experiments()), path)
    return _near(path)


def _read_only(lab: Path, tag: str | None) -> tuple[Any, Any]:
    """Metric and ledger without the rest of a session, so that looking is quick."""
    from nightlab.ledger import find_ledger
    from nightlab.records import Metric

    ledger = find_ledger(lab, tag)
    facts = ledger.session() or {"lab": {"metric": {"name": "metric"}}}
    metric = facts["lab"]["metric"]
    return Metric(metric["name"], metric.get("goal", "minimise"), metric.get("unit", "")), ledger


def _last_trial(session: Session, experiment: Experiment) -> str:
    return session.ledger.trials(experiment.number)[-1][0].id


def _as_json(experiment: Experiment) -> dict[str, Any]:
    candidate, verdict = experiment.candidate, experiment.verdict
    measured: Measurement | None = experiment.measurement
    return {
        "number": experiment.number,
        "status": verdict.status if verdict else None,
        "reason": verdict.reason if verdict else None,
        "detail": verdict.detail if verdict else None,
        "metric": measured.metric if measured else None,
        "commit": candidate.commit,
        "parent": candidate.parent,
        "proposer": candidate.proposer,
        "hypothesis": candidate.hypothesis,
        "changes": list(candidate.changes),
        "measurement": measured.to_dict() if measured else None,
    }


def _near(path: Path) -> str:
    """The path as one would type it here."""
    here = Path.cwd()
    path = path.resolve()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _view(quiet: bool = False) -> Any:
    from nightlab.watch.view import Lines, View

    return View() if quiet else Lines(_console())


def _console() -> Any:
    from rich.console import Console

    return Console()


def _escape(words: str) -> str:
    from rich.markup import escape

    return escape(words)


def say(words: str) -> None:
    _console().print(words, highlight=False, soft_wrap=True)


def main() -> None:
    """The program ``nightlab``: runs a command, and turns an error into a message and an exit status."""
    sys.exit(_guarded(app))


def _guarded(command: Callable[[], Any]) -> int:
    from nightlab.records import NightlabError

    try:
        command()
    except NightlabError as error:
        return _tell(str(error), error.mend)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        return STOPPED
    except BrokenPipeError:
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _tell(
            f"{where}{error.strerror or error}", "free the disk or mend the path, and run it again: it resumes"
        )
    except Exception as error:
        if type(error).__module__ != "sqlite3":
            raise
        mend = "restore ledger.db from a backup, or start another session: nightlab run --tag NEW"
        return _tell(f"the session's ledger can't be read: {error}", mend)
    return 0


def _tell(message: str, mend: str) -> int:
    typer.echo(f"nightlab: {message}", err=True)
    if mend:
        typer.echo(f"  mend: {mend}", err=True)
    return MENDABLE
