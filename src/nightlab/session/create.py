"""How labs and sessions begin: a lab from a shipped one, a contract from a layout, a session from a lab."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path

from nightlab.core import plugins
from nightlab.core.config import CONTRACT, STRATEGY, LabConfig, detect, from_files, problem_in, to_toml
from nightlab.core.foreign import recognise
from nightlab.core.layouts import Problem, Reading
from nightlab.core.text import one_line
from nightlab.core.types import NightlabError, Platform
from nightlab.engines.base import Engine
from nightlab.engines.local.layout import detect_sandbox
from nightlab.engines.local.prepare import run_prepare
from nightlab.engines.platform import this_platform
from nightlab.engines.plugged import PluggedEngine
from nightlab.engines.remote import Cluster, ClusterEngine, common_platform, connect_cluster, plugged_engine
from nightlab.engines.remote.node import NodeFacts
from nightlab.session.check import require
from nightlab.session.preflight import contract_at, inspect, sealed
from nightlab.session.session import STUDY, Session, fresh_tag, open_session
from nightlab.storage.git import Repo, in_genome, make_repo
from nightlab.storage.ledger import find_ledger, session_lock, tags

SHIPPED = Path(__file__).parents[1] / "labs"

REFEREE = "referee."  # how tags of a referee's sessions begin: no run goes on with them, nor with a study's


def shipped() -> dict[str, str]:
    """The labs that ship, in order of their names, each with the heading of its program.md."""
    programs = sorted(SHIPPED.glob("*/program.md"))
    return {p.parent.name: p.read_text(encoding="utf-8").split("\n")[0].removeprefix("# ") for p in programs}


def make_lab(folder: Path, template: str) -> Path:
    """Copy a shipped lab into a new folder and commit it there. Returns the folder.

    Raises NightlabError when there is no such lab, or the folder exists.
    """
    source = SHIPPED / template
    if template not in shipped():
        raise NightlabError(f"there is no shipped lab {template!r}", f"the shipped labs are: {', '.join(shipped())}")
    if folder.exists():
        raise NightlabError(f"{folder} exists already", "choose another name")
    try:
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    except OSError as error:
        raise NightlabError(f"{folder} can't be made: {error.strerror or error}", "choose a writable place") from error
    (folder / ".gitignore").write_text("__pycache__/\n", encoding="utf-8")
    try:
        make_repo(folder, f"the lab '{template}'")
    except NightlabError:
        shutil.rmtree(folder, ignore_errors=True)  # the same command can be run again
        raise
    return folder


def infer(folder: Path, *, sealed: bool = True) -> tuple[str, str]:
    """The text of the ``lab.toml`` that fits a folder, and a sentence that says from what.

    ``sealed``: whether an evaluator of another system is kept apart from the candidate, where that is possible.
    Raises NightlabError for a layout that is unclear.
    """
    if not folder.is_dir():
        raise NightlabError(f"{folder} is not a folder", "give the lab's folder: nightlab init -C FOLDER")
    problem = problem_in(folder, sealed=sealed)
    found = detect(problem)
    if found is None:
        if foreign := recognise(problem):
            return SKELETON, f"nothing: it looks like {foreign}; {foreign.hint}"
        if only := _only_program(problem):
            return SKELETON.replace("solve.py", only).replace(
                "bench.py", only
            ), f"{only} alone: set metric.name and metric.goal to what it prints"
        return SKELETON, "nothing: set genome, command and metric.name"
    if found[1].extra:
        from_files(problem, str(folder))  # raises: only a copy can have the files that it needs
    return written(*found), found[1].source


def written(lab: LabConfig, reading: Reading) -> str:
    """A contract as the text of a ``lab.toml``, headed by where it comes from and what it does not express."""
    lines = [f"From {reading.source}.", *(f"Not expressed: {note}." for note in reading.notes)]
    return "".join(f"# {one_line(line, 400)}\n" for line in lines) + "\n" + to_toml(lab)


def open_problem(source: Path, folder: Path, *, sealed: bool = True) -> Reading:
    """Make a lab of another system's problem: a copy with a ``lab.toml``, committed; the original stays as it is.

    Raises NightlabError when the layout is unknown or unclear, or ``folder`` exists.
    """
    if not source.is_dir():
        raise NightlabError(f"{source} is not a folder", "give the problem's folder")
    problem = problem_in(source, sealed=sealed)
    found = None if problem.has(CONTRACT) else detect(problem)
    if found is None:
        if (foreign := recognise(problem)) and not problem.has(CONTRACT):
            raise NightlabError(f"{source} looks like {foreign}", foreign.hint)
        known = ", ".join(plugins.names("layout"))
        what = "is a lab already" if problem.has(CONTRACT) else f"has no layout that nightlab knows ({known})"
        raise NightlabError(f"{source} {what}", f"work in it: cd {source}; nightlab init writes a lab.toml to fill in")
    if folder.exists():
        raise NightlabError(f"{folder} exists already", f"choose another name: nightlab open {source} NAME")
    if folder.resolve().is_relative_to(source.resolve()):
        raise NightlabError(f"{folder} would be inside {source}", f"name another place: nightlab open {source} NAME")
    lab, reading = found
    try:
        for path in problem.files:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / path, folder / path)
        told = {STRATEGY: reading.strategy} if reading.strategy else {}
        for path, text in {CONTRACT: written(lab, reading), **told, **reading.extra}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        ignored = folder / ".gitignore"
        kept = ignored.read_text(encoding="utf-8") if ignored.exists() else ""
        ignored.write_text(f"{kept.rstrip()}\n__pycache__/\n".lstrip(), encoding="utf-8")
    except OSError as error:
        raise NightlabError(f"{folder} can't be made: {error.strerror or error}", "choose a writable place") from error
    make_repo(folder, f"the problem in {source.resolve().name}")
    return reading


def _only_program(problem: Problem) -> str | None:
    """The one Python program at the top of a folder, tests and set-up aside."""
    found = [path for path in problem.match("*.py") if not re.match(r"test_|conftest\.|setup\.|.*_test\.", path)]
    return found[0] if len(found) == 1 else None


SKELETON = """\
name = "my-lab"
genome = ["solve.py"]                  # what a candidate may change; everything else is frozen
command = "python bench.py"            # prints METRIC seconds=1.23

