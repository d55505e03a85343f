"""A session's report in Markdown: what was gained and by what, how certain that is, and what to do next."""

from __future__ import annotations

import re
from datetime import datetime

from nightlab.analysis.summary import ReportData
from nightlab.analysis.timeline import duty_cycle
from nightlab.core.text import counted
from nightlab.core.types import FIRST_DAY, Evidence, Experiment, PairedGain, ProposerStats

BY_HEART = (
    "**That is less than on the data that the search saw, and the intervals are apart**: what is gained fits those, or "
    "is known by heart."
)
SEQUENTIAL = "a sequential test of the counts, which holds whenever measuring stops"
MOST = 12  # rows of a table of failed attempts
SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+!|~&@]|:(?=//))")
PART = ("proposer", "tried", "kept", "failed", "gained", "trials", "waited", "tokens", "dollars")


def part_words(p: ProposerStats) -> tuple[str, ...]:
    """A proposer as a table row, with the columns of ``PART``."""
    counts = (f"{count:,}" for count in (p.tried, p.kept, p.failed))
    return (p.name, *counts, f"{p.gained:.4g}", _time(p.trials), _time(p.waited), f"{p.tokens:,}", f"{p.dollars:.2f}")


def markdown(facts: ReportData) -> str:
    """The report as Markdown. Text by candidates and proposers is quoted, so that it can't format or link."""
    f = facts
    day = "%Y-%m-%d %H:%M"
    known = f"{datetime.fromtimestamp(f.begun):{day}} to {datetime.fromtimestamp(f.ended):{day}} · "
    when = known if f.begun > FIRST_DAY else ""
    source = f"from {f.imported}" if f.imported else f"{counted(f.trials, 'trial')} of {f.budget} · {f.platform}"
    judged = len(f.kept) + f.discarded + len(f.failed)
    lines = [
        f"# {_quote(f.lab)} · {f.tag}",
        "",
        f"{when}{counted(judged, 'experiment')}: {len(f.kept)} kept, {f.discarded} discarded, {len(f.failed)} failed "
        f"· {_quote(source)}",
        "",
        *_headline(f),
        *_kept(f),
        *_front(f),
        *_near(f),
        *_failed(f),
        *(_trust_of_imported(f) if f.imported else [*_trust(f), *_cost(f), *_next(f), *_again(f)]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _headline(f: ReportData) -> list[str]:
    name = f.metric.name
    if f.imported:
        said = "nothing that was kept has a number"
        if f.baseline and f.champion:
            gain = f.metric.gain(_bar(f.baseline), _bar(f.champion))
            said = f"{name} from {_value(f.baseline)} to {_value(f.champion)}, {gain:.4g} better"
        return [f"> **Reported, not measured.** {_quote(f.imported)}: {said}. nightlab has run none of it.", ""]
    if f.baseline is None or f.champion is None:
        return ["> Nothing was measured: the baseline has no number yet.", ""]
    if f.champion.number == 0:
        return [f"> **No gain.** Nothing beat the baseline's {name} of {_value(f.baseline)}.", ""]
    found = f.confirmed
    if found is None:
        gain = f.metric.gain(_bar(f.baseline), _bar(f.champion))
        return [
            f"> **Not confirmed yet.** The search measured {name} {gain:.4g} better (evidence: *measured*, so luck is "
            f"in it). Measure it again on fresh seeds: `nightlab confirm -t {f.tag}`",
            "",
        ]
    claim = f"{name} is {_interval(found.gain, ' than the baseline')}"
    if not found.exact:
        claim += f", on {found.gain.pairs} fresh seeds, paired"
    if found.sequential:
        claim += f"; {SEQUENTIAL}"
    if not found.shown:
        return [f"> **Not confirmed.** {claim}: {unshown_words(found)}.", ""]
    lines = [f"> **{claim}** (evidence: *{found.label}*)."]
    if found.claim:
        lines += [">", f"> The metric is only the candidate's claim: {_quote(found.claim)}."]
    if found.warm_start is not None:
        alone = _interval(found.alone, " than the baseline") if found.alone else ""
        lines += [">", f"> It {start_words(found, alone)}."]
    if found.held_out is not None:
        seen = "the same holds" if found.held_out.low > 0 else "**it does not show**"
        less = f" {BY_HEART}" if found.held_out.high < found.gain.low else ""
        lines += [">", f"> On data that no decision has read {seen}: {_interval(found.held_out)}.{less}"]
    if f.elsewhere:
        said = "; ".join(f"`{name}` {_interval(gain)}" for name, gain in f.elsewhere)
        lines += [">", f"> On the same seeds elsewhere: {said}. A gain far smaller there may be known by heart."]
    for other in f.transferred:
        seen = "It transfers" if other.shown else "It was **not** shown to transfer"
        lines += [">", f"> {seen} to {_quote(other.what)}: {_interval(other.gain)} (evidence: *{other.label}*)."]
    return [*lines, ""]


def _kept(f: ReportData) -> list[str]:
    if not f.kept:
        return []
    said = (
        "*In the search* is what was reported of it against the one kept before, in units of the usual noise (sigma)."
        if f.imported
        else "*In the search* is what it measured against the bar of its time, in units of noise (sigma): luck is in "
        "it. *Worth* is what the champion loses without it, measured on fresh seeds (`nightlab confirm --ablate`)."
    )
    lines = [
        "## What was kept",
        "",
        said,
        "",
        "| # | change | by | in the search | worth |",
        "|---|---|---|---|---|",
    ]
    for row in f.kept:
        gain = "simpler" if row.gain is None or row.gain <= 0 else f"{row.gain:+.4g}{_sigmas(row.sigmas)}"
        worth = (
            f"{row.worth.mean:+.4g} ({row.worth.low:+.3g} to {row.worth.high:+.3g})" if row.worth else "not measured"
        )
        lines.append(f"{_what(row.experiment)} | {gain} | {worth} |")
    return [*lines, ""]


def _front(f: ReportData) -> list[str]:
    if f.front is None:
        return []
    lines = [
        "## The front",
        "",
        "No other experiment was measured as good in all of these. It decides nothing.",
    ]
    lines += ["", f"| # | change | by | {' | '.join(map(_quote, f.front.names))} |"]
    lines.append("|" + "---|" * (3 + len(f.front.names)))
    for experiment, values in f.front.members[:MOST]:
        lines.append(f"{_what(experiment)} | {' | '.join(f'{value:.6g}' for value in values)} |")
    return [*lines, *_rest(len(f.front.members), "--front"), ""]


def _near(f: ReportData) -> list[str]:
    if not f.near:
        return []
    lines = ["## Nearly good", "", "Within one sigma of the bar: worth another try, or a combination.", ""]
    lines += ["| # | change | by | missed by |", "|---|---|---|---|"]
    for row in f.near[:MOST]:
        missed, far = -(row.gain or 0.0), None if row.sigmas is None else abs(row.sigmas)
        lines.append(f"{_what(row.experiment)} | {missed:.4g}{_sigmas(far)} |")
    return [*lines, *_rest(len(f.near)), ""]


def _failed(f: ReportData) -> list[str]:
    if not f.failed and not f.refused:
        return []
    lines = ["## What failed", ""]
    if f.failed:
        lines += ["| # | change | by | how |", "|---|---|---|---|"]
        for row in f.failed[:MOST]:
            verdict = row.experiment.verdict
            how = (
                f"{verdict.reason}: {verdict.detail}"
                if verdict and verdict.detail
                else verdict.reason
                if verdict
                else ""
            )
            lines.append(f"{_what(row.experiment)} | {_quote(how)} |")
        lines += _rest(len(f.failed))
    if f.refused:
        lines += [
            "",
            f"{counted(f.refused, 'proposal')} never became an experiment (`nightlab log` does not show them).",
        ]
    return [*lines, ""]


def _trust(f: ReportData) -> list[str]:
    lines = ["## How far to trust this", ""]
    known = f"from {counted(f.replicates, 'replicate')}" if f.replicates else "believed, nothing ran twice yet"
    lines.append(f"- **Noise**: one trial's {f.metric.name} has a standard deviation (sigma) of {_noise(f)}, {known}.")
    if f.replicates:
        lines.append(f"- **Common luck**: {_common_luck(f.rho)}.")
    if f.champion and f.champion.measurement and (own := f.champion.measurement.own_precision):
        lines.append(
            f"- **Own precision**: the lab says how precise its number is: {own.strip('()')} for the champion's."
        )
    if f.needed:
        shown = "; ".join(f"an effect of {effect:.2g} needs about {trials:,} trials" for effect, trials in f.needed)
        lines.append(f"- **Power**: at this noise {shown} (95 % level, 80 % power, pairs of two).")
    if f.self_tests:
        lines.append(
            f"- **Self-test**: the champion, tried again unchanged, would have been kept {f.self_kept} of "
            f"{counted(f.self_tests, 'time')} by the rule *{f.rule}*. Such keeps "
            "change nothing; they are why a keep is no result."
        )
    if f.champion and f.champion.number:
        lines.append(f"- **Luck taken off** the champion's number since it was kept: {f.luck_removed:.3g}.")
        if f.confirmed and f.baseline:
            claimed = f.metric.gain(_bar(f.baseline), _bar(f.champion))
            lines.append(
                f"- **The search's own claim** was a gain of {claimed:.4g}; {f.confirmed.gain.mean:.4g} was confirmed."
            )
    lines.append(f"- **Sealing**: {_quote(f.sealing)}.")
    lines += [f"- {_quote(trouble)}" for trouble in f.troubles]
    return [*lines, ""]


def _trust_of_imported(f: ReportData) -> list[str]:
    lines = ["## How far to trust this", ""]
    lines.append("- Every number here is a claim: one for each experiment, no seeds, no evaluator of ours.")
    gains = [row.gain for row in f.kept if row.gain is not None]
    if f.sigma > 0 and gains:
        small = sum(gain < 2 * f.sigma for gain in gains)
        lines.append(
            f"- At the noise that language models usually have from seed to seed ({f.sigma:.2g}, 0.04 % of the "
            f"baseline), {small} of the {len(gains)} kept gains are smaller than two sigma, so each may be luck."
        )
    lines += ["", "## What to try next", ""]
    return [
        *lines,
        "- Measure it: `nightlab run` in that lab, with its best program as a candidate (`nightlab try`).",
        "",
    ]


def _cost(f: ReportData) -> list[str]:
    lines = ["## What it cost", ""]
    lines.append(
        f"{_time(f.ran)}, of which {_time(f.trained)} were training ({duty_cycle(f.trained, f.room, 1):.0%}); "
        f"it ended because: {_quote(f.reason or 'it has not ended')}."
    )
    lines += ["", f"| {' | '.join(PART)} |", "|" + "---|" * len(PART)]
    lines += [f"| {' | '.join(map(_quote, part_words(part)))} |" for part in f.proposers]
    return [*lines, ""]


def _next(f: ReportData) -> list[str]:
    lines = []
    if f.champion and f.champion.number:
        if f.confirmed is None:
            lines.append(f"Confirm what the search claims: `nightlab confirm -t {f.tag}`")
        elif not f.confirmed.shown and f.confirmed.gain.high >= 0:
            lines.append(f"Look with more seeds: `nightlab confirm -t {f.tag} --seeds {2 * f.confirmed.gain.pairs}`")
        elif not any(row.worth for row in f.kept):
            lines.append(f"See what each change is worth: `nightlab confirm -t {f.tag} --ablate`")
        if f.confirmed and f.confirmed.shown and not f.transferred:
            lines.append(f"See whether it holds at a larger budget: `nightlab transfer -t {f.tag} --scale 4`")
    if len(f.near) > 1:
        numbers = " and ".join(f"#{row.experiment.number}" for row in f.near[:2])
        lines.append(f"Combine near misses, e.g. {numbers}.")
    if f.kept and f.confirmed is None and f.smallest > 0:
        lines.append(f"Four pairs of trials can show an effect of {f.smallest:.2g} here; smaller ones need more.")
    return ["## What to try next", "", *(f"- {line}" for line in lines), ""] if lines else []


def _again(f: ReportData) -> list[str]:
    lines = ["## To see it for yourself", "", "```console", f"git diff {f.base[:12]} {f.branch}"]
    if f.champion and f.champion.number:
        lines.append(f"nightlab replay {f.champion.number} -t {f.tag}     # the champion, once more")
    if f.confirmed:
        lines.append(
            f"nightlab confirm -t {f.tag} --seeds {f.confirmed.gain.pairs}     # measured pairs are not run again"
        )
    lines += [f"nightlab log -t {f.tag} --all", "```"]
    return [
        *lines,
        "",
        "Evidence, weakest first: *measured* in the search, *confirmed* on fresh seeds, *held out* on "
        "data that no decision has read, *transferred* to another budget or scale.",
    ]


def _what(experiment: Experiment) -> str:
    return (
        f"| {experiment.number} | {_quote(experiment.candidate.hypothesis)} | {_quote(experiment.candidate.proposer)}"
    )


def _rest(count: int, option: str = "--all") -> list[str]:
    return ["", f"… and {count - MOST} more: `nightlab log {option}`"] if count > MOST else []


def _interval(gain: PairedGain, than: str = "") -> str:
    size, ends = gain_words(gain)
    return f"{size}{than} ({ends})"


def gain_words(gain: PairedGain) -> tuple[str, str]:
    """A gain, and its interval; of a metric that is compared by ratios as a factor, with the difference beside it."""
    if gain.level == 1:
        size = f"{gain.times[0]:.4g} times, {_better(gain.mean)}" if gain.times else _better(gain.mean)
        return size, "exact: the same number on every seed"
    level = f"{100 * gain.level:.4g} % interval"
    if gain.times is None:
        if gain.high < 0:
            return _better(gain.mean), f"{level} {-gain.high:.4g} to {-gain.low:.4g} worse"
        return _better(gain.mean), f"{level} {gain.low:.4g} to {gain.high:.4g}"
    mean, low, high = gain.times
    return f"{mean:.4g} times better", f"{level} {low:.4g} to {high:.4g} times; {gain.mean:.4g} in its unit"


def _better(gain: float) -> str:
    return f"{-gain:.4g} worse" if gain < 0 else f"{gain:.4g} better"


def start_words(found: Evidence, alone: str) -> str:
    """What the genome behind some evidence started from. ``alone``: its gain from nothing; empty if unknown."""
    gain = f"is {alone}" if alone else "could not be measured"
    return f"started from the answer of #{found.warm_start}; from nothing its program {gain}"


def unshown_words(found: Evidence) -> str:
    """Why the gain of some evidence counts as none."""
    if found.exact:
        return "that is no gain"
    return "it is worse" if found.gain.high < 0 else "the interval does not exclude that nothing was gained"


def _common_luck(rho: float) -> str:
    if rho == 0:
        return "none shows: no seed is known to favour all programs alike (rho 0)"
    return f"about {rho:.0%} of this noise's variance is the seed's and common to all programs (rho {rho:.2g})"


def _noise(f: ReportData) -> str:
    return f"{f.relative:.2g} of its value: {f.sigma:.3g} at the champion's" if f.relative else f"{f.sigma:.3g}"


def _sigmas(far: float | None) -> str:
    return "" if far is None else f" ({far:.1f} sigma)"


def _bar(experiment: Experiment) -> float:
    measured = experiment.measurement.metric if experiment.measurement else None
    return experiment.bar if experiment.bar is not None else measured if measured is not None else 0.0


def _value(experiment: Experiment) -> str:
    return f"{_bar(experiment):.6f}"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.0f} minutes"


def _quote(words: str) -> str:
    return SPECIAL.sub(r"\\\1", " ".join(words.split()))
