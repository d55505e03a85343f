"""How far a population's training is: a fold of its trials, from which all that comes next is decided."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nightlab.core.events import PopulationStarted
from nightlab.core.types import Measurement, Metric, Trial
from nightlab.proposers.schedules import Schedule, Space, drawn, perturbed, truncation
from nightlab.session.replicates import ATTEMPTS


@dataclass
class Training:
    """How far a population's members are: a fold of its trials.

    ``ended``: by part and member, the trial that did this part and what it measured. ``died``: why a member did not.
    ``trained``: seconds of all trials, those of members that died included; ``budgets``: the same in whole trainings.
    """

    started: PopulationStarted
    metric: Metric
    ended: dict[int, dict[int, tuple[Trial, Measurement]]] = field(default_factory=dict)
    died: dict[tuple[int, int], str] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    trained: float = 0.0
    budgets: float = 0.0
    lost: Counter[tuple[int, int]] = field(default_factory=Counter)

    def add(self, trial: Trial, measured: Measurement | None) -> None:
        """Take in a trial of this population: one that runs (``measured`` is None), or what it came to."""
        part = trial.segment
        if part is None or part.population != self.started.population:
            return
        if measured is None:
            self.running.add(part.member)
            return
        self.running.discard(part.member)
        self.trained += measured.training_seconds
        if measured.outcome == "interrupted":
            return
        self.budgets += 1 / part.parts
        if measured.outcome == "lost" or measured.disturbed:
            self.lost[part.member, part.part] += 1
            if self.lost[part.member, part.part] < ATTEMPTS:
                return
        if measured.measured:
            self.ended.setdefault(part.part, {})[part.member] = trial, measured
        else:
            self.died[part.member, part.part] = f"{measured.outcome}: {measured.detail}"

    def done(self, member: int) -> int:
        """How many parts a member has done, those in which it died among them."""
        parts = range(1, self.started.parts + 1)
        return sum(member in self.ended.get(part, ()) or (member, part) in self.died for part in parts)

    @property
    def complete(self) -> bool:
        return all(self.done(member) == self.started.parts for member in range(self.started.members))

    def scores(self, part: int) -> dict[int, float]:
        """What the members measured at the end of a part: only these compare."""
        found = self.ended.get(part, {})
        return {member: one.metric for member, (_, one) in found.items() if one.metric is not None}

    def waiting(self) -> list[int]:
        """The members that can start their next part, those that are behind first."""
        idle = [member for member in range(self.started.members) if member not in self.running]
        behind = sorted((self.done(member), member) for member in idle)
        return [member for done, member in behind if done < self.started.parts and (not done or self.ended.get(done))]

    def source(self, member: int, draw: random.Random) -> tuple[Trial, Measurement] | None:
        """The trial that a member's next part goes on from, its own or a better one's; None at its first."""
        if not (done := self.done(member)):
            return None
        lower, upper = truncation(self.scores(done), self.metric)
        own = self.ended[done].get(member)
        return self.ended[done][draw.choice(upper)] if own is None or member in lower else own

    def plan(
        self, member: int, base: Schedule, spaces: Mapping[str, Space], schedule_of: Callable[[Trial], Schedule]
    ) -> tuple[tuple[Trial, Measurement] | None, Schedule]:
        """What a member's next part goes on from, and the schedule that its genome then has.

        ``base``: that of the genome that the population began with, which member 0 keeps at first.
        """
        part, begun = self.done(member) + 1, self.started
        draw = random.Random(f"{begun.seed}/{begun.population}/{member}/{part}")
        source = self.source(member, draw)
        if source is None:
            return None, base if member == 0 else drawn(spaces, begun.parts, draw)
        trial, schedule = source[0], schedule_of(source[0])
        own = trial.segment is not None and trial.segment.member == member
        return source, schedule if own else perturbed(schedule, part, spaces, draw)

    def needed(self) -> set[str]:
        """The checkpoints that some member may yet go on from: those of the parts that not all have gone beyond."""
        last = self.started.parts
        behind = min((done for m in range(self.started.members) if (done := self.done(m)) < last), default=last)
        return {one.checkpoint for part in range(behind, last) for _, one in self.ended.get(part, {}).values()}

    def known(self) -> set[str]:
        """All checkpoints that were handed over."""
        return {one.checkpoint for found in self.ended.values() for _, one in found.values() if one.checkpoint}

    def lineage(self, trial: Trial) -> list[Trial]:
        """All trials that a trial's training went through, from nothing on: its history, itself included."""
        by_id = {one.id: one for found in self.ended.values() for one, _ in found.values()}
        line = [trial]
        while line[-1].segment and line[-1].segment.after:
            line.append(by_id[line[-1].segment.after])
        return line[::-1]

    def histories(self) -> dict[str, list[str]]:
        """By member, the trials that its training went through to the last part that it ended."""
        last = {member: trial for _, found in sorted(self.ended.items()) for member, (trial, _) in found.items()}
        return {str(member): [one.id for one in self.lineage(trial)] for member, trial in last.items()}
