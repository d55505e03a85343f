"""autoresearch-lab: a campaign's configuration and its trainer, called as that system's runner calls it.

``python -P -m nightlab_bridge.campaign --seconds SECONDS --timeout SECONDS CAMPAIGN``
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from nightlab_bridge.report import report, require_score
from nightlab_bridge.runner import Said, Unmeasured, finish, run

TRAINER = "research/dense_gpt/train.py"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("campaign")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--timeout", type=float, default=600)
    options = parser.parse_args()

    def function(path: Path, said: Said) -> Any:
        said("the trainer")
        return train(options.campaign, options.seconds, Path.cwd().parent)

    try:
        summary = run(TRAINER, function, sealed=False, timeout=options.timeout)
        name = str(summary.pop("primary_metric_name", "primary_metric_value"))
        value = summary.pop("primary_metric_value", None)
        if summary.get("status") != "completed":
            raise Unmeasured(f"the trainer's summary says {summary.get('status')!r}, not 'completed'")
        report(name, require_score(value, name), {key: summary.get(key) for key in ("train_seconds", "param_count")})
    except Unmeasured as error:
        finish(error)


def train(campaign: str, seconds: int, place: Path) -> dict[str, Any]:
    """Train with the campaign's configuration; returns the summary that the trainer wrote."""
    from lab.backends import detect_device_profile  # type: ignore[import-not-found]
    from research.dense_gpt.search_space import resolve_dense_config  # type: ignore[import-not-found]
    from research.dense_gpt.train import main as trainer  # type: ignore[import-not-found]

    profile = detect_device_profile()
    said = json.loads(Path("campaigns", campaign, "campaign.json").read_text(encoding="utf-8"))
    config, summary = place / "config.json", place / "summary.json"
    config.write_text(json.dumps(resolve_dense_config(said, {}, device_profile=profile)), encoding="utf-8")
    given = {"summary-out": summary, "config-path": config, "experiment-id": "trial", "proposal-id": "trial"}
    given |= {"campaign-id": campaign, "lane": "main", "device-profile": profile.profile_id, "repo-root": Path.cwd()}
    given |= {"seed": os.environ["NIGHTLAB_SEED"], "time-budget-seconds": seconds}
    trainer([word for name, value in given.items() for word in (f"--{name}", str(value))])
    found: dict[str, Any] = json.loads(summary.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
