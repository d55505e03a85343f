"""Follows a session from outside: the ledger that its writer is writing, and the folders of the trials under way.

The first look reads what a window needs and no more, in bounded queries; each later one only what was added since, so
that looking twice a second costs next to nothing, however long the session. It never holds the writer up.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nightlab.core.config import LabConfig, StopRules
from nightlab.core.events import (
    ContractChanged,
    EvidenceShown,
    Judged,
    LedgerEvent,
    MachineChanged,
    Proposed,
    Rechecked,
    ScaleFound,
    TrialFinished,
)
from nightlab.core.session_state import HOUR, TROUBLES
from nightlab.core.types import BASELINE, Experiment, Measurement, NightlabError, Trial
from nightlab.engines.local.trial_folder import trial_output
from nightlab.loop.controls import leave
from nightlab.session.replicates import replicates
from nightlab.storage.ledger import LEDGER, add_note, is_running_now
from nightlab.storage.ledger.reader import LedgerReader
from nightlab.storage.ledger.state import read_state
from nightlab.ui.latest_points import LatestPoints
from nightlab.ui.progress import duty_since, rate, stop_rules, trained_within
from nightlab.ui.running_trials import RunningTrials
from nightlab.ui.snapshot import ChampionStep, SessionSnapshot, TimedMessage, about, trouble_words

LAST = 400  # experiments that a picture shows one by one
MOST = 2000  # events that are taken in one by one; after more than these, all is read anew
LOOKS = 2.0  # seconds between looks at what is not in the ledger: the lock, the disk
TOUCHING = (Proposed, Judged, Rechecked, EvidenceShown)  # events that change an experiment
T = TypeVar("T")

if TYPE_CHECKING:
    from nightlab.ui.commons_status import CommonsMonitor


class Follower:
    """Looks at the session in ``folder``. All looks must come from one thread.

    Raises NightlabError when there is no ledger, or none that can be read, at the first look.
    """

    def __init__(self, folder: Path, last: int = LAST) -> None:
        self.folder, self.path, self.last = folder, folder / LEDGER, last
        self._feed: LedgerReader | None = None
        self._inode = 0
        self._picture: SessionSnapshot | None = None
        self._looked = 0.0
        self._running = RunningTrials(folder / "trials")
        self._outlook: CommonsMonitor | None = None

    def look(self) -> SessionSnapshot:
        """The session as it stands. Where it can't be read any more, as it stood, with the ``fault``."""
        try:
            self._follow()
        except (NightlabError, sqlite3.Error, OSError, ValueError, KeyError, TypeError) as error:
            self.close()
            if self._picture is None:
                raise error if isinstance(error, NightlabError) else NightlabError(
                    f"the ledger {self.path} can't be read: {error}",
                    "restore it from a backup, or start another session: nightlab run --tag NEW",
                ) from error  # fmt: skip
            fault = f"{error}".replace(f" {self.path}", "")  # a long path would hide the cause
            self._picture = replace(self._picture, fault=fault, alive=False, running=())
            return self._picture
        return self._drawn()

    def details(self, number: int) -> tuple[Experiment, list[tuple[Trial, Measurement | None]], str]:
        """An experiment, its trials, and the end of what the last of them printed."""
        if self._feed is None:
            raise NightlabError(f"the ledger {self.path} can't be read", "see: nightlab log")
        trials = self._feed.trials(number)
        log = trial_output(self.folder / "trials" / trials[-1][0].id) if trials else ""
        return self._feed.experiment(number), trials, log

    def order(self, order: str) -> None:
        """Leave an order for the session. Raises NightlabError when it can't be followed."""
        leave(self.folder, order)

    def note(self, words: str) -> None:
        """Tell the session's proposers something."""
        add_note(self.folder, words)

    def close(self) -> None:
        if self._feed:
            self._feed.close()
            self._feed = None
        if self._outlook:
            self._outlook.close()
            self._outlook = None

    # -- the ledger ------------------------------------------------------------------------------

    def _follow(self) -> None:
        inode = self.path.stat().st_ino if self.path.exists() else 0
        if self._feed is None or inode != self._inode:
            self.close()
            self._feed, self._inode = LedgerReader(self.path), inode
            self._read_all(self._feed)
            return
        with self._feed.moment():
            news = self._feed.journal(self.state.seq, MOST)
            anew = len(news) == MOST or any(isinstance(event, ContractChanged) for event in news)
            if not anew:
                self._take_in(self._feed, news)
        if anew:
            self._read_all(self._feed)

    def _read_all(self, feed: LedgerReader) -> None:
        """Read the session from the tables."""
        with feed.moment():
            self.state = read_state(feed)
            if self.state.session is None:
                raise NightlabError(f"the session in {self.folder} never began", "start one: nightlab run")
            taken = feed.latest(ContractChanged)
            self.lab = LabConfig.recorded(self.state.session.lab, taken.parts if taken else None)
            self.about = about(self.state.session, self.lab, self.state.run)
            self._points = LatestPoints(feed, self.lab.metric.record(), self.last)
            self._look_at_noise(feed)
            self._look_at_state()
        if self._outlook and not self.lab.commons:
            self._outlook.close()
            self._outlook = None
        if self.lab.commons and not self._outlook:
            # Few sessions take part in a commons, and it takes a while to import.
            from nightlab.ui.commons_status import CommonsMonitor

            self._outlook = CommonsMonitor(self.folder)

    def _take_in(self, feed: LedgerReader, news: list[LedgerEvent]) -> None:
        """Add what was recorded since the last look."""
        for event in news:
            self.state.apply(event)
        self._points.update(feed, {event.number for event in news if isinstance(event, TOUCHING)})
        if any(_tells_noise(feed, event) for event in news):
            self._look_at_noise(feed)
        if news:
            self._look_at_state()

    def _look_at_state(self) -> None:
        """What a snapshot takes from the state, made once for each change of it."""
        state, run = self.state, self.state.run
        self.steps = tuple(ChampionStep(number, value) for number, value in state.steps.items() if value is not None)
        self.shares = {who: share for who, share in state.shares.items() if who != BASELINE}
        self.alarms = tuple(TimedMessage(alarm.at, alarm.words) for alarm in state.alarms[-TROUBLES:])
        self.troubles = tuple(TimedMessage(event.at, trouble_words(event)) for event in state.troubles)
        self.run_begun, self.slots = (run.at, run.slots) if run else (self.about.begun, 1)
        self.stop = StopRules.model_validate(run.stop if run else {})

    def _look_at_noise(self, feed: LedgerReader) -> None:
        found = replicates(feed, self.about.budget, self.lab)
        known = [value for value in self.state.steps.values() if value is not None]
        self.relative = found.noise().relative
        noise = found.noise().local(known[-1] if known else found.baseline)
        self.sigma, self.replicates = noise.sigma, noise.replicates

    # -- the picture -----------------------------------------------------------------------------

    def _drawn(self) -> SessionSnapshot:
        now = time.time()
        before = self._picture
        if before is None or now - self._looked > LOOKS:
            self._looked = now
            alive, free = is_running_now(self.folder), 0.0
            with contextlib.suppress(OSError):
                free = shutil.disk_usage(self.folder).free / 2**20
        else:
            alive, free = before.alive, before.free_mb
        state, at = self.state, now if alive else self.state.at
        running = self._running.of(list(state.open.values()), self._points.by_number, now)
        hour = max(at - HOUR, self.run_begun)
        snapshot = SessionSnapshot(
            about=self.about,
            points=_same(tuple(self._points.by_number.values()), before.points if before else ()),
            steps=_same(self.steps, before.steps if before else ()),
            champion=self._points.champion,
            running=running,
            tally=dict(state.tally),
            proposers=self.shares,
            sigma=self.sigma,
            relative=self.relative,
            replicates=self.replicates,
            self_tests=state.self_tests.asked,
            self_kept=state.self_tests.kept,
            looks=state.self_tests.looks,
            parted=state.self_tests.parted,
            alarms=self.alarms,
            troubles=self.troubles,
            run_begun=self.run_begun,
            duty=duty_since(state.trained, self.run_begun, at, running, self.slots),
            duty_hour=duty_since(trained_within(state.recent, at - HOUR), hour, at, running, self.slots),
            rate=rate(state.verdicts, self.run_begun, at),
            paused=state.control.paused,
            pinned=state.control.pinned,
            alive=alive,
            stopped=state.stopped,
            last_event_at=state.at,
            commons=self._outlook.latest if self._outlook else None,
            machine=state.machine,
            free_mb=free,
            seq=state.seq,
        )
        self._picture = replace(snapshot, rules=tuple(stop_rules(self.stop, self.lab.judge.confirm, snapshot, at)))
        return self._picture


def _same(now: tuple[T, ...], before: tuple[T, ...]) -> tuple[T, ...]:
    """What was there before, if nothing differs: by that a window knows that there is nothing to draw."""
    return before if now == before else now


def _tells_noise(feed: LedgerReader, event: LedgerEvent) -> bool:
    """Whether the noise may be known better after an event."""
    return isinstance(event, MachineChanged | ScaleFound) or (
        isinstance(event, TrialFinished) and feed.tells_noise(event.id)
    )
