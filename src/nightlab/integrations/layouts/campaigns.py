"""autoresearch-lab: ``campaigns/*/campaign.json``, and ``research/`` the part that may change."""

from __future__ import annotations

import json
import shlex
from typing import Any

from nightlab.core.layouts import Problem, Reading, safe_name
from nightlab.core.types import NightlabError
from nightlab.integrations.layouts.yaml_text import number, part_of

TRAINER, MANIFESTS, SECONDS, REST = "research/dense_gpt/train.py", "campaigns/*/campaign.json", 300.0, 120


def read(problem: Problem) -> Reading | None:
    """The contract of the first campaign. Raises NightlabError for one whose manifest can't be read."""
    manifests = problem.match(MANIFESTS)
    if not manifests or not problem.has(TRAINER):
        return None
    name, *others = (path.split("/")[1] for path in manifests)
    try:
        said = json.loads(problem.text(manifests[0]))
    except ValueError as error:
        raise NightlabError(f"{problem.name}: {manifests[0]} can't be read: {error}", "correct that line") from None
    if not isinstance(said, dict):
        raise NightlabError(f"{problem.name}: {manifests[0]} is no JSON object", "correct it")
    metric, seconds = part_of(said, "primary_metric"), number(part_of(said, "budgets").get("main_seconds")) or SECONDS
    call = ["python", "-P", "-m", "nightlab_bridge.campaign", f"--seconds={seconds:g}", f"--timeout={seconds + REST:g}"]
    contract: dict[str, Any] = {
        "name": safe_name(str(said.get("campaign_id") or name)),
        "genome": sorted(path for path in problem.files if path.startswith("research/") and path.endswith(".py")),
        "command": shlex.join([*call, name]),
        "prepare": shlex.join(["python", "-m", "lab.cli", "campaign", "build", "--campaign", name]),
        "metric": {
            "name": safe_name(str(metric.get("name") or "val_bpb")),
            "goal": "maximise" if metric.get("direction") == "max" else "minimise",
        },
        "budget": {"amount": seconds + REST},
        "data": {"open": ["artifacts/cache"]},
    }
    notes = (
        [f"only {name} is read: for {', '.join(others)}, put that name into `command` and `prepare`"] if others else []
    )
    notes.append(
        "its proposals, lanes, promotion and archive are not read: a trial is main_seconds of its trainer on search_val"
    )
    claim = "the number is a claim: the trainer in the genome measures itself"
    return Reading(
        contract, f"an autoresearch-lab campaign: {manifests[0]}, research/ as genome; {claim}", tuple(notes)
    )
