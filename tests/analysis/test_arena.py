"""The arena: who ranks where and why, and an audit to which no false score passes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from support.commons_users import BETTER, MORE, User
from support.labs import TinyLab

from nightlab.analysis.fitness import DAY, SEASON, GeneResult, fitness, medians
from nightlab.analysis.ranking import Contender, Standings, audit_ranking, parse_fitness, standings, text
from nightlab.analysis.tournament import collect_entries, contestants, measured_otherwise, run_tournament
from nightlab.commons.trust import Trust
from nightlab.core.observer import Observer
from nightlab.core.types import NightlabError
from nightlab.loop.scheduler import Scheduler

NOW = 1.8e9
GOOD = GeneResult(runs=3, gains=(0.9, 1.0, 1.1), settings=2, gained=2, latency=1.0, cost=10.0)


def entrant(name: str = "a", evaluated: GeneResult = GOOD, **more: Any) -> Contender:
    facts = {"domain": "d", "task": "t", "genome": name, "metric": "loss", "values": (1.0,), "cost_unit": "fuel"}
    facts |= {"passed": len(evaluated.gains), "tests": evaluated.runs, "measured_at": NOW}
    return Contender(name=name, evaluated=evaluated, **{**facts, **more})


@some.composite
def crowds(draw: some.DrawFn) -> list[Contender]:
    found = []
    for n in range(draw(some.integers(0, 6))):
        gains = tuple(draw(some.lists(some.floats(-1e100, 1e100), max_size=4)))
        settings = draw(some.integers(0, 5))
        evaluated = GeneResult(
            runs=len(gains) + draw(some.integers(0, 2)),
            gains=gains,
            settings=settings,
            gained=draw(some.integers(0, settings)),
            latency=draw(some.floats(0, 1e100)),
            cost=draw(some.floats(0, 1e100)),
        )
        more = {"domain": draw(some.sampled_from("de")), "task": draw(some.sampled_from("tu"))}
        more |= {"usage": draw(some.integers(0, 9)), "measured_at": draw(some.floats(0, 1e11))}
        more |= {
            "found": draw(some.dictionaries(some.sampled_from(["critical", "high", "medium"]), some.integers(0, 9)))
        }
        found.append(entrant(f"g{n}", evaluated, author_since=draw(some.none() | some.floats(0, 1e11)), **more))
    return found


@given(crowds(), some.floats(0, 1e11))
def test_what_was_published_can_be_recomputed(crowd: list[Contender], at: float) -> None:
    made = standings(crowd, at)
    again = parse_fitness(text(made).encode(), "a file")
    assert audit_ranking(made) == audit_ranking(again) == []
    for domain in {place.domain for place in made.places}:
        places = [place for place in made.places if place.domain == domain]
        assert [place.rank for place in places] == list(range(1, len(places) + 1))
        admitted = [place for place in places if not place.refusals]
        assert places[: len(admitted)] == admitted
        assert [p.score for p in admitted] == sorted((p.score for p in admitted), reverse=True)


def tampered(change: Callable[[Any], None]) -> Standings:
    slow = entrant("slow", replace(GOOD, latency=9.0, gains=(-1.0, 1.0), gained=1))
    document = json.loads(text(standings([entrant("good"), slow], NOW)))
    change(document)
    return parse_fitness(json.dumps(document).encode(), "a file")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda d: d["places"][0].update(score=1.3), "unreproducible"),
        (lambda d: d["places"][1].update(rank=1), "unreproducible"),
        (lambda d: d["places"][0].update(diversity=0.9999999), "unreproducible"),
        (lambda d: d["places"][1]["fitness"].update(robustness=1.0), "unreproducible"),
        (lambda d: d["places"][0]["fitness"].update(estimated=["robustness"]), "unreproducible"),
        (lambda d: d["entrants"][0]["evaluated"].update(latency=0.5), "unreproducible"),
        (lambda d: d.update(at=NOW + SEASON), "unreproducible"),
        (lambda d: d["places"][1].update(refusals=[]), "reason mismatch"),
        (lambda d: d["places"].pop(), "missing"),
        (lambda d: d["entrants"].pop(), "missing"),
        (lambda d: d["places"].append(d["places"][0]), "missing"),
        (lambda d: d["entrants"].append(d["entrants"][0]), "unreproducible"),
    ],
)
def test_an_audit_finds_what_does_not_follow(change: Callable[[Any], None], kind: str) -> None:
    assert tampered(lambda d: None).places[1].refusals
    assert audit_ranking(tampered(lambda d: None)) == []
    assert kind in {drift.kind for drift in audit_ranking(tampered(change))}


@given(
    some.binary(max_size=200)
    | some.recursive(some.none() | some.floats() | some.text(), some.lists).map(
        lambda value: json.dumps({"v": 1, "at": value, "entrants": value, "places": []}).encode()
    )
)
def test_what_is_no_standings_is_refused(raw: bytes) -> None:
    try:
        found = parse_fitness(raw, "a file")
    except NightlabError as error:
        assert str(error).startswith("a file ") and error.hint
    else:
        assert audit_ranking(found) == []


@pytest.mark.parametrize(
    "raw",
    [b"[" * 100_000, b" " * (4 * 2**20 + 1), text(standings([entrant()], NOW)).replace(": 10.0", ": -1").encode()],
)
def test_monsters_are_refused(raw: bytes) -> None:
    with pytest.raises(NightlabError, match="a file"):
        parse_fitness(raw, "a file")


def test_only_those_measured_alike_share_their_medians() -> None:
    slow = [entrant(f"s{n}", replace(GOOD, latency=100.0 + n), task="slow machine") for n in range(3)]
    fast = [entrant(f"f{n}", replace(GOOD, latency=1.0 + n)) for n in range(3)]
    places = {place.name: place for place in standings([*slow, *fast], NOW).places}
    assert places["s1"].fitness.latency == places["f1"].fitness.latency == 0.5
    assert places["f0"].value == fitness(GOOD, medians([e.evaluated for e in fast])).value


def test_the_score_counts_season_diversity_and_newcomers() -> None:
    crowd = [
        entrant("now"),
        entrant("old", measured_at=NOW - SEASON),
        entrant("popular", usage=4),
        entrant("new", author_since=NOW - DAY),
        entrant("caught", found={"high": 1}),
    ]
    made = standings(crowd, NOW)
    scores = {place.name: place.score for place in made.places}
    assert scores["old"] == scores["now"] / 2 and scores["new"] == scores["now"] * 1.5
    assert scores["popular"] == pytest.approx(scores["now"] * 0.1)
    assert made.places[0].name == "new" and made.places[-1].refusals == ("V 0.67 is below 0.7",)


def test_two_of_one_name_are_told() -> None:
    with pytest.raises(ValueError, match="two genes are called a"):
        standings([entrant("a"), entrant("a")], NOW)


# -- over real sessions -------------------------------------------------------------------------------------

GENOME = "A = 4\n"
MEASURE = """\
import os, sys
from genome import A
seed = int(os.environ["NIGHTLAB_SEED"])
if A == 2 and seed > 4000:
    sys.exit("it breaks")
