"""``results.tsv``: the log as a table that people and scripts read, derived from the ledger."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from nightlab.records import Experiment, Metric

# The first five columns are those of karpathy/autoresearch, so that its users' scripts go on working.
MORE = ("experiment", "proposer", "reason", "training_seconds", "runs", "bar", "evidence", "changes")


def write_results(path: Path, metric: Metric, experiments: Iterable[Experiment]) -> None:
    """Replace ``path`` atomically by one row per judged experiment, the baseline first."""
    rows = ["\t".join(("commit", metric.name, "memory_gb", "status", "description", *MORE))]
    rows += [_row(e) for e in experiments if e.verdict and e.measurement]
    draft = path.with_name(path.name + ".tmp")
    draft.write_text("\n".join(rows) + "\n")
    os.replace(draft, path)


def append_result(path: Path, experiment: Experiment) -> None:
    """Add one judged experiment's row. A row torn by a kill is mended by the next ``write_results``."""
    with path.open("a") as table:
        table.write(_row(experiment) + "\n")


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
