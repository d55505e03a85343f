"""Imports another program's log as a session for viewing: nothing is run, and its numbers do not count as measured."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nightlab import __version__
from nightlab.core.config import BudgetConfig
from nightlab.core.events import SessionStarted
from nightlab.core.files import read_plain
from nightlab.core.types import REPORTED, Candidate, Goal, Measurement, Metric, NightlabError, Platform, Verdict
from nightlab.integrations.foreign import ForeignLog, ForeignRow, read_foreign_log
from nightlab.session.preflight import contract_at
from nightlab.session.session import fresh_tag
from nightlab.storage.git import Repo, make_repo
from nightlab.storage.ledger import LEDGER, Ledger, make_state_folder, write_results

UNKNOWN = Platform("cpu", "", "an unknown machine", 0, "unknown", "unknown")
LARGEST = 64 * 2**20  # bytes of a log
HASH = re.compile(r"[0-9a-f]{4,40}")


def bring_in(
    file: Path, lab: Path | None, branch: str | None, tag: str | None, goal: Goal | None, folder: Path | None
) -> tuple[Path, str, ForeignLog]:
    """Write a session from another program's log. Returns its lab's folder, its tag, and the parsed log.

    ``lab``: the repository with its commits; the session is added to that lab. Otherwise a new repository ``folder`` is
    created, which contains the log. Raises NightlabError for an unreadable log.
    """
    try:
        raw = read_plain(file, LARGEST)
    except OSError as error:
        raise NightlabError(f"{file} is unreadable: {error.strerror}", "give a results.tsv or a log.jsonl") from None
    log = read_foreign_log(raw, str(file), goal)
    if lab is None:
        home = _home(file, folder, log)
        repo, commits = Repo(home), _Commits(None, "")
    else:
        home, repo = lab, Repo(lab)
        commits = _Commits(repo, branch or "HEAD")
    short = (branch or "").split("/")[-1]
    tag = fresh_tag(repo, tag or re.sub(r"[^\w.+-]+", "-", short).strip("-.+") or "imported")
    facts = _facts(file, raw, log, repo, commits, tag)
    state = make_state_folder(repo.lab) / tag
    state.mkdir(exist_ok=True)
    draft = state / f"{LEDGER}.new"
    draft.unlink(missing_ok=True)
    clock = [log.claims[0].at or 0.0]
    ledger = Ledger(draft, clock=lambda: clock[0])
    with ledger.at_once():
        ledger.append(facts)
        for claim, candidate, at in _candidates(log, commits):
            clock[0] = at
            _write(ledger, log, claim, candidate)
    metric = Metric(log.metric, log.goal, log.unit)
    write_results(state / "results.tsv", metric, ledger)
    for number, commit in commits.astray(ledger):
        repo.keep_reachable(tag, f"{number:06d}", commit)
    ledger.close()
    os.replace(draft, state / LEDGER)
    return home, tag, log


class _Commits:
    """The commits named by a log, as far as a repository has them, with the times of those on its branch."""

    def __init__(self, repo: Repo | None, branch: str) -> None:
        self.repo, self.branch = repo, branch
        self.known: dict[str, str] = {}
        self.on_branch: dict[str, float] = {}
        if repo is not None:
            if repo.resolve(branch) is None:
                raise NightlabError(f"{repo.lab} has no branch {branch}", "see: git branch --all")
            self.on_branch = repo.history(branch)

    def full(self, said: str) -> str:
        """The full id of a commit named by a log; unchanged if the repository does not have it."""
        if self.repo is None or not HASH.fullmatch(said):
            return said
        if said not in self.known:
            near = (commit for commit in self.on_branch if commit.startswith(said))
            self.known[said] = next(near, None) or self.repo.resolve(said) or said
        return self.known[said]

    def tree(self, commit: str) -> str:
        return self.repo.tree(commit) if self.repo and len(commit) == 40 and commit in self.known.values() else ""

    def astray(self, ledger: Ledger) -> Iterator[tuple[int, str]]:
        """The experiments whose commit exists but is on no known branch, so that git would delete it."""
        for experiment in ledger.experiments():
            commit = experiment.candidate.commit
            if len(commit) == 40 and commit not in self.on_branch and commit in self.known.values():
                yield experiment.number, commit


def _candidates(log: ForeignLog, commits: _Commits) -> Iterator[tuple[ForeignRow, Candidate, float]]:
    """Each row as a candidate based on the last kept one, with its own time, its commit's, or one by its position."""
    champion, at = "", 0.0
    for claim in log.claims:
        commit = commits.full(claim.commit)
        at = max(claim.at or commits.on_branch.get(commit, 0.0), at)
        tree = commits.tree(commit)
        yield claim, Candidate(commit, champion or commit, tree, log.by, claim.description or "(no description)"), at
        if claim.status == "keep":
            champion = commit


def _write(ledger: Ledger, log: ForeignLog, claim: ForeignRow, candidate: Candidate) -> None:
    claims = {"peak_vram_mb": claim.memory_mb} if claim.memory_mb is not None else {}
    outcome: Any = "crashed" if claim.status == "crash" else REPORTED
    measured = Measurement(outcome, claim.value, secondary=claim.others, detail=claim.detail, claims=claims)
    detail = f"by {log.by}, line {claim.line}{f', {claim.detail}' if claim.detail else ''}; not measured by nightlab"
    ledger.judge(ledger.propose(candidate), measured, Verdict(claim.status, REPORTED, detail))


def _facts(file: Path, raw: bytes, log: ForeignLog, repo: Repo, commits: _Commits, tag: str) -> SessionStarted:
    base = commits.full(log.claims[0].commit)
    genome = ["**"]
    if commits.tree(base):
        with suppress(NightlabError):  # its layout may be unknown
            genome = list(contract_at(repo, base)[0].genome)
    metric = {"name": log.metric, "goal": log.goal, "unit": log.unit}
    return SessionStarted(
        tag=tag,
        base=base,
        lab={
            "name": re.sub(r"[^\w.-]+", "-", log.name).strip("-.") or log.by,
            "genome": genome,
            "command": "false",  # nothing is run here
            "metric": metric,
        },
        source=f"imported from {file.name}",
        budget=BudgetConfig().model_dump(),
        platform=asdict(UNKNOWN),
        version=__version__,
        imported={
            "file": file.name,
            "sha256": hashlib.sha256(raw).hexdigest(),
            "by": log.by,
            "at": time.time(),
            "branch": commits.branch,
            "faults": list(log.faults[:20]),
        },
    )


def _home(file: Path, folder: Path | None, log: ForeignLog) -> Path:
    """A new repository that contains the log, for sessions whose commits are not available."""
    names = [Path("imported"), *(Path(f"imported-{n}") for n in range(2, 1000))]
    home = folder or next(name for name in names if not name.exists())
    if home.exists():
        raise NightlabError(f"{home} exists already", "choose another name, or --repo FOLDER for a repository")
    home.mkdir(parents=True)
    shutil.copyfile(file, home / file.name)
    make_repo(home, f"{file.name} of {log.by}, imported")
    return home
