"""Observers that remember what they were told."""

from __future__ import annotations

from collections.abc import Sequence

from nightlab.core.observer import Flight, Observer


class Counting(Observer):
    def __init__(self) -> None:
        self.flights: list[set[str]] = []

    def tick(self, flights: Sequence[Flight]) -> None:
        self.flights.append({flight.trial.id for flight in flights})
