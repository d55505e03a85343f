"""What a trial is for can't be told from its seed or its name, and the same trial has the same seed again."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from nightlab.session.replicates import CONFIRM_SEED
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


# Twenty ways of telling from the number that a program is given whether its gain will be confirmed.
TELLS: dict[str, Callable[[int], bool]] = {
    **{f"below 2**{n}": lambda seed, n=n: seed < 2**n for n in (10, 20, 28, 30)},
    **{f"divisible by {n}": lambda seed, n=n: seed % n == 0 for n in (2, 3, 5, 10, 16)},
    **{f"bit {n}": lambda seed, n=n: bool(seed >> n & 1) for n in (1, 7, 15, 23, 29)},
    "its digits' sum": lambda seed: sum(map(int, str(seed))) % 2 == 0,
    "how many bits": lambda seed: seed.bit_count() > 15,
    "its hash": lambda seed: hash((seed, 1)) % 2 == 0,
    "a digest": lambda seed: hashlib.sha256(str(seed).encode()).digest()[0] < 128,
    "what it draws": lambda seed: random.Random(seed).random() < 0.5,
    "its first digit": lambda seed: str(seed)[0] == "1",
}


@pytest.mark.parametrize("how", TELLS)
def test_no_rule_tells_the_search_s_seeds_from_those_of_a_confirmation(how: str) -> None:
    secret, count = "3c" * 32, 1000
    shares = [
        sum(TELLS[how](drawn_seed(secret, first + n)) for n in range(count)) / count for first in (1, CONFIRM_SEED)
    ]
    expected = sum(shares) / 2
    assert abs(shares[0] - shares[1]) <= 4 * math.sqrt(2 * expected * (1 - expected) / count), shares


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
