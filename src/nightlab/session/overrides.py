"""What a program brings to a session that it opens: its proposers, keep rule, selection and strategy.

They hold while the session is open, and the ledger says so. What was begun goes on by the contract when it is opened
again without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nightlab.core.config import RESERVED, LabConfig, amended
from nightlab.core.events import ContractOverridden
from nightlab.core.types import NightlabError
from nightlab.judge import Judge, PluggedRule, Rule, make_rule
from nightlab.proposers import GivenProposer, Proposer
from nightlab.proposers.selection import PluggedSelection, Selection, make_search
from nightlab.session.session import Session

ProposerLike = str | Mapping[str, Any] | Proposer
"""A kind that ``lab.toml`` knows (``"tuner"``), a table of it, or an object."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """The objects that a loop is given instead of what the contract names; each proposer with its share."""

    proposers: Mapping[str, tuple[Proposer, float]] = field(default_factory=dict)
    selection: Selection | None = None


@dataclass(frozen=True, slots=True)
class _Resolved:
    """A contract with the overrides in it, and the objects beside it. ``note``: what the ledger records of them."""

    lab: LabConfig
    rule: Rule | None
    overrides: Overrides
    note: dict[str, Any]


def check_overrides(
    lab: LabConfig,
    proposers: Sequence[ProposerLike] | None = None,
    judge: str | Rule | None = None,
    selection: str | Selection | None = None,
    shares: str | None = None,
) -> None:
    """Check that a session with this contract can use these, before there is one.

    Raises NightlabError for an unknown name, and an object without the methods that it needs.
    """
    _resolve(lab, proposers, judge, selection, shares)


def override(
    session: Session,
    proposers: Sequence[ProposerLike] | None = None,
    judge: str | Rule | None = None,
    selection: str | Selection | None = None,
    program: str | None = None,
    shares: str | None = None,
) -> Overrides:
    """Let a session that is open for writing use these; what is left out stays as the contract says.

    ``program``: what proposers are told in place of ``program.md``. ``shares``: ``"fixed"`` or ``"earned"``.

    Raises NightlabError for an unknown name, and an object without the methods that it needs.
    """
    resolved = _resolve(session.lab, proposers, judge, selection, shares)
    session.lab = resolved.lab
    if resolved.rule is not None:
        session.judge = Judge(session.metric, session.lab.limits, resolved.rule)
    session.program = program
    if any(one is not None for one in (proposers, judge, selection, program, shares)):
        session.ledger.append(ContractOverridden(**resolved.note, program=program))
    return resolved.overrides


def _resolve(
    lab: LabConfig,
    proposers: Sequence[ProposerLike] | None,
    judge: str | Rule | None,
    selection: str | Selection | None,
    shares: str | None,
) -> _Resolved:
    changes: dict[str, Any] = {}
    objects = {}
    if proposers is not None:
        named = [one for one in proposers if isinstance(one, str | Mapping)]
        changes["proposers"] = [{"kind": one} if isinstance(one, str) else dict(one) for one in named]
        objects = _objects([one for one in proposers if not isinstance(one, str | Mapping)])
    if isinstance(judge, str):
        changes["judge"] = {"rule": judge, **_without(lab.judge.options)}
    if isinstance(selection, str):
        changes["search"] = {"strategy": selection, **_without(lab.search.options)}
    if shares is not None:
        changes["search"] = {**changes.get("search", {}), "shares": shares}
    if changes:
        lab = amended(lab, changes)
    if isinstance(selection, str):
        make_search(lab.search, lab.metric.record())
    plugged: Selection | None = None
    if selection is not None and not isinstance(selection, str):
        _require("the selection", selection, "ask", "tell", "memory")
        plugged = PluggedSelection(type(selection).__name__, selection)
    rule = None if judge is None else _rule(lab, judge)
    return _Resolved(lab, rule, Overrides(objects, plugged), _note(changes, objects, judge, selection))


def _rule(lab: LabConfig, judge: str | Rule) -> Rule:
    part = lab.judge
    if isinstance(judge, str):
        return make_rule(part.rule, part.alpha, part.seeds, part.options)
    _require("the judge", judge, "compare", "remeasured", "baseline_runs", "same_seeds")
    return PluggedRule(type(judge).__name__, judge)


def _without(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of another rule or selection, taken back where there are some."""
    return {"options": {}} if options else {}


def _objects(proposers: Sequence[Any]) -> dict[str, tuple[Proposer, float]]:
    found: dict[str, tuple[Proposer, float]] = {}
    for one in proposers:
        _require("a proposer", one, "name", "propose")
        if one.name in found or one.name in RESERVED:
            raise NightlabError(f"{one.name!r} is the name of another proposer", "give each another name")
        found[one.name] = GivenProposer(one), float(getattr(one, "share", 1.0))
    return found


def _require(what: str, one: Any, *needed: str) -> None:
    if missing := [name for name in needed if not hasattr(one, name)]:
        raise NightlabError(
            f"{what} {one!r} has no {', '.join(missing)}",
            f"give an object with {', '.join(needed)}" + (", not its class" if isinstance(one, type) else ""),
        )


def _note(changes: Mapping[str, Any], objects: Mapping[str, Any], judge: Any, selection: Any) -> dict[str, Any]:
    """What the ledger is told: the names of what the contract knows, and the classes of objects."""
    said = dict(changes)
    if objects:
        own = [{"name": name, "class": _class(one.proposer)} for name, (one, _) in objects.items()]
        said["proposers"] = [*said["proposers"], *own]
    for key, one in (("judge", judge), ("search", selection)):
        if one is not None and not isinstance(one, str):
            said[key] = {**said.get(key, {}), "class": _class(one)}
    return said


def _class(one: Any) -> str:
    return f"{type(one).__module__}.{type(one).__qualname__}"
