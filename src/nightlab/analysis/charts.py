"""Charts of a session: each function takes records and returns a matplotlib figure; without data the figure says so.

``progress`` follows the original: every experiment a point, the best so far a staircase.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from nightlab.analysis.summary import Row
from nightlab.analysis.timeline import PHASES, Span, lanes, shares
from nightlab.core.text import counted, one_line
from nightlab.core.types import Experiment, Metric
from nightlab.judge import in_sigmas

Kind = Literal["progress", "worth", "effects", "duty"]
LABEL = 45  # characters of a label
MANY = 100  # kept changes above which points are drawn small
NAMED = 30  # most labels; of more kept changes the largest steps are labelled
BARS = 40  # most changes in a chart of contributions
LINEAR = 4.0  # sigmas up to which effects are drawn to scale; larger ones logarithmically
BINS = 120  # most bins in the chart of the duty cycle
COLOURS = {"keep": "tab:green", "discard": "0.65", "crash": "tab:red"}
PHASE_COLOURS = dict(zip(PHASES, ("tab:orange", "tab:green", "tab:blue", "0.75"), strict=True))


def progress(metric: Metric, experiments: Sequence[Experiment], title: str = "") -> Any:
    """The metric over experiments, with the latest confirmed gain.

    Crashed experiments have no point. The dashed staircase is each champion's bar, corrected for selection bias. The
    confirmed gain is relative to the baseline on the same fresh seeds; it is drawn from the baseline's bar.
    """
    figure, axes = _empty(14, 7)
    measured = [(e, e.measurement.metric) for e in experiments if e.measurement and e.measurement.metric is not None]
    kept = [(e.number, value, e) for e, value in measured if e.kept]
    other = [(e.number, value) for e, value in measured if not e.kept]
    if other:
        axes.scatter([n for n, _ in other], [v for _, v in other], s=14, color="0.75", label="discarded", zorder=2)
    if kept:
        numbers, values = [k[0] for k in kept], [k[1] for k in kept]
        end = max(e.number for e, _ in measured)
        axes.step([*numbers, end], [*values, values[-1]], where="post", color="tab:green", alpha=0.7, zorder=1)
        many = len(kept) > MANY
        edges: dict[str, Any] = {} if many else {"edgecolors": "black"}
        axes.scatter(numbers, values, s=14 if many else 46, color="tab:green", label="kept", zorder=3, **edges)
        bars = [(number, e.bar) for number, _, e in kept if e.bar is not None]
        if bars:
            steps = [*(bar for _, bar in bars), bars[-1][1]]
            look: dict[str, Any] = {"where": "post", "color": "0.35", "linestyle": "--", "linewidth": 1, "zorder": 1}
            axes.step([*(number for number, _ in bars), end], steps, label="bar: without luck", **look)
        for number, value, experiment in _steps(metric, kept):
            axes.annotate(
                _label(experiment),
                (number, value),
                xytext=(4, 6),
                textcoords="offset points",
                rotation=30,
                fontsize=8,
                color="tab:green",
                parse_math=False,  # a dollar sign in a label is literal
            )
        shown = _shown(axes, metric, kept[0][2], [e for _, _, e in kept])
        near, far = min([*values, *shown]), max([*values, *shown])
        margin = max((far - near) * 0.35, abs(values[0]) * 0.002) or 1.0  # a metric that is always 0
        axes.set_ylim(near - margin, far + margin)
        if end == 0:
            axes.set_xlim(-1, 1)
    axes.set_xlabel("experiment")
    axes.locator_params(axis="x", integer=True)
    better = "lower" if metric.goal == "minimise" else "higher"
    axes.set_ylabel(f"{metric.name}{_unit(metric)}, {better} is better", parse_math=False)
    tried = max(len(experiments) - 1, 0)
    _title(axes, title or f"{counted(tried, 'experiment')}, {max(len(kept) - 1, 0)} kept")
    axes.grid(alpha=0.2)
    if measured:
        axes.legend(loc="upper right" if metric.goal == "minimise" else "lower right")
    else:
        _nothing(axes, "nothing is measured yet")
    return figure


def worth_chart(metric: Metric, rows: Sequence[Row], title: str = "") -> Any:
    """Each kept change's contribution to the champion, measured by removing it, with its interval."""
    found = [(row, row.worth) for row in rows if row.worth is not None]
    found.sort(key=lambda pair: pair[1].mean)
    left_out, found = found[:-BARS], found[-BARS:]
    figure, axes = _empty(11, max(2.5, 1.3 + 0.36 * len(found)))
    for place, (_, gain) in enumerate(found):
        colour = "tab:green" if gain.low > 0 else "tab:red" if gain.high < 0 else "0.65"
        error = [[gain.mean - gain.low], [gain.high - gain.mean]]
        axes.barh(place, gain.mean, xerr=error, color=colour, height=0.7, error_kw={"capsize": 3, "elinewidth": 1})
    names = [f"#{row.experiment.number}  {_label(row.experiment)}" for row, _ in found]
    axes.set_yticks(range(len(found)), names, fontsize=9, parse_math=False)
    axes.axvline(0, color="black", linewidth=0.8)
    levels = sorted({f"{100 * gain.level:g} %" for _, gain in found})
    axes.set_xlabel(
        f"{metric.name}{_unit(metric)} that the champion loses without it; intervals of {', '.join(levels) or '95 %'}",
        parse_math=False,
    )
    unknown = sum(row.worth is None and row.experiment.kept for row in rows)
    also = [f"{unknown} kept not measured"] if unknown else []
    also += [f"the {len(left_out)} smallest left out"] if left_out else []
    said = f"{counted(len(found), 'kept change')} {'is' if len(found) == 1 else 'are'}" if found else "kept changes are"
    _title(axes, title or ", ".join([f"what {said} worth", *also]))
    axes.margins(y=0.02)
    axes.grid(axis="x", alpha=0.2)
    if not found:
        axes.set_yticks([])
        _nothing(axes, "no change's worth is measured yet: nightlab confirm --ablate")
    return figure


