"""A session's experiments, written for other programs: as a table, or into what people already look at runs with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from nightlab.core.events import SessionStarted
from nightlab.core.serialize import experiment_line
from nightlab.core.types import Metric, NightlabError
from nightlab.integrations import trackers
from nightlab.integrations.frame import load
from nightlab.storage.ledger import Ledger, result_rows

TEXT = ("tsv", "jsonl")


def lines(ledger: Ledger, metric: Metric, kind: str) -> Iterator[str]:
    """The experiments as lines of text: ``tsv``, as in ``results.tsv``, or ``jsonl``, one JSON object each."""
    if kind == "tsv":
        yield from result_rows(metric, ledger)
    else:
        yield from (json.dumps(experiment_line(experiment), ensure_ascii=False) for experiment in ledger.experiments())


def write_lines(ledger: Ledger, metric: Metric, kind: str, out: IO[str]) -> None:
    for line in lines(ledger, metric, kind):
        out.write(line + "\n")


def write(ledger: Ledger, metric: Metric, kind: str, place: str | None) -> tuple[str, str]:
    """Write a session in a format that is no text. Returns where it is now, and how to look at it.

    An export replaces the one before of the same session in the same place. Raises NightlabError naming the package
    that is missing.
    """
    facts = ledger.session() or SessionStarted()
    source = trackers.Source(facts.lab.get("name", "lab"), facts.tag, metric, ledger.path.parent)
    if kind == "parquet":
        path = Path(place) if place else source.folder / "experiments.parquet"
        return str(path), _parquet(ledger, path)
    sinks: dict[str, Callable[..., tuple[str, str]]] = {
        "optuna": trackers.to_optuna,
        "mlflow": trackers.to_mlflow,
        "tensorboard": trackers.to_tensorboard,
        "trackio": trackers.to_trackio,
    }
    return sinks[kind](source, ledger.experiments(), place)


def _parquet(ledger: Ledger, path: Path) -> str:
    frame = load(ledger.path)
    try:
        frame.to_parquet(path, index=False)
    except ImportError:
        raise NightlabError("pyarrow is not installed", "pip install 'nightlab[data]'") from None
    return f"pandas.read_parquet({str(path)!r})"
