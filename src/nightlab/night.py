"""The loop: propose, run, judge, record, repeat. It introduces the rooms to each other and owns nothing else."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType

from nightlab.judge import Contestant, paired_gain
from nightlab.lab import Stop
from nightlab.ledger import append_result, write_results
from nightlab.lineage import OutOfScope, PatchConflict, in_genome
from nightlab.propose import Briefing, Proposal, changes, find_constants, make_proposers
from nightlab.records import (
    Budget,
    Candidate,
    Experiment,
    Measurement,
    NightlabError,
    PairedGain,
    Purpose,
    Trial,
)
from nightlab.session import SEED, Session, require_disk, syntax_fault
from nightlab.trial.box import Running, end_leftovers
from nightlab.trial.text import one_line
from nightlab.watch.view import Flight, Opening, View

POLL = 0.05  # seconds between looks at the trials in flight
ATTEMPTS = 3  # a trial that is lost with its supervisor is started again this often
REFUSALS = 25  # proposals refused in a row before a session has nothing left to try
FRESH_SEED = 1001  # seeds from here on are for confirming: no decision of the search ever sees them


@dataclass
class Confirmed:
    """Baseline against champion on fresh seeds: what the session may claim."""

    seeds: list[int]
    baseline: list[float]
    champion: list[float]
    gain: PairedGain


class Interrupted(KeyboardInterrupt):
    """The user wants to stop now."""


class Night:
    """Runs experiments in one session until a stop rule, or the user, ends it.

    ``slots``: how many trials may run at once. ``seed``: the proposers' own randomness.
    """

    def __init__(self, session: Session, stop: Stop, view: View, *, slots: int = 1, seed: int = 0) -> None:
        self.session, self.ledger, self.stop, self.view = session, session.ledger, stop, view
        self.slots = slots
        self.flying: dict[str, Running] = {}
        self.launched: dict[str, float] = {}
        self.begun = time.time()
        self.trained = 0.0  # seconds that this run's trials spent training
        self.asked_to_stop = 0
        self.nothing_left = ""
        self.proposers = make_proposers(
            session.lab, session.repo.lab, self.ledger.proposals_by(), self._used_sources(), seed
        )

    # -- the sentence ----------------------------------------------------------------------------

    def run(self) -> str:
        """Run until something ends the session; returns what it was.

        Raises NightlabError when the baseline can't be measured, or the disk is full.
        """
        with self._signals():
            self._resume()
            while True:
                for running in self._finished():
                    self._conclude(running)
                reason = self._reason_to_stop()
                if reason and not self.flying:
                    self.ledger.note("stopped", {"reason": reason})
                    return reason
                while not reason and len(self.flying) < self.slots and (number := self._next()) is not None:
                    self._launch(number)
                    reason = self._reason_to_stop()
                self._wait()

    def try_working_copy(self, hypothesis: str) -> Experiment:
        """Measure and judge the user's uncommitted edit of the genome; returns its experiment.

        Raises NightlabError when nothing is edited, or the edit does not apply to the champion.
        """
        session, repo = self.session, self.session.repo
        edited = [path for path in repo.dirty() if in_genome(path, session.lab.genome)]
        if not edited:
            raise NightlabError(
                f"no genome file has uncommitted changes ({', '.join(session.lab.genome)})",
                "edit one and run this again; to measure an experiment again: nightlab replay N",
            )
        with self._signals():
            self._resume()
            self._land()
            while self.ledger.champion() is None:
                self._launch(0, land=True)  # again if its supervisor was lost
            parent = session.champion().candidate.commit
            try:
                commit = repo.commit_working_copy(parent, edited, hypothesis)
                number = self._admit(self.candidate(commit, parent, "human", hypothesis))
            except (OutOfScope, PatchConflict) as refusal:
                raise NightlabError(
                    f"your edit can't be tried on the champion: {refusal}",
                    "see what the champion changed (nightlab diff best), and edit again",
                ) from None
            self._launch(number, land=True)
        return self.ledger.experiment(number)

    def measure(
        self, number: int, purpose: Purpose, seeds: list[int], budget: Budget | None = None
    ) -> list[Measurement]:
        """Run an experiment's genome again, once per seed; returns what each trial yielded."""
        with self._signals():
            self._take_up()
            self._land()
            trials = []
            for seed in seeds:
                if self.asked_to_stop:
                    raise Interrupted
                trials.append(self._launch(number, purpose, seed, budget, land=True))
        found = {trial.id: measured for trial, measured in self.ledger.trials(number)}
        return [measurement for trial in trials if (measurement := found[trial.id])]

    def confirm(self, seeds: int = 4) -> Confirmed | None:
        """Measure baseline and champion on fresh seeds, in turn; None when the champion is the baseline.

        Seeds measured before, by a run that was interrupted, are not measured again.
        Raises NightlabError when a trial fails.
        """
        champion = self.session.champion()
        if champion.number == 0:
            return None
        fresh = list(range(FRESH_SEED, FRESH_SEED + seeds))
        values: dict[int, list[float]] = {0: [], champion.number: []}
        with self._signals():
            self._take_up()
            self._land()
            for seed in fresh:
                for number in values:
                    values[number].append(self._confirmed_value(number, seed))
                    if self.asked_to_stop:
                        raise Interrupted
        gain = paired_gain(self.session.metric, values[0], values[champion.number])
        confirmed = Confirmed(fresh, values[0], values[champion.number], gain)
        self.ledger.note(
            "confirmed",
            {
                "number": champion.number,
                "seeds": fresh,
                "baseline": values[0],
                "champion": values[champion.number],
            },
        )
        return confirmed

    # -- proposing -------------------------------------------------------------------------------

    def _next(self) -> int | None:
        """The number of the next experiment to run, proposed and recorded; None when nothing is left."""
        for experiment in self.ledger.unjudged():
            if all(running.trial.experiment != experiment.number for running in self.flying.values()):
                return experiment.number
        if self.ledger.champion() is None:
            return None  # the baseline is in flight, and everything else is measured against it
        for _ in range(REFUSALS):
            proposal = self.proposers.propose(self._briefing())
            if proposal is None:
                self.nothing_left = "the proposers have nothing left to propose"
                return None
            try:
                number = self._admit(self._realise(proposal))
            except (OutOfScope, PatchConflict) as refusal:
                self._refuse(proposal, one_line(str(refusal)))
            else:
                self.proposers.tell(proposal, None)
                return number
        self.nothing_left = f"{REFUSALS} proposals in a row were refused"
        return None

    def _refuse(self, proposal: Proposal, reason: str) -> None:
        """Record a proposal that can't become an experiment, and tell its proposer why."""
        hypothesis = one_line(proposal.hypothesis)
        told = {"proposer": proposal.proposer, "source": proposal.source, "hypothesis": hypothesis}
        self.ledger.note("refused", {**told, "reason": reason})
        self.proposers.tell(proposal, reason)
        self.view.refused(hypothesis, reason)

    def _briefing(self) -> Briefing:
        champion = self.session.champion()
        return Briefing(
            metric=self.session.metric,
            device=self.session.device,
            genome=self.session.genome(champion.candidate.commit),
            champion=champion,
            history=self.ledger.experiments(),
        )

    def _realise(self, proposal: Proposal) -> Candidate:
        """The proposal as a commit on the champion; a patch that conflicts there, on the baseline.

        An idea that collides with what was kept may still beat it: then the lineage branches.
        """
        repo, champion = self.session.repo, self.session.champion().candidate.commit
        if not proposal.patch:
            commit = repo.commit_files(champion, proposal.files, proposal.hypothesis)
            return self.candidate(commit, champion, proposal.proposer, proposal.hypothesis, proposal.source)
        for parent in dict.fromkeys((champion, self.session.base)):
            try:
                commit = repo.commit_patch(parent, proposal.patch, proposal.hypothesis)
                return self.candidate(commit, parent, proposal.proposer, proposal.hypothesis, proposal.source)
            except (PatchConflict, OutOfScope) as refusal:
                last = refusal
        raise last

    def candidate(self, commit: str, parent: str, proposer: str, hypothesis: str, source: str = "") -> Candidate:
        """The record of a candidate, with what it really changes.

        Raises OutOfScope when it changes something other than the genome, nothing at all, or does not parse.
        """
        repo, session = self.session.repo, self.session
        hypothesis = one_line(hypothesis)
        touched = repo.check_scope(parent, commit, session.lab.genome)
        if not touched:
            raise OutOfScope("it changes nothing")
        genome = session.genome(commit)
        for path in touched:
            if fault := syntax_fault(path, genome.get(path, "")):
                raise OutOfScope(f"it does not parse: {fault}")
        after = _constants(genome, session.device)
        words = changes(_constants(session.genome(parent), session.device), after)
        return Candidate(
            commit=commit,
            parent=parent,
            tree=repo.tree(commit),
            proposer=proposer,
            hypothesis=hypothesis,
            lines=sum(len(text.splitlines()) for text in genome.values()),
            constants=after,
            changes=words,
            source=source,
        )

    def _admit(self, candidate: Candidate) -> int:
        """Record a candidate that was never tried, and keep its commit reachable."""
        if twin := self.ledger.find_tree(candidate.tree):
            raise OutOfScope(f"it is the same genome as experiment {twin.number}")
        number = self.ledger.next_number()
        self.session.repo.keep_reachable(self.session.tag, number, candidate.commit)
        self.ledger.propose(candidate)
        return number

    def _used_sources(self) -> set[str]:
        used = {note["source"] for note in self.ledger.notes("refused")}
        return used | {experiment.candidate.source for experiment in self.ledger.experiments()}

    # -- running ---------------------------------------------------------------------------------

    def _launch(
        self,
        number: int,
        purpose: Purpose = "search",
        seed: int = SEED,
        budget: Budget | None = None,
        *,
        land: bool = False,
    ) -> Trial:
        """Start the next attempt at a trial of an experiment, and with ``land`` wait for its end."""
        require_disk(self.session.folder)
        experiment = self.ledger.experiment(number)
        before = [t for t, _ in self.ledger.trials(number) if t.purpose == purpose and t.seed == seed]
        trial = Trial(
            id=f"{number:04d}-{purpose}-s{seed}-{len(before) + 1}",
            experiment=number,
            commit=experiment.candidate.commit,
            seed=seed,
            purpose=purpose,
            budget=budget or self.session.budget.record(),
            attempt=len(before) + 1,
        )
        self.ledger.start(trial)
        self.flying[trial.id] = self.session.box.start(trial)
        self.launched[trial.id] = time.time()
        self.view.started(experiment, trial)
        if land:
            self._land()
        return trial

    def _finished(self) -> Iterator[Running]:
        for running in list(self.flying.values()):
            if running.finished():
                del self.flying[running.trial.id]
                yield running

    def _land(self) -> None:
        """Wait until nothing is in flight."""
        while self.flying:
            for running in self._finished():
                self._conclude(running)
            self._wait()

    def _wait(self) -> None:
        if self.asked_to_stop > 1:
            self._stop_now()
            raise Interrupted
        self.view.tick([self._flight(running) for running in self.flying.values()], self._goal())
        time.sleep(POLL)

    def _flight(self, running: Running) -> Flight:
        phase, since = running.phase()
        return Flight(running.trial, phase, since or self.launched.get(running.trial.id, self.begun))

    def _goal(self) -> str:
        """How far the stop rules are, in words."""
        done, rules = self._done(), []
        if self.stop.experiments is not None:
            rules.append(f"{done} of {self.stop.experiments} experiments")
        if self.stop.hours is not None:
            left = max(self.stop.hours - (time.time() - self.begun) / 3600, 0)
            rules.append(f"{left:.1f} hours left")
        return ", ".join(rules) or f"{done} experiments, until Ctrl-C"

    def _in_search(self) -> int:
        """Candidates in flight, the baseline not counted."""
        return sum(r.trial.purpose == "search" and r.trial.experiment > 0 for r in self.flying.values())

    def _done(self) -> int:
        """Experiments judged so far, the baseline not counted."""
        return max(self.ledger.next_number() - 1 - len(self.ledger.unjudged()), 0)

    def _conclude(self, running: Running) -> None:
        """Record what a trial yielded; for the search, judge it or try again."""
        measurement, trial = self.session.box.collect(running), running.trial
        self.ledger.finish(trial, measurement)
        self.trained += measurement.training_seconds
        if trial.purpose == "search" and measurement.outcome not in ("lost", "interrupted"):
            self._judge(trial.experiment, measurement)
        elif trial.purpose == "search" and self._times_lost(trial.experiment) >= ATTEMPTS:
            self._judge(trial.experiment, replace(measurement, detail=f"lost {ATTEMPTS} times"))
        else:
            self.view.measured(trial, measurement, self.session.metric)

    def _times_lost(self, number: int) -> int:
        trials = self.ledger.trials(number)
        return sum(bool(m and m.outcome == "lost") for t, m in trials if t.purpose == "search")

    def _judge(self, number: int, measurement: Measurement) -> None:
        experiment, champion = self.ledger.experiment(number), self.ledger.champion()
        verdict = self.session.rule.judge(
            _contestant(champion) if champion else None, Contestant(measurement, experiment.candidate.lines)
        )
        self.ledger.judge(number, measurement, verdict)
        experiment = self.ledger.experiment(number)
        append_result(self.session.results, experiment)
        if experiment.kept and not self.session.sync():
            self.view.say(f"{self.session.branch} is checked out somewhere: it moves when you switch away")
        self.view.judged(experiment, champion)
        if number == 0 and verdict.status != "keep":
            log = self.session.box.folder / f"0000-search-s{SEED}-1" / "candidate.log"
            raise NightlabError(
                f"the baseline can't be measured: {verdict.reason}: {verdict.detail}",
                f"read {log}, mend the lab, commit, and run again (a fresh session starts)",
            )

    def _confirmed_value(self, number: int, seed: int) -> float:
        for trial, measured in self.ledger.trials(number):
            if trial.purpose == "confirm" and trial.seed == seed and measured and measured.metric is not None:
                return measured.metric
        for _ in range(ATTEMPTS):
            trial = self._launch(number, "confirm", seed, land=True)
            measured = {t.id: m for t, m in self.ledger.trials(number)}[trial.id]
            if measured and measured.metric is not None:
                return measured.metric
        assert measured is not None
        raise NightlabError(
            f"experiment {number} can't be confirmed: with seed {seed} it {measured.outcome}: {measured.detail}",
            f"look at its log: nightlab show {number}",
        )

    # -- beginning and ending --------------------------------------------------------------------

    def _resume(self) -> None:
        """Go on where an earlier orchestrator stopped, however it did."""
        session, self.begun = self.session, time.time()
        if self.ledger.next_number() == 0:
            baseline = session.baseline_candidate()
            constants = _constants(session.genome(baseline.commit), session.device)
            self._admit(replace(baseline, constants=constants))
        adopted = self._take_up()
        write_results(session.results, session.metric, self.ledger.experiments())
        session.sync()
        self.view.opened(
            Opening(
                tag=session.tag,
                lab=session.lab.name,
                metric=session.metric,
                budget=str(session.budget.record()),
                platform=str(session.platform),
                sandbox=_sealing(session),
                experiments=self._done(),
                champion=self.ledger.champion(),
                adopted=adopted,
            )
        )

    def _take_up(self) -> int:
        """Adopt the trials that an earlier orchestrator left, running, finished or lost. Returns how many."""
        left = self.ledger.open_trials()
        for trial in left:
            self.flying[trial.id] = self.session.box.adopt(trial)
        if not left:
            end_leftovers(self.session.box.folder)
        return len(left)

    def _reason_to_stop(self) -> str:
        if self.asked_to_stop:
            return "stopped by the user"
        if self.nothing_left:
            return self.nothing_left
        stop, done = self.stop, self._done()
        if stop.experiments is not None and done + self._in_search() >= stop.experiments:
            return f"{stop.experiments} experiments are done"
        if stop.hours is not None and time.time() - self.begun > stop.hours * 3600:
            return f"{stop.hours:g} hours are over"
        if stop.stall is not None:
            champion = self.ledger.champion()
            since = done - champion.number if champion else 0
            if since >= stop.stall:
                return f"{since} experiments in a row brought no keep"
        return ""

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C once finishes what is in flight, twice stops now; a termination stops now.

        A terminal that goes away (SIGHUP) stops nothing: the night goes on without its view.
        """

        def ask(number: int, frame: FrameType | None) -> None:
            self.asked_to_stop += 2 if number == signal.SIGTERM else 1
            if self.asked_to_stop == 1:
                self.view.say("finishing what is in flight; Ctrl-C again stops now")

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop_now(self) -> None:
        """End the trials in flight. Their experiments stay unjudged and run again at the next start."""
        for running in self.flying.values():
            running.stop()
        until = time.monotonic() + 10
        for running in self.flying.values():
            while not running.finished() and time.monotonic() < until:
                time.sleep(POLL)
            measurement = self.session.box.collect(running)
            if measurement.outcome == "lost":  # stopped before its supervisor could say so
                measurement = replace(measurement, outcome="interrupted", detail="stopped by the user")
            self.ledger.finish(running.trial, measurement)
        self.flying.clear()
        self.ledger.note("stopped", {"reason": "stopped by the user"})


def _sealing(session: Session) -> str:
    """What the box of this session is, and what it lacks, in words."""
    box = session.sandbox
    if not box.missing:
        return f"each trial is sealed in {box.name}"
    return f"NOT sealed: no protection of {', '.join(box.missing)} ({box.why})"


def _contestant(experiment: Experiment) -> Contestant:
    assert experiment.measurement is not None
    return Contestant(experiment.measurement, experiment.candidate.lines)


def _constants(genome: dict[str, str], device: str) -> dict[str, object]:
    """The constants of all genome files; names of a second file carry its path."""
    found: dict[str, object] = {}
    for path, text in genome.items():
        for name, constant in find_constants(text, device).items():
            found[name if name not in found else f"{path}:{name}"] = constant.value
    return found
