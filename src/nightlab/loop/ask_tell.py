"""A session without its loop: the caller asks for the next trial, runs it, and tells what it yielded."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nightlab.core.types import TOLD, Budget, Experiment, Measurement, NightlabError, Purpose
from nightlab.engines.caller import CallerEngine, CallersTrial
from nightlab.loop.loop import ExperimentLoop
from nightlab.session.session import Session
from nightlab.storage import checkouts
from nightlab.storage.git.exports import export

POLL = 0.02  # seconds between two looks at a proposer that thinks


class AskedTrial:
    """A trial that was asked for: one run of a candidate's genome with one seed under one budget.

    Example::

        trial = session.ask()
        print(trial.experiment.candidate.hypothesis, trial.seed, trial.budget)
        print(trial.genome["train.py"])         # the candidate's text, or all files of the lab: trial.folder
        session.tell(trial, session.measure(trial))
    """

    def __init__(self, session: Session, experiment: Experiment, handle: CallersTrial) -> None:
        self.experiment, self.handle, self._session = experiment, handle, session

    @property
    def id(self) -> str:
        """The trial's name in the ledger, e.g. ``0012-5f0c9a21b7d4``."""
        return self.handle.trial.id

    @property
    def purpose(self) -> Purpose:
        """What it is for: ``search``, ``pilot``, or ``"upkeep"``, the re-check of a champion, or ``"round"``, of a
        candidate and the champion in turn."""
        return self.handle.trial.purpose

    @property
    def seed(self) -> int:
        """The seed to give the program."""
        return self.handle.trial.given_seed

    @property
    def budget(self) -> Budget:
        return self.handle.trial.budget

    @property
    def genome(self) -> Mapping[str, str]:
        """The genome's text by path, relative to the lab's folder."""
        return self._session.genome(self.handle.trial.commit)

    @property
    def folder(self) -> Path:
        """A copy of the lab with this genome in it, written when it is first asked for. It goes once you tell."""
        place = self._place
        if not place.exists():
            export(self._session.repo, self.handle.trial.commit, place)
        return place

    @property
    def _place(self) -> Path:
        return self._session.folder / "asked" / self.id

    def remove_folder(self) -> None:
        """Remove the copy, if there is one."""
        checkouts.remove_tree(self._place)

    def __repr__(self) -> str:
        return f"AskedTrial({self.id!r}, seed={self.seed}, budget={str(self.budget)!r})"


class AskTell:
    """Takes the steps of a session's loop one by one. Its scheduler runs trials on ``engine``."""

    def __init__(self, loop: ExperimentLoop, engine: CallerEngine) -> None:
        self.loop, self.engine, self.session, self.ledger = loop, engine, loop.session, loop.ledger
        self.asked: dict[str, AskedTrial] = {}  # by the trial's id
        loop.resume()
        loop.scheduler.drain()  # what a run left behind was measured on the engine

    def ask(self) -> AskedTrial | None:
        """The next trial to run; None when the proposers have nothing, or all depends on trials that were asked for.

        Raises NightlabError when every slot has a trial that was not told.
        """
        scheduler, candidates = self.loop.scheduler, self.loop.candidates
        self.loop.update()
        self.asked = {name: asked for name, asked in self.asked.items() if name in scheduler.running}
        if not scheduler.free:
            waiting = ", ".join(self.asked)
            raise NightlabError(
                f"no slot is free: {waiting} was asked for and not told",
                "tell what it yielded first, or open the session with more slots",
            )
        while (request := self.loop.next_request()) is None:
            if not (candidates.turns.waiting or self.loop.hooks.busy) or candidates.nothing_left or scheduler.paused:
                return None
            time.sleep(POLL)
            self.loop.update()
        trial = self.loop.start(request)
        handle = scheduler.running[trial.id]
        assert isinstance(handle, CallersTrial)
        asked = self.asked[trial.id] = AskedTrial(self.session, self.ledger.experiment(trial.experiment), handle)
        return asked

    def measure(self, asked: AskedTrial) -> Measurement:
        """Run a trial in the sealed box, and wait for what it yields."""
        self._require(asked)
        return self.engine.measure(asked.handle)

    def tell(self, asked: AskedTrial, measurement: Measurement | float) -> Experiment:
        """Record what a trial yielded, and judge what can be judged now; returns its experiment."""
        self._require(asked)
        if not isinstance(measurement, Measurement):
            measurement = Measurement("measured", metric=_number(measurement))
        if measurement is not asked.handle.result:
            measurement = replace(measurement, detail=f"{TOLD}: {measurement.detail}".removesuffix(": "))
        asked.handle.measurement = measurement
        del self.asked[asked.id]
        asked.remove_folder()
        self.loop.update()
        return self.ledger.experiment(asked.experiment.number)

    def close(self) -> None:
        """Record that the trials that were not told came to nothing; they run again another time."""
        for asked in self.asked.values():
            asked.handle.stop()
            asked.remove_folder()
        self.asked.clear()
        self.loop.scheduler.drain()
        self.loop.end("the caller asks for no more trials")

    def _require(self, asked: AskedTrial) -> None:
        if self.asked.get(asked.id) is not asked:
            raise NightlabError(f"trial {asked.id} does not wait for a measurement", "ask for the next: session.ask()")


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise NightlabError(
            f"{value!r} is no measurement", "tell a number, or what session.measure(trial) returned"
        ) from None
