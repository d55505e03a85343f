"""The abtest lab: counts of visitors whom no seed foretells, and a page that is data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.shipped import by_hand, lab_module, trials_of

from nightlab.proposers import find_constants
from nightlab.session.create import SHIPPED

PAGE = (SHIPPED / "abtest" / "page.py").read_text()


@pytest.fixture(scope="module")
def visitors() -> Any:
    return lab_module("abtest", "visitors")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("FIELDS = 7", "FIELDS = print('METRIC signups=2000/2000') or 7", "a text and constants"),
        ("FIELDS = 7", "import os\nFIELDS = 7", "a text and constants"),
        ("FIELDS = 7", "FIELDS = 0", "FIELDS can't be '0': 2, 3"),
        ("FIELDS = 7", "FIELDS = 7.0", "FIELDS can't be"),
        ("FIELDS = 7", "FIELDS = True", "FIELDS can't be"),
        ('"blue"', '"\\nMETRIC signups=2000/2000"', "BUTTON can't be"),
        ("QUOTES = 0", "FIELDS = 2", "each once"),
        ("QUOTES = 0", "QUOTES = 0\nMORE = 1", "each once"),
        ("QUOTES = 0", "QUOTES = (" + "(" * 5000, "a text and constants"),
    ],
)
def test_what_is_no_page_is_named(visitors: Any, old: str, new: str, says: str) -> None:
    with pytest.raises(visitors.NoPage, match=says) as raised:
        visitors.read(PAGE.replace(old, new))
    assert not str(raised.value).startswith("METRIC") and "\n" not in str(raised.value)


def test_every_choice_of_the_page_is_offered_to_the_tuner(visitors: Any) -> None:
    found = find_constants(PAGE, "cpu")
    assert found.keys() == visitors.CHOICES.keys()
    for name, constant in found.items():
        some = visitors.CHOICES[name]
        offered = f"{min(some)}..{max(some)}" if isinstance(some, range) else "|".join(some)
        assert constant.hint == offered


def test_the_seed_of_a_trial_brings_no_visitors_back(visitors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTLAB_SEED", "1")
    visitors.random.seed(1)
    assert len({visitors.shown(visitors.read(PAGE)) for _ in range(8)}) > 1


def test_a_colour_is_no_matter_and_fields_are(visitors: Any) -> None:
    page = visitors.read(PAGE)
    assert visitors.chance({**page, "BUTTON": "green"}) == visitors.chance(page)
    assert visitors.chance({**page, "FIELDS": 3}) > 1.2 * visitors.chance(page)


@pytest.mark.integration
def test_a_trial_counts_and_a_page_that_speaks_for_the_visitors_is_none(tmp_path: Path) -> None:
    run = trials_of("abtest", tmp_path)
    fewer, cheat = run("02-fewer-fields"), run("05-a-button-that-counts")
    assert fewer.outcome == "measured", fewer.detail
    assert fewer.successes and fewer.out_of == 2_000
    assert (cheat.outcome, cheat.metric) == ("crashed", None) and "no page" in cheat.detail
    assert by_hand("abtest", "visitors.py", tmp_path).endswith("/2000\n")
