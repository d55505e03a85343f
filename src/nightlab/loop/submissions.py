"""Candidates from outside the loop: handed in, measured by the session's process, asked after until a verdict."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nightlab.core.config import StopRules
from nightlab.core.observer import Observer
from nightlab.core.text import one_line
from nightlab.core.types import Experiment, NightlabError
from nightlab.loop.controls import paused, paused_words
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.session.create import start_session
from nightlab.session.preflight import committed_contract
from nightlab.session.replicates import SUBMITTERS
from nightlab.session.session import open_session
from nightlab.storage.git import Repo, in_genome
from nightlab.storage.ledger import (
    SessionBusy,
    find_ledger,
    find_session,
    is_running_now,
    pending_submissions,
    state_folder,
    submit,
    waits,
)

State = Literal["waiting", "running", "judged", "refused"]
LOOK = 0.2  # seconds between two looks at the ledger
KEPT = 8  # genomes that an edit may have started from
LOG = "tries.log"  # what the processes said that measured tries in the background
SAID = 2000  # characters of it that count


@dataclass(frozen=True, slots=True)
class SubmissionStatus:
    """How far a candidate is. ``id`` is what to ask with, ``why`` the reason for which it was refused, or has to wait
    because its session is ``paused``; ``opened`` says why it is in that session, where this is new or has changed."""

    session: str
    id: str
    state: State
    why: str = ""
    experiment: Experiment | None = None
    paused: bool = False
    opened: str = ""

    @property
    def answered(self) -> bool:
        return self.state in ("judged", "refused")

    @property
    def kept(self) -> bool:
        return self.experiment is not None and self.experiment.kept

    def facts(self) -> dict[str, Any]:
        experiment = self.experiment.to_dict() if self.experiment else None
        return {
            "session": self.session,
            "id": self.id,
            "state": self.state,
            "why": self.why,
            "experiment": experiment,
        }


def hand_over(
    lab: Path, tag: str | None, hypothesis: str, device: str | None, allow: Iterable[str]
) -> SubmissionStatus:
    """Hand the working copy's edit of the genome in, to a session that runs or not; begin one if there is none.

    The edit counts against what it is nearest to: HEAD, or one of the last kept genomes; the champion may have moved
    on since. Returns within seconds. Raises NightlabError when nothing is edited, or the lab can't run.
    """
    if lab.is_dir():  # before a session is made for nothing
        _edited(Repo(lab), committed_contract(Repo(lab))[1].genome)
    try:
        session, opened = start_session(lab, tag, device, allow, dirty_genome=True, prepare=False)
    except SessionBusy as busy:
        session, opened = open_session(lab, busy.tag), ""
    kept = [experiment.candidate.commit for experiment in reversed(session.ledger.experiments(KEPT, "keep"))]
    session.close()
    repo = Repo(lab)
    edited = _edited(repo, session.lab.genome)
    base, patch = repo.working_patch(edited, kept)
    if not patch:
        raise NightlabError(f"{', '.join(edited)} is as it was kept already", "edit it, then run this again")
    name = submit(session.folder, one_line(hypothesis), patch, base)
    return SubmissionStatus(session.tag, name, "waiting", opened=opened)


def _edited(repo: Repo, genome: tuple[str, ...]) -> list[str]:
    """The genome's files with uncommitted changes. Raises NightlabError when there is none."""
    edited = [path for path in repo.dirty() if in_genome(path, genome)]
    if not edited:
        raise NightlabError(
            f"no genome file has uncommitted changes ({', '.join(genome)})",
            "edit one and run this again; to measure an experiment again: nightlab replay N",
        )
    return edited