print(f"METRIC fuel_per_item={10 * A}")
print(f"METRIC loss={A + seed / 1e6:.6f}")
"""


def a_night(make_lab: Callable[..., TinyLab], name: str, *ideas: str) -> TinyLab:
    lab = make_lab(GENOME, MEASURE, name=name)
    for number, idea in enumerate(ideas):
        lab.idea(f"{number}", idea, f"idea {idea.strip()}")
    _, session = lab.run(experiments=len(ideas))
    session.close()
    return lab


@pytest.mark.machine
def test_genes_of_two_labs_meet(make_lab: Callable[..., TinyLab]) -> None:
    one = a_night(make_lab, "one", "A = 3\n", "A = 2\n", "A = 9\n")
    two = a_night(make_lab, "two", "A = 3\n", "A = 1\n")
    sessions = [lab.session() for lab in (one, two)]
    for session in sessions:
        run_tournament(Scheduler(session, Observer()), contestants(session, 3), 2)
    found = {e.name: e for e in collect_entries(sessions, 3)}
    assert set(found) == {"one/t #1", "one/t #2", "one/t #3", "two/t #1", "two/t #2"}
    assert found["one/t #1"].evaluated.gains == pytest.approx((1.0, 1.0))
    assert found["one/t #1"].evaluated.cost == 30 and found["one/t #1"].cost_unit == "fuel_per_item"
    broken, worse = found["one/t #2"], found["one/t #3"]
    assert (broken.evaluated.runs, broken.evaluated.gains, broken.passed) == (2, (), 0)
    assert (worse.evaluated.settings, worse.evaluated.gained) == (1, 0)
    made = standings(list(found.values()), NOW)
    places = {place.name: place for place in made.places}
    assert places["two/t #2"].fitness.cost > places["one/t #1"].fitness.cost and places["one/t #2"].refusals
    assert measured_otherwise(made, sessions) == []
    forged = made.model_copy(update={"entrants": (found["one/t #1"].model_copy(update={"values": (0.5,)}),)})
    assert [drift.detail for drift in measured_otherwise(forged, sessions)] == ["the ledger says otherwise of: values"]
    run_tournament(Scheduler(sessions[1], Observer()), contestants(sessions[1], 1), 3)
    later = {e.name: e.evaluated for e in collect_entries(sessions[1:], 3)}
    assert [later[f"two/t #{number}"].runs for number in (1, 2)] == [2, 3], "who ran on fewer seeds has not failed"
    assert all(len(evaluated.gains) == evaluated.runs for evaluated in later.values())
    trials = len(sessions[0].ledger.trials())
    run_tournament(Scheduler(sessions[0], Observer()), contestants(sessions[0], 1), 2)  # it is known
    assert len(sessions[0].ledger.trials()) == trials
    for session in sessions:
        session.close()


def test_the_same_program_in_another_lab_is_another_setting(make_lab: Callable[..., TinyLab]) -> None:
    one = a_night(make_lab, "one", "A = 3\n")
    two = make_lab("A = 4  # another baseline\n", MEASURE, name="two", files={"more.txt": "another task"})
    two.idea("0", "A = 3\n")
    _, session = two.run(experiments=1)
    session.close()
    sessions = [lab.session() for lab in (one, two)]
    for session in sessions:
        run_tournament(Scheduler(session, Observer()), contestants(session, 1), 2)
    assert [(e.evaluated.settings, e.evaluated.gained) for e in collect_entries(sessions, 1)] == [(2, 2), (2, 2)]
    for session in sessions:
        session.close()


def test_the_commands(make_lab: Callable[..., TinyLab], nightlab: Callable[..., Any]) -> None:
    lab = a_night(make_lab, "one", "A = 3\n", "A = 1\n")
    none = nightlab("arena", "--look", cwd=lab)
    assert none.code == 1 and "no gene has taken part" in none.err and "hint: measure them" in none.err
    shown = nightlab("arena", "--seeds", "2", "--out", "arena.json", cwd=lab)
    assert shown.code == 0 and "one/t #2" in shown.out and "fuel_per_item" in shown.out
    published = json.loads((lab.folder / "arena.json").read_text())
    assert [place["name"] for place in published["places"]] == ["one/t #2", "one/t #1"]
    assert nightlab("arena", "--look", "--json", cwd=lab).json["entrants"] == published["entrants"]
    good = nightlab("arena", "audit", "arena.json", "-C", ".", cwd=lab)
    assert good.code == 0 and "2 scores follow from what was measured, and what they follow from" in good.out
    published["places"][1]["score"] = 1.0
    published["entrants"][0]["title"] = "mine"
    (lab.folder / "arena.json").write_text(json.dumps(published))
    bad = nightlab("arena", "audit", "arena.json", "-C", ".", cwd=lab)
    assert bad.code == 3 and "unreproducible  one/t #1: score is" in bad.out and "otherwise of: title" in bad.out
    published["places"][1]["name"] = "[red]\x1b[31mmine"
    (lab.folder / "arena.json").write_text(json.dumps(published))
    assert "[red]mine: it has a place" in nightlab("arena", "audit", "arena.json", cwd=lab).out
    (lab.folder / "arena.json").write_text("{}")
    assert "holds no standings" in nightlab("arena", "audit", "arena.json", cwd=lab).err


def test_the_commons_says_whose_a_gene_is(make_lab: Callable[..., TinyLab], tmp_path: Path, monkeypatch: Any) -> None:
    """One finds, two adopts; one, who has found two honest before, counts that."""
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "--template=", remote], check=True)
    more = MORE.format(remote=remote)
    one, two = (User(n, make_lab(more=more, name=n), tmp_path / f"at-{n}", monkeypatch) for n in ("one", "two"))
    at_one = one.run(BETTER, experiments=1)
    one.share(at_one)
    one.sync()
    two.here()
    two.sync()
    at_two = two.run(experiments=1)
    two.sync()
    one.here()
    one.sync()

    def known(user: User, session: Any) -> tuple[str, int]:
        user.here()
        run_tournament(Scheduler(session, Observer()), contestants(session, 1), 2)
        (found,) = collect_entries([session], 1, user.commons)
        assert found.author_since is not None
        return found.author, found.usage

    assert known(two, at_two) == (one.author, 0), "it adopted it itself, and is no stranger to itself"
    assert known(one, at_one) == (one.author, 0), "nobody knows two"
    monkeypatch.setattr(
        "nightlab.commons.peer_store.trust", lambda *_, two=two.author: {two: Trust(9.0, 1.0, held=8.0)}
    )
    assert known(one, at_one) == (one.author, 1)
