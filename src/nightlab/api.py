"""The public API: a lab, a session in it, and the protocols of what you can bring along."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from nightlab.core.config import StopRules, amended
from nightlab.core.observer import Observer, Observers
from nightlab.core.types import (
    Budget,
    Candidate,
    Evidence,
    Experiment,
    Measurement,
    Metric,
    NightlabError,
    RunResult,
    Status,
    Verdict,
)
from nightlab.engines.base import Engine
from nightlab.engines.caller import CallerEngine
from nightlab.engines.plugged import PluggedEngine
from nightlab.judge import Contestant, NeedsTrial, Noise, Rule
from nightlab.loop.ask_tell import AskedTrial, AskTell
from nightlab.loop.population_trainer import PopulationResult, train_population
from nightlab.proposers import Briefing, NoProposal, Proposal, Proposer
from nightlab.proposers.selection import Selection
from nightlab.session.overrides import Overrides, check_overrides, override
from nightlab.session.preflight import Check
from nightlab.storage.ledger import LEDGER, Ledger
from nightlab.ui.notebook import notebook_progress
from nightlab.ui.terminal.lines import LineObserver

if TYPE_CHECKING:
    import pandas

    from nightlab.loop.loop import ExperimentLoop
    from nightlab.loop.scheduler import Scheduler
    from nightlab.session.session import Session as OpenSession

__all__ = [
    "AskedTrial",
    "Briefing",
    "Budget",
    "Callback",
    "Candidate",
    "Check",
    "Contestant",
    "Engine",
    "Evidence",
    "Experiment",
    "Lab",
    "LineObserver",
    "Measurement",
    "Metric",
    "NeedsTrial",
    "NightlabError",
    "NoProposal",
    "Noise",
    "PopulationResult",
    "Proposal",
    "Proposer",
    "Rule",
    "RunResult",
    "Selection",
    "Session",
    "Verdict",
    "load",
]

Callback = Observer
"""What a session tells as it goes. Subclass it and override what you want to hear of."""

JudgedCallback = Callable[["Session", Experiment], object]


def load(path: str | Path, tag: str | None = None) -> pandas.DataFrame:
    """A session's experiments as a pandas frame, one row each.

    ``path``: a lab's folder, of whose sessions the latest is taken if there is no ``tag``; a session's folder, or its
    ``ledger.db``. The session may be running. docs/data.md has the columns.

    Raises NightlabError where there is no session, or pandas is missing.

    Example::

        frame = nightlab.load("my-lab")
        print(frame[frame.status == "keep"][["number", "metric", "hypothesis"]])
    """
    from nightlab.integrations.frame import session_frame

    return session_frame(path, tag)


class Lab:
    """A lab: a git folder with a contract (``lab.toml``, or a layout that nightlab knows).

    Raises NightlabError when the folder is in no git repository, nothing is committed, or there is no contract.

    Example::

        lab = nightlab.Lab("my-lab")
        for check in lab.check():
            print("ok" if check.ok else "no", check.what, check.hint)
        print(lab.sessions())                   # ['nov28', 'nov27']
    """

    def __init__(self, path: str | Path = ".") -> None:
        from nightlab.session.preflight import committed_contract
        from nightlab.storage.git import Repo

        self.path = Path(path)
        _, contract, _ = committed_contract(Repo(self.path))
        self.name = contract.name
        self.metric: Metric = contract.metric.record()

    @classmethod
    def new(cls, path: str | Path, template: str = "lm") -> Lab:
        """Make a lab in a new folder from one that ships (``lm``, ``speed``, ``wasm``), and commit it.

        Raises NightlabError when the folder exists, or there is no such lab.

        Example::

            lab = nightlab.Lab.new("faster", template="speed")
        """
        from nightlab.session.create import make_lab

        return cls(make_lab(Path(path), template))

    def check(self, allow_missing: str | Iterable[str] = ()) -> list[Check]:
        """What a session needs of this lab and this machine: each with ``ok``, ``what`` and ``hint``.

        The lab's command is tried in the sandbox for a few seconds.
        A check with ``fatal`` that is not ok keeps a session from starting. ``allow_missing``: protections of the
        sandbox that you can do without (``"files"``, ``"network"``, ``"processes"``, ``"privileges"``, or ``"all"``).
        """
        from nightlab.session.preflight import protections
        from nightlab.session.rehearsal import check_thoroughly
        from nightlab.storage.git import Repo

        return check_thoroughly(Repo(self.path), protections(allow_missing))[2]

    def sessions(self) -> list[str]:
        """The tags of the lab's sessions, the latest used first."""
        from nightlab.storage.ledger import tags

        return tags(self.path)

    def session(
        self,
        tag: str | None = None,
        *,
        proposers: Sequence[str | Mapping[str, Any] | Proposer] | None = None,
        judge: str | Rule | None = None,
        selection: str | Selection | None = None,
        program: str | None = None,
        engine: str | Engine = "local",
        slots: int | Literal["auto"] = 1,
        device: Literal["cuda", "mps", "cpu"] | None = None,
        allow_missing: str | Iterable[str] = (),
        seed: int = 0,
    ) -> Session:
        """Open a session for running, or begin it. Without a ``tag`` the latest goes on, unless the lab has changed.

        ``proposers``, ``judge`` and ``selection`` take the place of what the contract says while the session is open:
        names that ``lab.toml`` knows, tables such as ``{"kind": "model", "model": "…"}``, or objects with the methods
        of ``nightlab.Proposer``, ``nightlab.Rule`` and ``nightlab.Selection``. An object is trusted: it runs in this
        process. ``program`` is what proposers are told in place of ``program.md``. ``engine`` says where trials run:
        ``"local"``, a cluster as in ``run --engine`` (``"local-ray"``, ``"ray://HOST:PORT"``, ``"slurm"``), or a
        ``nightlab.Engine``. ``slots``: trials at once, or ``"auto"`` for as many as there is room for. ``seed`` is the
        proposers' randomness.

        Raises NightlabError when the lab can't run, another process has the session open, or a name is unknown.

        Example::

            with lab.session("nov28", proposers=["tuner"], judge="replicate") as session:
                session.run(experiments=20)
        """
        from nightlab.session.create import start_remote_session, start_session, start_with
        from nightlab.session.preflight import committed_contract, protections
        from nightlab.storage.git import Repo

        check_overrides(committed_contract(Repo(self.path))[1], proposers, judge, selection)
        allow, count = protections(allow_missing), None if slots == "auto" else slots
        voice = _Voice()
        own: Engine | None = None
        if not isinstance(engine, str):
            own = PluggedEngine(type(engine).__name__, engine)
            inner, said = start_with(own, self.path, tag, device, allow)
        elif engine == "local":
            inner, said = start_session(self.path, tag, device, allow)
        else:
            inner, said, own = start_remote_session(engine, count, self.path, tag, device, allow, voice)
        try:
            overrides = override(inner, proposers, judge, selection, program)
        except BaseException:
            inner.close()
            raise
        if said:
            voice(said)
        return Session(inner, overrides, own, count, seed, voice)

    def __repr__(self) -> str:
        return f"Lab({str(self.path)!r})"


