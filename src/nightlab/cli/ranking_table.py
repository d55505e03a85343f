"""The arena's standings for people."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nightlab.analysis.ranking import Contender, Drift, RankedContender, Standings
from nightlab.core.text import one_line

TERMS = ("score", "F", "ok", "use", "rob", "lat", "cost", "V")
WIDE = 100  # columns from which there is room for what a gene is


def print_standings(console: Console, standings: Standings) -> None:
    """Each domain's places with every term, and below them why some are not admitted."""
    entrants = {entrant.name: entrant for entrant in standings.entrants}
    for domain in dict.fromkeys(place.domain for place in standings.places):
        places = [place for place in standings.places if place.domain == domain]
        table = Table(title=escape(domain), title_justify="left", box=None, pad_edge=False, collapse_padding=True)
        for name in ("", "gene", entrants[places[0].name].metric, *TERMS):
            table.add_column(escape(name), justify="left" if name == "gene" else "right", no_wrap=True)
        if console.width >= WIDE:
            table.add_column("what it is", no_wrap=True)
        for place in places:
            entrant = entrants[place.name]
            cells = [str(place.rank), escape(place.name), _metric(entrant), *_terms(place), escape(entrant.title)]
            table.add_row(*cells[: len(table.columns)], style="dim" if place.refusals else "")
        console.print(table)
        for place in places:
            if place.refusals:
                console.print(f"{escape(place.name)} is not admitted: {escape('; '.join(place.refusals))}", style="dim")
    units = ", ".join(sorted({entrant.cost_unit for entrant in standings.entrants}))
    console.print(
        "F = ok · ln(1 + use) · (1 + rob) · lat · cost: valid runs, settings with a gain, how alike the gains are, "
        f"speed and thrift (½ at the median; cost: {units}). ~ is an estimate",
        style="dim",
        highlight=False,
    )


def print_drifts(console: Console, standings: Standings, drifts: Sequence[Drift], *, against_ledgers: bool) -> None:
    """What an audit found."""
    for drift in drifts:
        console.print(f"[red]{drift.kind}[/]  {_harmless(drift.name)}: {_harmless(drift.detail)}", soft_wrap=True)
    scores = f"{len(standings.places)} scores"
    if not drifts:
        ledgers = ", and what they follow from is in the ledgers" if against_ledgers else ""
        console.print(f"[green]{scores} follow from what was measured[/]{ledgers}")
        return
    console.print(f"{len({drift.name for drift in drifts})} of {scores} don't hold")


def _harmless(words: str) -> str:
    """A stranger's words in the terminal."""
    return escape(one_line(words, 400))


def _terms(place: RankedContender) -> list[str]:
    fit = place.fitness
    shown = {
        "success": f"{fit.success:.2f}",
        "utilisation": f"{fit.utilisation:.2f}",
        "robustness": f"{fit.robustness:.2f}",
        "latency": f"{fit.latency:.2f}",
        "cost": f"{fit.cost:.2f}",
    }
    for name in fit.estimated:
        shown[name] = f"~{shown[name]}"
    return [f"{place.score:.3f}", f"{place.value:.3f}", *shown.values(), f"{place.security:.2f}"]


def _metric(entrant: Contender) -> str:
    """The task's own metric, with its spread."""
    if not entrant.values:
        return "-"
    spread = f" ± {stdev(entrant.values):.2g}" if len(entrant.values) > 1 else ""
    return f"{fmean(entrant.values):.5g}{spread}"
