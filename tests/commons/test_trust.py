"""Trust, the queue and negotiation: pure, so tried by invariants and by the exploits that others met."""

from __future__ import annotations

import random
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.commons_examples import finding, some_hash, task

from nightlab.commons.capability import Compatibility, TrialResources, check_requirements, compare_tasks, worse_of
from nightlab.commons.fields import Requires
from nightlab.commons.queue import (
    FIRST,
    NEWCOMERS,
    ROUND,
    FindingOffer,
    draw_strangers,
    newcomers_turn,
    novelty,
    order_offers,
    word_set,
)
from nightlab.commons.record import Task
from nightlab.commons.scrub import find_private, scrub
from nightlab.commons.trust import (
    AGREE,
    EPOCH,
    HALF_LIFE,
    PeerVerdict,
    ThreatWarning,
    Trust,
    compare,
    exceeds_zero,
    priority,
    shortfall,
    threats,
    trust,
    weigh,
)

NOW = 1_000_000_000.0


def judged(
    *verdicts: str, author: str = "a", by: str = "", at: float = NOW, elsewhere: bool = False
) -> list[PeerVerdict]:
    return [
        PeerVerdict(f"{author}{by}{n}", author, verdict, at + n * 1e-3, elsewhere, by)  # type: ignore[arg-type]
        for n, verdict in enumerate(verdicts)
    ]


def in_a(*judgements: PeerVerdict) -> Trust:
    return trust(judgements, NOW)["a"]


def test_an_author_whom_the_human_named_is_believed_until_a_claim_fails() -> None:
    named = trust([], NOW, ["a"])["a"]
    assert named.proven and named.value == pytest.approx(2.5 / 3.5)
    assert not trust(judged("refuted"), NOW + EPOCH, ["a", "a"])["a"].proven, "one failed claim is enough"
    assert trust(judged("confirmed", "confirmed", "refuted"), NOW, ["a"])["a"].proven
    judgements = [*judged("confirmed"), *judged("confirmed", "confirmed", author="b", by="a")]
    assert trust(judgements, NOW)["b"].held == 0 and "b" not in trust(judgements[1:], NOW)
    assert trust(judgements[1:], NOW, ["a"])["b"].good > 1, "and its word on others' findings is heard"


def test_replications_alone_make_and_break_trust() -> None:
    assert Trust().value == 0.5 and not Trust().quarantined
    assert in_a(*judged("confirmed")).value == pytest.approx(2 / 3)
    assert in_a(*judged("refuted")).value == pytest.approx(1 / 4) and not in_a(*judged("refuted")).quarantined
    assert in_a(*judged("refuted", "refuted")).quarantined
    assert in_a(*judged("inconclusive", "inconclusive")).value == 0.5
    assert in_a(*judged("refuted", elsewhere=True)).value == pytest.approx(1 / 3)
    assert in_a(*judged(*["refuted"] * 5, elsewhere=True)).quarantined, "who never holds anywhere is left alone too"


def test_the_past_fades() -> None:
    old = judged("refuted", "refuted", at=NOW - 60 * EPOCH)
    assert in_a(*judged("refuted", "refuted")).value < in_a(*old).value < 0.5
    assert not in_a(*old).quarantined, "nobody is shut out for ever"


def test_a_lab_says_one_thing_of_a_finding_its_latest() -> None:
    first, last = PeerVerdict("x", "a", "refuted", NOW - 9), PeerVerdict("x", "a", "confirmed", NOW)
    assert in_a(last, first) == in_a(last)


def test_the_proven_are_checked_now_and_then() -> None:
    assert in_a(*judged(*["confirmed"] * 9)).check == 1
    assert in_a(*judged(*["confirmed"] * 10)).check == pytest.approx(0.1)
    assert in_a(*judged(*["confirmed"] * 40)).check == pytest.approx(0.1)
    assert in_a(*judged(*["confirmed"] * 10, "refuted")).check == 1, "one lie and all are checked again"


