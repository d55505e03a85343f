"""Population-based training: members train at once, and the worst go on from the best with other constants.

Asynchronous: a member that has ended a part goes on at once, compared with those that have ended the same part by then.
A checkpoint is a history, so what a population yields is its schedule: the winner's constants over its training, as an
ordinary genome. Nothing of the population is judged; the schedule is handed in as a candidate, and trains from nothing.
Everything is read from the ledger, so that a population that was killed goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NoReturn

from nightlab.core.events import PopulationEnded, PopulationStarted
from nightlab.core.types import Budget, Evidence, Experiment, Measurement, NightlabError, Segment, Trial
from nightlab.engines.local.engine import LocalEngine
from nightlab.engines.remote import ClusterEngine
from nightlab.loop.controls import paused_words
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.population import Training
from nightlab.loop.scheduler import RunInterrupted
from nightlab.proposers import change_constants, find_constants
from nightlab.proposers.schedules import (
    MARK,
    NONE_MOVES,
    Schedule,
    moving_constants,
    stretched,
    truncation,
)
from nightlab.session.replicates import POPULATION, POPULATION_SEED
from nightlab.storage.ledger import Ledger, submit

MEMBERS, PARTS = 8, 10  # of a population, where nothing else is asked for
FEWEST, MOST = 2, 64  # parts: a constant's tuple has at most 64 values
CONTRACT = "add [population] to lab.toml, and let training save and go on from checkpoints: docs/populations.md"


class PopulationTrainer:
    """Trains one population in a session: the one that was begun and has not ended, or a new one."""

    def __init__(
        self, loop: ExperimentLoop, members: int | None = None, parts: int | None = None, seed: int = 0
    ) -> None:
        self.loop, self.scheduler, self.session, self.ledger = loop, loop.scheduler, loop.session, loop.ledger
        if not isinstance(self.scheduler.engine, LocalEngine | ClusterEngine):
            raise NightlabError("this engine can't hand checkpoints over", "use this machine, or a cluster (--engine)")
        begun = self.ledger.latest(PopulationStarted)
        end = self.ledger.latest(PopulationEnded)
        if begun and (end is None or end.population != begun.population):
            if (members or begun.members, parts or begun.parts) != (begun.members, begun.parts):
                raise NightlabError(
                    f"population {begun.population} of {begun.members} members in {begun.parts} parts has not ended",
                    "let it end first: nightlab pbt",
                )
            self.started = begun
        else:
            self.started = self._new(members or MEMBERS, parts or PARTS, seed, begun.population + 1 if begun else 1)
        self.parent = self.ledger.experiment(self.started.number)
        self.path, self.text = self._genome(self.parent)
        found = moving_constants(self.text, self.session.device, self.session.lab)
        self.spaces = {name: found[name][1] for name in self.started.constants}
        self.base = {name: stretched(found[name][0].value, self.started.parts) for name in self.started.constants}
        self.checkpoints = self.session.local_engine.checkpoints(self.started.population)
        self.training = Training(self.started, self.session.metric)
        for trial, measured in self.ledger.trials(purpose="population"):
            self.training.add(trial, measured)

    def run(self) -> PopulationEnded:
        """Train until every member is done, and hand the schedule in as a candidate.

        Raises NightlabError where all members died, and RunInterrupted when the user wants to stop.
        """
        while not self.training.complete:
            self.loop.steering.apply_pending()
            self._start_parts()
            if not self.scheduler.running:
                self._require_going_on()
            self.scheduler.wait()
            for trial, measured in self.scheduler.finished():
                self._on_finished(trial, measured)
        return self._hand_in()

    def schedule(self, commit: str) -> Schedule:
        """The values over training of the constants that move, as a genome has them."""
        text = self.session.genome(commit)[self.path]
        found, parts = find_constants(text, self.session.device), self.started.parts
        return {name: stretched(found[name].value, parts) for name in self.started.constants}

    # -- internal --------------------------------------------------------------------------------

    def _new(self, members: int, parts: int, seed: int, number: int) -> PopulationStarted:
        if members < 2:
            raise NightlabError(f"a population of {members} has none to compare with", "give at least 2 members")
        if not FEWEST <= parts <= MOST:
            raise NightlabError(f"{parts} parts of a training are not {FEWEST} to {MOST}", "see: nightlab pbt -h")
        champion = self.session.champion()
        _, text = self._genome(champion)
        names = moving_constants(text, self.session.device, self.session.lab)
        started = PopulationStarted(number, champion.number, members, parts, tuple(names), seed)
        self.ledger.append(started)
        return started

    def _genome(self, parent: Experiment) -> tuple[str, str]:
        """The genome file with constants that move, by path and text: the first that has some."""
        for path, text in self.session.genome(parent.candidate.commit).items():
            if moving_constants(text, self.session.device, self.session.lab):
                return path, text
        raise NightlabError(NONE_MOVES, MARK)

    def _start_parts(self) -> None:
        for member in self.training.waiting():
            if not self.scheduler.free or self.scheduler.asked_to_stop or self.scheduler.paused:
                return
            self._start(member)

    def _start(self, member: int) -> None:
        """Start a member's next part: where it was, or where a better one is, with other constants."""
        started, part = self.started, self.training.done(member) + 1
        source, schedule = self.training.plan(member, self.base, self.spaces, lambda one: self.schedule(one.commit))
        after, checkpoint = (source[0].id, source[1].checkpoint) if source else ("", "")
        now = {name: values[part - 1] for name, values in schedule.items()}
        whole = self.session.budget.record()
        trial = self.scheduler.start(
            started.number,
            "population",
            POPULATION_SEED,  # of all members: their differences are their constants', and no seed's luck
            budget=Budget(whole.clock, whole.amount / started.parts),
            commit=self._commit(schedule, f"population-{started.population}-{member}-{part}"),
            segment=Segment(started.population, member, part, started.parts, checkpoint, after, now),
        )
        self.training.add(trial, None)

    def _commit(self, schedule: Schedule, name: str) -> str:
        """The genome with a schedule, kept reachable; that of the experiment itself where nothing differs."""
        values = {name: course[0] if len(set(course)) == 1 else course for name, course in schedule.items()}
        text, repo = change_constants(self.text, self.session.device, values), self.session.repo
        if text == self.text:
            return self.parent.candidate.commit
        commit = repo.commit_files(self.parent.candidate.commit, {self.path: text}, name)
        repo.keep_reachable(self.session.tag, name, commit)
        return commit

    def _on_finished(self, trial: Trial, measured: Measurement) -> None:
        self.training.add(trial, measured)
        self.scheduler.view.measured(trial, measured, self.session.metric, variant=True)
        if trial.segment:
            self.checkpoints.keep_only(self.training.known(), self.training.needed())

    def _require_going_on(self) -> None:
        """Raise RunInterrupted or NightlabError where nothing runs and no member can go on."""
        if self.scheduler.asked_to_stop:
            raise RunInterrupted
        if self.scheduler.paused:
            raise NightlabError(f"session {self.session.tag} is paused", paused_words(self.session.tag))
        if not self.training.waiting():
            self._died_out()

    def _died_out(self) -> NoReturn:
        (member, part), why = max(self.training.died.items(), key=lambda one: one[0][1])
        raise NightlabError(
            f"population {self.started.population} died out in part {part}: member {member} {why}",
            "fix the lab and commit; a fresh session starts with: nightlab pbt --tag NEW",
        )

    def _hand_in(self) -> PopulationEnded:
        """Hand in the winner's schedule, once; nothing where that is the genome that the population began with."""
        number, repo, training = self.started.population, self.session.repo, self.training
        scores = training.scores(self.started.parts)
        if not scores:
            self._died_out()
        winner = truncation(scores, self.session.metric)[1][0]
        trial, _ = training.ended[self.started.parts][winner]
        base, source, schedule = self.parent.candidate.commit, "", self.schedule(trial.commit)
        if trial.commit != base:
            words = ", ".join(f"{name} {course_words(values)}" for name, values in schedule.items())
            source = submit(
                self.session.folder,
                f"the schedule of population {number}: {words}",
                repo.patch(base, trial.commit),
                base,
                name=f"population-{number}",
                proposer=POPULATION,
            )
        spent = round(training.trained, 3), round(training.budgets, 6)
        history = tuple(one.id for one in training.lineage(trial))
        end = PopulationEnded(number, winner, trial.id, source, schedule, *spent, history, training.histories())
        self.ledger.append(end)
        self.checkpoints.remove()
        return end


