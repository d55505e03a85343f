"""Turns a finished trial's result and output into a measurement."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from nightlab.core.config import LabConfig
from nightlab.core.text import plain
from nightlab.core.types import Measurement
from nightlab.engines.local import metric_text
from nightlab.engines.local.machine_monitor import SLOW, disturbance, slow_machine
from nightlab.engines.local.trial_folder import read_text

EVALUATOR_FAILED = "the evaluator failed: "


def build_measurement(lab: LabConfig, folder: Path, result: dict[str, Any], *, shared: bool) -> Measurement:
    """The measurement of the trial in ``folder``. ``shared``: other trials of this session ran at the same time."""
    printed, matters = read_text(folder / "candidate.log"), lab.metric.timed is not False
    claims = metric_text.parse_claims(printed, lab.metric.name)
    # The evaluator's output is trusted; without an evaluator, the metric is only the candidate's claim.
    output = read_text(folder / "evaluator.log") if lab.evaluator else printed
    copies = re.compile(re.escape(f"{folder}/") + r"\w+/")  # of the lab: where nothing is sealed, paths are those
    units = {"held_out": "", **dict.fromkeys([*lab.limits, *lab.objectives], ""), lab.metric.name: lab.metric.unit}
    found = metric_text.parse_metrics(output, units)
    trusted, unreadable = found.values, found.unreadable.get(lab.metric.name)
    metric = trusted.get(lab.metric.name)
    if metric is None and not lab.evaluator and unreadable is None:
        metric = claims.get(lab.metric.name)
    outcome, detail = result["outcome"], result.get("detail", "")
    if outcome == "measured" and metric is None:
        outcome = "no metric"
        detail = metric_text.missing_metric(output, lab.metric.name, "evaluator" if lab.evaluator else "program")
        if unreadable is not None:
            detail = f"no number can be read in its last METRIC line of {lab.metric.name}: {unreadable}"
    if outcome == "crashed" and detail.startswith("exit status"):
        logs = sorted(folder.glob("answer*.log")) if detail.endswith("answering") else []
        if said := "".join(map(read_text, logs)) or printed:
            detail = f"{metric_text.crash_summary(copies.sub('', said))} ({detail})"
    if detail.startswith(EVALUATOR_FAILED):
        summary = metric_text.crash_summary(copies.sub("", output))
        if summary.endswith(detail.removeprefix(EVALUATOR_FAILED)):  # with where it was raised
            detail = EVALUATOR_FAILED + summary
    bounds = lab.metric
    if outcome == "measured" and metric is not None and not bounds.lowest <= metric <= bounds.highest:
        outcome, detail = "tampered", f"{bounds.name} {metric:g} is outside of {bounds.lowest:g} to {bounds.highest:g}"
    held_out = trusted.get("held_out") if lab.evaluator and lab.evaluator.held_out else None
    others = {n: v for n, v in trusted.items() if n != lab.metric.name and (held_out is None or n != "held_out")}
    own = found.stated.get(lab.metric.name) if outcome == "measured" else None
    other = found.stated.get("held_out") if held_out is not None and outcome == "measured" else None
    successes, out_of = (own and own.counts) or (None, None)
    known = {key: value for key, value in result.items() if key not in ("outcome", "detail")}
    disturbed = ""
    if outcome in SLOW:
        disturbed = slow_machine(known.get("machine", {}))
    elif matters and known.get("machine"):
        clock = json.loads((folder / "spec.json").read_text(encoding="utf-8"))["clock"]
        disturbed = disturbance(known["machine"], clock, shared=shared)
    return Measurement(
        outcome=outcome,
        metric=metric if outcome == "measured" else None,
        secondary=others if outcome == "measured" else {},
        held_out=held_out if outcome == "measured" else None,
        standard_error=own.error if own else None,
        successes=successes,
        out_of=out_of,
        held_out_error=other.error if other else None,
        detail=plain(detail, 400),
        said=metric_text.parse_feedback(output),
        claims={name: value for name, value in claims.items() if name != lab.metric.name},
        disturbed=disturbed,
        **known,
    )
