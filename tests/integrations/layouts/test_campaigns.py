"""autoresearch-lab: a campaign's metric and time, and its trainer called as its own runner calls it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from support.bench import Bench
from support.labs import TinyLab
from support.layouts import opened, problem

from nightlab.core.config import detect
from nightlab.core.types import NightlabError
from nightlab.engines.local.layout import detect_sandbox
from nightlab.session.create import written

CAMPAIGN = {
    "campaign_id": "base_2k",
    "primary_metric": {"name": "val_bpb", "direction": "min"},
    "budgets": {"scout_seconds": 5, "main_seconds": 20},
}
TRAINER = """\
import argparse, json
from .model import DEPTH
def main(argv):
    parser = argparse.ArgumentParser()
    for name in ("summary-out", "config-path", "experiment-id", "proposal-id", "campaign-id", "lane", "repo-root"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--device-profile")
    for name in ("seed", "time-budget-seconds"):
        parser.add_argument(f"--{name}", type=int)
    given = parser.parse_args(argv)
    config = json.load(open(given.config_path))
    print("METRIC val_bpb=0")
    status = "completed" if DEPTH else "failed"
    value = config["width"] / max(DEPTH, 1) + given.time_budget_seconds
    found = {"status": status, "primary_metric_name": "val_bpb", "primary_metric_value": value, "param_count": 7}
    json.dump(found, open(given.summary_out, "w"))
    return 0
"""
FOLDER = {
    "campaigns/base_2k/campaign.json": json.dumps(CAMPAIGN),
    "campaigns/long_4k/campaign.json": "{}",
    "prepare.py": "",
    "train.py": "",
    "lab/__init__.py": "",
    "lab/backends.py": (
        "from types import SimpleNamespace\n"
        "def detect_device_profile():\n    return SimpleNamespace(profile_id='cpu')\n"
    ),
    "research/__init__.py": "",
    "research/dense_gpt/__init__.py": "",
    "research/dense_gpt/model.py": "DEPTH = 4\n",
    "research/dense_gpt/search_space.py": (
        "def resolve_dense_config(campaign, overrides, *, device_profile=None):\n"
        "    return {'width': 8 if campaign['campaign_id'] == 'base_2k' else 0}\n"
    ),
    "research/dense_gpt/train.py": TRAINER,
}


def test_the_first_campaign_is_read_and_the_others_are_named() -> None:
    lab, reading = opened(FOLDER)
    assert lab.name == "base_2k" and (lab.metric.name, lab.metric.goal) == ("val_bpb", "minimise")
    assert lab.command == "python -P -m nightlab_bridge.campaign --seconds=20 --timeout=140 base_2k"
    assert lab.prepare == "python -m lab.cli campaign build --campaign base_2k"
    assert "research/dense_gpt/model.py" in lab.genome and all(path.startswith("research/") for path in lab.genome)
    assert "for long_4k, put that name" in reading.notes[0] and "the number is a claim" in reading.source


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_manifest_that_cant_be_read_is_named(text: str) -> None:
    with pytest.raises(NightlabError, match=r"campaigns/base_2k/campaign\.json") as error:
        detect(problem({**FOLDER, "campaigns/base_2k/campaign.json": text}))
    assert error.value.hint


def test_its_trainer_is_called_as_its_runner_does(make_lab: Callable[..., TinyLab]) -> None:
    for depth, score in ((4, 22.0), (0, None)):
        files = {**FOLDER, "research/dense_gpt/model.py": f"DEPTH = {depth}\n"}
        contract = written(*opened(files)).replace(
            'prepare = "python -m lab.cli campaign build --campaign base_2k"\n', ""
        )
        got = Bench(make_lab(files=files, name=f"d{depth}"), contract, detect_sandbox()).run()
        assert got.metric == score, got.detail
        assert score is None or got.secondary == {"param_count": 7.0}
    assert "summary says 'failed'" in got.detail
