"""Other labs' measurements as evidence: how far they move the odds, and what a crowd, a liar and a parrot can do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightlab.commons.second_hand import SURE, bayes_factor, evidence, probability, said_of, visible
from nightlab.commons.trust import EPOCH, PeerVerdict, Trust, Verdict, trust

NOW = 1_000_000_000.0
PROVEN = Trust(4.0, 1.0, held=3.0)


def says(
    by: str, verdict: Verdict = "confirmed", shown: float = 4.0, target: str = "x", at: float = NOW
) -> PeerVerdict:
    return PeerVerdict(target, "a", verdict, at, by=by, shown=shown)


def measured(verdict: Verdict, target: str = "x", author: str = "a") -> PeerVerdict:
    return PeerVerdict(target, author, verdict, NOW)


def earned(lab: str, claims: int = 1) -> list[PeerVerdict]:
    """Own measurements that made a lab proven."""
    return [measured("confirmed", f"{lab} {n}", lab) for n in range(claims)]


def test_a_gain_within_its_noise_is_no_evidence_for_one() -> None:
    assert bayes_factor(0.5) < 1 < bayes_factor(2) < bayes_factor(4)
    assert visible(0.0) < 0.5 < visible(3.0) < 1


@given(st.floats(-10, 10), st.floats(0.01, 0.99), st.sampled_from(["confirmed", "refuted", "inconclusive"]))
def test_no_lab_moves_the_odds_by_more_than_its_record_allows(shown: float, word: float, verdict: Verdict) -> None:
    factor = evidence(says("v", verdict, shown), word)
    assert 1 - word - 1e-9 <= factor <= 1 / (1 - word) + 1e-9
    assert evidence(says("v", "refuted", shown), word) <= factor, "a refutation is the strongest evidence against"


def test_many_trusted_labs_make_a_strangers_find_probable_and_a_crowd_does_not() -> None:
    trusted = {f"v{n}": PROVEN for n in range(3)}
    odds = [probability(0.5, [says(f"v{n}") for n in range(count)], trusted) for count in range(4)]
    assert odds == sorted(odds) and odds[0] == 0.5 and 0.7 < odds[1] < odds[3] <= SURE
    crowd = [says(f"sybil{n}") for n in range(1000)]
    assert probability(0.5, crowd, trusted) == 0.5, "labs that have shown nothing here have no weight"
    assert probability(0.5, [says("a")], {"a": PROVEN}) == 0.5, "and no author a word on its own finding"
    assert probability(0.5, [says("v0"), says("v1", "refuted")], trusted) == pytest.approx(0.5, abs=0.05)


@given(st.floats(0.02, 0.98), st.lists(st.tuples(st.integers(0, 5), st.floats(-6, 6)), max_size=12))
def test_it_is_a_probability_and_more_evidence_for_makes_it_no_smaller(
    prior: float, said: list[tuple[int, float]]
) -> None:
    trusted = {f"v{n}": PROVEN for n in range(7)}
    statements = [says(f"v{n}", shown=shown) for n, shown in said]
    before = probability(prior, statements, trusted)
    assert 0 < before < 1
    assert probability(prior, [*statements, says("v6", shown=5.0)], trusted) >= before
    assert probability(prior, [*statements, says("v6", "refuted")], trusted) <= before


def test_the_latest_word_of_a_lab_counts_once() -> None:
    first, last = says("v", at=NOW), says("v", "refuted", at=NOW + 1)
    assert said_of([last, first, says("w")]) == {"x": [last, says("w")]}


# -- the stake: a lab's word is weighed by what it said of what was measured here --------------------------


def test_who_praised_what_failed_here_pays_for_it() -> None:
    before = trust(earned("v"), NOW)["v"]
    after = trust([*earned("v"), measured("refuted"), says("v")], NOW)["v"]
    assert before.proven and not after.proven, "one lie vouched for takes what one confirmed finding earned"
    slander = trust([*earned("v"), measured("confirmed"), says("v", "refuted")], NOW)["v"]
    assert slander.value < before.value


def test_agreement_earns_at_most_what_own_findings_did() -> None:
    known = [each for n in range(20) for each in (measured("confirmed", f"x{n}"), says("v", target=f"x{n}"))]
    assert "v" not in trust(known, NOW), "repeating what is known earns nothing"
    praised = trust([*earned("v"), *known], NOW)["v"]
    assert praised.good == pytest.approx(3.0) and praised.held == pytest.approx(1.0)
    assert trust([*earned("v"), measured("inconclusive"), says("v")], NOW)["v"].good == pytest.approx(2.0)


def test_names_that_praise_each_other_earn_nothing() -> None:
    ring = [
        PeerVerdict(f"lie of {one}", one, "confirmed", NOW, by=other, shown=6.0)
        for one in ("p", "q", "r")
        for other in ("p", "q", "r")
    ]
    assert trust(ring, NOW) == {}
    assert probability(0.5, ring, trust(ring, NOW)) == 0.5


def test_a_sleeper_spends_its_record_on_few_lies() -> None:
    """After long honesty a lab vouches for one lie after another, until it is not heard any more."""
    history, lies = earned("v", claims=20), 0
    while trust(history, NOW)["v"].proven and lies < 50:
        history += [measured("refuted", f"lie {lies}"), says("v", target=f"lie {lies}")]
        lies += 1
    assert lies <= 11, "every two true findings buy one lie"
    old = [PeerVerdict(each.target, each.author, each.verdict, NOW - 365 * EPOCH) for each in earned("v", 20)]
    assert not trust(old, NOW)["v"].proven, "a year ago is no stake"
