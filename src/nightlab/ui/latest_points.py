"""The latest experiments of a session as points, kept up to date from its ledger."""

from __future__ import annotations

from nightlab.core.types import Experiment, Metric
from nightlab.storage.ledger.reader import LedgerReader
from nightlab.ui.snapshot import ExperimentPoint, point_of


class LatestPoints:
    """The ``last`` experiments by number, oldest first, and the ``champion``, which may be older than these."""

    def __init__(self, feed: LedgerReader, metric: Metric, last: int) -> None:
        self.metric, self.last = metric, last
        self._numbers: dict[str, int | None] = {}  # of experiments, by commit
        self.by_number = {e.number: self._point(feed, e) for e in feed.experiments(last)}
        self.champion: ExperimentPoint | None = None
        self._find_champion(feed)

    def update(self, feed: LedgerReader, touched: set[int]) -> None:
        """Read the experiments again to which something happened."""
        for number in sorted(touched):
            if number in self.by_number or number > max(self.by_number, default=-1):
                self.by_number[number] = self._point(feed, feed.experiment(number))
        while len(self.by_number) > self.last:
            del self.by_number[next(iter(self.by_number))]
        if touched:
            self._find_champion(feed)

    def _find_champion(self, feed: LedgerReader) -> None:
        champion = feed.champion()
        self.champion = self._point(feed, champion) if champion else None

    def _point(self, feed: LedgerReader, experiment: Experiment) -> ExperimentPoint:
        commit, parent = experiment.candidate.commit, experiment.candidate.parent
        self._numbers[commit] = experiment.number
        if parent not in self._numbers:
            self._numbers[parent] = feed.numbered(parent)
        return point_of(experiment, self.metric, self._numbers[parent] if parent != commit else None)