class Session:
    """A session that is open for running, by this process alone. ``Lab.session`` opens one; use it in a ``with`` block.

    What is asked of it is read from its ledger, also by another thread and while it runs. One thread at a time may
    ``run``, ``ask``, ``tell`` or ``confirm``.
    """

    def __init__(
        self,
        inner: OpenSession,
        overrides: Overrides,
        engine: Engine | None,
        slots: int | None,
        seed: int,
        voice: _Voice,
    ) -> None:
        self._inner, self._overrides, self._engine, self._slots, self._seed = inner, overrides, engine, slots, seed
        self._voice = voice
        self._work = threading.Lock()
        self._worker: threading.Thread | None = None
        self._scheduler: Scheduler | None = None
        self._asking: AskTell | None = None
        self._closed = False

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
        return list(self._voice.heard)

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
        with self._working(callbacks) as scheduler:
            return run_session(self._loop(scheduler, stop), confirm)

    def stop(self, now: bool = False) -> None:
        """End the run that is under way: once its running trials have finished, or ``now``, when they run again later.

        For callbacks, and for other threads than the one that runs the session.
        """
        if scheduler := self._scheduler:
            scheduler.ask_to_stop(now, by="the program")

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
        with self._working(callbacks) as scheduler:
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

        with self._working(callbacks) as scheduler:
            result = train_population(self._loop(scheduler, StopRules()), members, parts, self._seed, confirm > 1)
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
        with self._alone():
            return self._ask_tell().ask()

    def measure(self, trial: AskedTrial) -> Measurement:
        """Run a trial in the sandbox, on the session's engine, and wait for what it yields. Once for each trial.

        Several threads may each measure a trial of theirs. Raises NightlabError when it can't be started, or ran.
        """
        return self._ask_tell().measure(trial)

    def tell(self, trial: AskedTrial, measurement: Measurement | float) -> Experiment:
        """Record what a trial yielded, and judge its experiment if the judge has seen enough.

        Returns the experiment; its ``verdict`` is None while the judge wants another trial of it. A number, or a
        measurement that ``measure`` did not return, is recorded as told by you and not measured by nightlab.

        Raises NightlabError for a trial that is not waiting for its measurement.

        Example::

            trial = session.ask()
            session.tell(trial, my_own_loss(trial.genome["genome.py"], trial.seed))
        """
        with self._alone():
            return self._ask_tell().tell(trial, measurement)

    # -- opening and closing ---------------------------------------------------------------------

    def close(self) -> None:
        """Close the session, so that another process can run it. A run in another thread is stopped now first.

        Trials that were asked for and not told run again another time. Raises NightlabError in a callback.
        """
        if self._worker is threading.current_thread():
            raise NightlabError(f"session {self.tag} is running: it can't be closed here", "end it: session.stop()")
        self.stop(now=True)
        with self._work:
            if not self._closed:
                self._closed = True
                self._end_asking()
                self._inner.close()

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

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While the block runs, no other thread may run this session."""
        if self._worker is threading.current_thread():
            raise NightlabError(f"session {self.tag} is running: a callback can't run it", "end it: session.stop()")
        if not self._work.acquire(blocking=False):
            raise NightlabError(
                f"another thread of this program runs session {self.tag}",
                "wait until it has ended, or end it: session.stop()",
            )
        try:
            if self._closed:
                raise NightlabError(f"session {self.tag} is closed", f"open it again: lab.session({self.tag!r})")
            self._worker = threading.current_thread()
            yield
        finally:
            self._worker = None
            self._work.release()

    def _loop(self, scheduler: Scheduler, stop: StopRules) -> ExperimentLoop:
        from nightlab.loop.loop import ExperimentLoop

        brought = self._overrides
        return ExperimentLoop(
            self._inner, stop, scheduler, seed=self._seed, proposers=brought.proposers, selection=brought.selection
        )

    def _ask_tell(self) -> AskTell:
        """The steps of the loop, one by one, from the first question on until something else is done."""
        from nightlab.loop.scheduler import Scheduler

        if self._asking is None:
            engine = CallerEngine(self._engine or self._inner.local_engine)
            scheduler = Scheduler(self._inner, Observers(notebook_progress()), self._slots, engine)
            self._asking = AskTell(self._loop(scheduler, StopRules()), engine)
        return self._asking

    def _end_asking(self) -> None:
        if self._asking:
            self._asking.close()
            self._asking = None

    @contextmanager
    def _working(self, callbacks: Iterable[Callback | JudgedCallback]) -> Iterator[Scheduler]:
        """A scheduler for one run; what it has running when the run is interrupted is ended and written down."""
        from nightlab.loop.scheduler import Scheduler

        with self._alone():
            self._end_asking()
            observers = [one if isinstance(one, Observer) else _AfterVerdict(self, one) for one in callbacks]
            view = Observers([*notebook_progress(), *observers])
            self._scheduler = Scheduler(self._inner, view, self._slots, self._engine)
            self._voice.view = view
            try:
                yield self._scheduler
            except KeyboardInterrupt:
                self._scheduler.stop_now()
                raise
            finally:
                self._scheduler = self._voice.view = None
                view.close()


class _Voice:
    """Where an engine's words go: to the run that is under way, else they are kept for who opened the session."""

    def __init__(self) -> None:
        self.view: Observer | None = None
        self.heard: list[str] = []

    def __call__(self, words: str) -> None:
        if self.view:
            self.view.say(words)
        else:
            self.heard.append(words)


class _AfterVerdict(Observer):
    """Calls a function after each verdict."""

    def __init__(self, session: Session, function: JudgedCallback) -> None:
        self.session, self.function = session, function

    def __repr__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def judged(self, experiment: Experiment, champion: Experiment | None) -> None:
        self.function(self.session, experiment)
