"""A turn's caps, and what the egress proxy counted of it: its usage, and the failure that its traffic came to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nightlab.core.config.proposers import ThinkerConfig
from nightlab.proposers.proposer import NoProposal
from nightlab.sandbox.traffic import TrafficCaps, TrafficReport, cost_of_tokens

SPENT = ("input_tokens", "output_tokens", "cost_usd")


def caps_of(part: ThinkerConfig, left: TrafficCaps | None, had: Mapping[str, Any]) -> TrafficCaps:
    """The caps of a turn: those of its proposer, less what the turn ``had``, and what is ``left`` of the run's."""
    left, tokens = left or TrafficCaps(), had.get("input_tokens", 0) + had.get("output_tokens", 0)
    return TrafficCaps(
        _least((part.requests, left.requests), had.get("requests", 0)),
        _least((part.tokens, left.tokens), tokens),
        _least((part.money, left.money), had.get("cost_usd", 0.0)),
        part.price,
    )


def counted_usage(told: Mapping[str, Any], report: TrafficReport) -> dict[str, Any]:
    """The usage of a turn: what was counted, and under ``told`` what the program said where that differs."""
    counts = priced(report.counts)
    differs = {name: told[name] for name in SPENT if name in told and name in counts and told[name] != counts[name]}
    return {**told, **counts, **({"told": differs} if differs else {})}


def priced(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Counts with their cost by the model's list price, where that is known and they have none."""
    if "cost_usd" in counts or "input_tokens" not in counts:
        return dict(counts)
    cost = cost_of_tokens(None, counts.get("model", ""), counts["input_tokens"], counts.get("output_tokens", 0))
    return {**counts, **({} if cost is None else {"cost_usd": round(cost, 6)})}


def traffic_failure(report: TrafficReport, variables: Iterable[str]) -> NoProposal | None:
    """The failure of a turn that its traffic ended; a wrong key ends its proposer's run, and is named."""
    if not report.ended:
        return None
    key = check_key(variables) if report.denied else ""
    return NoProposal(f"{report.ended}{key}", rest=report.rest, final=report.denied)


def check_key(variables: Iterable[str]) -> str:
    """The end of a failure whose cause is a key: the variables that it may be in."""
    names = ", ".join(variables)
    return f"; check its key ({f'the variable {names}' if names else 'it was given none'})"


def sum_usage(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Two runs' usage together: numbers are added, names are the later one's."""
    numbers = {name: one[name] + n for name, n in other.items() if name in one and isinstance(n, int | float)}
    return {**one, **other, **numbers}


def _least(caps: Iterable[Any], had: Any) -> Any:
    """The smallest cap that there is, less what was had of it."""
    there = [cap for cap in caps if cap is not None]
    return max(min(there) - had, 0) if there else None