@dataclass(frozen=True, slots=True)
class PopulationResult:
    """What a population came to, and its schedule as an ``experiment`` that trained from nothing.

    ``experiment``: None where the schedule is what the population began with, or was refused; ``why`` says which.
    ``evidence``: its gain on fresh seeds, where it was kept and then measured again.
    """

    ended: PopulationEnded
    experiment: Experiment | None
    why: str = ""
    evidence: Evidence | None = None


def train_population(
    loop: ExperimentLoop, members: int | None = None, parts: int | None = None, seed: int = 0, confirm: bool = False
) -> PopulationResult:
    """Train a population in a session, or go on with the one that was begun, and measure its schedule from nothing.

    ``confirm``: the caller measures a kept schedule again. Until that is done, the same call returns the same schedule.

    Raises NightlabError where the lab can't go on from checkpoints, no constant moves, all members died, or the session
    is paused; RunInterrupted when the user wants to stop.
    """
    ledger = loop.ledger
    if loop.session.lab.population is None:
        raise NightlabError("lab.toml does not say that training can go on from a checkpoint", CONTRACT)
    end = ledger.latest(PopulationEnded)
    to_measure = end is not None and end.source and not _verdict(ledger, end.source)
    with loop.scheduler.on_duty():
        loop.resume()
        loop.answer_now()
        if end is None or not (to_measure or (confirm and _to_confirm(ledger, end, members, parts))):
            end = PopulationTrainer(loop, members, parts, seed).run()
            loop.answer_now()
    if not end.source:
        return PopulationResult(end, None, "the best member kept the constants that the population began with")
    return PopulationResult(end, ledger.by_source(end.source), ledger.refusal(end.source))


def _verdict(ledger: Ledger, source: str) -> str:
    """What became of what was handed in; empty while that is open."""
    experiment = ledger.by_source(source)
    return experiment.verdict.status if experiment and experiment.verdict else ledger.refusal(source)


def _to_confirm(ledger: Ledger, end: PopulationEnded, members: int | None, parts: int | None) -> bool:
    """Whether the schedule of such a population, the latest, is the champion and was not measured again yet."""
    begun, experiment, champion = ledger.latest(PopulationStarted), ledger.by_source(end.source), ledger.champion()
    if begun is None or experiment is None or champion is None or begun.population != end.population:
        return False
    asked = members or begun.members, parts or begun.parts
    waits = champion.number == experiment.number and not champion.measured_again
    return waits and asked == (begun.members, begun.parts)


def course_words(values: Sequence[Any]) -> str:
    """A constant's values over training in a few words: each value once, as long as it holds."""
    return " → ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value, _ in groupby(values))
