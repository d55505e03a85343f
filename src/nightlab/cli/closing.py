"""What `nightlab run` says after the search: what was tried and gained, and what of it is confirmed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nightlab.analysis.timeline import duty_cycle
from nightlab.cli.app import say
from nightlab.cli.confirm import say_worths
from nightlab.core.observer import Observer
from nightlab.core.types import Contribution, Evidence, Measurement, Metric, RunResult
from nightlab.ui.terminal.log import closing_words, confirmed_words


class ClosingWords(Observer):
    """Prints the end of a run, once ``shown`` has given the terminal back."""

    def __init__(self, metric: Metric, shown: Observer) -> None:
        self.metric, self.shown = metric, shown

    def searched(self, result: RunResult) -> None:
        self.shown.close()
        tally, baseline, champion = Counter(result.tally), result.baseline, result.champion
        share = duty_cycle(result.trained, result.seconds, result.slots)
        say(closing_words(self.metric, tally, baseline, champion, result.reason, result.seconds, share))

    def confirming(self, pairs: int) -> None:
        say(f"\nbaseline and champion again on {pairs} fresh seeds, in turn: is it real?")

    def confirmed(self, evidence: Evidence, baseline: Sequence[Measurement], champion: Sequence[Measurement]) -> None:
        say(confirmed_words(self.metric, evidence, baseline, champion))

    def ablated(self, contributions: Sequence[Contribution]) -> None:
        say_worths(self.metric, contributions)
