"""A session that is open for running."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from nightlab.api.frame import load
from nightlab.api.runner import SessionRunner
from nightlab.core.config import StopRules, amended
from nightlab.core.observer import Observer
from nightlab.core.types import Evidence, Experiment, Measurement, Metric, NightlabError, RunResult, Status
from nightlab.loop.ask_tell import AskedTrial
from nightlab.loop.population_trainer import PopulationResult, train_population
from nightlab.storage.ledger import LEDGER, Ledger

if TYPE_CHECKING:
    import pandas

Callback = Observer
"""What a session tells as it goes. Subclass it and override what you want to hear of."""

JudgedCallback = Callable[["Session", Experiment], object]


class Session:
    """A session that is open for running, by this process alone. ``Lab.session`` opens one; use it in a ``with`` block.

    What is asked of it is read from its ledger, also by another thread and while it runs. One thread at a time may
    ``run``, ``ask``, ``tell`` or ``confirm``.
    """

    def __init__(self, runner: SessionRunner) -> None:
        self._runner, self._inner = runner, runner.inner

    # -- looking ---------------------------------------------------------------------------------

    @property
    def tag(self) -> str:
        """The session's name."""
        return self._inner.tag

    @property
    def folder(self) -> Path:
        """Where its ledger, ``results.tsv``, the report and the trials' logs are."""
        return self._inner.folder

    @property
    def branch(self) -> str:
        """The git branch whose head is the champion."""
        return self._inner.branch

    @property
    def base(self) -> str:
        """The commit that it began on: the baseline's."""
        return self._inner.base

    @property
    def metric(self) -> Metric:
        """What is measured, and which way is better."""
        return self._inner.metric

    @property
    def notices(self) -> list[str]:
        """What was said when it was opened, e.g. that it is a new session because the lab has changed."""
        return list(self._runner.voice.heard)

    @property
    def champion(self) -> Experiment:
        """The best genome so far; the baseline at first. Raises NightlabError before that has been measured."""
        with self._reading() as ledger:
            champion = ledger.champion()
        if champion is None:
            raise NightlabError(f"session {self.tag} has no measured baseline yet", "let it run: session.run()")
        return champion

    def experiments(self, status: Status | None = None, proposer: str | None = None) -> list[Experiment]:
        """The experiments in order of their numbers, the baseline first; of one ``status``, of one ``proposer``.

        ``status``: ``"keep"``, ``"discard"`` or ``"crash"``. Those without a verdict yet come only without one.

        Example::

            for experiment in session.experiments(status="keep"):
                print(experiment.number, experiment.measurement.metric, experiment.candidate.hypothesis)
        """
        if status not in (None, *get_args(Status)):
            raise NightlabError(f"there is no status {status!r}", f"it is one of {', '.join(get_args(Status))}")
        with self._reading() as ledger:
            return ledger.experiments(status=status, proposer=proposer)

    def to_pandas(self) -> pandas.DataFrame:
        """The experiments as a pandas frame, as ``nightlab.load`` gives it. Raises NightlabError without pandas."""
        return load(self.folder)

    def report(self) -> Path:
        """Write the report of what was tried and gained so far; returns its page, ``report.html``.

        Raises NightlabError when nothing has been measured.
        """
        from nightlab.analysis.report import write_report
        from nightlab.session.session import open_session

        with closing(open_session(self._inner.repo.lab, self.tag)) as session:
            return write_report(session)[1]

    # -- running ---------------------------------------------------------------------------------

    def run(
        self,
        experiments: int | None = None,
        *,
        hours: float | None = None,
        stall: int | None = None,
        tokens: int | None = None,
        money: float | None = None,
        requests: int | None = None,
        gain_per_hour: float | None = None,
        target: float | None = None,
        confirm: int | None = None,
        callbacks: Iterable[Callback | JudgedCallback] = (),
    ) -> RunResult:
        """Run experiments until a stop rule, ``stop()`` or an interrupt, then measure again what was gained.

        Stop rules: ``experiments`` in the whole session, those of earlier runs included; ``hours`` of this run;
        ``stall`` experiments in a row without a keep; ``tokens``, ``money`` (US dollars) and ``requests`` that
        proposers used, as counted or else as they say; ``gain_per_hour``, in the metric's unit, that an hour of a slot
        has to be expected to gain; ``target``, a value of the metric that the champion's bar has to reach. Where you
        leave one out, the contract's holds; where there is none at all, it runs until it is stopped.

        ``confirm``: pairs of fresh seeds on which baseline and champion are measured again at the end; 0: none; by
        default what the contract's share of the session pays for.

        ``callbacks``: ``nightlab.Callback`` objects, or functions that are called with this session and the experiment
        after each verdict. They run in this thread. One that raises an exception is not called any more: a
        RuntimeWarning names it, and the run goes on. A notebook shows progress by itself; in a script
        ``nightlab.LineObserver()`` prints it.

        An interrupt (Ctrl-C, a notebook's stop button) ends the trials in flight and raises KeyboardInterrupt. Nothing
        finished is lost: their candidates run again in the next run, as after a kill.

        Raises NightlabError when another thread runs this session, a stop rule is no positive number, the baseline
        can't be measured, or the disk is full.

        Example::

            def enough(session, experiment):
                if session.champion.bar < 0.9:
                    session.stop()

            result = session.run(experiments=50, hours=8, callbacks=[enough])
            print(result.reason, result.champion.number)
        """
        from nightlab.analysis.session_run import run_session

        given = {"experiments": experiments, "hours": hours, "stall": stall, "tokens": tokens, "money": money}
        given |= {"requests": requests, "gain_per_hour": gain_per_hour, "target": target}
        rules = {key: value for key, value in given.items() if value is not None}
        stop = amended(self._inner.lab, {"stop": rules}).stop
        with self._runner.running(self._observers(callbacks)) as scheduler:
            return run_session(self._runner.loop(scheduler, stop), confirm)

    def stop(self, now: bool = False) -> None:
        """End the run that is under way: once its running trials have finished, or ``now``, when they run again later.

        For callbacks, and for other threads than the one that runs the session.
        """
        self._runner.stop(now)

    def confirm(self, seeds: int = 4, callbacks: Iterable[Callback] = ()) -> Evidence | None:
        """Measure the baseline and the champion again on ``seeds`` fresh seeds that no decision has used, in pairs.

        Returns the gain with its interval, on held-out data too where the evaluator has some; None while the champion
        is the baseline. Pairs that were measured before are not measured again.

        Raises NightlabError when a trial fails, or ``stop()`` came before all were measured.

        Example::

            if evidence := session.confirm(seeds=8):
                print(evidence.shown, evidence.gain.mean, evidence.gain.low, evidence.gain.high)
        """
        from nightlab.analysis.confirm import Confirmer
        from nightlab.loop.scheduler import RunInterrupted

        if seeds < 2:
            raise NightlabError(f"{seeds} seeds give no interval", "give at least 2, better 4 to 8")
        with self._runner.running(self._observers(callbacks)) as scheduler:
            claims = Confirmer(scheduler)
            try:
                evidence = claims.confirm(seeds)
            except RunInterrupted:
                raise NightlabError(
                    f"stopped before all {seeds} pairs were measured", "confirm again: those that were count"
                ) from None
            if evidence:
                scheduler.view.confirmed(evidence, *claims.values)
            return evidence

    def pbt(
        self,
        members: int | None = None,
        parts: int | None = None,
        *,
        confirm: int = 4,
        callbacks: Iterable[Callback | JudgedCallback] = (),
    ) -> PopulationResult:
        """Train a population (population-based training), and measure its schedule of constants from nothing.

        ``members`` train at once, each in this number of ``parts`` (by default 8 and 10). The winner's schedule becomes
        a candidate like any other; if it is kept, it is measured again on ``confirm`` pairs of fresh seeds (0: not). A
        population that was interrupted goes on with the same call.

        Raises NightlabError where the lab can't go on from checkpoints, no constant moves, or all members died.

        Example::

            result = session.pbt(members=8, parts=10)
            print(result.ended.schedule, result.experiment.verdict, result.evidence)
        """
        from nightlab.analysis.confirm import Confirmer

        with self._runner.running(self._observers(callbacks)) as scheduler:
            loop = self._runner.loop(scheduler, StopRules())
            result = train_population(loop, members, parts, self._runner.seed, confirm > 1)
            if result.experiment is None or not result.experiment.kept or confirm < 2:
                return result
            claims = Confirmer(scheduler)
            evidence = claims.confirm(confirm)
            if evidence:
                scheduler.view.confirmed(evidence, *claims.values)
            return replace(result, evidence=evidence)

    # -- without the loop ------------------------------------------------------------------------

    def ask(self) -> AskedTrial | None:
        """The next trial to run: of the baseline, of a new candidate, or one that the judge wants more.

        None when the proposers have nothing to propose, or all that is left to do waits for trials that you have.

        Raises NightlabError when every slot has a trial that was not told yet, or another thread runs this session.

        Example::

            while trial := session.ask():
                experiment = session.tell(trial, session.measure(trial))
                print(experiment.number, experiment.verdict)
        """
        with self._runner.alone():
            return self._runner.ask_tell().ask()

    def measure(self, trial: AskedTrial) -> Measurement:
        """Run a trial in the sandbox, on the session's engine, and wait for what it yields. Once for each trial.

        Several threads may each measure a trial of theirs. Raises NightlabError when it can't be started, or ran.
        """
        return self._runner.ask_tell().measure(trial)

    def tell(self, trial: AskedTrial, measurement: Measurement | float) -> Experiment:
        """Record what a trial yielded, and judge its experiment if the judge has seen enough.

        Returns the experiment; its ``verdict`` is None while the judge wants another trial of it. A number, or a
        measurement that ``measure`` did not return, is recorded as told by you and not measured by nightlab.

        Raises NightlabError for a trial that is not waiting for its measurement.

        Example::

            trial = session.ask()
            session.tell(trial, my_own_loss(trial.genome["genome.py"], trial.seed))
        """
        with self._runner.alone():
            return self._runner.ask_tell().tell(trial, measurement)

    # -- opening and closing ---------------------------------------------------------------------

    def close(self) -> None:
        """Close the session, so that another process can run it. A run in another thread is stopped now first.

        Trials that were asked for and not told run again another time. Raises NightlabError in a callback.
        """
        self._runner.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<nightlab session {self.tag!r} in {self._inner.repo.lab}>"

    # -- inside ----------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[Ledger]:
        """The ledger for one look, by whichever thread."""
        with closing(Ledger(self.folder / LEDGER, read_only=True)) as ledger:
            yield ledger

    def _observers(self, callbacks: Iterable[Callback | JudgedCallback]) -> list[Observer]:
        return [one if isinstance(one, Observer) else _AfterVerdict(self, one) for one in callbacks]


class _AfterVerdict(Observer):
    """Calls a function after each verdict."""

    def __init__(self, session: Session, function: JudgedCallback) -> None:
        self.session, self.function = session, function

    def __repr__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def judged(self, experiment: Experiment, champion: Experiment | None) -> None:
        self.function(self.session, experiment)
