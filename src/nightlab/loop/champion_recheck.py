"""The re-check of a champion: one trial of it, unchanged, that answers four questions at once.

It is tried again on a fresh seed as if it were a candidate. What the rule says of it is the session's self-test (a
keep would be a false one); its value takes luck off the bar, and adds to what is known of the noise; and where the
evaluator has held-out data, it is the occasion to look at them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from nightlab.core.events import NOT_ASKED, Alarm, Rechecked
from nightlab.core.types import SEED, Experiment, HeldOutCheck, Measurement, TrialRequest, average
from nightlab.judge import FIXED_SEED, Contestant, NeedsTrial, change_of_noise, fixes_seed, held_out_check, is_noisier
from nightlab.loop.scheduler import Scheduler
from nightlab.session.replicates import ATTEMPTS, CONFIRM_SEED, RECHECK_SEED, RECHECKS, runs, upkeeps
from nightlab.session.warm_starts import bar_of

MOVED = 0.05  # share of a time by which it must differ before the machine is what has changed


@dataclass(frozen=True, slots=True)
class CompletedRecheck:
    """A recheck that needs no more trials.

    ``standing``: the champion's measurements before it. ``fresh``: the new ones, by seed; ``found``: those of all its
    rechecks. ``would``: the status that the rule would give it. ``done``: experiments judged by then.
    """

    champion: Experiment
    standing: Contestant
    fresh: Mapping[int, Measurement]
    found: Mapping[int, Measurement]
    would: str
    done: int


class ChampionRecheck:
    """Decides when a session's champion is measured again, and records what that says of it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler, self.session, self.ledger, self.view = (
            scheduler,
            scheduler.session,
            scheduler.ledger,
            scheduler.view,
        )

    def next_step(self, done: int, *, stopping: bool) -> TrialRequest | CompletedRecheck | None:
        """The trial that the recheck needs next, after ``done`` experiments, or its result; None when none is due.

        A session that is ``stopping`` begins none. Changes nothing: ``record`` takes the result.
        """
        champion, every = self.session.champion(), self.session.lab.judge.upkeep
        past = self.ledger.events(Rechecked, last=RECHECKS)
        used = {seed for one in past if one.number == champion.number for seed in one.seeds}
        found = upkeeps(self.ledger, champion.number, self.scheduler.since)
        fresh = {seed: run for seed, run in found.items() if seed not in used}
        due = self.scheduler.machine_changed or (every and done - (past[-1].after if past else 0) >= every)
        if not fresh and (not due or stopping):
            return None
        standing = self.scheduler.contestant(champion)
        standing = replace(standing, runs={seed: run for seed, run in standing.runs.items() if seed not in fresh})
        would = self._would(standing, fresh)
        if not isinstance(would, NeedsTrial):
            return CompletedRecheck(champion, standing, fresh, found, would, done)
        if would.who == "champion":
            return TrialRequest(champion.number, "search", would.seed)
        last = [*(past[-1].seeds if used else []), *fresh][-1:]
        return TrialRequest(champion.number, "upkeep", self._seed_after(last, champion))

    def beside(self, experiment: Experiment, champion: Experiment) -> TrialRequest | None:
        """Of a metric that is a time: the champion's trial that has to follow a candidate's first one.

        None once the champion's bar contains it, for any other metric, and where the contract wants no re-checks.
        """
        if not self.session.lab.timed or not self.session.lab.judge.upkeep or self.scheduler.machine_changed:
            return None
        own = self.ledger.trials(experiment.number, "search", self.scheduler.since)
        if not own:
            return None
        past = self.ledger.events(Rechecked, last=RECHECKS)
        used = {seed for one in past if one.number == champion.number for seed in one.seeds}
        later = self.ledger.trials(champion.number, "upkeep", self.ledger.trials_before(own[0][0].id))
        ended = [trial.seed for trial, measured in later if measured is not None]
        if used.intersection(ended) or len(ended) >= ATTEMPTS:
            return None
        return TrialRequest(champion.number, "upkeep", self._next_seed(champion), why="a time needs one beside it")

    def baseline_beside(self, experiment: Experiment) -> TrialRequest | None:
        """The baseline's trial that shows whether a slow machine is why a candidate came over its budget.

        None unless its latest trial did so on a busy machine, and once the baseline has run since that began.
        """
        number = experiment.number
        latest = self.ledger.trials(number, "search", self.scheduler.since, last=1) if number else []
        trial, measured = latest[0] if latest else (None, None)
        if not (trial and measured and measured.outcome == "over budget" and measured.disturbed):
            return None
        if any(ended for _, ended in self.ledger.trials(0, None, self.ledger.trials_before(trial.id))):
            return None
        baseline = self.ledger.experiment(0)
        last = [trial.seed for trial, ended in self.ledger.trials(0, "upkeep") if ended][-1:]
        why = f"experiment {number} may have met a slow machine"
        return TrialRequest(0, "upkeep", self._seed_after(last, baseline), why=why)

    def _next_seed(self, champion: Experiment) -> int:
        return self._seed_after(list(upkeeps(self.ledger, champion.number, self.scheduler.since))[-1:], champion)

    def _seed_after(self, last: Sequence[int], champion: Experiment) -> int:
        """The re-check's next seed after the ``last`` one, if there was one: not one that the search has used for it.

        What was used before the latest re-checks comes round again, rather than a seed of another question.
        """
        searched = {trial.seed for trial, _ in self.ledger.trials(champion.number, "search")}
        seed = last[0] + 1 if last else RECHECK_SEED
        while seed in searched or seed >= CONFIRM_SEED:
            seed = seed + 1 if seed < CONFIRM_SEED else RECHECK_SEED
        return seed

    def _would(self, standing: Contestant, fresh: dict[int, Measurement]) -> str | NeedsTrial:
        """What the rule makes of the champion as a separate candidate, or which trial it still needs for that.

        On another machine than before there is nothing to compare with: then only its bar is made anew.
        """
        judge = replace(self.session.judge, limits={})  # it is also scored on held-out data, which takes longer
        if self.scheduler.machine_changed:
            enough = len(fresh) >= judge.rule.baseline_runs
            return NOT_ASKED if enough else NeedsTrial("candidate", RECHECK_SEED)
        twin = replace(standing, runs=dict(enumerate(fresh.values(), SEED)), first=SEED)
        decision = judge.judge(standing, twin, replace(self.scheduler.replicates.noise(), rho=0.0))
        return decision if isinstance(decision, NeedsTrial) else decision.status

    def record(self, result: CompletedRecheck) -> None:
        """Record a recheck, with the champion's new bar."""
        champion, standing, fresh = result.champion, result.standing, result.fresh
        values = [run.metric for run in fresh.values() if run.metric is not None]
        before = bar = standing.bar if standing.bar is not None else 0.0
        times = {seed: run.metric for seed, run in fresh.items() if run.metric is not None}
        if self.scheduler.machine_changed and values:
            bar = average(values)
        elif self._moved(standing, bar, times):
            self._machine_moved(champion, times, bar)
            bar = average(values)
        else:
            for weight, value in enumerate(values, len(standing.runs)):
                bar = self.session.judge.remeasured(bar, weight, value, self.scheduler.replicates.noise())
        bar = bar_of(self.session, champion.number, bar)
        sigma, held_out = self.scheduler.noise_in_unit().sigma, self._check_held_out(champion, result.found)
        seeds, would = tuple(fresh), result.would
        event = Rechecked(champion.number, bar, before, seeds, tuple(values), result.done, would, sigma, held_out)
        self.ledger.append(event)
        self.view.rechecked(champion, bar, before, would, self._alarms(held_out))

    def _moved(self, standing: Contestant, bar: float, fresh: Mapping[int, float]) -> bool:
        """Whether the bar is a time, of a machine that was faster or slower than it is now."""
        if not self.session.lab.timed or not fresh:
            return False
        sigma = self.scheduler.replicates.noise_without(fresh).local(bar).sigma
        error = sigma * math.sqrt(1 / len(fresh) + 1 / max(len(standing.runs), 1))
        return abs(average(list(fresh.values())) - bar) > max(MOVED * abs(bar), 3 * error)

    def _machine_moved(self, champion: Experiment, fresh: Mapping[int, float], bar: float) -> None:
        """Have numbers of the machine as it was compare with none of now; those of the trial just before are of now."""
        trials = [trial for trial, _ in self.ledger.trials(champion.number, "upkeep", self.scheduler.since)]
        first = min(self.ledger.trials_before(trial.id) for trial in trials if trial.seed in fresh)
        now = average(list(fresh.values()))
        why = f"the champion's {self.session.metric.name} is {now:.4g}, and was {bar:.4g}"
        self.scheduler.machine_has_changed(max(first - 1, self.scheduler.since), why)
        self.view.say(f"  [bold yellow]the machine's speed has changed:[/] {why}")

    def _check_held_out(self, champion: Experiment, found: Mapping[int, Measurement]) -> HeldOutCheck | None:
        """Whether the champion's gain on the search's data is one on held-out data too."""
        first = [
            m for m in runs(self.ledger.trials(0, "search", self.scheduler.since)).values() if m.held_out is not None
        ]
        now = [m for m in found.values() if m.held_out is not None and m.metric is not None]
        if champion.number == 0 or not first or not now:
            return None
        metric, sigma = self.session.metric, self.scheduler.noise_in_unit().sigma
        error = sigma * math.sqrt(2 / len(first) + 2 / len(now))  # at most: both gains are of the same models
        gain = metric.gain(_mean(m.metric for m in first), _mean(m.metric for m in now))
        held = metric.gain(_mean(m.held_out for m in first), _mean(m.held_out for m in now))
        return held_out_check(gain, held, error, f"{self.session.tag}/{champion.number}/{len(now)}")

    def _alarms(self, look: HeldOutCheck | None) -> list[str]:
        """What the human should know of a session that no longer is what it was."""
        alarms, noise = [], self.scheduler.noise_in_unit()
        if change := change_of_noise([list(values.values()) for values in self.scheduler.replicates.on_scale()]):
            ratio = self.scheduler.replicates.scale == "ratio"
            before, now = (f"{100 * spread:.2g} %" if ratio else f"{spread:.2g}" for spread in change)
            alarms.append(
                f"the noise has changed: a trial's spread was {before}, lately it is {now}; "
                "look at the machine (temperature, neighbours) before you trust small gains"
            )
        champion = self.session.champion()
        own = list(self.scheduler.contestant(champion).values().values())
        if is_noisier(own, noise):
            alarms.append(
                "the champion's runs lie further apart than other genomes': look at its curve, it may be unstable"
            )
        parent = self.ledger.by_commit(champion.candidate.parent)
        earlier = list(self.scheduler.contestant(parent).values().values()) if parent else []
        if fixes_seed(own, earlier, timed=self.session.lab.timed):
            alarms.append(FIXED_SEED)
        if look and look.parted:
            alarms.append(
                f"the search's gain is about {look.gap:.2g} larger than the gain on held-out data: "
                "it may be fitting its validation data; confirm before you go on"
            )
        for alarm in alarms:
            self.ledger.append(Alarm(alarm))
        return alarms


def _mean(values: Iterable[float | None]) -> float:
    return average([value for value in values if value is not None])
