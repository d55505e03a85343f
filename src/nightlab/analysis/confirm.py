"""Confirms claims: measures a session's champion again on fresh seeds, paired with a reference, with an interval.

None of these seeds was part of a decision of the search.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nightlab.core.events import Alarm, ConfirmationStarted, EvidenceShown
from nightlab.core.source import syntax_fault
from nightlab.core.types import (
    Budget,
    Contribution,
    Evidence,
    Experiment,
    Level,
    Measurement,
    NightlabError,
    PairedGain,
    Purpose,
    Scale,
    TrialRequest,
    average,
)
from nightlab.judge import (
    FIXED_SEED,
    Noise,
    always_valid_gain,
    counts_of,
    exact_gain,
    fixes_seed,
    paired_gain,
    repeated_check_level,
    with_stated_errors,
    with_unseen_luck,
)
from nightlab.loop.measure import measure
from nightlab.loop.scheduler import Scheduler
from nightlab.proposers import change_constants, find_constants
from nightlab.session.replicates import ABLATE_SEED, CONFIRM_SEED, TRANSFER_SEED, runs
from nightlab.session.session import Session
from nightlab.session.warm_starts import had_start
from nightlab.storage.git import OutOfScope, PatchConflict
from nightlab.storage.ledger import write_results

FEWEST, MOST = 3, 8  # pairs of an automatic confirmation
CHEAP = 600.0  # seconds that more pairs than these may take together
ROOM = 500  # pairs, at most: seeds of one confirmation


class Confirmer:
    """Measures the gain of a session's champion."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler, self.session, self.ledger = scheduler, scheduler.session, scheduler.ledger
        self.values: tuple[list[Measurement], list[Measurement]] = [], []  # the pairs behind the latest claim

    def confirm(self, seeds: int) -> Evidence | None:
        """The champion's gain over the baseline on fresh seeds, and on held-out data if the evaluator has some.

        None when the champion is the baseline. Existing pairs are not measured again. Where every seed gives the same
        number, one pair is enough. Raises NightlabError when a trial fails.
        """
        champion = self.session.champion()
        if champion.number == 0:
            return None
        if self.scheduler.replicates.noise().exact and (evidence := self._exact(champion)):
            return evidence
        fresh = tuple(range(CONFIRM_SEED, CONFIRM_SEED + seeds))
        looks = [one.seeds for one in self.ledger.events(ConfirmationStarted) if one.number == champion.number]
        if fresh not in looks:  # recorded before measuring, so that an aborted check counts as a check
            self.ledger.append(ConfirmationStarted(champion.number, fresh))
            looks.append(fresh)
        before, after = self.values = self._champion_pairs_until_shown(champion, fresh)
        level, counts = repeated_check_level(looks.index(fresh)), self._gain_of_counts(before, after)
        gain = counts or self.gain(before, after, level)
        fresh = fresh[: len(before)]
        held_out = self._held_out(before, after, level)
        claim, alone = self.session.metric_claim, self._alone(champion, fresh, before, level)
        evidence = Evidence(
            _level(gain, held_out), 0, fresh, gain, held_out, claim=claim, sequential=counts is not None, **alone
        )
        self.show(champion, evidence)
        if self._fixes_seed(before, after):
            self.ledger.append(Alarm(FIXED_SEED))
        return evidence

    def _exact(self, champion: Experiment) -> Evidence | None:
        """What one more seed shows where all gave the same number; None if it does not give that number too."""
        fresh = (CONFIRM_SEED,)
        before, after = self.values = self._champion_pairs(champion, fresh)
        for experiment, measured in ((self.ledger.experiment(0), before[0]), (champion, after[0])):
            if {run.metric for run in runs(self.ledger.trials(experiment.number)).values()} != {measured.metric}:
                return None
        gain, held_out = self._exact_gain(before, after), None
        if before[0].held_out is not None and after[0].held_out is not None:
            held_out = exact_gain(self.session.metric, before[0].held_out, after[0].held_out, self._scale())
            held_out = with_stated_errors(held_out, *_held_out_of(before, after))
        claim, alone = self.session.metric_claim, self._alone(champion, fresh, before, 1)
        evidence = Evidence(_level(gain, held_out), 0, fresh, gain, held_out, claim=claim, exact=True, **alone)
        self.show(champion, evidence)
        return evidence

    def _alone(
        self, champion: Experiment, seeds: Sequence[int], before: Sequence[Measurement], level: float
    ) -> dict[str, Any]:
        """Of a champion that started from an answer: whose, and its program's gain from nothing; else nothing."""
        start = had_start(self.ledger, champion.number)
        if start is None:
            return {}
        budget = self.session.budget.record()
        with self.scheduler.on_duty():
            asked = [TrialRequest(champion.number, "alone", seed, budget) for seed in seeds]
            try:
                after = measure(self.scheduler, asked)
            except NightlabError:  # from nothing it fails
                return {"warm_start": start.number}
        gain = self._exact_gain(before, after) if level == 1 else self.gain(before, after, level)
        return {"warm_start": start.number, "alone": gain}

    def _exact_gain(self, before: Sequence[Measurement], after: Sequence[Measurement]) -> PairedGain:
        assert before[0].metric is not None and after[0].metric is not None
        return exact_gain(self.session.metric, before[0].metric, after[0].metric, self._scale())

    def _champion_pairs(
        self, champion: Experiment, seeds: Sequence[int]
    ) -> tuple[list[Measurement], list[Measurement]]:
        """Baseline and champion on these seeds. Baseline runs paired with an earlier champion can't be paired again."""
        since = self.ledger.trials_before(self.ledger.trials(champion.number)[0][0].id)
        return self.pairs("confirm", seeds, (0, None), (champion.number, None), since=since)

    def _champion_pairs_until_shown(
        self, champion: Experiment, seeds: Sequence[int]
    ) -> tuple[list[Measurement], list[Measurement]]:
        """Baseline and champion on these seeds; of counts, whose interval allows it, only until a gain shows."""
        if champion.measurement is None or champion.measurement.successes is None:
            return self._champion_pairs(champion, seeds)
        step = max(len(self.scheduler.slots) // 2, 1)
        for count in range(2, len(seeds), step):
            pairs = self._champion_pairs(champion, seeds[:count])
            gain = self._gain_of_counts(*pairs)
            if gain is None or gain.low > 0 or gain.high < 0:
                return pairs if gain else self._champion_pairs(champion, seeds)
        return self._champion_pairs(champion, seeds)

    def unconfirmed(self) -> bool:
        """Whether there is a champion without a confirmation against the baseline."""
        champion = self.ledger.champion()
        return champion is not None and champion.number > 0 and not champion.measured_again

    def affordable(self, experiments: int) -> int:
        """Pairs for a confirmation after this number of experiments: the contract's share, but at least three.

        At most eight, or as many as take ten minutes together: more where trials are cheap.
        """
        ran = [m.wall_seconds for _, m in self.ledger.trials(self.session.champion().number, "search") if m]
        longest = max(ran, default=CHEAP)
        most = min(max(MOST, int(CHEAP / max(2 * longest, 1e-3))), ROOM)
        return max(FEWEST, min(most, int(self.session.lab.judge.confirm * experiments / 2)))

    def affordable_ablation(self, experiments: int, pairs: int) -> int:
        """Seeds for an ablation within the rest of the contract's share after ``pairs`` pairs; often 0."""
        left = self.session.lab.judge.confirm * experiments - 2 * pairs
        return min(int(left / (len(lineage(self.session)) + 1)), FEWEST)

    def ablate(self, seeds: int) -> list[Contribution]:
        """The contribution of each kept change in the champion's lineage, removed alone (three-way) and measured.

        Intervals use the session's pooled noise, because each change has few pairs; each holds on its own.
        """
        champion = self.session.champion()
        worths = []
        fresh = tuple(range(ABLATE_SEED, ABLATE_SEED + seeds))
        for experiment in lineage(self.session):
            try:
                without = self._without(champion.candidate.commit, [experiment])
                without = self.keep_variant(f"without-{experiment.number:06d}", without)
                before, after = self.pairs("ablate", fresh, (experiment.number, without), (champion.number, None))
            except NightlabError as refusal:  # it can't be removed, or the rest does not run without it
                worths.append(Contribution(experiment, None, str(refusal)))
                continue
            gain = self.gain(before, after, 0.95, self.scheduler.replicates.noise())
            words = f"taken out of #{champion.number}"
            claim = self.session.metric_claim
            self.show(experiment, Evidence("confirmed", experiment.number, fresh, gain, what=words, claim=claim))
            worths.append(Contribution(experiment, gain))
        return worths

    def simplified(self, worths: Sequence[Contribution]) -> tuple[str, str] | None:
        """The champion without the changes that contribute nothing, as a commit and as text; None if there are none.

        Raises OutOfScope when they can't be removed together.
        """
        useless = [worth.experiment for worth in worths if worth.nothing]
        if not useless:
            return None
        names = ", ".join(f"#{experiment.number}" for experiment in useless)
        return self._without(self.session.champion().candidate.commit, useless), f"without {names}: they earn nothing"

    def transfer(self, seeds: int, scale: float, constants: Mapping[str, Any]) -> Evidence | None:
        """The champion's gain at another budget (``scale`` times the session's) or with other constants in both.

        None when the champion is the baseline. Raises NightlabError for a constant that one of them lacks.
        """
        champion = self.session.champion()
        if champion.number == 0:
            return None
        usual = self.session.budget.record()
        budget = Budget(usual.clock, usual.amount * scale)
        told = [str(budget)] if scale != 1 else []
        told += [f"{name} = {value}" for name, value in constants.items()]
        commits = [self.with_constants(e, constants) for e in (self.ledger.experiment(0), champion)]
        fresh = tuple(range(TRANSFER_SEED, TRANSFER_SEED + seeds))
        pairs = self.pairs("transfer", fresh, (0, commits[0]), (champion.number, commits[1]), budget)
        before, after = self.values = pairs
        self.require_scaled(before, scale)
        what = ", ".join(told) or str(budget)
        held_out = self._held_out(before, after, 0.95)
        gain, claim = self.gain(before, after, 0.95), self.session.metric_claim
        evidence = Evidence("transferred", 0, fresh, gain, held_out, what, claim)
        self.show(champion, evidence)
        return evidence

    def require_scaled(self, measured: Sequence[Measurement], scale: float) -> None:
        """Raise NightlabError when the lab ignored the changed budget."""
        usual = [m for m in runs(self.ledger.trials(0, "search")).values() if m.measured and m.training_seconds > 1]
        if scale == 1 or not usual or self.session.budget.clock == "work":
            return
        ratio = average([m.training_seconds for m in measured]) / average([m.training_seconds for m in usual])
        if abs(math.log(max(ratio, 1e-9))) < abs(math.log(scale)) / 2:
            raise NightlabError(
                f"with {scale:g} times the budget, the baseline trained {ratio:.2g} times as long",
                "let the lab read NIGHTLAB_BUDGET (seconds), or try another size instead: --set NAME=VALUE",
            )

    # -- internal --------------------------------------------------------------------------------

    def pairs(
        self,
        purpose: Purpose,
        seeds: Sequence[int],
        one: tuple[int, str | None],
        other: tuple[int, str | None],
        budget: Budget | None = None,
        since: int = 0,
    ) -> tuple[list[Measurement], list[Measurement]]:
        """Two genomes (experiment, commit) measured alternately on each seed."""
        budget = budget or self.session.budget.record()
        with self.scheduler.on_duty():
            self.scheduler.adopt_running()
            self.scheduler.drain()  # record the trials of an earlier run; they are judged when the search continues
            sides = [
                (n, commit if commit != self.ledger.experiment(n).candidate.commit else None)
                for n, commit in (one, other)
            ]
            asked = [TrialRequest(n, purpose, seed, budget, commit, since) for seed in seeds for n, commit in sides]
            found = measure(self.scheduler, asked)
        return found[::2], found[1::2]

    def gain(
        self, before: Sequence[Measurement], after: Sequence[Measurement], level: float, noise: Noise | None = None
    ) -> PairedGain:
        values = [[m.metric for m in side if m.metric is not None] for side in (before, after)]
        gain = paired_gain(self.session.metric, values[0], values[1], level, noise, self._scale())
        if self._fixes_seed(before, after):
            return with_unseen_luck(gain, values[0])
        stated = ([(m.metric, m.standard_error) for m in side] for side in (before, after))
        return gain if noise else with_stated_errors(gain, *stated)

    def _fixes_seed(self, before: Sequence[Measurement], after: Sequence[Measurement]) -> bool:
        own, other = ([m.metric for m in side if m.metric is not None] for side in (after, before))
        return fixes_seed(own, other, timed=self.session.lab.timed)

    def _gain_of_counts(self, before: Sequence[Measurement], after: Sequence[Measurement]) -> PairedGain | None:
        """The gain of a metric that is made of counts, valid however often it is looked at; None for any other."""
        counts = counts_of(before), counts_of(after)
        if counts[0] is None or counts[1] is None:
            return None
        return always_valid_gain(self.session.metric, counts[0], counts[1])

    def _scale(self) -> Scale:
        return self.scheduler.replicates.noise().scale

    def _held_out(self, before: Sequence[Measurement], after: Sequence[Measurement], level: float) -> PairedGain | None:
        values = [[m.held_out for m in side if m.held_out is not None] for side in (before, after)]
        if not values[0] or len(values[0]) != len(values[1]):
            return None
        gain = paired_gain(self.session.metric, values[0], values[1], level, scale=self._scale())
        return with_stated_errors(gain, *_held_out_of(before, after))

    def show(self, experiment: Experiment, evidence: Evidence) -> None:
        if evidence not in self.ledger.experiment(experiment.number).evidence:
            self.ledger.append(EvidenceShown(experiment.number, evidence))
            write_results(self.session.results, self.session.metric, self.ledger)

    def _without(self, commit: str, experiments: Sequence[Experiment]) -> str:
        """A commit with some of its changes removed, latest first.

        Raises OutOfScope when one can't be removed.
        """
        repo = self.session.repo
        for experiment in sorted(experiments, key=lambda e: e.number, reverse=True):
            candidate, words = experiment.candidate, f"without #{experiment.number}"
            try:
                if (files := self._constants_back(commit, experiment)) is not None:
                    commit = repo.commit_files(commit, files, words)
                else:
                    commit = repo.commit_patch(commit, repo.patch(candidate.commit, candidate.parent), words)
            except PatchConflict:
                raise OutOfScope("later changes depend on it") from None
        for path, text in self.session.genome(commit).items():
            if fault := syntax_fault(path, text):
                raise OutOfScope(f"without it the program does not parse: {fault}")
        return commit

    def _constants_back(self, commit: str, experiment: Experiment) -> dict[str, str] | None:
        """The genome at ``commit`` with an experiment's constants set back to their values before it.

        None when the experiment changed more than constants. A patch would conflict with changes of neighbouring lines,
        which constants usually have. Raises OutOfScope when later experiments changed all of them again.
        """
        session, device = self.session, self.session.device
        before, after = session.genome(experiment.candidate.parent), session.genome(experiment.candidate.commit)
        files, moved = {}, False
        there = session.genome(commit)
        for path in before | after:
            old, new = before.get(path), after.get(path)
            if old == new:
                continue
            if old is None or new is None or path not in there:
                return None
            text = there[path]
            was, became = _values(old, device), _values(new, device)
            names = [name for name in was if name in became and was[name] != became[name]]
            if change_constants(old, device, {name: became[name] for name in names}) != new:
                return None
            moved = True
            now = _values(text, device)
            back = {name: was[name] for name in names if now.get(name) == became[name]}
            if back:
                files[path] = change_constants(text, device, back)
        if not moved:
            return None
        if not files:
            raise OutOfScope("nothing of it is left: later changes set the same constants")
        return files

    def with_constants(self, experiment: Experiment, constants: Mapping[str, Any]) -> str:
        """An experiment's genome with other constants, as a commit."""
        commit, repo, device = experiment.candidate.commit, self.session.repo, self.session.device
        genome = self.session.genome(commit)
        known = {name for text in genome.values() for name in _values(text, device)}
        if unknown := constants.keys() - known:
            raise NightlabError(
                f"{', '.join(sorted(unknown))}: experiment {experiment.number} has no such constant",
                "name an upper-case constant that stands at the top of both genomes",
            )
        changed = {path: change_constants(text, device, constants) for path, text in genome.items()}
        changed = {path: text for path, text in changed.items() if text != genome[path]}
        if not changed:
            return commit
        made = repo.commit_files(commit, changed, f"#{experiment.number} at another scale")
        return self.keep_variant(f"scaled-{repo.tree(made)[:12]}", made)

    def keep_variant(self, name: str, commit: str) -> str:
        """A variant's commit, kept reachable; the one of before if that holds the same, for it has trials already."""
        repo, tag = self.session.repo, self.session.tag
        before = repo.resolve(f"refs/nightlab/{tag}/{name}")
        if before and repo.tree(before) == repo.tree(commit):
            return before
        repo.keep_reachable(tag, name, commit)
        return commit


def _level(gain: PairedGain, held_out: PairedGain | None) -> Level:
    return "held out" if held_out is not None and held_out.low > 0 and gain.low > 0 else "confirmed"


def _held_out_of(*sides: Sequence[Measurement]) -> Iterator[list[tuple[float | None, float | None]]]:
    """The held-out numbers of both sides, with their standard errors as far as they are stated."""
    return ([(run.held_out, run.held_out_error) for run in side if run.held_out is not None] for side in sides)


def lineage(session: Session) -> list[Experiment]:
    """The changes that led to the champion, oldest first."""
    line, at = [], session.champion()
    while at.number:
        line.append(at)
        parent = session.ledger.by_commit(at.candidate.parent)
        if parent is None:
            break
        at = parent
    return line[::-1]


def _values(text: str, device: str) -> dict[str, Any]:
    return {name: constant.value for name, constant in find_constants(text, device).items()}