[metric]
name = "seconds"
goal = "minimise"                      # or "maximise"

[budget]                               # of one trial
clock = "wall"                         # or "cpu"
amount = 60                            # in seconds

# [[checks]]                           # must succeed before a change is kept
# command = "python -m unittest -q"
"""


def start_session(
    lab: Path,
    tag: str | None,
    device: str | None,
    allow: Iterable[str] = (),
    *,
    dirty_genome: bool = False,
    elsewhere: Platform | None = None,
    prepare: bool = True,
) -> tuple[Session, str]:
    """Open the session to work in, and say which: the one of that tag, the latest, or a new one.

    The latest goes on unless the lab's committed files have changed since it began. ``elsewhere``: on what its
    trials run when that is not this machine, which then needs neither a sandbox nor the lab's data.
    Without ``prepare`` it is not ready to run trials yet, but open within seconds.
    Raises NightlabError when the lab can't run; nothing has been written then.
    """
    if not lab.is_dir():
        raise NightlabError(f"{lab} is not a folder", "give the lab's folder: -C FOLDER")
    repo = Repo(lab)
    contract, _, checks = inspect(repo, dirty_genome=dirty_genome)
    here = sealed(detect_sandbox(), {*contract.sandbox.allow_missing, *allow}) if elsewhere is None else []
    require([*checks, *here])
    with session_lock(repo.lab):  # several that come at once would all make the first session
        session, said = _open(repo, contract, tag, device, allow, elsewhere)
    try:
        if elsewhere is None and prepare:
            run_prepare(repo, session.lab, session.base, session.folder)
    except BaseException:
        session.close()
        raise
    return session, said


def start_remote_session(
    on: str,
    slots: int | None,
    lab: Path,
    tag: str | None,
    device: str | None,
    allow: Iterable[str],
    say: Callable[[str], None],
) -> tuple[Session, str, Engine]:
    """As ``start_session``, with an engine that runs trials on the nodes of a cluster, or one that is a plug-in.

    Raises NightlabError when there is no such cluster or engine, or none of its nodes can run this lab.
    """
    allow, repo = set(allow), Repo(lab)
    if engine := plugged_engine(on, slots, repo.lab, contract_at(repo, repo.resolve() or "")[0], device):
        return *start_with(engine, lab, tag, device, allow), engine
    there = connect_cluster(on, slots, repo.lab)
    nodes = there.describe_nodes(device)
    session, said = start_session(lab, tag, device, allow, elsewhere=common_platform(nodes))
    try:
        return session, said, on_cluster(session, there, nodes, allow, say)
    except BaseException:
        session.close()
        raise


def start_with(
    engine: PluggedEngine, lab: Path, tag: str | None, device: str | None, allow: Iterable[str]
) -> tuple[Session, str]:
    """As ``start_session``, for an engine of another package, which is told where its trials' logs belong."""
    session, said = start_session(lab, tag, device, allow, elsewhere=engine.platform)
    try:
        engine.attach(session.local_engine.folder)
    except BaseException:
        session.close()
        raise
    return session, said


