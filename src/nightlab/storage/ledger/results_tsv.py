"""``results.tsv``: the log as a table that people and scripts read, derived from the ledger."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from nightlab.core.types import Experiment, Metric
from nightlab.storage.ledger.ledger import Ledger

# The first five columns are those of karpathy/autoresearch, so that its users' scripts go on working.
MORE = ("experiment", "proposer", "reason", "training_seconds", "runs", "bar", "evidence", "changes")


def write_results(path: Path, metric: Metric, ledger: Ledger) -> None:
    """Replace ``path`` atomically by one row per judged experiment, in the order of their verdicts."""
    draft = path.with_name(path.name + ".tmp")
    with draft.open("w", encoding="utf-8") as table:
        table.writelines(f"{line}\n" for line in result_rows(metric, ledger))
    os.replace(draft, path)


def result_rows(metric: Metric, ledger: Ledger) -> Iterator[str]:
    """The table's lines: its heading, and one per judged experiment, in the order of their verdicts."""
    yield _heading(metric)
    yield from map(_row, ledger.judged())


def repair_results(path: Path, metric: Metric, ledger: Ledger) -> None:
    """Complete a table after a kill. Where it ends as it should it is left alone: a long one takes long to write.

    What the ledger learned since of earlier rows (a bar, evidence) waits for the next ``write_results``.
    """
    lines = [_heading(metric), *map(_row, ledger.judged(last=2))]
    before, newest = ("", *(f"\n{line}\n" for line in lines))[-2:]
    end = _end(path, len((before + newest).encode()))
    if end.endswith(newest):
        return
    if before and end.endswith(before):
        with path.open("a", encoding="utf-8") as table:
            table.write(newest[1:])
    else:
        write_results(path, metric, ledger)


def append_result(path: Path, experiment: Experiment) -> None:
    """Add one judged experiment's row. A row that a kill prevented or tore is repaired by ``repair_results``."""
    with path.open("a", encoding="utf-8") as table:
        table.write(_row(experiment) + "\n")


def _heading(metric: Metric) -> str:
    return "\t".join(("commit", metric.name, "memory_gb", "status", "description", *MORE))


def _end(path: Path, length: int) -> str:
    """The end of a file, no longer than ``length`` bytes, with a line break before its first line."""
    try:
        with path.open("rb") as table:
            size = table.seek(0, os.SEEK_END)
            table.seek(max(size - length, 0))
            return "\n" * (size < length) + table.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _row(experiment: Experiment) -> str:
    assert experiment.verdict and experiment.measurement
    measured, candidate = experiment.measurement, experiment.candidate
    # On an accelerator its memory is what matters; where it can't be seen from outside, a claim has to do.
    memory = measured.peak_gpu_memory_mb or measured.claims.get("peak_vram_mb") or measured.peak_memory_mb
    cells = (
        candidate.commit[:7],
        f"{measured.metric if measured.metric is not None else 0:.6f}",
        f"{memory / 1024:.1f}",
        experiment.verdict.status,
        candidate.hypothesis,
        str(experiment.number),
        candidate.proposer,
        experiment.verdict.reason,
        f"{measured.training_seconds:.1f}",
        str(measured.runs),
        "" if experiment.bar is None else f"{experiment.bar:.6f}",
        experiment.level,
        "; ".join(candidate.changes),
    )
    return "\t".join(" ".join(cell.split()) for cell in cells)