def test_others_weigh_at_most_half_of_what_was_measured_here() -> None:
    crowd = [one for n in range(500) for one in judged("refuted", by=f"sybil{n}")]
    assert trust(crowd, NOW) == {}, "who measured nothing themselves believe nobody about anybody"
    mine = judged("confirmed", "confirmed")
    assert in_a(*mine, *crowd) == in_a(*mine), "a crowd of whom nothing is known is not heard"
    known = [one for n in range(9) for one in judged("confirmed", author=f"v{n}")]
    said = [one for n in range(9) for one in judged("refuted", by=f"v{n}")]
    assert in_a(*mine, *known, *said).value == pytest.approx(3 / 5), "of 2 for, at most 1 against"
    assert in_a(*mine, *judged("confirmed", by="a")) == in_a(*mine), "nor does anybody vouch for themselves"
    liar = judged("refuted", "refuted", author="v")
    assert in_a(*mine, *liar, *judged("refuted", by="v")) == in_a(*mine), "nor one in quarantine"


def test_who_is_vouched_for_is_not_proven() -> None:
    """The exploit: one who earned trust vouches for a thousand new names."""
    known = [one for n in range(9) for one in judged("confirmed", author=f"v{n}")]
    said = [one for n in range(9) for one in judged("confirmed", by=f"v{n}")]
    assert 0.5 < in_a(*known, *said).value <= 2 / 3 and not in_a(*known, *said).proven
    assert in_a(*known, *judged("refuted", "refuted", by="v1")).value >= 1 / 3, "nor is anybody shut out by words"
    assert in_a(*judged("confirmed")).proven and not in_a(*judged("confirmed", "refuted")).proven


@given(st.lists(st.sampled_from(["confirmed", "refuted", "inconclusive"]), max_size=30), st.booleans())
def test_trust_is_between_nought_and_one_and_moves_the_right_way(verdicts: list[str], elsewhere: bool) -> None:
    before = trust(judged(*verdicts, elsewhere=elsewhere), NOW).get("a", Trust())
    assert 0 < before.value < 1
    for verdict in ("confirmed", "refuted"):
        more = PeerVerdict("more", "a", verdict, NOW + 1, elsewhere)  # type: ignore[arg-type]
        after = trust([*judged(*verdicts, elsewhere=elsewhere), more], NOW)["a"]
        assert (after.value > before.value) == (verdict == "confirmed")


# -- claims ------------------------------------------------------------------------------------------


def test_what_counts_as_confirmed() -> None:
    one_each = (1, 1, 1, 1)  # an error of two sigma
    assert compare(1.0, 0.95, 0.01, one_each) == "confirmed"
    assert compare(1.0, 0.0, 0.01, one_each) == "refuted"
    assert compare(1.0, 2.0, 0.01, one_each) == "confirmed", "who promised less than was found is no liar"
    assert compare(0.01, 0.005, 0.01, one_each) == "inconclusive", "small claims earn nothing"
    assert compare(0.05, 0.0, 0.01, one_each) == "inconclusive"
    assert compare(0.05, 0.0, 0.01, (9, 9, 9, 9)) == "refuted", "more trials see more"
    assert compare(1.0, 1.0, 0.0, ()) == "confirmed" and compare(1.0, 0.6, 0.0, ()) == "refuted"


def test_a_large_gain_that_is_a_little_smaller_on_another_machine_is_no_lie() -> None:
    """A budget of seconds buys fewer steps on a slower one: of a gain of a hundred sigma a tenth is ten."""
    for mine, said, good, bad in (
        (0.99, "confirmed", 1, 0),
        (0.9, "inconclusive", 1, 0),
        (0.8, "inconclusive", 1, 1),  # half of what a refuted claim costs
        (0.6, "refuted", 0, 2),
        (0.0, "refuted", 0, 4),
    ):
        at = 1.0, mine, 0.01, (1, 1, 1, 1)
        short, shown = shortfall(*at), exceeds_zero(*at[1:])
        assert compare(*at) == said
        found = weigh(PeerVerdict("x", "a", compare(*at), NOW, short=short, shown=shown), NOW)
        assert found == pytest.approx((good, bad), abs=0.05)
    assert shortfall(1e-9, -1e-9, 0.0, (1, 1, 1, 1)) == AGREE + 1, "rounding is no lie twice as bad"