def look(lab: Path, tag: str | None, name: str) -> SubmissionStatus:
    """How far a candidate is, by the id it was handed in with or the number of its experiment.

    Raises NightlabError when there is none.
    """
    tag = find_session(lab, tag)
    in_line = waits(state_folder(lab) / tag, name)  # before the ledger, which knows it before its file goes
    ledger = find_ledger(lab, tag)
    try:
        experiment = ledger.experiment(int(name)) if name.isdecimal() else ledger.by_source(name)
        why, held = ledger.refusal(name), paused(ledger, state_folder(lab) / tag)
    finally:
        ledger.close()
    waiting = f"paused: {paused_words(tag)}" if held else ""
    if experiment and experiment.verdict:
        return SubmissionStatus(tag, name, "judged", "", experiment)
    if experiment:
        return SubmissionStatus(tag, name, "running", waiting, experiment, held)
    if why or in_line:
        return SubmissionStatus(tag, name, "refused" if why else "waiting", why or waiting, None, held)
    raise NightlabError(f"nothing was handed in to session {tag} as {name!r}", "see: nightlab log")


def wait(measurer: SubmissionRunner, name: str, seconds: float | None) -> SubmissionStatus:
    """Wait for a verdict, at most ``seconds``; returns how far it is by then.

    Raises NightlabError when no process would measure it.
    """
    end = time.monotonic() + seconds if seconds is not None else None
    while True:
        found = look(measurer.lab, measurer.tag, name)
        if found.answered or (end is not None and time.monotonic() >= end):
            return found
        measurer.attend(found)
        time.sleep(LOOK)


def measure_submissions(lab: Path, tag: str, device: str | None, allow: Iterable[str], view: Observer) -> None:
    """Measure what waits in a session, here and now, until a pause. Raises Busy when another process runs it."""
    while True:
        session, _ = start_session(lab, tag, device, allow, dirty_genome=True)
        scheduler = Scheduler(session, view)
        try:
            ExperimentLoop(session, StopRules(), scheduler).answer()
        finally:
            session.close()
        if scheduler.paused or not pending_submissions(
            session.folder
        ):  # when others can take over again: nothing falls between
            return


def measure_all(lab: Path, tag: str, device: str | None, allow: Iterable[str], view: Observer) -> None:
    """As ``measure``, after another process that holds the session: it may only be handing something in."""
    while True:
        try:
            return measure_submissions(lab, tag, device, allow, view)
        except SessionBusy:
            time.sleep(LOOK)
            if not pending_submissions(state_folder(lab) / tag):
                return None


class SubmissionRunner:
    """Sees to it that tries get measured: by the process that runs the session, else by a process in the background."""

    def __init__(self, lab: Path, tag: str, device: str | None = None, allow: Iterable[str] = ()) -> None:
        self.lab, self.tag, self.device, self.allow = lab, tag, device, list(allow)
        self.folder = state_folder(lab) / tag
        self._process: subprocess.Popen[bytes] | None = None

    def attend(self, what: SubmissionStatus) -> None:
        """Start measuring unless a process does. Raises NightlabError when that failed, or it is not ours to start."""
        if self._process and self._process.poll() is None:
            return
        process, self._process = self._process, None
        if process and process.returncode:
            raise NightlabError(f"{what.id} can't be measured: {self._said()}", f"see {self.folder / LOG}")
        if is_running_now(self.folder) or what.paused:
            return
        if what.experiment and what.experiment.candidate.proposer not in SUBMITTERS:
            raise NightlabError(
                f"experiment {what.id} has no verdict yet, and no process runs session {self.tag}",
                f"go on with it: nightlab run --tag {self.tag}",
            )
        self._start()

    def _start(self) -> None:
        command = [
            sys.executable,
            "-c",
            "from nightlab.cli.main import main; main()",
            "try",
            "--waiting",
            "--tag",
            self.tag,
        ]
        command += ["--device", self.device] if self.device else []
        command += [word for name in self.allow for word in ("--allow-missing", name)]
        with (self.folder / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.lab, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _said(self) -> str:
        text = (self.folder / LOG).read_text(errors="replace", encoding="utf-8")[-SAID:]
        return " ".join(text.rpartition("nightlab: ")[2].split())
