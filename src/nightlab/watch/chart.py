"""The progress chart, in the manner of the original's: every experiment a point, the best so far a staircase."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightlab.records import Experiment, Metric

LABEL = 45  # characters of a kept change's label


def progress(metric: Metric, experiments: Sequence[Experiment], title: str = "") -> Any:
    """A matplotlib figure of the metric over experiments; crashed ones have no point."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 7), layout="constrained")
    axes = figure.subplots()
    measured = [(e, e.measurement.metric) for e in experiments if e.measurement and e.measurement.metric is not None]
    kept = [(e.number, value, e) for e, value in measured if e.kept]
    other = [(e.number, value) for e, value in measured if not e.kept]
    if other:
        axes.scatter([n for n, _ in other], [v for _, v in other], s=14, color="0.75", label="discarded", zorder=2)
    if kept:
        numbers, values = [k[0] for k in kept], [k[1] for k in kept]
        end = max(e.number for e, _ in measured)
        axes.step([*numbers, end], [*values, values[-1]], where="post", color="tab:green", alpha=0.7, zorder=1)
        axes.scatter(numbers, values, s=46, color="tab:green", edgecolors="black", label="kept", zorder=3)
        for number, value, experiment in kept[1:]:  # the first is the baseline
            axes.annotate(
                _label(experiment),
                (number, value),
                xytext=(4, 6),
                textcoords="offset points",
                rotation=30,
                fontsize=8,
                color="tab:green",
                parse_math=False,  # a dollar in somebody's words is a dollar
            )
        first, last = values[0], values[-1]
        margin = max(abs(first - last) * 0.35, abs(first) * 0.002)
        axes.set_ylim(min(first, last) - margin, max(first, last) + margin)
    axes.set_xlabel("experiment")
    axes.locator_params(axis="x", integer=True)
    better = "lower" if metric.goal == "minimise" else "higher"
    axes.set_ylabel(f"{metric.name}{f' ({metric.unit})' if metric.unit else ''}, {better} is better")
    axes.set_title(title or f"{len(experiments) - 1} experiments, {len(kept) - 1 if kept else 0} kept")
    axes.grid(alpha=0.2)
    if measured:
        axes.legend(loc="upper right" if metric.goal == "minimise" else "lower right")
    return figure


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG or SVG, by the name's ending, replacing the file in one step."""
    draft = path.with_name(f".{path.name}")
    figure.savefig(draft, dpi=130, format=path.suffix.lstrip(".") or "png")
    draft.replace(path)


def _label(experiment: Experiment) -> str:
    text = " ".join(experiment.candidate.hypothesis.split())
    return text if len(text) <= LABEL else text[: LABEL - 1] + "…"
