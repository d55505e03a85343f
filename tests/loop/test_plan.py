"""The plan of a session: a whole loop on it, with trials, verdicts and orders that are only simulated."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightlab.core.types import Measurement, Metric, TrialRequest, Verdict
from nightlab.judge import Contestant, Judge, Noise, make_rule
from nightlab.loop.plan import (
    Finish,
    LoopSnapshot,
    PendingExperiment,
    RecordVerdict,
    RunHook,
    RunTrial,
    TakeNext,
    Wait,
    next_action,
)
from nightlab.loop.rounds import Rounds

NOISE = Noise(0.01, 50.0)
OUTCOMES = ("measured",) * 6 + ("crashed", "timed out", "no metric", "over limit")


@dataclass
class Simulation:
    """A session of ``experiments`` whose trials end in any order; the user pauses, resumes, skips and stops it."""

    rule: str
    experiments: int
    slots: int
    random: Random
    hooks: bool = False
    runs: dict[int, dict[int, Measurement]] = field(default_factory=lambda: {0: {}})
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    champion: int | None = None
    bar: float = 0.0
    running: list[TrialRequest] = field(default_factory=list)
    started: list[TrialRequest] = field(default_factory=list)
    hooked: set[int] = field(default_factory=set)
    skipped: set[int] = field(default_factory=set)
    hook: int | None = None
    paused: bool = False
    stop_requested: bool = False

    def run(self, orders: bool = False) -> str:
        judge = Judge(Metric("loss"), {}, make_rule(self.rule))
        for _ in range(100 * self.experiments + 1000):
            if orders:
                self.give_order()
            queue_empty = False
            while len(self.running) < self.slots:
                state = self.state(queue_empty)
                action = next_action(state, judge, NOISE)
                match action:
                    case RunTrial(request):
                        self.start(request, state)
                    case RunHook(number):
                        assert self.hook is None and number not in self.hooked
                        self.hook = number
                    case RecordVerdict():
                        self.record(action)
                    case TakeNext():
                        assert not state.starts_nothing and not state.stop_reason
                        queue_empty = self.random.random() < 0.3
                        if not queue_empty:
                            self.runs[len(self.runs)] = {}
                    case Finish(reason):
                        assert not self.running and self.hook is None
                        return reason
                    case Wait():
                        break
            self.pass_time()
        raise AssertionError("the session does not end")

    def state(self, queue_empty: bool) -> LoopSnapshot:
        reason = "stopped" if self.stop_requested else "done" if len(self.runs) > self.experiments else ""
        return LoopSnapshot(
            champion=None if self.champion is None else (self.champion, self.contestant(self.champion)),
            pending=tuple(
                PendingExperiment(
                    number,
                    self.contestant(number),
                    skipped=number in self.skipped,
                    needs_hook=self.hooks and number not in self.hooked and not self.runs[number],
                )
                for number in self.runs
                if number not in self.verdicts
            ),
            running=frozenset((request.number, request.purpose, request.seed) for request in self.running),
            queue_empty=queue_empty,
            hook_running=self.hook is not None,
            hooks_due=self.hook is not None,
            stop_requested=self.stop_requested,
            paused=self.paused,
            stop_reason=reason,
        )

    def contestant(self, number: int) -> Contestant:
        return Contestant(dict(self.runs[number]), 10, bar=self.bar if number == self.champion else None)

    def start(self, request: TrialRequest, state: LoopSnapshot) -> None:
        assert not state.starts_nothing, "nothing starts while the session is paused, or stops"
        assert request not in self.started, "no trial runs twice"
        assert self.champion is not None or request.number == 0, "the baseline comes first"
        assert request.number == self.champion or request.number not in self.verdicts
        assert not self.hooks or self.runs[request.number] or request.number in self.hooked
        self.running.append(request)
        self.started.append(request)

    def record(self, action: RecordVerdict) -> None:
        assert action.number not in self.verdicts, "one verdict for each experiment"
        self.verdicts[action.number] = action.verdict
        if action.verdict.status == "keep":
            assert action.verdict.bar is not None
            self.champion, self.bar = action.number, action.verdict.bar

    def pass_time(self) -> None:
        """One of the trials that run ends, and the hook."""
        if self.hook is not None:
            self.hooked.add(self.hook)
            self.hook = None
        if self.running:
            request = self.running.pop(self.random.randrange(len(self.running)))
            outcome = "measured" if request.number in (0, self.champion) else self.random.choice(OUTCOMES)
            value = self.random.gauss(1.0 - 0.01 * (request.number % 7), 0.01) if outcome == "measured" else None
            self.runs[request.number][request.seed] = Measurement(outcome, metric=value)

    def give_order(self) -> None:
        order = self.random.choice(("pause", "resume", "resume", "skip", "stop", *["none"] * 40))
        self.paused = order == "pause" or (self.paused and order != "resume")
        self.stop_requested |= order == "stop"
        if order == "skip" and len(self.runs) > 1:
            self.skipped.add(self.random.randrange(1, len(self.runs)))


simulations = st.builds(
    Simulation,
    rule=st.sampled_from(("greedy", "shrunk", "strict", "replicate")),
    experiments=st.integers(1, 25),
    slots=st.integers(1, 5),
    random=st.integers(0, 2**32).map(Random),
    hooks=st.booleans(),
)


@settings(max_examples=25, deadline=None)
@given(simulations)
def test_every_experiment_gets_one_verdict(session: Simulation) -> None:
    assert session.run() == "done"
    assert session.verdicts.keys() == session.runs.keys() and len(session.runs) == session.experiments + 1


@settings(max_examples=25, deadline=None)
@given(simulations)
def test_orders_at_any_moment_start_nothing_that_they_forbid(session: Simulation) -> None:
    reason = session.run(orders=True)
    assert reason == ("stopped" if session.stop_requested else "done")
    if reason == "done":
        assert session.verdicts.keys() == session.runs.keys()
    for number in session.skipped & session.verdicts.keys():
        assert session.verdicts[number].status in ("keep", "discard", "crash")


def test_hundreds_of_experiments() -> None:
    session = Simulation("replicate", 300, 4, Random(1))
    assert session.run() == "done" and len(session.verdicts) == 301


WAITING = PendingExperiment(1, Contestant({}, 10))
CHAMPION = (0, Contestant({1: Measurement("measured", metric=1.0)}, 10, bar=1.0))
STATE = LoopSnapshot(CHAMPION, (WAITING,), frozenset())
RECHECK = TrialRequest(0, "upkeep", 500)


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (STATE, RunTrial(TrialRequest(1, "search", 1))),
        (replace(STATE, paused=True), Wait()),
        (replace(STATE, stop_requested=True, stop_reason="asked"), Finish("asked")),
        (replace(STATE, stop_requested=True, stop_reason="asked", hooks_due=True), Wait()),
        (replace(STATE, running=frozenset({(1, "search", 1)}), stop_reason="asked"), Wait()),
        (replace(STATE, pending=(), recheck=RECHECK), RunTrial(RECHECK)),
        (replace(STATE, recheck=RECHECK), RunTrial(TrialRequest(1, "search", 1))),
        (replace(STATE, recheck=RECHECK, machine_changed=True), RunTrial(RECHECK)),
        (replace(STATE, recheck=RECHECK, machine_changed=True, running=frozenset({(0, "upkeep", 500)})), Wait()),
        (replace(STATE, recheck=RECHECK, machine_changed=True, paused=True), Wait()),
        (replace(STATE, pending=(replace(WAITING, needs_hook=True),)), RunHook(1)),
        (replace(STATE, pending=(replace(WAITING, needs_hook=True),), hook_running=True), Wait()),
        (replace(STATE, pending=(replace(WAITING, skipped=True),), running=frozenset({(1, "search", 1)})), TakeNext()),
        (replace(STATE, pending=()), TakeNext()),
        (replace(STATE, pending=(), queue_empty=True), Wait()),
        (replace(STATE, pending=(), stop_reason="12 experiments are done"), Finish("12 experiments are done")),
    ],
)
def test_the_next_action(state: LoopSnapshot, action: object) -> None:
    judge = Judge(Metric("loss"), {}, make_rule("shrunk"))
    assert next_action(state, judge, NOISE) == action


SLOWER = Contestant({10002: Measurement("measured", metric=1.2)}, 10)
BESIDE = replace(STATE, pending=(PendingExperiment(1, SLOWER, beside=RECHECK),))


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (BESIDE, RunTrial(RECHECK)),
        (replace(BESIDE, running=frozenset({(0, "upkeep", 500)})), TakeNext()),
        (replace(BESIDE, recheck=RECHECK), RunTrial(RECHECK)),
        (replace(BESIDE, paused=True), Wait()),
    ],
)
def test_a_close_time_waits_for_the_champions_beside_it(state: LoopSnapshot, action: object) -> None:
    assert next_action(state, Judge(Metric("ms"), {}, make_rule("shrunk")), NOISE) == action


def test_a_time_that_is_far_off_or_none_does_not_wait() -> None:
    for far in (Measurement("measured", metric=9.0), Measurement("crashed")):
        candidate = PendingExperiment(1, Contestant({10002: far}, 10), beside=RECHECK)
        action = next_action(replace(STATE, pending=(candidate,)), Judge(Metric("ms"), {}, make_rule("shrunk")), NOISE)
        assert isinstance(action, RecordVerdict)


FASTER = Contestant({10002: Measurement("measured", metric=0.5)}, 10)
NEXT = TrialRequest(1, "round", 5001, commit="c")
ROUND = Rounds({}, {}, 0.02, NEXT)
IN_TURN = replace(STATE, pending=(PendingExperiment(1, FASTER, rounds=ROUND),))


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (IN_TURN, RunTrial(NEXT)),
        (replace(IN_TURN, running=frozenset({(1, "round", 5001)})), TakeNext()),
        (replace(IN_TURN, pending=(PendingExperiment(1, FASTER, rounds=replace(ROUND, held=True)),)), TakeNext()),
        (replace(IN_TURN, paused=True), Wait()),
    ],
)
def test_a_time_is_not_kept_before_its_rounds(state: LoopSnapshot, action: object) -> None:
    assert next_action(state, Judge(Metric("ms"), {}, make_rule("greedy")), NOISE) == action


def test_a_candidate_that_fails_in_a_round_is_not_kept() -> None:
    failed = replace(ROUND, candidate={5001: Measurement("crashed", detail="boom")})
    state = replace(STATE, pending=(PendingExperiment(1, FASTER, rounds=failed),))
    action = next_action(state, Judge(Metric("ms"), {}, make_rule("greedy")), NOISE)
    assert isinstance(action, RecordVerdict) and action.verdict == Verdict("crash", "crashed", "boom")


def test_a_skipped_experiment_is_discarded_even_while_paused() -> None:
    state = replace(STATE, pending=(replace(WAITING, skipped=True),), paused=True)
    action = next_action(state, Judge(Metric("loss"), {}, make_rule("shrunk")), NOISE)
    assert isinstance(action, RecordVerdict) and action.verdict.reason == "skipped"
