"""The state of a session: what is read from the ledger's tables is the fold of its events, whatever happened."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nightlab.core.events import (
    EVENTS,
    NOT_ASKED,
    Alarm,
    ClusterWaits,
    HookAfter,
    HookBefore,
    LedgerEvent,
    MachineChanged,
    NotificationFailed,
    OrderTaken,
    ProposalRefused,
    Rechecked,
    RunStarted,
    RunStopped,
    SessionStarted,
    SlotLost,
    event_of,
)
from nightlab.core.session_state import HOUR, SessionState
from nightlab.core.types import Budget, Candidate, HeldOutCheck, Measurement, Trial, Verdict
from nightlab.storage.ledger import LEDGER, Ledger
from nightlab.storage.ledger.state import read_state

whole = st.integers(0, 6)
words = st.text(max_size=8)
quarters = st.integers(0, 40).map(lambda n: n / 4)  # sums of them are exact in any order
usages = st.fixed_dictionaries({}, optional={"cost_usd": quarters, "input_tokens": whole, "waited": quarters})
names = st.sampled_from(["baseline", "tuner", "agent"])
looks = st.none() | st.builds(HeldOutCheck, st.booleans(), st.none() | quarters)
orders = st.sampled_from(["pause", "resume", "skip 1", "pin 2", "unpin", "an order of later"])
others: st.SearchStrategy[LedgerEvent] = st.one_of(
    st.builds(SessionStarted, words),
    st.builds(RunStarted, words, st.lists(st.sampled_from(["files", "network"])).map(tuple), st.integers(1, 4)),
    st.builds(RunStopped, words),
    st.builds(OrderTaken, orders, whole, st.sampled_from(["", "it can't be"])),
    st.builds(ProposalRefused, names, usage=usages),
    st.builds(Alarm, words),
    st.builds(SlotLost, whole, words),
    st.builds(ClusterWaits, words),
    st.builds(MachineChanged, whole, words),
    st.builds(HookBefore, whole, st.none(), words),
    st.builds(HookAfter, whole, quarters, st.sampled_from(["", "exit status 1"])),
    st.builds(NotificationFailed, words, words),
)
rechecks = st.builds(Rechecked, whole, quarters, would=st.sampled_from([NOT_ASKED, "keep", "discard"]), look=looks)
measured = st.builds(
    Measurement,
    st.just("measured"),
    st.none() | quarters,
    training_seconds=quarters,
    machine=st.sampled_from([{}, {"load": 1.5}, {"load": 2.0}]),
)
verdicts = st.builds(
    Verdict, st.sampled_from(["keep", "discard", "crash"]), st.just("improved"), bar=st.none() | quarters
)


def play(ledger: Ledger, clock: list[float], steps: list[tuple[float, str, int, Any]]) -> None:
    """Let the moves happen, as far as they make sense: an experiment has one verdict, a trial one end."""
    unjudged: list[int] = []
    running: list[Trial] = []
    for n, (later, what, which, data) in enumerate(steps):
        clock[0] += later
        if what == "p":
            commit, who, usage = f"c{n}", data.draw(names), data.draw(usages)
            unjudged.append(ledger.propose(Candidate(commit, "c0", commit, who, "idea", usage=usage)))
        elif what == "s" and unjudged:
            running.append(Trial(f"t{n}", unjudged[which % len(unjudged)], "c", 1, "search", Budget("wall", 5)))
            ledger.start(running[-1])
        elif what == "f" and running:
            ledger.finish(running.pop(which % len(running)), data.draw(measured))
        elif what == "j" and unjudged:
            ledger.judge(unjudged.pop(which % len(unjudged)), data.draw(measured), data.draw(verdicts))
        elif what == "r":
            ledger.append(data.draw(rechecks))
        elif what == "o":
            ledger.append(data.draw(others))


def fold(ledger: Ledger) -> SessionState:
    state = SessionState()
    for event in ledger.journal():
        state.apply(event)
    return state


@given(steps=st.data())
def test_the_tables_say_what_the_fold_of_the_events_does(steps: Any, tmp_path_factory: Any) -> None:
    folder: Path = tmp_path_factory.mktemp("state")
    clock = [1e9]
    with closing(Ledger(folder / LEDGER, clock=lambda: clock[0])) as ledger:
        ledger._db.execute("PRAGMA synchronous = OFF")
        with ledger.at_once():
            play(ledger, clock, drawn(steps))
        folded, read = fold(ledger), read_state(ledger)
        assert asdict(folded) == asdict(read)
        assert list(folded.steps) == list(read.steps) and list(folded.open) == list(read.open)
        assert (folded.stopped, folded.machine, folded.missing) == (read.stopped, read.machine, read.missing)


def drawn(steps: Any) -> list[tuple[float, str, int, Any]]:
    kinds = st.tuples(st.sampled_from([0.0, 1.0, 700.0, HOUR]), st.sampled_from("pppssffjjjrooo"), whole)
    return [(*one, steps) for one in steps.draw(st.lists(kinds, max_size=60))]


@given(st.one_of(others, rechecks))
def test_an_event_comes_back_from_json_as_it_was(event: LedgerEvent) -> None:
    assert event_of(event.kind, json.loads(json.dumps(event.to_dict())), 7, 1.0) == event


def test_each_kind_has_a_name_of_its_own_and_its_effects_are_by_kind() -> None:
    assert all(cls.kind == kind for kind, cls in EVENTS.items()) and len(set(EVENTS.values())) == len(EVENTS)


def test_a_run_that_begins_forgets_the_paces_of_the_one_before() -> None:
    state = SessionState()
    for seq, event in enumerate(
        [RunStarted(slots=2), RunStopped("5 hours are over"), Alarm("the noise"), RunStarted(slots=3)], 1
    ):
        state.apply(event_of(event.kind, event.to_dict(), seq, float(seq)))
        if seq == 2:
            assert state.stopped == "5 hours are over"
    assert state.stopped == "" and state.last_stop and state.last_stop.reason == "5 hours are over"
    assert state.run and state.run.slots == 3 and not state.verdicts and len(state.alarms) == 1
