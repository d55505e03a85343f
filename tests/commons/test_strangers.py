"""What strangers' claims are worth is learned from all of them together, by size: names cost nothing."""

from __future__ import annotations

import math
import random

import pytest
from support.commons_examples import finding

from nightlab.commons.capability import Compatibility
from nightlab.commons.queue import FindingOffer, order_offers
from nightlab.commons.strangers import LARGEST, draw_ranks, records, size_of
from nightlab.commons.trust import PeerVerdict, Trust

NOW = 1_000_000_000.0
FITS = Compatibility("compatible")


@pytest.mark.parametrize(
    ("claimed", "sigma", "size"),
    [(0.0, 1.0, 0), (-5.0, 1.0, 0), (0.99, 1.0, 0), (2.5, 1.0, 2), (1e308, 1e-300, LARGEST), (1.0, 0.0, LARGEST),
     (0.0, 0.0, 0), (-1.0, 0.0, 0), (math.nan, 1.0, 0)],
)  # fmt: skip
def test_a_claim_has_a_size(claimed: float, sigma: float, size: int) -> None:
    assert size_of(claimed, sigma) == size


def test_a_crowd_of_names_that_lie_alike_is_tried_a_few_times() -> None:
    """The exploit: one liar with new names all the time took nearly every trial, for new names cost nothing."""
    draw, known, lies = random.Random(1), list[tuple[int, PeerVerdict]](), 0
    names = [(f"liar {n}", 4) for n in range(100)] + [(f"honest {n}", 2) for n in range(3)]
    offers = [FindingOffer(name, finding().model_copy(update={"author": name}), 1.0, FITS, size=s) for name, s in names]
    for turn in range(40):
        chosen = order_offers(offers, [], draw, "first", draw_ranks(records(known, NOW), draw))[0]
        lie = chosen.author.startswith("liar")
        verdict = PeerVerdict(chosen.id, f"{chosen.author} {turn}", "refuted" if lie else "confirmed", NOW)
        known.append((chosen.size, verdict))
        lies += lie
    assert lies <= 8, "39 of 40, if lots were drawn among names"


def test_where_nobody_failed_larger_claims_go_first() -> None:
    draw = random.Random(1)
    ranks = [draw_ranks({}, draw) for _ in range(300)]
    firsts = [each.index(max(each)) for each in ranks]
    assert firsts.count(0) < firsts.count(2) < firsts.count(4)
    worn = {size: Trust(1, 40) for size in range(3, LARGEST + 1)}
    firsts = [each.index(max(each)) for each in (draw_ranks(worn, draw) for _ in range(300))]
    assert sum(size < 3 for size in firsts) > 290