def _in_sigmas(metric: Metric, experiment: Experiment, gain: float, sigma: float, relative: float) -> float:
    measured = experiment.measurement.metric if experiment.measurement else None
    found = in_sigmas(metric, measured, gain, sigma, relative)
    return gain if found is None else found


def effects(metric: Metric, rows: Sequence[Row], sigma: float, title: str = "", relative: float = 0.0) -> Any:
    """Each experiment's gain over the bar at its time, in units of one trial's noise if known.

    ``relative``: that noise as a share of a value, where values are compared by ratios.
    """
    figure, axes = _empty(12, 6)
    with_gain = [(row.experiment, row.gain) for row in rows if row.gain is not None and math.isfinite(row.gain)]
    gains = [(e, _in_sigmas(metric, e, gain, sigma, relative)) for e, gain in with_gain]
    for status, colour in COLOURS.items():
        points = [(e.number, gain) for e, gain in gains if e.verdict and e.verdict.status == status]
        if points:
            size = 40 if status == "keep" else 16
            look: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.5, "zorder": 3} if status == "keep" else {}
            axes.scatter(*zip(*points, strict=True), s=size, color=colour, label=f"{status} ({len(points)})", **look)
    if sigma > 0:
        axes.axhspan(-2, 2, color="tab:blue", alpha=0.08, linewidth=0, label="within 2 sigma of luck")
        axes.axhspan(-1, 1, color="tab:blue", alpha=0.12, linewidth=0, label="within 1 sigma")
        if any(abs(gain) > LINEAR for _, gain in gains):
            _logarithmic_beyond(axes, [gain for _, gain in gains])
        one = f"{relative:.2g} of a value" if relative else f"{sigma:.3g}{_unit(metric)}"
        axes.set_ylabel(f"gain over the bar, in sigma (one is {one})", parse_math=False)
    else:
        axes.set_ylabel(f"gain over the bar{_unit(metric)}; the noise is not known", parse_math=False)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlabel("experiment")
    axes.locator_params(axis="x", integer=True)
    without = len(rows) - len(gains)
    also = f", {without} without a number" if without else ""
    _title(axes, title or f"the effects of {counted(len(gains), 'experiment')}{also}")
    axes.grid(alpha=0.2)
    if gains:
        axes.set_xlim(0, max(e.number for e, _ in gains) + 1)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=5, fontsize=8)
    else:
        _nothing(axes, "nothing is compared with a champion yet")
    return figure