def waste(rounds: int, claims: float, *, elsewhere: bool = False) -> int:
    """How many of so many verifications go to a liar who claims so many sigma, beside two who are honest."""
    judgements: list[PeerVerdict] = []
    tried: list[str] = []
    spent, draw, sigma = 0, random.Random(1), 0.003
    for n in range(rounds):
        trusted = trust(judgements, NOW)
        offers = []
        for author, claimed in (("honest", 0.02), ("honest too", 0.02), ("liar", claims * sigma)):
            known = trusted.get(author, Trust())
            if not known.quarantined:
                value = priority(claimed, 0.02 if known.proven else sigma, known.value, draw.uniform(0.5, 1))
                one = finding().model_copy(update={"author": author})
                offers.append(FindingOffer(f"{author}{n}", one, value, FITS, known.proven))
        chosen = order_offers(offers, tried, draw)[0]
        tried.append(chosen.author)
        lies = chosen.author == "liar"
        spent += lies
        said, true = (claims * sigma, 0.0) if lies else (0.02, 0.02)
        mine, one_each = true + draw.gauss(0, sigma), (1, 1, 1, 1)
        short, shown = shortfall(said, mine, sigma, one_each), exceeds_zero(mine, sigma, one_each)
        verdict = compare(said, mine, sigma, one_each)
        at = NOW + n * 1e-3
        judgements.append(PeerVerdict(chosen.id, chosen.author, verdict, at, lies and elsewhere, "", short, shown))
    return spent


FITS = Compatibility("compatible")


def test_whoever_claims_most_is_not_measured_for_ever() -> None:
    """The exploit of evidence §5: ordered by claimed gain times trust, a liar took 65 of 73 verifications."""
    assert waste(73, 1e4) == 1
    assert priority(59.0, 0.003, 0.01, 1) < priority(0.02, 0.003, 0.5, 1)


def test_a_claim_too_small_to_be_refuted_costs_trust_all_the_same() -> None:
    """The exploit: 4.5 sigma, which one trial on each side can't tell from luck, were inconclusive for ever."""
    assert compare(4.5, 0.0, 1.0, (1, 1, 1, 1)) == "inconclusive"
    assert waste(200, 4.5) <= 6


def test_claims_that_hold_nowhere_shield_nobody() -> None:
    """The exploit: on a ground that nobody knows nothing could be refuted, and each such claim cost half a doubt."""
    assert waste(200, 1e4, elsewhere=True) <= 2 and waste(200, 4.5, elsewhere=True) <= 12


def test_small_gains_that_show_again_and_again_prove_their_author() -> None:
    small = [PeerVerdict(f"x{n}", "a", "inconclusive", NOW, short=0.4, shown=0.6) for n in range(2)]
    assert in_a(*small).proven and not in_a(*small[:0], *judged("inconclusive")).proven
    missed = [PeerVerdict(f"x{n}", "a", "inconclusive", NOW, short=2.5, shown=0.3) for n in range(5)]
    assert not in_a(*missed).proven and in_a(*missed).quarantined


@given(st.lists(st.sampled_from("abcdef"), max_size=40), st.lists(st.sampled_from("abcdef"), min_size=1, max_size=12))
def test_an_author_has_one_turn_in_a_round(tried: list[str], authors: list[str]) -> None:
    offers = [
        FindingOffer(str(n), finding().model_copy(update={"author": author}), float(n), FITS, proven=True)
        for n, author in enumerate(authors)
    ]
    order = order_offers(offers, tried)
    assert order, "somebody always has the turn"
    many = len(set(authors)) >= 2
    if many and tried:
        had = [author for author in tried[-1:] if order[0].author == author]
        rounds_over = len(set(tried)) >= min(ROUND, len(set(authors)))
        assert not had or rounds_over


def test_rounds_end_when_all_had_a_turn_or_four_had() -> None:
    offers = [
        FindingOffer(author, finding().model_copy(update={"author": author}), float(n), FITS, proven=True)
        for n, author in enumerate("abcdef")
    ]

    def then(tried: str) -> str:
        return order_offers(offers, list(tried))[0].author

    assert [then(""), then("f"), then("fe"), then("fed"), then("fedc")] == list("fedcf")
    assert then("fedca") == "f" and then("edcbf") == "e", "a fifth begins a round: it is not its turn again"
    assert order_offers(offers[:2], ["b", "a"])[0].author == "b"


@cache
def crowd(names: int) -> list[FindingOffer]:
    return [FindingOffer(f"s{n}-0", finding().model_copy(update={"author": f"s{n}"}), 1.0, FITS) for n in range(names)]


