"""The state of a session, read from the ledger's tables: what its events come to, without going through them all."""

from __future__ import annotations

import json
from collections import deque

from nightlab.core.events import Alarm, LedgerEvent, OrderTaken, RunStarted, RunStopped
from nightlab.core.orders import ControlState
from nightlab.core.session_state import HOUR, MACHINES, RECENT, TROUBLES, SelfTests, SessionState
from nightlab.storage.ledger.ledger import Ledger
from nightlab.storage.ledger.tables import EVENT, TROUBLE


def read_state(ledger: Ledger) -> SessionState:
    """What the fold of all events would be, from queries that are bounded or answered from an index.

    While the ledger is written, call it within ``LedgerReader.moment``.
    """
    runs, orders = ledger.events(RunStarted), ledger.events(OrderTaken)
    state = SessionState(
        seq=ledger.last_event(),
        at=ledger.last_event_at(),
        session=ledger.session(),
        runs=runs,
        last_stop=ledger.latest(RunStopped),
        control=_control(orders),
        tally={str(status): count for status, count in ledger.tally().items() if status},
        shares=ledger.shares(),
        unjudged={experiment.number: experiment.candidate.proposer for experiment in ledger.unjudged()},
        steps=_steps(ledger),
        self_tests=_self_tests(ledger),
        open={trial.id: trial for trial in ledger.open_trials()},
        verdicts=_verdicts(ledger, runs[-1].at if runs else 0.0),
        alarms=ledger.events(Alarm),
    )
    state.champion = next(reversed(state.steps), None)
    state.machines.extend(_machines(ledger))
    state.troubles.extend(_troubles(ledger, orders))
    _add_training(ledger, state)
    state.forget()
    return state


def _control(orders: list[OrderTaken]) -> ControlState:
    control = ControlState()
    for taken in orders:
        control = control if taken.refused else control.and_then(taken.order)
    return control


def _steps(ledger: Ledger) -> dict[int, float | None]:
    query = "SELECT number, coalesce(bar, metric) FROM experiments WHERE status = 'keep' ORDER BY judged_at, number"
    return dict(ledger.rows(query))


def _self_tests(ledger: Ledger) -> SelfTests:
    would, look = "json_extract(data, '$.would')", "json_extract(data, '$.look.parted')"
    query = (
        f"SELECT coalesce(sum({would} <> 'not asked'), 0), coalesce(sum({would} = 'keep'), 0), count({look}), "
        f"coalesce(sum({look}), 0) FROM events WHERE kind = 'upkeep'"
    )
    return SelfTests(*ledger.rows(query)[0])


def _verdicts(ledger: Ledger, begun: float) -> deque[float]:
    """When experiments were judged since ``begun``: those of the last hour, or the last few if these are more."""
    query = "SELECT judged_at FROM experiments WHERE judged_at >= ? ORDER BY judged_at DESC"
    lately = ledger.rows(query, max(begun, ledger.last_event_at() - HOUR))
    last = ledger.rows(f"{query} LIMIT {RECENT + 1}", begun)
    return deque(at for (at,) in reversed(max(lately, last, key=len)))


def _machines(ledger: Ledger) -> list[dict[str, float | str]]:
    machine = "coalesce(json_extract(data, '$.measurement.machine'), '{}')"
    query = f"SELECT {machine} FROM events WHERE kind = 'finished' ORDER BY seq DESC LIMIT {MACHINES}"
    return [json.loads(said) for (said,) in reversed(ledger.rows(query))]


def _troubles(ledger: Ledger, orders: list[OrderTaken]) -> list[LedgerEvent]:
    query = f"SELECT {EVENT} FROM events WHERE {TROUBLE} ORDER BY seq DESC LIMIT {TROUBLES}"
    found = [*ledger.events_of(LedgerEvent, query), *(taken for taken in orders if taken.refused)]
    return sorted(found, key=lambda event: event.seq)[-TROUBLES:]


def _add_training(ledger: Ledger, state: SessionState) -> None:
    """The training of the latest run: when each trial ended, and how many seconds it had trained."""
    seconds = "coalesce(json_extract(data, '$.measurement.training_seconds'), 0.0)"
    query = f"SELECT at, {seconds} FROM events WHERE kind = 'finished' AND seq > ? ORDER BY seq"
    for at, trained in ledger.rows(query, state.run.seq if state.run else 0):
        state.trained += trained
        state.recent.append((at, trained))
