"""When trials ran and what they did, from the ledger's events."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nightlab.core.events import RunStarted, RunStopped, TrialFinished, TrialStarted

PHASES = ("startup", "training", "evaluation", "around it")


@dataclass(frozen=True, slots=True)
class Span:
    """A trial's start (seconds since the epoch), and its seconds in each phase, in the order of ``PHASES``."""

    begun: float
    seconds: tuple[float, ...]

    @property
    def ended(self) -> float:
        return self.begun + sum(self.seconds)

    def parts(self, phase: str) -> list[tuple[float, float]]:
        """A phase's start and duration; empty if it took no time."""
        place = PHASES.index(phase)
        seconds = self.seconds[place]
        return [(self.begun + sum(self.seconds[:place]), seconds)] if seconds > 0 else []


def spans(started: Iterable[TrialStarted], finished: Iterable[TrialFinished]) -> list[Span]:
    """The spans of finished trials, in order of their start, from the ledger's events.

    After a kill, a trial's end may be recorded much later than it happened, so a trial lasts no longer than its
    supervisor reported, if it did.
    """
    begun = {event.trial.id: event.at for event in started}
    found = []
    for event in finished:
        measured, at = event.measurement, begun.get(event.id)
        if at is None:
            continue
        wall = measured.wall_seconds
        length = min(event.at - at, wall) if wall else event.at - at
        phases, left = [], max(length, 0.0)
        for seconds in (measured.startup_seconds, measured.training_seconds, measured.evaluation_seconds):
            phases.append(min(seconds or 0.0, left))
            left -= phases[-1]
        found.append(Span(at, (*phases, left)))
    return sorted(found, key=lambda span: span.begun)


def off_duty(started: Iterable[RunStarted], stopped: Iterable[RunStopped]) -> list[tuple[float, float]]:
    """The intervals from each stop to the next start. A killed session has no stop event."""
    starts = [event.at for event in started]
    stops = [event.at for event in stopped]
    found = []
    for stop in stops:
        after = [at for at in starts if at > stop]
        if after and not any(stop < other < after[0] for other in stops):
            found.append((stop, after[0]))
    return found


def run_time(
    started: Iterable[RunStarted], stopped: Iterable[RunStopped], trials: Sequence[Span], now: float | None = None
) -> tuple[float, float]:
    """The seconds in which a run was under way, or a trial outside of one, such as a confirmation's; and of all slots.

    ``now``: until when a run that has no end goes on; None where it was killed, and ended with its last trial.
    """
    runs, ends = sorted(started, key=lambda run: run.at), sorted(event.at for event in stopped)
    outside, seconds, room = sorted(trials, key=lambda trial: trial.begun), 0.0, 0.0
    for run, until in zip(runs, [*(run.at for run in runs[1:]), math.inf], strict=False):
        mine = [trial.ended for trial in outside if run.at <= trial.begun < until]
        last = now if now is not None and until == math.inf else max(mine, default=run.at)
        stop = min((at for at in ends if run.at <= at < until), default=last)
        outside = [trial for trial in outside if not run.at <= trial.begun < stop]
        seconds += stop - run.at
        room += (stop - run.at) * run.slots
    free = -math.inf
    for trial in outside:
        alone = max(trial.ended - max(trial.begun, free), 0.0)
        seconds, room, free = seconds + alone, room + alone, max(free, trial.ended)
    return seconds, room


def duty_cycle(trained: float, seconds: float, slots: int) -> float:
    """The duty cycle: the share of the slots' time (``slots`` times ``seconds``) spent in training, from 0 to 1."""
    return min(max(trained, 0.0) / max(slots * seconds, 1e-9), 1.0)


def lanes(found: Sequence[Span]) -> list[list[Span]]:
    """The spans assigned to lanes, each to the first free one: the ledger records when a trial ran, not its slot.

    There are as many lanes as trials ran at once.
    """
    rows: list[list[Span]] = []
    for span in found:
        free = next((row for row in rows if row[-1].ended <= span.begun), None)
        if free is None:
            rows.append([span])
        else:
            free.append(span)
    return rows


def shares(
    found: Sequence[Span], slots: int, off: Sequence[tuple[float, float]], bins: int
) -> tuple[list[float], dict[str, list[float]], float]:
    """The edges of equal bins of a session, each phase's share of the slots' time per bin, and the overall duty cycle.

    Shares are 0 in bins in which the session did not run.
    """
    begun, ended = min(span.begun for span in found), max(span.ended for span in found)
    width = max(ended - begun, 1e-9) / bins
    edges = [begun + width * place for place in range(bins + 1)]
    on = [width] * bins
    for start, end in off:
        _spread(on, begun, width, start, end - start, -1.0)
    sums = {phase: [0.0] * bins for phase in PHASES}
    for span in found:
        for phase in PHASES:
            for at, seconds in span.parts(phase):
                _spread(sums[phase], begun, width, at, seconds, 1.0)
    shared = {
        phase: [duty_cycle(spent, time, slots) if time > 1e-9 else 0.0 for spent, time in zip(row, on, strict=True)]
        for phase, row in sums.items()
    }
    return edges, shared, duty_cycle(sum(sums["training"]), sum(on), slots)


def _spread(bins: list[float], begun: float, width: float, at: float, seconds: float, sign: float) -> None:
    """Add an interval to the bins that it overlaps."""
    first, last = int((at - begun) // width), int((at + seconds - begun) // width)
    for place in range(max(first, 0), min(last, len(bins) - 1) + 1):
        low, high = begun + place * width, begun + (place + 1) * width
        bins[place] += sign * max(min(at + seconds, high) - max(at, low), 0.0)
