"""How fast a session goes, and when it will be over: what can be said of times still to come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nightlab.analysis.timeline import duty_cycle
from nightlab.core.config import StopRules
from nightlab.core.session_state import HOUR, RECENT
from nightlab.core.types import Budget, ProposerUsage
from nightlab.ui.snapshot import SessionSnapshot, StopRuleStatus, TrialSnapshot


def trained_within(trials: Iterable[tuple[float, float]], since: float) -> float:
    """Seconds of training from a time on; of each trial are given its end, and how many seconds it had trained."""
    return sum(min(seconds, end - since) for end, seconds in trials if end > since)


def duty_since(trained: float, begun: float, at: float, running: Iterable[TrialSnapshot], slots: int) -> float | None:
    """The duty cycle from ``begun`` to ``at``, what is under way included; None where that is too short to tell."""
    if at - begun < 1:
        return None
    under_way = sum(at - max(trial.since, begun) for trial in running if trial.phase == "training")
    return duty_cycle(trained + under_way, at - begun, slots)


def rate(judged: Sequence[float], begun: float, at: float) -> float | None:
    """Experiments per hour in the last hour of a run, or over its last few where they take longer."""
    recent = [when for when in judged if when > at - HOUR]
    if begun > at - HOUR or len(recent) >= RECENT:
        return len(recent) / max(at - max(at - HOUR, begun), 1.0) * HOUR if recent else None
    return (len(judged) - 1) / max(at - judged[0], 1.0) * HOUR if len(judged) > 1 else None


def training_left(budget: Budget, phase: str, spent: float, curve: Sequence[tuple[float, float]]) -> float | None:
    """Seconds of training left: by the clock, or at the pace so far where the budget is not of wall-clock time."""
    if phase != "training":
        return None
    if budget.clock == "wall":
        return max(budget.amount - spent, 0.0)
    if curve and curve[-1][0] > 0:
        return max(spent / curve[-1][0] - spent, 0.0)
    return max(budget.amount - spent, 0.0) if budget.clock == "cpu" else None


def stop_rules(stop: StopRules, confirm: float, snapshot: SessionSnapshot, at: float) -> list[StopRuleStatus]:
    """How far the stop rules are. ``confirm``: the share of the hours that belongs to confirming."""
    done, spent, rules = snapshot.done, snapshot.spent, []
    pace = HOUR / snapshot.rate if snapshot.rate else None  # seconds for each experiment

    def rule(name: str, words: str, now: float, limit: float, each: float) -> None:
        left = (limit - now) / each * pace if pace and each > 0 else None
        rules.append(
            StopRuleStatus(name, words, min(max(now / limit, 0.0), 1.0), max(left, 0.0) if left is not None else None)
        )

    if stop.experiments is not None:
        rule("experiments", f"{done:,} of {stop.experiments:,} experiments", done, stop.experiments, 1)
    if stop.hours is not None:
        hours = stop.hours * (1 - confirm)
        gone = (at - snapshot.run_begun) / HOUR
        left = max(hours - gone, 0.0)
        rules.append(StopRuleStatus("hours", f"{left:.1f} hours left", min(gone / hours, 1.0), left * HOUR))
    if stop.stall is not None and snapshot.champion:
        since = max(done - snapshot.champion.number, 0)
        rules.append(StopRuleStatus("stall", f"{since} of {stop.stall} without a keep", min(since / stop.stall, 1.0)))
    if stop.target is not None and snapshot.steps:
        first, now = snapshot.steps[0].value, snapshot.steps[-1].value
        way = (now - first) / (stop.target - first) if stop.target != first else 1.0
        rules.append(StopRuleStatus("target", f"{now:g}, the target is {stop.target:g}", min(max(way, 0.0), 1.0)))
    if stop.tokens is not None:
        words = f"{spent.tokens:,} of {stop.tokens:,} tokens{_unsaid(spent.uncounted, spent)}"
        rule("tokens", words, spent.tokens, stop.tokens, spent.tokens / max(done, 1))
    if stop.money is not None:
        words = f"${spent.money:.2f} of ${stop.money:.2f}{_unsaid(spent.unpriced, spent)}"
        rule("money", words, spent.money, stop.money, spent.money / max(done, 1))
    return rules


def _unsaid(silent: int, spent: ProposerUsage) -> str:
    return f" ({silent} of {spent.turns} turns did not say)" if silent else ""
