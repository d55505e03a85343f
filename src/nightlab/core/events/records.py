"""The records in an event, made from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from nightlab.core.types import (
    Budget,
    Candidate,
    Evidence,
    HeldOutCheck,
    PairedGain,
    Segment,
    Trial,
    Verdict,
    WarmStart,
)


def _known(cls: type[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    return {one.name: data[one.name] for one in fields(cls) if one.name in data}


def candidate_of(data: Mapping[str, Any]) -> Candidate:
    facts = _known(Candidate, data)
    return Candidate(**{**facts, "changes": tuple(facts.get("changes", ())), "theme": tuple(facts.get("theme", ()))})


def trial_of(data: Mapping[str, Any]) -> Trial:
    segment, start = data.get("segment"), data.get("warm_start")
    return Trial(
        **{
            **_known(Trial, data),
            "budget": Budget(**_known(Budget, data["budget"])),
            "segment": Segment(**_known(Segment, segment)) if segment else None,
            "warm_start": WarmStart(**_known(WarmStart, start)) if start else None,
        }
    )


def verdict_of(data: Mapping[str, Any]) -> Verdict:
    return Verdict(**_known(Verdict, data))


def evidence_of(data: Mapping[str, Any]) -> Evidence:
    others = {name: _gain(data[name]) if data.get(name) else None for name in ("held_out", "alone")}
    gains = {"gain": _gain(data["gain"]), **others}
    return Evidence(**{**_known(Evidence, data), "seeds": tuple(data["seeds"]), **gains})


def _gain(data: Mapping[str, Any]) -> PairedGain:
    facts = _known(PairedGain, data)
    return PairedGain(**{**facts, "times": tuple(facts["times"]) if facts.get("times") else None})


def check_of(data: Mapping[str, Any] | None) -> HeldOutCheck | None:
    return HeldOutCheck(**_known(HeldOutCheck, data)) if data else None
