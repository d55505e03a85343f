"""What a run will bring and cost, said before it starts."""

from __future__ import annotations

from nightlab.core.config import StopRules
from nightlab.core.text import counted
from nightlab.core.types import ProposerUsage
from nightlab.engines.slots import allocate_slots
from nightlab.session.session import Session

LATELY = 100  # trials of earlier runs that say how long an experiment takes
HOUR = 3600.0
CHEAP = 2.0  # seconds of a trial


def forecast(session: Session, stop: StopRules, slots: int) -> str:
    """The forecast of a run in this session, in words; empty while nothing can be said of it."""
    ledger, trials = session.ledger, session.ledger.trials(last=LATELY)
    measured = [(trial, one) for trial, one in trials if one and one.measured]
    searched = {trial.experiment for trial, _ in measured if trial.purpose == "search"}
    done = max(ledger.next_number() - 1, 0)
    if done and searched:
        each = sum(one.wall_seconds for _, one in measured) / len(searched)
        return forecast_words(stop, each / slots, session.lab.judge.confirm, done, ledger.spent())
    clock = session.budget.clock
    at_least = session.budget.amount / slots if clock == "wall" else 0.0
    return forecast_words(stop, at_least, session.lab.judge.confirm)


def slots_words(session: Session, each: float, slots: int) -> str:
    """What more slots would do where a trial takes ``each`` seconds; empty where it takes long, or they disturb."""
    room = len(allocate_slots("cpu", None, 1)) if session.device == "cpu" and not session.lab.timed else 1
    if slots > 1 or room < 2 or each > CHEAP:
        return ""
    return f"a trial takes {each:.1f} s: nightlab run --slots {room} --tag NAME has {room} at once, on a core each"


def forecast_words(
    stop: StopRules, each: float, confirm: float, done: int = 0, spent: ProposerUsage | None = None
) -> str:
    """The forecast where an experiment takes ``each`` seconds of a session; empty where ``each`` is 0.

    ``done`` experiments have ``spent`` that; without it ``each`` is a bound, of training alone. ``confirm``: the share
    of the hours that belongs to confirming.
    """
    if not each:
        return ""
    known = spent is not None
    left: dict[str, float] = {}
    if stop.hours is not None:
        left[_in_hours(stop.hours)] = stop.hours * HOUR * (1 - confirm) / each
    if stop.experiments is not None:
        left["in all"] = max(stop.experiments - done, 0)
    if spent and done and stop.tokens is not None and spent.tokens:
        left[f"until {stop.tokens:,} tokens are spent"] = max(stop.tokens - spent.tokens, 0) * done / spent.tokens
    if spent and done and stop.money is not None and spent.money:
        left[f"until ${stop.money:.2f} are spent"] = max(stop.money - spent.money, 0) * done / spent.money
    if not left:
        return f"forecast: {'about' if known else 'at most'} {HOUR / each:.3g} experiments an hour, until you stop it"
    why, count = min(left.items(), key=lambda item: item[1])
    if count < 1:
        return ""
    number = counted(int(count), "more experiment" if done else "experiment")
    about = "" if why == "in all" else "about " if known else "at most "
    hours = count * each / HOUR
    long = f"{hours:.1f} hours" if hours >= 1 else f"{max(hours * 60, 1):.0f} min"
    words = f"forecast: {about}{number}{'' if why == 'in all' else f' {why}'}"
    if why != _in_hours(stop.hours or 0):
        words += f", {'about' if known else 'at least'} {long}"
    cost = []
    if spent and done and spent.tokens:
        cost.append(f"{_short(spent.tokens / done * count)} tokens")
    if spent and done and spent.money:
        cost.append(f"${spent.money / done * count:.2f}")
    return words + (f", for about {' and '.join(cost)}" if cost else "")


def _in_hours(hours: float) -> str:
    return f"in {hours:g} hour{'' if hours == 1 else 's'}"


def _short(number: float) -> str:
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.1f}{letter}"
    return f"{number:.0f}"