def duty_chart(spans: Sequence[Span], off: Sequence[tuple[float, float]] = (), title: str = "") -> Any:
    """What each slot did over the session: trial by trial above; shares of its time below.

    ``off``: times at which the session did not run; shown in grey, and not part of the duty cycle.
    """
    figure, axes = _empty(14, 6, rows=2)
    rows = lanes(spans)
    if not spans:
        _title(axes[0], title or "the duty cycle")
        for each, words in zip(axes, ("no trial has run yet", ""), strict=True):
            _nothing(each, words)
        return figure
    begun, ended = min(span.begun for span in spans), max(span.ended for span in spans)
    scale, name = (3600, "hours") if ended - begun > 5400 else (60, "minutes") if ended - begun > 90 else (1, "seconds")
    above, below = axes
    for place, row in enumerate(rows):
        for phase in PHASES:
            parts = [part for span in row for part in span.parts(phase)]
            bars = [((at - begun) / scale, seconds / scale) for at, seconds in parts]
            above.broken_barh(bars, (place - 0.4, 0.8), color=PHASE_COLOURS[phase], linewidth=0)
    above.set_yticks(range(len(rows)), [f"slot {place + 1}" for place in range(len(rows))])
    bins = max(min(BINS, len(spans) // (4 * len(rows))), 1)
    edges, found, trained = shares(spans, len(rows), off, bins)
    places = [(edge - begun) / scale for edge in edges]
    base = [0.0] * bins
    for phase in PHASES[1:2] + PHASES[:1] + PHASES[2:]:  # training at the bottom: its height is the duty cycle
        top = [low + high for low, high in zip(base, found[phase], strict=True)]
        below.stairs(top, places, baseline=base, fill=True, color=PHASE_COLOURS[phase], label=phase)
        base = top
    for each in (above, below):
        for start, end in off:
            each.axvspan((start - begun) / scale, (end - begun) / scale, color="0.92", linewidth=0, zorder=0)
        each.set_xlim(0, (ended - begun) / scale)
    below.set_ylim(0, 1)
    below.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    below.set_ylabel("share of the slots")
    below.set_xlabel(name)
    below.legend(loc="lower right", ncols=len(PHASES), fontsize=8)
    _title(above, title or f"{counted(len(spans), 'trial')}; duty cycle {trained:.0%}")
    return figure


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG or SVG, by the file's suffix, atomically."""
    draft = path.with_name(f".{path.name}")
    figure.savefig(draft, dpi=130, format=path.suffix.lstrip(".") or "png")
    draft.replace(path)


def svg(figure: Any) -> str:
    """A figure as an SVG element, to be put into a page."""
    drawing = io.StringIO()
    figure.savefig(drawing, format="svg")
    text = drawing.getvalue()
    return text[text.index("<svg") :]


def _shown(axes: Any, metric: Metric, baseline: Experiment, kept: Sequence[Experiment]) -> list[float]:
    """Draw the confirmed gain on fresh seeds and on held-out data; returns the values to include in the axis."""
    from matplotlib.transforms import ScaledTranslation

    assert baseline.measurement is not None and baseline.measurement.metric is not None
    base = baseline.bar if baseline.bar is not None else baseline.measurement.metric
    looked = [(e, e.look) for e in kept if e.look is not None]
    if not looked:
        return []
    champion, evidence = looked[-1]
    reach: list[float] = []
    sides = ((evidence.gain, "D", "fresh seeds", -4), (evidence.held_out, "s", "held-out data", 4))
    for gain, marker, what, aside in sides:
        if gain is None:
            continue
        ends = [metric.worsened(base, -each) for each in (gain.low, gain.mean, gain.high)]
        low, high = min(ends), max(ends)
        axes.errorbar(
            champion.number,
            ends[1],
            transform=axes.transData + ScaledTranslation(aside / 72, 0, axes.figure.dpi_scale_trans),
            yerr=[[ends[1] - low], [high - ends[1]]],
            fmt=marker,
            color="black" if marker == "D" else "tab:purple",
            capsize=5,
            zorder=4,
            label=f"on {what}, {100 * gain.level:.4g} % interval{'' if gain.low > 0 else ': not shown'}",
        )
        reach += [low, high]
    return reach


def _steps(metric: Metric, kept: Sequence[tuple[int, float, Experiment]]) -> Sequence[tuple[int, float, Experiment]]:
    """The kept changes to label: all but the baseline, or the largest steps if there are too many."""
    if len(kept) <= NAMED + 1:
        return kept[1:]
    gains = [metric.gain(before[1], after[1]) for before, after in pairwise(kept)]
    bound = sorted(gains, reverse=True)[NAMED - 1]
    return [row for row, gain in zip(kept[1:], gains, strict=True) if gain >= bound][:NAMED]


def _logarithmic_beyond(axes: Any, gains: Sequence[float]) -> None:
    """Draw effects linearly near zero and logarithmically beyond, so that one diverged trial hides no other."""
    axes.set_yscale("symlog", linthresh=LINEAR, linscale=2)
    low, high = min([*gains, -LINEAR]), max([*gains, LINEAR])
    marks = [0.0, *(sign * mark for mark in (1, 2, *(LINEAR * 10**k for k in range(8))) for sign in (-1, 1))]
    marks = [mark for mark in sorted(marks) if 1.5 * low <= mark <= 1.5 * high]
    axes.set_yticks(marks, [f"{mark:+,.0f}" if mark else "0" for mark in marks])
    axes.minorticks_off()
    axes.set_ylim(1.3 * low, 1.3 * high)


def _empty(width: float, height: float, rows: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, sharex=rows > 1)


def _nothing(axes: Any, words: str) -> None:
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color="0.4", fontsize=13)
    axes.set_xticks([])
    axes.set_yticks([])


def _title(axes: Any, words: str) -> None:
    axes.set_title(words, parse_math=False)


def _unit(metric: Metric) -> str:
    return f" ({metric.unit})" if metric.unit else ""


def _label(experiment: Experiment) -> str:
    return one_line(experiment.candidate.hypothesis, LABEL)
