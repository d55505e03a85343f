"""What a study came to: its arms beside each other, as figures, as a page, and as programs are told."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nightlab.analysis.charts import svg
from nightlab.analysis.report_html import page
from nightlab.analysis.study import GAIN, StudyConfig, StudySession, compare, decided
from nightlab.core.files import replace_text
from nightlab.core.types import PairedGain, average
from nightlab.judge import paired_gain
from nightlab.storage.ledger import make_state_folder

POINTS = 60  # of a curve


@dataclass(frozen=True, slots=True)
class ArmResult:
    """An arm over its sessions: means of the confirmed ``gain``, ``hours`` of trials and ``money`` (US dollars).

    ``per_hour`` and ``per_dollar``: the mean of the sessions' own rates, with Student's t interval; None with fewer
    than two sessions, and where one cost nothing. ``alone``: what its champions changed and no other arm's did.
    """

    name: str
    sessions: int
    gain: float
    hours: float
    money: float
    per_hour: PairedGain | None
    per_dollar: PairedGain | None
    alone: tuple[str, ...]


class StudyReport:
    """The results of a study so far."""

    def __init__(self, study: StudyConfig, results: Sequence[StudySession]) -> None:
        self.study, self.results = study, results
        self.pairs = compare(study, results)
        self.best = decided(study, self.pairs)
        self.own = {name: [one for one in results if one.arm == name] for name in study.all_arms()}
        self.arms = [self._arm(name, own) for name, own in self.own.items() if own]

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.study.name,
            "rounds": self.study.rounds,
            "best": self.best,
            "arms": [asdict(one) for one in self.arms],
            "curves": self.curves(),
            "sessions": [asdict(one) for one in self.results],
            "pairs": [{**asdict(one), "words": one.words} for one in self.pairs],
        }

    def curves(self) -> dict[str, list[tuple[float, float]]]:
        """By arm, hours of trials and the champion's mean gain by then, as the searches saw it."""
        found = {}
        for name, own in self.own.items():
            end = min((one.hours for one in own), default=0.0)  # until the first of them has ended
            times = [end * n / POINTS for n in range(POINTS + 1)]
            found[name] = [(at, average([_by(one.curve, at) for one in own])) for at in times] if end else []
        return found

    def markdown(self) -> str:
        """The report as Markdown."""
        said = f"{self.best} is shown to be the best." if self.best else "No arm is shown to be the best so far."
        rows = [f"# Study {self.study.name}", "", said, "", "## Arms", ""]
        rows += ["| arm | sessions | mean gain | per hour of trials | per US dollar |", "|---|---|---|---|---|"]
        for arm in self.arms:
            rates = f"{rate_words(arm.per_hour)} | {rate_words(arm.per_dollar)}"
            rows.append(f"| {arm.name} | {arm.sessions} | {arm.gain:.6g} | {rates} |")
        rows += ["", "## Pairs", "", "| better | than | by | interval | |", "|---|---|---|---|---|"]
        for one in self.pairs:
            interval = f"{one.low:.6g} to {one.high:.6g}"
            rows.append(f"| {one.better} | {one.other} | {one.mean:.6g} | {interval} | {one.words} |")
        rows += ["", "## What each arm alone found", ""]
        rows += [f"- {arm.name}: {_code(arm.alone) or 'nothing'}" for arm in self.arms]
        rows += ["", "## Sessions", "", "| session | gain | hours of trials | changed |", "|---|---|---|---|"]
        rows += [f"| {one.tag} | {one.gain:.6g} | {one.hours:.3g} | {_code(one.found)} |" for one in self.results]
        return "\n".join([*rows, ""])

    def chart(self) -> str:
        """The curves as SVG."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 5), layout="constrained")
        axes = figure.subplots()
        for name, curve in self.curves().items():
            if curve:
                axes.plot(*zip(*curve, strict=True), label=name)
        axes.set_xlabel("hours of trials")
        axes.set_ylabel("champion's gain as the search saw it, mean of the sessions")
        axes.grid(alpha=0.2)
        if axes.lines:
            axes.legend()
        return svg(figure)

    def write(self, lab: Path) -> Path:
        """Write the page, which needs no server, and the same as JSON into the lab's state folder; returns the page."""
        place = make_state_folder(lab) / f"study.{self.study.name}.html"
        replace_text(place.with_suffix(".json"), json.dumps(self.to_dict()))
        replace_text(place, page(self.markdown(), f"study {self.study.name}", self.chart()))
        return place

    # -- internal --------------------------------------------------------------------------------

    def _arm(self, name: str, own: Sequence[StudySession]) -> ArmResult:
        others = {part for one in self.results if one.arm != name for part in one.found}
        alone = sorted({part for one in own for part in one.found} - others)
        gain, hours, money = (average([getattr(one, what) for one in own]) for what in ("gain", "hours", "money"))
        per_hour = self._rate([(one.gain, one.hours) for one in own])
        per_dollar = self._rate([(one.gain, one.money) for one in own])
        return ArmResult(name, len(own), gain, hours, money, per_hour, per_dollar, tuple(alone))

    def _rate(self, pairs: Sequence[tuple[float, float]]) -> PairedGain | None:
        """The mean of gain over cost, with its interval."""
        if len(pairs) < 2 or not all(cost for _, cost in pairs):
            return None
        rates = [gain / cost for gain, cost in pairs]
        return paired_gain(GAIN, [0.0] * len(rates), rates, 1 - self.study.error)


def rate_words(rate: PairedGain | None) -> str:
    return f"{rate.mean:.4g} ({rate.low:.4g} to {rate.high:.4g})" if rate else "-"


def _by(curve: Sequence[tuple[float, float]], at: float) -> float:
    """A curve's value at a time: that of the latest point until then."""
    return curve[bisect_right([hours for hours, _ in curve], at) - 1][1]


def _code(parts: Sequence[str]) -> str:
    """Names as code in a table: they are a candidate's words."""
    return ", ".join("`" + part.replace("`", "'").replace("|", "/") + "`" for part in parts)
