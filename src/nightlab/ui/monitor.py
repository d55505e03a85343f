"""Follows a session from outside: the ledger that its writer is writing, and the folders of the trials under way.

The first look reads what a window needs and no more, in bounded queries; each later one only what was added since, so
that looking twice a second costs next to nothing, however long the session. It never holds the writer up.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nightlab.core.config import Lab, StopRules
from nightlab.core.types import BASELINE, Experiment, Measurement, NightlabError, ProposerShare, Trial
from nightlab.engines.local.trial_folder import printed
from nightlab.loop.controls import ControlState, leave
from nightlab.session.replicates import replicates
from nightlab.storage.ledger import LEDGER, add_note, is_running_now
from nightlab.storage.ledger.ledger import Event
from nightlab.storage.ledger.reader import LedgerReader
from nightlab.ui.progress import HOUR, RECENT, duty_since, rate, stop_rules, trained_within
from nightlab.ui.running_trials import RunningTrials
from nightlab.ui.snapshot import (
    ChampionStep,
    ExperimentPoint,
    SessionSnapshot,
    TimedMessage,
    about,
    point_of,
    trouble_words,
)

LAST = 400  # experiments that a picture shows one by one
MOST = 2000  # events that are taken in one by one; after more than these, all is read anew
LOOKS = 2.0  # seconds between looks at what is not in the ledger: the lock, the disk
TROUBLES = 20  # that are remembered
TOLD = ("slot lost", "cluster", "machine", "hook before", "hook after")  # kinds of events
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
        self._flights = RunningTrials(folder / "trials")
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
            self._picture = replace(self._picture, fault=fault, alive=False, flights=())
            return self._picture
        return self._drawn()

    def details(self, number: int) -> tuple[Experiment, list[tuple[Trial, Measurement | None]], str]:
        """An experiment, its trials, and the end of what the last of them printed."""
        if self._feed is None:
            raise NightlabError(f"the ledger {self.path} can't be read", "see: nightlab log")
        trials = self._feed.trials(number)
        log = printed(self.folder / "trials" / trials[-1][0].id) if trials else ""
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
            news = self._feed.events(self.seq, MOST)
            if len(news) < MOST:
                self._take_in(self._feed, news)
        if len(news) == MOST:
            self._read_all(self._feed)

    def _read_all(self, feed: LedgerReader) -> None:
        """Everything from the tables."""
        with feed.moment():
            facts = feed.session()
            if facts is None:
                raise NightlabError(f"the session in {self.folder} never began", "start one: nightlab run")
            self.seq = feed.last_event()
            self.last_event_at = feed.last_event_at()
            self.lab = Lab.recorded(facts["lab"])
            self.metric = self.lab.metric.record()
            self.parents: dict[str, int | None] = {}
            began, opened = feed.latest("session"), feed.latest("opened")
            self.about = about(facts, self.lab, began.at if began else 0.0, opened.data["allowed"] if opened else [])
            self.points = {e.number: self._point(feed, e) for e in feed.experiments(self.last)}
            self.steps = {number: ChampionStep(number, value) for number, value in feed.keeps()}
            champion = feed.champion()
            self.champion = self._point(feed, champion) if champion else None
            self.tally = {str(status): count for status, count in feed.tally().items() if status}
            self.shares = {who: share for who, share in feed.shares().items() if who != BASELINE}
            self.self_tests = feed.self_tests()
            self.alarms = [TimedMessage(note["at"], note["words"]) for note in feed.notes("alarm", last=TROUBLES)]
            self.state = ControlState()
            orders = feed.notes("order")
            for note in orders:
                self._order(note)
            notes = [(kind, note) for kind in TOLD for note in feed.notes(kind, last=TROUBLES)]
            self.troubles: deque[TimedMessage] = deque(maxlen=TROUBLES)
            for kind, note in sorted([*notes, *(("order", note) for note in orders)], key=lambda one: one[1]["at"]):
                self._trouble(kind, note["at"], note)
            self._open_run(opened)
            stopped = feed.latest("stopped")
            self.stopped = stopped.data["reason"] if stopped and stopped.seq > self.opened else ""
            self.trained = deque(feed.trained(self.opened))
            self.training = sum(seconds for _, seconds in self.trained)
            self._forget_training()
            self.judged = deque(feed.verdict_times(max(self.run_begun, self.last_event_at - HOUR)))
            recent = [p.judged_at for p in self.points.values() if p.judged_at and p.judged_at >= self.run_begun]
            if len(self.judged) <= RECENT:
                self.judged = deque(sorted(recent)[-RECENT - 1 :])
            self.open = feed.open_trials()
            self._noise(feed)
            self.machine = self._machine(feed)
        if self.lab.commons and not self._outlook:
            from nightlab.ui.commons_status import (
                CommonsMonitor,  # few sessions take part in a commons, and it takes a while to import
            )

            self._outlook = CommonsMonitor(self.folder)

    def _take_in(self, feed: LedgerReader, news: list[Event]) -> None:
        """What was added since the last look."""
        touched: set[int] = set()
        flew = noisy = False
        for event in news:
            data, kind = event.data, event.kind
            self.seq, self.last_event_at = event.seq, event.at
            if kind in ("proposed", "judged", "upkeep", "evidence"):
                touched.add(data["number"])
            if kind == "proposed":
                candidate = data["candidate"]
                self._share(candidate["proposer"], candidate.get("usage", {}), tried=1)
            elif kind in ("started", "finished"):
                flew = True
            elif kind == "judged":
                status = data["verdict"]["status"]
                self.tally[status] = self.tally.get(status, 0) + 1
                self.judged.append(event.at)
            elif kind == "refused":
                self._share(data["proposer"], data.get("usage", {}), failed=1)
            elif kind == "upkeep":
                look = data.get("look")
                more = data["would"] != "not asked", data["would"] == "keep", bool(look), bool(look and look["parted"])
                asked, kept, looks, parted = map(sum, zip(self.self_tests, more, strict=True))
                self.self_tests = asked, kept, looks, parted
            elif kind == "alarm":
                self.alarms = [*self.alarms, TimedMessage(event.at, data["words"])][-TROUBLES:]
            elif kind == "order":
                self._order(data)
            elif kind == "opened":
                self._open_run(event)
                self.stopped, self.training = "", 0.0
                self.trained.clear()
                self.judged.clear()
            elif kind == "stopped":
                self.stopped = data["reason"]
            if kind == "finished":
                seconds = data["measurement"]["training_seconds"]
                self.training += seconds
                self.trained.append((event.at, seconds))
                self.machine = data["measurement"].get("machine") or self.machine
            noisy |= kind == "machine" or (kind == "finished" and feed.tells_noise(data["id"]))
            self._trouble(kind, event.at, data)
        for number in sorted(touched):
            self._look_again(feed, feed.experiment(number), {e.data["number"] for e in news if e.kind == "judged"})
        if flew:
            self.open = feed.open_trials()
        if noisy:
            self._noise(feed)
        self._forget_training()
        while len(self.judged) > RECENT + 1 and self.judged[0] < self.last_event_at - HOUR:
            self.judged.popleft()

    def _look_again(self, feed: LedgerReader, experiment: Experiment, judged: set[int]) -> None:
        point = self._point(feed, experiment)
        if point.number in self.points or point.number > max(self.points, default=-1):
            self.points[point.number] = point
        while len(self.points) > self.last:
            del self.points[next(iter(self.points))]
        if not experiment.kept or point.judged_at is None:
            return
        if point.number in judged:
            if point.proposer != BASELINE:
                share = self.shares.get(point.proposer, ProposerShare())
                self.shares[point.proposer] = replace(share, kept=share.kept + 1)
            if self.champion is None or point.judged_at >= (self.champion.judged_at or 0.0):
                self.champion = point
        elif self.champion and self.champion.number == point.number:
            self.champion = point
        value = point.bar if point.bar is not None else point.metric
        if value is not None:
            self.steps[point.number] = ChampionStep(point.number, value)

    def _point(self, feed: LedgerReader, experiment: Experiment) -> ExperimentPoint:
        commit, parent = experiment.candidate.commit, experiment.candidate.parent
        self.parents[commit] = experiment.number
        if parent not in self.parents:
            self.parents[parent] = feed.numbered(parent)
        return point_of(experiment, self.metric, self.parents[parent] if parent != commit else None)

    def _open_run(self, event: Event | None) -> None:
        """A run of the session began: with its stop rules and slots, where it was written by one that says them."""
        data = event.data if event else {}
        self.opened, self.run_begun = (event.seq, event.at) if event else (0, self.about.begun)
        self.stop = StopRules.model_validate(data.get("stop", {}))
        self.slots = int(data.get("slots", 1))

    def _noise(self, feed: LedgerReader) -> None:
        noise = replicates(feed, self.about.budget, self.lab.judge.sigma).noise()
        self.sigma, self.replicates = noise.sigma, noise.replicates

    def _machine(self, feed: LedgerReader) -> dict[str, float | str]:
        found = [m.machine for _, m in feed.trials(last=10) if m and m.machine]
        return found[-1] if found else {}

    def _share(self, who: str, usage: dict[str, Any], *, tried: int = 0, failed: int = 0) -> None:
        if who != BASELINE:
            had = self.shares.get(who, ProposerShare())
            self.shares[who] = ProposerShare(had.tried + tried, had.kept, had.failed + failed, had.spent.plus(usage))

    def _order(self, note: dict[str, Any]) -> None:
        if not note["refused"]:
            self.state = self.state.and_then(note["order"])

    def _trouble(self, kind: str, at: float, note: dict[str, Any]) -> None:
        if words := trouble_words(kind, note):
            self.troubles.append(TimedMessage(at, words))

    def _forget_training(self) -> None:
        while self.trained and self.trained[0][0] < self.last_event_at - HOUR:
            self.trained.popleft()

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
        at = now if alive else self.last_event_at
        flights = self._flights.of(self.open, self.points, now)
        asked, kept, looks, parted = self.self_tests
        snapshot = SessionSnapshot(
            about=self.about,
            points=_same(tuple(self.points.values()), before.points if before else ()),
            steps=_same(tuple(self.steps.values()), before.steps if before else ()),
            champion=self.champion,
            flights=flights,
            tally=dict(self.tally),
            proposers=dict(self.shares),
            sigma=self.sigma,
            replicates=self.replicates,
            self_tests=asked,
            self_kept=kept,
            looks=looks,
            parted=parted,
            alarms=tuple(self.alarms),
            troubles=tuple(self.troubles),
            run_begun=self.run_begun,
            duty=duty_since(self.training, self.run_begun, at, flights, self.slots),
            duty_hour=duty_since(
                trained_within(self.trained, at - HOUR), max(at - HOUR, self.run_begun), at, flights, self.slots
            ),
            rate=rate(self.judged, self.run_begun, at),
            paused=self.state.paused,
            pinned=self.state.pinned,
            alive=alive,
            stopped=self.stopped,
            last_event_at=self.last_event_at,
            commons=self._outlook.latest if self._outlook else None,
            machine=self.machine,
            free_mb=free,
            seq=self.seq,
        )
        self._picture = replace(snapshot, rules=tuple(stop_rules(self.stop, self.lab.judge.confirm, snapshot, at)))
        return self._picture


def _same(now: tuple[T, ...], before: tuple[T, ...]) -> tuple[T, ...]:
    """What was there before, if nothing differs: by that a window knows that there is nothing to draw."""
    return before if now == before else now
