"""A small session, made up: what the checks tell a plug-in, and its author may use in tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nightlab.core.config import LabConfig
from nightlab.core.types import Budget, Candidate, Experiment, Measurement, Metric, Verdict
from nightlab.proposers.proposer import Briefing, ProposerContext

METRIC = Metric("loss")
BUDGET = Budget("wall", 60.0)
GENOME = {"genome.py": "RATE = 0.1  # [0.001..1 log]\nLAYERS = 4  # [1..16]\n"}
ADVICE = "Change one thing at a time.\n"


def contract() -> LabConfig:
    """The contract of a lab that minimises ``loss`` over the constants of ``genome.py``."""
    return LabConfig.model_validate(
        {"name": "example", "genome": ["genome.py"], "command": "python measure.py", "metric": {"name": "loss"}}
    )


def context(folder: Path = Path(), name: str = "example") -> ProposerContext:
    """What a proposer of that lab is made with."""
    return ProposerContext(name, contract(), folder, 0, set())


def measured(value: float, seconds: float = 60.0) -> Measurement:
    """A trial that yielded this value of the metric."""
    return Measurement("measured", value, training_seconds=seconds, wall_seconds=seconds, peak_memory_mb=100.0)


def briefing(genome: Mapping[str, str] = GENOME) -> Briefing:
    """What a proposer is told after a baseline, an experiment that was discarded, and one that runs."""
    first = _experiment(0, 1.0, Verdict("keep", "baseline", bar=1.0))
    second = _experiment(1, 1.2, Verdict("discard", "regressed", "0.200000 worse"))
    third = _experiment(2, None, None)
    return Briefing(
        METRIC, "cpu", dict(genome), first, [first, second, third], lab=contract(), budget=BUDGET, program=ADVICE
    )


def _experiment(number: int, value: float | None, verdict: Verdict | None) -> Experiment:
    commit, parent = f"{number:040x}", f"{0:040x}" if number else ""
    candidate = Candidate(commit, parent, commit, "tuner" if number else "baseline", f"change {number}")
    measurement = None if value is None else measured(value)
    return Experiment(number, candidate, 1000.0 + number, measurement, verdict, bar=verdict.bar if verdict else None)
