"""Populations: several genomes that train at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nightlab.core.events.base import LedgerEvent, from_json
from nightlab.core.types import OMIT


@dataclass(frozen=True, slots=True)
class PopulationStarted(LedgerEvent):
    """A population begins to train, numbered from 1: ``members``, in this number of ``parts`` each.

    Its genome is that of the experiment ``number``, with other values of ``constants``, drawn with ``seed``.
    """

    kind = "population"
    population: int
    number: int
    members: int
    parts: int
    constants: tuple[str, ...] = field(default=(), metadata=from_json(tuple))
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PopulationEnded(LedgerEvent):
    """A population has trained: its best ``member`` ended with the trial ``winner``, whose genome is its schedule.

    ``schedule``: by constant, the values over training; ``source``: the id under which that was handed in as a
    candidate, empty where it is what the population began with. ``trained``: seconds of training of all members, and
    ``budgets``: how many whole trainings that is. ``history``: the trials that the winner's training went through;
    ``histories``: those of every member, to the last part that it ended.
    """

    kind = "population ended"
    population: int
    member: int
    winner: str
    source: str = ""
    schedule: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    trained: float = 0.0
    budgets: float = 0.0
    history: tuple[str, ...] = field(default=(), metadata=from_json(tuple))
    histories: dict[str, list[str]] = field(default_factory=dict, metadata=OMIT)