def on_cluster(
    session: Session,
    cluster: Cluster,
    nodes: Mapping[str, NodeFacts],
    allow: Iterable[str],
    say: Callable[[str], None],
) -> ClusterEngine:
    """The engine that runs a session's trials on a cluster. Raises NightlabError when none of its nodes is fit."""
    allowed = {*session.facts.allowed, *allow}
    return ClusterEngine(session.local_engine, session.base, cluster, nodes, allowed, say, session.ledger.append)


def _open(
    repo: Repo,
    contract: LabConfig,
    tag: str | None,
    device: str | None,
    allow: Iterable[str],
    elsewhere: Platform | None,
) -> tuple[Session, str]:
    known = tags(repo.lab)
    own = (name for name in known if not (name.startswith((STUDY, REFEREE)) or _imported(repo.lab, name)))
    latest = next(own, None)
    if tag is None and latest:
        session, why = _usable(repo, contract, latest, allow, elsewhere)
        if session:
            return session, why
        tag = fresh_tag(repo)
        return Session.create(
            repo, tag, device=device, allow=allow, elsewhere=elsewhere
        ), f"a new session, {tag}: {why}"
    if tag is not None and tag in known:
        session, why = _usable(repo, contract, tag, allow, elsewhere)
        if session:
            return session, why
        raise NightlabError(f"session {tag} can't go on: {why}", "start another: nightlab run --tag NAME")
    tag = tag or fresh_tag(repo)
    secret = _secret_of_round(repo.lab, tag, known)
    return Session.create(repo, tag, device=device, allow=allow, elsewhere=elsewhere, secret=secret), ""


def _secret_of_round(lab: Path, tag: str, known: Iterable[str]) -> str:
    """What the trials' seeds are drawn with in a study's round: its sessions share them. Empty for the first of it."""

    def round_of(one: str) -> list[str]:
        *study, _, turn = one.split(".")
        return [*study, turn]

    for other in known:
        if tag.startswith(STUDY) and other.startswith(STUDY) and round_of(other) == round_of(tag):
            with closing(open_session(lab, other)) as session:
                return session.facts.secret
    return ""


def _imported(lab: Path, tag: str) -> bool:
    """Whether a session is imported; one that can't be read as it is may be this lab's, from an earlier version."""
    try:
        ledger = find_ledger(lab, tag)
    except NightlabError:
        return False
    with closing(ledger):
        return ledger.imported


def _usable(
    repo: Repo, contract: LabConfig, tag: str, allow: Iterable[str], elsewhere: Platform | None
) -> tuple[Session | None, str]:
    """The session, and what is to be said of it; or why it can't go on with the lab, whose ``contract`` is committed
    now."""
    session = open_session(repo.lab, tag, writer=True, allow=allow, elsewhere=elsewhere is not None)
    baseline = session.ledger.experiment(0) if session.ledger.next_number() else None
    if baseline and baseline.verdict and not baseline.kept:
        session.close()
        return None, f"the baseline of {tag} could not be measured"
    here, there = elsewhere or this_platform(session.device), session.platform
    if (here.accelerator, here.processor) != (there.accelerator, there.processor):
        session.close()
        return None, f"{tag} ran on {there}, numbers from this machine don't compare with its"
    if changed := session.changed_since(contract):
        left = _champion_left(session)
        session.close()
        return None, f"{', '.join(changed[:3])} changed since {tag} began{left}"
    if parts := session.follow_contract(contract):
        return session, f"session {tag} goes on, with what lab.toml says now of {', '.join(parts)}"
    return session, ""


def _champion_left(session: Session) -> str:
    """How to begin with the session's champion, in words; empty where there is none, or the genome has changed."""
    champion, head = session.ledger.champion(), session.repo.resolve() or ""
    if not (champion and champion.number) or any(
        in_genome(path, session.lab.genome) for path in session.repo.changed(session.base, head)
    ):
        return ""
    return f"; to begin with its champion: git merge {session.branch}"


def demo_folder(name: Path | None) -> Path:
    """The folder of a demo: the one named, else the first of demo, demo-2, … that does not exist."""
    if name is not None:
        return name
    names = [Path("demo"), *(Path(f"demo-{n}") for n in range(2, 1000))]
    return next(folder for folder in names if not folder.exists())
