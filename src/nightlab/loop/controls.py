"""What the human wants of a session, also while it runs: pause, resume, skip an experiment, pin another.

One process alone writes a ledger, so a command leaves an order beside it. The process that runs the session takes
each up once, and writes down what it was with its place among the orders: all that follows is read from the ledger,
after a kill too.
"""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape

from nightlab.core.events import OrderTaken
from nightlab.core.orders import PAUSE, SKIP, ControlState, parse_order
from nightlab.core.text import one_line
from nightlab.core.types import Experiment, NightlabError
from nightlab.loop.scheduler import Scheduler
from nightlab.proposers.selection import node_value
from nightlab.storage.ledger import LEDGER, Ledger, read_orders, require_own, write_order


def order_error(ledger: Ledger, order: str) -> str:
    """Why an order can't be followed as things stand; empty for one that can."""
    try:
        word, number = parse_order(order)
        experiment = None if number is None else ledger.experiment(number)
    except (ValueError, NightlabError) as error:
        return str(error)
    if experiment and word == SKIP:
        return _not_to_skip(experiment)
    if experiment and node_value(experiment) is None:
        return f"experiment {number} has no number to go on from: {_said(experiment)}"
    return ""


def paused(ledger: Ledger, folder: Path) -> bool:
    """Whether the session in ``folder`` starts nothing new, by the orders that were taken up and those that wait."""
    taken, state = ledger.events(OrderTaken), ControlState()
    given = [event.order for event in taken if not event.refused]
    for order in [*given, *(order for _, order in read_orders(folder, taken[-1].place if taken else 0))]:
        state = state.and_then(order)
    return state.paused


def paused_words(tag: str) -> str:
    """What a pause means, and how to end it."""
    return f"nothing new starts; go on with: nightlab resume --tag {tag}"


def leave(folder: Path, order: str) -> None:
    """Leave an order for the session in ``folder``. Raises NightlabError when it can't be followed."""
    ledger = Ledger(folder / LEDGER, read_only=True)
    try:
        require_own(ledger, folder.name)
        if why := order_error(ledger, order):
            raise NightlabError(why, "see what there is: nightlab log")
    finally:
        ledger.close()
    write_order(folder, order)


def to_skip(ledger: Ledger) -> int:
    """The one experiment whose trial is in flight. Raises NightlabError when there is none, or more than one."""
    running = {trial.experiment for trial in ledger.open_trials()}
    found = [e.number for e in ledger.unjudged() if e.number in running and not _not_to_skip(e)]
    if len(found) != 1:
        what = f"experiments {', '.join(map(str, found))} are" if found else "no candidate is"
        raise NightlabError(f"{what} in flight", "name the one that you mean: nightlab skip N (see nightlab log)")
    return found[0]


def _not_to_skip(experiment: Experiment) -> str:
    if experiment.number == 0:
        return "experiment 0 is the baseline, with which all others are compared"
    return f"experiment {experiment.number} has its verdict: {_said(experiment)}" if experiment.verdict else ""


def _said(experiment: Experiment) -> str:
    return f"{experiment.verdict.status}, {experiment.verdict.reason}" if experiment.verdict else "it is not judged yet"


class SessionControl:
    """The orders of one session. ``skipped``: experiments that wait for their discard."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler, self.session, self.ledger = scheduler, scheduler.session, scheduler.ledger
        self.state = ControlState()
        self.skipped: set[int] = set()
        self._place = 0  # of what was read of the orders
        self._ended: set[str] = set()  # trials
        for taken in self.ledger.events(OrderTaken):
            self._place = taken.place
            if not taken.refused:
                self._follow(taken.order)
        self.skipped &= {experiment.number for experiment in self.ledger.unjudged()}

    def apply_pending(self) -> None:
        """Take up the orders that came since, and end the trials of what is skipped."""
        for place, order in read_orders(self.session.folder, self._place):
            refused = order_error(self.ledger, order)
            self._place = place
            self.ledger.append(OrderTaken(one_line(order, 80), place, refused))
            if refused:
                self.scheduler.view.say(f"  [bold yellow]not done:[/] {escape(one_line(order, 80))}: {escape(refused)}")
            else:
                self._follow(order)
                meaning = f": {paused_words(self.session.tag)}" if order == PAUSE else ""
                self.scheduler.view.say(f"  [bold]{order}[/]{meaning}")
        for running in self.scheduler.running.values():
            if running.trial.experiment in self.skipped and running.trial.id not in self._ended:
                self._ended.add(running.trial.id)
                running.stop()

    def _follow(self, order: str) -> None:
        word, number = parse_order(order)
        self.state = self.state.and_then(order)
        self.scheduler.paused = self.state.paused
        if word == PAUSE:
            self.scheduler.engine.dismiss()  # what stands by keeps a GPU's memory
        elif word == SKIP and number is not None:
            self.skipped.add(number)