@given(st.integers(0, 400), st.booleans(), st.booleans())
def test_a_crowd_of_new_names_has_its_share_and_no_more(seed: int, known: bool, named: bool) -> None:
    """The exploit: one liar with new names all the time took nearly every trial, for new names cost nothing."""
    draw, tried, turns = random.Random(seed), list[str](), 40
    proven = finding().model_copy(update={"author": "good"})
    for n in range(turns):
        there = newcomers_turn(sum(author != "good" for author in tried), float(n + 1), known=named)
        good = FindingOffer(f"good{n}", proven, 0.01, FITS, proven=True)
        if order := order_offers([*crowd(50), *([good] if known else [])], tried, draw, there):
            tried.append(order[0].author)
    others = sum(author != "good" for author in tried)
    assert others <= (0 if named else FIRST) + (NEWCOMERS if known else 0.75) * turns
    assert not known or len(tried) == turns, "and what they may not have the proven have"


def test_lots_are_drawn_by_authors_and_nothing_else() -> None:
    """The exploits: many records of one author, and ids that were chosen so as to come first."""
    flood = [FindingOffer(f"0{n}", finding().model_copy(update={"author": "flood"}), 1.0, FITS) for n in range(50)]
    draw = random.Random(1)
    first = [order_offers([*flood, *crowd(4)], [], draw)[0].author for _ in range(1000)]
    assert 140 < first.count("flood") < 260
    assert order_offers(crowd(3), [], draw, "never") == []
    low = [FindingOffer("x", finding(), 0.0, FITS)]
    assert order_offers(low, [], draw) == [], "nor is anything drawn that is worth nothing"


def test_what_is_new() -> None:
    one = finding()
    same = word_set(one.changes, one.hypothesis)
    assert novelty(one, []) == 1 and novelty(one, [same]) == pytest.approx(0.05)
    assert 0.5 < novelty(one, [word_set(["B 8 → 9"], "another thing")]) <= 1


# -- threats -----------------------------------------------------------------------------------------


def test_a_threat_counts_when_it_was_seen_here_or_by_two_who_are_trusted() -> None:
    known = {"a": Trust(3, 1, held=2), "b": Trust(3, 1, held=2), "new": Trust(), "vouched": Trust(2, 1)}

    def found(*warnings: ThreatWarning, now: float = NOW) -> set[str]:
        return threats(warnings, known, now)

    said = [ThreatWarning("x", author, NOW) for author in ("a", "b")]
    assert found(ThreatWarning("x", "", NOW, own=True)) == {"x"}
    assert found(*said) == {"x"}
    assert found(said[0]) == found(said[0], said[0]) == set(), "one author's word is nothing"
    assert found(said[0], *(ThreatWarning("x", who, NOW) for who in ("new", "nobody", "vouched"))) == set()
    assert found(*said, now=NOW + 0.9 * HALF_LIFE) == {"x"} and found(*said, now=NOW + 1.1 * HALF_LIFE) == set()
    own = ThreatWarning("x", "", NOW, own=True)
    assert found(own, now=NOW + 0.9 * HALF_LIFE) == {"x"} and found(own, now=NOW + 1.1 * HALF_LIFE) == set()


# -- negotiation -------------------------------------------------------------------------------------


def needs(**changed: object) -> Requires:
    facts = {"devices": ["cpu"], "memory_mb": 100, "gpu_memory_mb": 0, "dtypes": [], "libraries": {}, **changed}
    return Requires.model_validate(facts)


HERE = TrialResources("cpu", 1000.0, None, {"numpy": "2.1.0", "odd": ""})


@pytest.mark.parametrize(
    ("requires", "level", "reason"),
    [
        (needs(), "compatible", ""),
        (needs(libraries={"numpy": "2.4.1", "odd": "1"}), "compatible", ""),
        (needs(devices=["cuda"]), "partly", "it ran on cuda, not on cpu"),
        (needs(libraries={"numpy": "1.26"}), "partly", "it ran with numpy 1.26, installed is 2.1.0"),
        (needs(libraries={"jax": ""}), "not", "it imports jax, which is not installed here"),
        (needs(memory_mb=5000), "not", "it needed 5,000 MB of memory, available are 1,000 MB"),
        (needs(gpu_memory_mb=5000), "compatible", ""),
        (needs(dtypes=["float8_e4m3fn"]), "not", "it uses float8_e4m3fn, which cpu does not support"),
        (needs(dtypes=["posit16"]), "partly", "it uses posit16, which is unknown here"),
        (needs(dtypes=["bfloat16"]), "compatible", ""),
    ],
)
def test_capabilities_are_negotiated_with_reasons(requires: Requires, level: str, reason: str) -> None:
    fit = check_requirements(requires, HERE)
    assert (fit.level, "; ".join(fit.reasons)) == (level, reason)


