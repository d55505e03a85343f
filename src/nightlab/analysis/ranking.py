"""The arena's ranking: genes of one task, measured alike, ranked by domain; and an audit that recomputes scores. Pure.

A published score must be verifiable by a third party, so the published standings contain all its inputs.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from nightlab.analysis.fitness import (
    Fitness,
    GeneResult,
    Severity,
    diversity,
    fitness,
    medians,
    protection,
    refusals,
    retained,
    security,
)
from nightlab.core.text import one_line
from nightlab.core.types import NightlabError

VERSION = 1
LARGEST = 4 * 2**20  # bytes of published standings that are read
CLOSE = 1e-9  # relative tolerance: machines round sums and logarithms differently

Name = Annotated[str, Field(max_length=200)]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Time = Annotated[float, Field(ge=0, le=1e11)]


class FitnessTerm(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Contender(FitnessTerm):
    """A contending gene and its measurements.

    Only contenders of one ``task`` (frozen files, budget, platform) are measured alike; they are ranked per ``domain``.
    """

    name: Name
    domain: Name
    task: Name
    genome: Name
    """A hash of the program, to recognise the gene elsewhere."""
    title: Name = ""
    metric: Name
    values: Annotated[tuple[float, ...], Field(max_length=1000)]
    """The task's own metric in each valid run: what a search selects by."""
    evaluated: GeneResult
    cost_unit: Name
    passed: Count
    tests: Count
    found: dict[Severity, Count] = {}
    """The severity of each violation found."""
    usage: Count = 0
    """The number of others who adopted it."""
    measured_at: Time
    author: Name = ""
    author_since: Time | None = None
    """When its author's first gene was published; None for the user's own."""


class RankedContender(FitnessTerm):
    """A contender's rank, with all its terms."""

    name: Name
    domain: Name
    rank: Count
    fitness: Fitness
    value: float
    security: float
    diversity: float
    retained: float
    protection: float
    score: float
    """The fitness with the factors for diversity, season and protection."""
    refusals: tuple[Name, ...]
    """Why it is not admitted; empty if it is."""


class Standings(FitnessTerm):
    """An arena at a point in time: its contenders and the ranks computed from them."""

    v: Literal[1] = 1
    at: Time
    entrants: Annotated[tuple[Contender, ...], Field(max_length=2000)]
    places: Annotated[tuple[RankedContender, ...], Field(max_length=2000)]


Kind = Literal["missing", "unreproducible", "reason mismatch"]


@dataclass(frozen=True, slots=True)
class Drift:
    """A rank that does not follow from the published data, or a contender that differs from the measurements."""

    name: str
    kind: Kind
    detail: str


def standings(entrants: Sequence[Contender], at: float) -> Standings:
    """All contenders ranked at a time, best first per domain. Raises ValueError for duplicate names."""
    names = Counter(entrant.name for entrant in entrants)
    if twice := [name for name, times in names.items() if times > 1]:
        raise ValueError(f"two genes are called {one_line(twice[0], 100)}")
    tasks = defaultdict(list)
    for entrant in entrants:
        tasks[entrant.task].append(entrant.evaluated)
    references = {task: medians(evaluated) for task, evaluated in tasks.items()}
    usage: dict[str, int] = defaultdict(int)
    for entrant in entrants:
        usage[entrant.domain] += entrant.usage
    drafts = [
        _place(entrant, fitness(entrant.evaluated, references[entrant.task]), usage[entrant.domain], at)
        for entrant in entrants
    ]
    places: list[RankedContender] = []
    for domain in sorted({draft.domain for draft in drafts}):
        ranked = sorted((d for d in drafts if d.domain == domain), key=lambda d: (bool(d.refusals), -d.score, d.name))
        places += [draft.model_copy(update={"rank": rank}) for rank, draft in enumerate(ranked, 1)]
    return Standings(at=at, entrants=tuple(entrants), places=tuple(places))


def audit_ranking(published: Standings) -> list[Drift]:
    """Recompute each rank from the contenders; returns the discrepancies."""
    try:
        places = standings(published.entrants, published.at).places
    except ValueError as error:
        return [Drift("", "unreproducible", str(error))]
    right = {place.name: place for place in places}
    said = {place.name: place for place in published.places}
    found = [Drift(name, "missing", "it takes part, but has no place") for name in right if name not in said]
    found += [Drift(place.name, "missing", "it has a place, but nothing was measured") for place in _beyond(published)]
    for name in right.keys() & said.keys():
        found += _compared(right[name], said[name])
    return sorted(found, key=lambda drift: (drift.name, drift.kind))


def parse_fitness(raw: bytes, where: str) -> Standings:
    """Read published standings, which are untrusted. Raises NightlabError for anything invalid."""
    if len(raw) > LARGEST:
        raise NightlabError(f"{where} is larger than {LARGEST:,} bytes", "give a file that nightlab arena --out wrote")
    try:
        return STANDINGS.validate_python(json.loads(raw))
    except (ValueError, RecursionError) as error:
        what = f"{type(error).__name__}"
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            what = f"{'.'.join(map(str, first['loc']))[:200]}: {first['msg'][:200]}"
        raise NightlabError(
            f"{where} holds no standings: {what}", "give a file that nightlab arena --out wrote"
        ) from None


def text(published: Standings) -> str:
    """The form in which standings are published."""
    return json.dumps(published.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"


STANDINGS: TypeAdapter[Standings] = TypeAdapter(Standings)


def _place(entrant: Contender, fit: Fitness, usage: int, at: float) -> RankedContender:
    parts = {
        "diversity": diversity(entrant.usage, usage),
        "retained": retained(entrant.measured_at, at),
        "protection": 1.0 if entrant.author_since is None else protection(entrant.author_since, at),
    }
    safe = security(entrant.passed, entrant.tests, entrant.found)
    return RankedContender(
        name=entrant.name,
        domain=entrant.domain,
        rank=0,
        fitness=fit,
        value=fit.value,
        security=safe,
        score=fit.value * math.prod(parts.values()),
        refusals=tuple(refusals(fit.value, safe)),
        **parts,
    )


def _beyond(published: Standings) -> Iterable[RankedContender]:
    """Ranks without a contender, and second ranks of one contender."""
    waiting = {entrant.name for entrant in published.entrants}
    for place in published.places:
        if place.name not in waiting:
            yield place
        waiting.discard(place.name)


def _compared(right: RankedContender, said: RankedContender) -> list[Drift]:
    wrong = [
        f"{key} is {right_value}, not {said_value}"
        for (key, right_value), (_, said_value) in zip(_facts(right), _facts(said), strict=True)
        if not _same(right_value, said_value)
    ]
    found = [Drift(right.name, "unreproducible", "; ".join(wrong))] if wrong else []
    if right.refusals != said.refusals:
        why = "; ".join(right.refusals) or "it is admitted"
        found.append(Drift(right.name, "reason mismatch", why))
    return found


def _facts(place: RankedContender) -> list[tuple[str, Any]]:
    facts = place.model_dump(exclude={"fitness", "refusals", "name"})
    return sorted({**facts, **asdict(place.fitness)}.items())


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=CLOSE, abs_tol=1e-300)
    return bool(one == other)
