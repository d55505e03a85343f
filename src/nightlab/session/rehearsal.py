"""Tries the lab's command in its sandbox for a moment, before a session depends on it, and says what it lacks."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from nightlab.core.config import LabConfig
from nightlab.core.text import one_line
from nightlab.core.types import NightlabError, Trial
from nightlab.engines.local.engine import LocalEngine
from nightlab.engines.local.environment import RUNNERS, Environment
from nightlab.engines.local.handles import RunningTrial
from nightlab.engines.local.layout import detect_sandbox
from nightlab.engines.platform import this_platform
from nightlab.sandbox.bubblewrap import Sandbox
from nightlab.session.check import Check, unmeasured
from nightlab.session.data_checks import data_checks
from nightlab.session.preflight import check_lab
from nightlab.storage.git import Repo

METRIC_HINT = "print METRIC name=value, e.g. METRIC loss=0.25, with the name that metric.name of lab.toml has"
LONG = 6.0  # seconds that the command may take in a check
POLL = 0.02

HINTS: tuple[tuple[str, str], ...] = (
    (
        r"No module named '?([\w.]+)",
        "install {0} for {python}, or use an environment that has it: the lab's .venv, or an active one",
    ),
    (
        r"error while loading shared libraries: ([\w.+-]+)|^(?:ImportError|OSError): (lib[\w.+-]+): cannot open shared",
        "put the folder of {0} into LD_LIBRARY_PATH: trials find the folders named there",
    ),
    (
        r"(?:Read-only file system|Permission denied): '?(?:/lab/)?([^'\n]+)'?",
        "frozen files and full folders are read-only: write {0} into $TMPDIR or a new folder; if it is an output that "
        "is committed: git rm --cached {0}, put it into .gitignore, commit",
    ),
    (
        r"can't open file '(?:/lab/)?([^'\n]+)'",
        "there is no {0} in the commit at HEAD: commit it, or fix its name in lab.toml",
    ),
    (
        r"No such file or directory: '?(?:/lab/)?([^'\n]+)'?|cannot open (?:/lab/)?([^'\n:]+)",
        "commit {0}, or if it is data, name its folder in data.open of lab.toml: by its path in the lab, or whole",
    ),
    (
        r"Name or service not known|Temporary failure in name resolution|Network is unreachable|ConnectionError",
        "trials have no network: fetch it in `prepare`, which has, and name the folder in data.open",
    ),
    (
        rf"execvp ({'|'.join(RUNNERS)}): No such file",
        "trials have no {0}, they start in the environment that it made: make it first ({0} sync or {0} install), with "
        "what the program needs; and leave out options of {0} run that take a value",
    ),
    (r"execvp ([^:\n]+\.py): (?:No such file|Permission denied)", "name the program that runs it: python {0}"),
    (
        r"execvp (cd|export|source|\.|set|ulimit|if|for|\w+=[^:\n]*): No such file",
        "a command runs without a shell, which {0} needs: write bash -c '…'",
    ),
    (r"execvp ([^:\n]+): No such file", "install {0} below /usr, or beside the trial's Python, or fix its name"),
    (r"(?:printed|number can be read in its last) [^\n]*\bMETRIC\b", METRIC_HINT),
)


def rehearse(repo: Repo, lab: LabConfig, sandbox: Sandbox) -> list[Check]:
    """In which environment the trials run, and whether the command, and what measures it, runs in the sandbox."""
    place = Path(tempfile.mkdtemp(prefix="nightlab-check-", dir=repo.git_dir))  # on the lab's disk, and out of sight
    place.chmod(0o755)
    device = this_platform().device
    budget = lab.budget.on(device)
    engine = LocalEngine(repo, lab, budget, device, place / "trials", sandbox)
    trial = Trial("check", 0, repo.resolve() or "", 1, "search", budget.record())
    try:
        return [*_environment(engine.layout.environment), *_try(engine, trial)]
    finally:
        engine.close()
        shutil.rmtree(place, ignore_errors=True)


def _try(engine: LocalEngine, trial: Trial, seconds: float = LONG) -> list[Check]:
    """Whether a trial runs: for ``seconds``, or to its end. A failure is no obstacle where ``prepare`` may help."""
    lab = engine.lab
    running: RunningTrial | None = None
    try:
        running = engine.start(trial)
        until = time.monotonic() + seconds
        while not running.finished() and time.monotonic() < until:
            time.sleep(POLL)
        if not running.finished():
            return [Check(f"its command ran in the sandbox for {seconds:g} s: {lab.command or lab.name}", True)]
        found = engine.collect(running)
        if found.measured:
            return [Check("its command was tried in the sandbox, and measured", True), *unmeasured(lab, found)]
        roles = ("candidate", "evaluator", *(["check0"] if found.outcome == "checks failed" else []))
        said = "\n".join(engine.log(trial.id, role).strip() for role in roles).strip()
        last = said.splitlines()[-1] if said else "it printed nothing"
        words = f"{found.outcome}: {found.detail}" if found.detail else found.outcome
        words = one_line(words if last in words else f"{words}; {last}", 300)
        python = f"the trial's Python, {engine.layout.environment.prefix or sys.prefix}"
        return [_failed(lab, words, hint_for(f"{said}\n{found.detail}", python))]
    except NightlabError as error:
        return [_failed(lab, str(error), error.hint or hint_for(""))]
    finally:
        if running and not running.finished():
            running.stop()
            _until_over(running)
        engine.clear(engine.folder / trial.id)


def check_thoroughly(repo: Repo, allow: Iterable[str] = ()) -> tuple[LabConfig, str, list[Check]]:
    """As ``check_lab``, and where that finds no obstacle, the command is tried."""
    sandbox = detect_sandbox()
    lab, source, checks = check_lab(repo, sandbox, allow)
    checks += data_checks(repo, lab)
    if all(check.ok or not check.fatal for check in checks):
        checks += rehearse(repo, lab, sandbox)
    return lab, source, checks


def _environment(found: Environment) -> list[Check]:
    """The Python environment of the lab's trials, and what of it is not the lab's own."""
    checks = [Check(f"trials run in the environment {found.prefix}", True)] if found.prefix else []
    for folder in found.own:
        checks.append(Check(f"{folder} is installed in place: a trial imports it from its own copy", True))
    for package in found.elsewhere:
        hint = "install it without -e; or name its folder in data.open, where trials can read it"
        checks.append(Check(f"{package} is installed in place, outside the lab", False, hint, fatal=False))
    return checks


def hint_for(said: str, python: str = "the trial's Python") -> str:
    """What to do about what a failed program printed. ``python``: what it ran in, in words."""
    for pattern, hint in HINTS:
        if found := re.search(pattern, said, re.MULTILINE):
            what = next((group for group in found.groups() if group), "")
            return hint.format(one_line(what, 120), python=python)
    return "run it by hand in a fresh clone of the lab, with no network; then fix the lab and commit"


def _failed(lab: LabConfig, words: str, hint: str) -> Check:
    what = f"its command fails in the sandbox: {words}"
    if lab.prepare:
        what += f" ({lab.prepare} runs before each session, and may bring what it lacks)"
        return Check(what, False, hint, fatal=False)
    return Check(what, False, hint)


def _until_over(running: RunningTrial) -> None:
    if running.process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.process.wait(timeout=10)
