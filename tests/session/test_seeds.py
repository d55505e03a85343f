"""What a trial is for can't be told from its seed or its name, and the same trial has the same seed again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nightlab.session.seeds import drawn_seed, trial_name


def test_seeds_are_drawn_with_a_secret() -> None:
    one, other = "ab" * 32, "cd" * 32
    assert drawn_seed(one, 1) == drawn_seed(one, 1) != drawn_seed(other, 1)
    seeds = {drawn_seed(one, seed) for seed in (*range(1, 600), *range(1001, 1600))}
    assert len(seeds) > 1195 and all(0 <= seed < 2**31 for seed in seeds)
    low = sum(drawn_seed(one, seed) < 2**30 for seed in range(1001, 2001))
    assert 400 < low < 600, "their size says nothing of their purpose"
    assert drawn_seed("", 1001) == 1001, "a session of before"


def test_names_say_nothing_of_the_purpose() -> None:
    secret = "ab" * 32
    names = {trial_name(secret, 7, purpose, 1, n) for purpose in ("search", "confirm", "upkeep") for n in (1, 2)}
    assert len(names) == 6 and all(len(name) == 17 and name.startswith("0007-") for name in names)
    assert trial_name("", 7, "confirm", 1001, 1) == "0007-confirm-s1001-1"


@pytest.mark.integration
def test_the_same_trial_has_its_seed_again_and_no_trial_sees_the_secret(make_lab: Any, nightlab: Any) -> None:
    """Through the program, whose sessions have a secret."""
    lab = make_lab("A = 1\n", "import os\nprint(sorted(os.environ.items()), os.getcwd())\nprint('METRIC loss=1')\n")
    assert nightlab("run", "--experiments", "1", "--plain", cwd=lab).code == 0
    assert nightlab("replay", "0", cwd=lab).code == 0
    told = json.loads(nightlab("show", "0", "--json", cwd=lab).out)["trials"]
    search, replay = [next(t for t in told if t["purpose"] == what) for what in ("search", "replay")]
    assert search["seed"] == replay["seed"] == 1 and search["given_seed"] == replay["given_seed"] != 1
    folder = lab.folder / ".nightlab"
    tag = next(path.parent.name for path in folder.glob("*/ledger.db"))
    from nightlab.storage.ledger import find_ledger

    ledger = find_ledger(lab.folder, tag)
    facts = ledger.session()
    ledger.close()
    assert facts is not None and len(facts.secret) == 64 and facts.secret not in repr(facts)
    for log in (folder / tag / "trials").glob("*/*.log"):
        printed = log.read_text()
        assert facts.secret not in printed
        assert "search" not in printed and "replay" not in printed, "neither the environment nor the folder tells"