def test_a_task_matches_exactly_or_as_declared() -> None:
    mine = Task.model_validate(task())
    longer = task(budget={"clock": "wall", "amount": 60.0})
    assert compare_tasks(finding(), mine).level == "compatible"
    assert compare_tasks(finding(task=longer), mine) == Compatibility("not", ("its budget differs",))
    assert compare_tasks(finding(task=longer, portable=["budget"]), mine) == Compatibility(
        "partly", ("its budget differs, as declared",)
    )
    other = finding(task=task(frozen_sha256=some_hash("others")), portable=["budget", "data"])
    assert compare_tasks(other, mine).level == "not", "another evaluator makes other numbers, whatever is declared"
    assert worse_of(Compatibility("partly", ("a",)), Compatibility("not", ("b",))) == Compatibility("not", ("a", "b"))
    assert worse_of(Compatibility("partly", ("a",)), Compatibility("compatible")).level == "partly"


# -- what must not be shared -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_" + "a" * 36,
        "hf_" + "b" * 34,
        "sk-ant-" + "c" * 30,
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        'API_KEY = "abcdefghijklmnop"',
        "https://me:hunter2@example.org/x",
        "DATA = '/home/somebody/data'",
        "DATA = '/Users/somebody/data'",
        "cache in /root/.cache",
    ],
)
def test_secrets_and_homes_are_found_and_taken_out_of_words(text: str) -> None:
    assert find_private(f"+fine\n+{text}\n")[0].startswith("line 2 ")
    assert find_private(scrub(text)) == []


@pytest.mark.parametrize("before", ["", "-", "--", "token-", "eyJ-", "a=", "Bearer "])
def test_a_web_token_is_found_with_a_header_of_any_length(before: str) -> None:
    for length in (12, 600, 20_000):
        token = f"{before}eyJ{'a' * length}.eyJ{'b' * 40}.c"
        assert find_private(token) == ["line 1 holds a JSON web token"] and find_private(scrub(token)) == []


def test_ordinary_words_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("MATRIX_LR = 0.04  # rooted", "a/b/c and 4e-3", "token = tokens[0]", "https://example.org/home/"):
        assert find_private(text) == [] and scrub(text) == text
    monkeypatch.setattr("platform.node", lambda: "deep-thought")
    assert scrub("on deep-thought it is faster") == "on [this machine] it is faster" and find_private("deep-thought")


# -- strangers, by seniority -------------------------------------------------------------------------


@pytest.mark.parametrize(("crowd", "least"), [(30, 0.4), (3000, 0.1), (300_000, 0.05)])
def test_a_crowd_of_new_names_cannot_crowd_out_those_who_came_before(crowd: int, least: float) -> None:
    names = [f"honest {n}" for n in range(30)] + [f"sybil {n}" for n in range(crowd)]
    drawn = [name for n in range(20) for name in draw_strangers(names, 30, (), 20, random.Random(n))]
    assert sum(name.startswith("honest") for name in drawn) / len(drawn) >= least
    assert len(drawn) <= 20 * 20


@given(st.integers(0, 200), st.integers(0, 200), st.sets(st.integers(0, 200)), st.integers(1, 30))
def test_strangers_are_drawn_once_each_and_all_can_be(count: int, first: int, met: set[int], most: int) -> None:
    names, known = [f"{n}" for n in range(count)], {f"{n}" for n in met}
    drawn = [draw_strangers(names, first, known, most, random.Random(n)) for n in range(60)]
    assert all(len(each) == len(set(each)) and not known & set(each) for each in drawn)
    assert all(len(each) <= most for each in drawn)
    if count <= 10 <= most:
        assert {name for each in drawn for name in each} == set(names) - known
