"""What others found, in real sessions: measured in one's own box, adopted on one's own verdict, answered for."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.commons_examples import AT, some_hash
from support.commons_users import BETTER, MORE, User
from support.labs import GENOME, TinyLab

from nightlab.commons.benefit import benefit_of
from nightlab.commons.combination import Combiner
from nightlab.commons.finding import FindingSource, target_of
from nightlab.commons.instants import parse_instant
from nightlab.commons.peer_store import PeerStore
from nightlab.commons.places import author_key, key_file
from nightlab.commons.proposer import allowed
from nightlab.commons.provenance import STEPS, ProvenanceIndex, ProvenancePath
from nightlab.commons.record import Finding, Threat, Verification, genome_id
from nightlab.commons.steps import StepEffects
from nightlab.commons.sync import findings_to_share, own_records
from nightlab.commons.trust import Trust
from nightlab.core.events import ContractChanged, FindingVerified
from nightlab.core.types import Candidate, NightlabError

NOW = parse_instant(AT)


@pytest.fixture
def user(tmp_path: Path, make_lab: Callable[..., TinyLab], monkeypatch: pytest.MonkeyPatch) -> Callable[..., User]:
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "--template=", remote], check=True)

    def make(name: str, **more: Any) -> User:
        lab = make_lab(name=name, more=MORE.format(remote=remote), **more)
        return User(name, lab, tmp_path / f"home-{name}", monkeypatch)

    return make


def verified(session: Any) -> list[tuple[str, bool, bool]]:
    return [(note.verdict, note.elsewhere, note.adopted) for note in session.ledger.events(FindingVerified)]


def by(session: Any) -> list[tuple[str, str]]:
    """Who proposed what was judged how."""
    return [(e.candidate.proposer, e.verdict.reason) for e in session.ledger.experiments() if e.verdict and e.number]


# -- one finds, another adopts -----------------------------------------------------------------------


def test_what_one_finds_another_measures_adopts_and_confirms(user: Callable[..., User]) -> None:
    one, two = user("one"), user("two")
    session = one.run(BETTER)
    (shared,) = one.share(session)
    assert one.share(session) == [], "it is shared once"
    assert one.sync().pushed
    assert two.sync().taken.records == 1
    session = two.run()
    experiment = session.ledger.experiment(1)
    assert (experiment.candidate.proposer, experiment.candidate.source) == ("transplant", shared)
    assert experiment.kept and experiment.measurement.metric == 3.5
    assert verified(session) == [("confirmed", False, True)]
    assert len(two.sync().sent) == 1 and two.sync().sent == [], "it is said once"
    known = PeerStore(session, two.commons).trust[one.author]
    assert known.value == pytest.approx(2 / 3), "and what one says oneself counts once"
    one.sync()
    (said,) = [e.signed.record for e in one.commons.entries()[two.author]]
    assert isinstance(said, Verification) and (said.target, said.verdict, said.adopted) == (shared, "confirmed", True)
    assert [run.value for run in said.runs] == [3.5] and [run.value for run in said.against] == [11.5]
    assert two.share(session) == [], "what came from others is not shared as one's own"
    (again,) = two.share(session, 1)
    record = PeerStore(session, two.commons).entries[again].signed.record
    assert isinstance(record, Finding) and record.inspired_by == [shared]


def test_what_probably_holds_is_measured_ahead_of_the_share_and_what_strangers_say_is_not(
    user: Callable[..., User],
) -> None:
    one, two, stranger = user("one"), user("two"), user("stranger")
    first = one.run(BETTER)
    one.share(first)
    first.close()
    one.sync()
    two.sync()
    two.run().close()  # its one experiment is of what another found: more than its share
    one.share(one.run(BETTER.replace("B = 8", "B = 4")))  # from 3.5 to 1.1
    one.sync()
    stranger.claim(stranger.run(), GENOME.replace("B = 8", "B = 7"), 1.0)
    stranger.sync()
    two.sync()
    session = two.run(*(BETTER.replace("B = 8", f"B = {b}") for b in (9, 10)))
    made = {entry.id: author for author, chain in two.commons.entries().items() for entry in chain}
    came = [made.get(target_of(e.candidate.source), "") for e in session.ledger.experiments()[2:5]]
    assert came == [one.author, "", ""]
    assert session.champion().candidate.proposer == "transplant"


def test_not_all_turns_ahead_are_used_up_at_the_start() -> None:
    assert [allowed(turns) for turns in (1.0, 2.5, 4.0, 30.0)] == [2.0, 5.0, 8.0, 34.0]


FAR = "A = 4\n\n\n\n\n\nB = 8\n\n\n\n\n\nC = 9\n"  # so that changes don't touch each other
SUM = {"genome": FAR, "measure": "from genome import A, B, C\nprint(f'METRIC loss={A + B + C}')\n"}


def far(**values: int) -> str:
    text = FAR
    for name, value in values.items():
        text = re.sub(rf"{name} = \d", f"{name} = {value}", text)
    return text


def test_all_the_steps_to_a_genome_are_one_trial(user: Callable[..., User]) -> None:
    one, two, three = (user(name, **SUM) for name in ("one", "two", "three"))
    session = one.run(far(A=1), far(B=1))  # from 21 to 18 to 11, or over 14
    one.share(session)
    one.sync()
    two.sync()
    two.run().close()
    session = two.run(far(C=1))
    first = session.ledger.experiment(1)
    assert first.candidate.proposer == "transplant" and first.measurement.metric == 11, "both steps at once"
    note = session.ledger.events(FindingVerified)[0]
    assert (note.verdict, note.elsewhere, note.gain) == ("confirmed", False, 10)
    paths = ProvenanceIndex(session, PeerStore(session, two.commons))
    paths.refresh()
    steps = {entry.signed.record.genome for entry in two.commons.entries()[one.author]}
    assert len(steps) == 2 and steps <= paths.in_champion.keys(), "what stands on the first claims only what follows"
    assert session.champion().measurement.metric == 3
    came = benefit_of(session)
    assert (came["gain"], came["own_gain"], came["saved"]) == (10, 8, pytest.approx(10 / 8 - 1)), "a trial for each"
    assert len(findings_to_share(session, two.commons, [], failed=False, portable=())) == 1, (
        "what it stands on is known"
    )
    two.share(session)
    two.sync()
    three.sync()
    session = three.run(*[far(A=a) for a in range(5, 10)])  # so that there is room for a second one
    assert session.champion().measurement.metric == 3, "three steps, of two authors"


def test_of_what_is_partly_here_the_rest_is_expected(user: Callable[..., User]) -> None:
    one, two = (user(name, **SUM) for name in ("one", "two"))
    session = one.run(far(A=1, B=1))  # from 21 to 11
    one.share(session)
    one.sync()
    two.run(far(A=1)).close()  # to 18: half of what the other one found
    two.sync()
    session = two.run()
    (note,) = session.ledger.events(FindingVerified)
    assert (note.claimed, note.gain, note.verdict) == (5, 7, "confirmed"), "2 of 4 lines"


def test_what_a_shared_finding_stands_on_goes_with_it(user: Callable[..., User]) -> None:
    one, two = user("one", **SUM), user("two", **SUM)
    session = one.run(far(B=1))
    one.share(session)
    one.sync()
    two.run(far(A=1)).close()
    two.sync()
    two.run().close()
    session = two.run(far(C=1))
    assert [proposer for proposer, _ in by(session)] == ["patches", "transplant", "patches"]
    found = findings_to_share(session, two.commons, [], failed=False, portable=())
    assert [number for number, _ in found] == [1, 2, 3], "the genome that came of both is nobody's finding"
    assert found[1][1][0]["inspired_by"] and found[2][1][0]["parent"] == found[1][1][0]["genome"]
    assert [number for number, _ in findings_to_share(session, two.commons, [3], failed=False, portable=())] == [3]


def test_a_way_that_is_not_what_its_records_say_is_not_gone(user: Callable[..., User]) -> None:
    """Whoever names another genome as the one that a patch makes keeps nobody from what stands on it."""
    one, liar, two = (user(name, **SUM) for name in ("one", "liar", "two"))
    session = one.run(far(A=1), far(B=1))
    one.share(session)
    middle = genome_id(session.genome(session.ledger.experiment(1).candidate.commit))
    liar.claim(liar.run(), far(A=9), 1.0, genome=middle)
    one.sync()
    liar.sync()
    two.sync()
    session = two.run(experiments=1)
    peers = PeerStore(session, two.commons)
    paths = ProvenanceIndex(session, peers)
    paths.refresh()
    target = next(e.id for e in peers.entries.values() if e.author == one.author and e.signed.record.parent == middle)
    path = paths.path_to(target, {paths.id(session.base): session.base})
    assert path and [step.author for step in path.steps] == [one.author] * 2 and "+B = 1" in paths.patch(path)
    false = next(e for e in peers.entries.values() if e.author == liar.author)
    wrong = ProvenancePath(path.start, (false, path.steps[1]))
    assert ProvenanceIndex(session, peers).patch(wrong) == "", "the liar's patch makes another genome"


def test_a_claim_is_that_of_its_whole_way_in_whatever_order_findings_are_asked(user: Callable[..., User]) -> None:
    """Of more steps than one patch may have, and of steps that lead in a circle, only the last one's claim counts."""
    one = user("one")
    session = one.run()
    genomes = [genome_id(session.genome(session.base)), *(some_hash(f"step {n}") for n in range(STEPS + 10))]
    chain = [
        one.claim(session, text, 11.5 - n, parent=parent, genome=genome, against=[{"seed": 1, "value": 12.5 - n}])
        for n, (text, parent, genome) in enumerate(zip(genomes, genomes, genomes[1:], strict=False), 1)
    ]
    ends = some_hash("circle"), some_hash("circle again")
    circle = [one.claim(session, a, 5.0, parent=a, genome=b) for a, b in (ends, ends[::-1])]
    peers = PeerStore(session, one.commons)
    for order in ([*chain, *circle], [*reversed(chain), *circle], [circle[1], *chain[30:], *chain[:30], circle[0]]):
        paths = ProvenanceIndex(session, peers)
        paths.refresh()
        claims = {target: paths.claim(target) for target in order}
        assert [claims[target] for target in chain] == [*map(float, range(1, STEPS + 1)), *[1.0] * 10]
        assert [claims[target] for target in circle] == [11.5 - 5.0] * 2
        longest = paths.best_path(chain[STEPS - 1])
        assert longest and longest.claimed == STEPS and paths.best_path(chain[STEPS]) is None


def test_what_is_shared_is_what_was_measured(user: Callable[..., User]) -> None:
    one = user("one")
    session = one.run(BETTER)
    (_, (body, patch)) = findings_to_share(session, one.commons, [], failed=False, portable=["budget"])[0]
    assert body["changes"] == ["A 4 → 2"] and body["status"] == "keep" and body["portable"] == ["budget"]
    assert body["runs"] == [{"seed": 1, "value": 3.5}] and body["against"] == [{"seed": 1, "value": 11.5}]
    assert patch and b"+A = 2.0" in patch and body["requires"]["devices"] == [session.device]
    assert body["requires"]["libraries"] == {} and body["requires"]["memory_mb"] > 0
    text = str(body)
    assert str(one.lab.folder) not in text and str(Path.home()) not in text
    with pytest.raises(NightlabError, match="it is the baseline"):
        findings_to_share(session, one.commons, [0], failed=False, portable=())


def test_failures_are_findings_too_and_are_told(user: Callable[..., User]) -> None:
    one, two = user("one"), user("two")
    session = one.run(GENOME.replace("A = 4.0", "A = 9.0"))
    assert findings_to_share(session, one.commons, [], failed=False, portable=()) == []
    bodies = [body for _, body in findings_to_share(session, one.commons, [], failed=True, portable=())]
    one.commons.publish(author_key(make=True), bodies)
    one.sync()
    two.sync()
    session = two.run(BETTER)
    assert by(session) == [("patches", "improved")], "it is not run"
    night = _candidates(session)
    assert [(found.status, found.why) for found in night.brief().found] == [("discard", "discard there, regressed")]


def _candidates(session: Any) -> Any:
    from nightlab.core.config import StopRules
    from nightlab.core.observer import Observer
    from nightlab.loop.loop import ExperimentLoop
    from nightlab.loop.scheduler import Scheduler

    return ExperimentLoop(session, StopRules(), Scheduler(session, Observer())).candidates


def test_secrets_and_homes_are_not_shared(user: Callable[..., User]) -> None:
    one = user("one")
    session = one.run(BETTER.replace("A = 2.0", "A = 2.0\nKEY = 'ghp_" + "a" * 36 + "'"))
    with pytest.raises(NightlabError, match=r"experiment 1 is not shared: line \d+ holds a token of GitHub"):
        one.share(session)
    session.close()
    other = user("other")
    other.here()
    other.lab.idea("1", BETTER, "as in /home/me/notes, with sk-" + "b" * 30)
    _, session = other.lab.run()
    (_, (body, _)) = findings_to_share(session, other.commons, [], failed=False, portable=())[0]
    assert body["hypothesis"] == "as in [a path], with [a key of a model's API]"


def test_the_key_is_the_users_alone(user: Callable[..., User]) -> None:
    one = user("one").here()
    assert author_key() is None and own_records(one.commons) == []
    name = one.author
    assert key_file().stat().st_mode & 0o777 == 0o600 and one.author == name
    key_file().chmod(0o644)
    with pytest.raises(NightlabError, match="other users can read"):
        author_key()
    key_file().chmod(0o600)
    key_file().write_text("x")
    with pytest.raises(NightlabError, match="is not a valid key"):
        author_key()


# -- liars -------------------------------------------------------------------------------------------


def test_a_liar_is_refuted_and_then_left_alone(user: Callable[..., User]) -> None:
    liar, two = user("liar"), user("two")
    session = liar.run()
    lies = [liar.claim(session, GENOME.replace("A = 4.0", f"A = {a}"), 0.001) for a in (5.0, 6.0, 7.0)]
    liar.sync()
    two.sync()
    ideas = [GENOME.replace("B = 8", f"B = {b}") for b in range(9, 16)]
    session = two.run(*ideas)
    assert verified(session) == [("refuted", False, False)]
    peers = PeerStore(session, two.commons)
    assert peers.trust[liar.author].quarantined
    tried = {e.candidate.source for e in session.ledger.experiments() if e.candidate.proposer == "transplant"}
    assert len(tried) == 1 and tried < set(lies), "no luck explains it: the others are not even run"


def test_a_gain_that_does_not_show_here_is_measured_on_its_own_ground(user: Callable[..., User]) -> None:
    """Two changes that each help alone, and not together: nobody lied."""
    measure = 'from genome import A, B\n\nprint(f"METRIC loss={min((A - 1) ** 2, (B - 3) ** 2 + 1):.6f}")\n'
    far = "A = 4.0\n\n\n\n\n\nB = 8\n"
    one, two = user("one", measure=measure, genome=far), user("two", measure=measure, genome=far)
    session = one.run(far.replace("B = 8", "B = 3"))  # from 9 to 1
    one.share(session)
    one.sync()
    two.run(far.replace("A = 4.0", "A = 1.5")).close()  # to 0.25
    two.sync()
    session = two.run(*[far.replace("A = 4.0", f"A = {a}") for a in (3.1, 3.2, 3.3)])
    notes = session.ledger.events(FindingVerified)
    assert [(n.verdict, n.elsewhere) for n in notes] == [("refuted", True), ("confirmed", False)]
    assert PeerStore(session, two.commons).trust[one.author].value == pytest.approx(2 / 3)
    two.sync()
    said = [s.record.verdict for s in own_records(two.commons) if isinstance(s.record, Verification)]
    assert said == ["inconclusive", "confirmed"], "nobody is called a liar for what fails elsewhere"


def test_one_who_tampers_is_refuted_and_others_are_warned(user: Callable[..., User]) -> None:
    liar, two, three = user("liar"), user("two"), user("three")
    session = liar.run()
    impossible = GENOME + "print('METRIC loss=nan')\n"
    target = liar.claim(session, impossible, 0.5)
    liar.sync()
    two.sync()
    session = two.run()
    notes = session.ledger.events(FindingVerified)
    assert [n.verdict for n in notes] == ["refuted"]
    session.ledger.append(replace(notes[0], reason="tampered"))  # as where a frozen file was changed
    two.sync()
    assert [s.record.target for s in own_records(two.commons) if isinstance(s.record, Threat)] == [target]
    assert target in PeerStore(session, two.commons).threats
    three.sync()
    session = three.run(experiments=1)
    assert target not in PeerStore(session, three.commons).threats, "one lab's word does nothing"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("measure.py", "measure.py is not part of the genome"),
        pytest.param("lab.toml", "lab.toml is not part of the genome", marks=pytest.mark.machine),
        pytest.param("../outside.py", "", marks=pytest.mark.machine),
        (".git/hooks/post-commit", ""),
    ],
)
def test_a_patch_outside_the_genome_is_never_run(user: Callable[..., User], path: str, reason: str) -> None:
    liar, two = user("liar"), user("two")
    session = liar.run()
    patch = f"diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n"
    if reason:
        repo = session.repo
        patch = repo.diff(session.base, repo.commit_files(session.base, {path: "x\n"}, "x"))
    liar.claim(session, "", 0.1, patch=patch)
    liar.sync()
    two.sync()
    session = two.run()
    assert by(session) == [] and not (two.lab.folder.parent / "outside.py").exists()
    if reason:
        (refused,) = two.commons.rejections()
        assert refused.category == "outside the genome" and reason in refused.detail


def test_another_task_or_what_is_lacking_here_is_told_and_not_run(user: Callable[..., User]) -> None:
    one, two = user("one"), user("two", measure="from genome import A, B\nprint(f'METRIC loss={A + B}')\n")
    one_session = one.run(BETTER)
    one.share(one_session)
    needs = {"devices": ["cpu"], "memory_mb": 1.0, "gpu_memory_mb": 0.0, "dtypes": [], "libraries": {"jax9": "1"}}
    one.sync()
    two.sync()
    session = two.run()
    assert by(session) == []
    told = _candidates(session).brief().found
    assert [found.why for found in told] == ["its frozen files or contract differ"]
    why = "it is of another task: its frozen files or contract differ"
    assert PeerStore(session, two.commons).declined() == {why: 1}
    three = user("three")
    one.claim(one_session, GENOME.replace("A = 4.0", "A = 1.0"), 2.5, requires=needs)
    one.sync()
    three.sync()
    session = three.run()
    assert [reason for _, reason in by(session)] == ["improved"]
    told = _candidates(session).brief().found
    assert [found.why for found in told] == ["it imports jax9, which is not installed here"]


def test_no_more_than_the_share_of_a_session(user: Callable[..., User], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = user("one"), user("two")
    session = one.run()
    for n in range(8):
        one.claim(session, GENOME.replace("A = 4.0", f"A = {4.1 + n / 10:.1f}"), 11.3)
    one.sync()
    two.sync()
    session = two.run(experiments=1)
    monkeypatch.setattr("nightlab.commons.queue.NEWCOMERS", 1.0)
    monkeypatch.setattr("nightlab.commons.trust.QUARANTINE", 0.0)
    monkeypatch.setattr("nightlab.commons.peer_store.PER_STRANGER", 8)
    transplant, other = _candidates(session).commons_proposer, Candidate("c", "c", "t", "patches", "x")
    for waiting in range(28):
        transplant.choose([other] * waiting)
        if proposal := transplant.propose(None):
            transplant.tell(proposal, None)
        assert transplant._count <= max(1, 0.3 * (session.ledger.next_number() + waiting + 1))
    assert transplant._count == 8, "and all of it is used"
    session.ledger.append(ContractChanged({}, 1000))
    monkeypatch.setattr(session.ledger, "next_number", lambda: 1000)
    late = _candidates(session).commons_proposer
    late.used = set()
    for waiting in range(12):
        late.choose([other] * waiting)
        if proposal := late.propose(None):
            late.tell(proposal, None)
        assert late._count <= max(1, 0.3 * (waiting + 1)), "who joins late does not catch up on what was before"
    assert late._count == 3


def test_whose_findings_are_offered(user: Callable[..., User], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = user("one"), user("two")
    session = one.run()
    kept, back, warned, *many = [
        one.claim(session, GENOME.replace("A = 4.0", f"A = {4.1 + n / 10:.1f}"), 11.3) for n in range(6)
    ]
    body = {"kind": "retraction", "at": AT, "target": back, "why": "no"}
    threat = {"kind": "threat", "category": "leak", "evidence_sha256": None, "detail": "", "target": warned}
    dated = [{**threat, "at": AT}, {**threat, "at": "2999-01-01T00:00:00Z"}, {**threat, "at": "2026-99-99T00:00:00Z"}]
    one.commons.publish(author_key(make=True), [(said, None) for said in (body, *dated)])
    one.sync()
    two.sync()
    two.commons.publish(author_key(make=True), [({**body, "target": kept}, None)])
    session = two.run(experiments=1)
    peers = PeerStore(session, two.commons)
    paths = ProvenanceIndex(session, peers)
    paths.refresh()
    assert peers._warnings(NOW) == [], "who has shown nothing is not heard"
    peers.trust[one.author] = Trust(3, 1, held=2.0)
    assert sorted(warning.at for warning in peers._warnings(NOW)) == [0, parse_instant(AT)]

    def offered() -> set[str]:
        fitting, told = peers.fitting()
        assert told == []
        return {offer.id for offer in peers.offers(fitting, 0.1, [], set(), paths.claim)}

    assert offered() == {kept, warned, *many}, "each takes back what is their own, and nothing else"
    peers.threats = {warned}
    assert offered() == {kept, *many}
    monkeypatch.setattr("nightlab.commons.peer_store.PER_AUTHOR", 2)
    assert offered() == set(many[-2:]), "the latest of an author with many"
    peers.trust[one.author] = Trust(1, 4)
    assert offered() == set(), "nothing of one in quarantine"
    peers.trust.clear()
    assert offered() < {kept, *many} and len(offered()) == 1, "of a stranger one, that claims most"
    entry = peers.entries[kept]
    small, large, huge = (
        peers._offer((claimed, entry, entry.signed.record), 9.0, 0.1, 1.0) for claimed in (0.05, 1, 59)
    )
    assert small.priority < large.priority == huge.priority, "a stranger's claim counts up to one sigma"
    peers.measured.clear()
    monkeypatch.setattr("nightlab.commons.peer_store.STRANGERS", 0)
    assert offered() == set()


def test_a_verification_that_came_before_its_finding_counts_once_it_is_there(
    user: Callable[..., User], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = user("one"), user("two"), user("three")
    (found,) = one.share(one.run(BETTER))
    one.sync()
    two.sync()
    two.run()
    two.sync()
    know(three, two)
    measurer = two.author
    three.sync()
    session, commons = three.run(experiments=1), three.commons
    whole = commons.entries()
    with monkeypatch.context() as before:
        before.setattr(commons, "entries", lambda: {measurer: whole[measurer]})
        peers = PeerStore(session, commons)
        assert not peers._said
    peers.update()
    assert [(each.by, each.verdict) for each in peers._said[found]] == [(measurer, "confirmed")]


# -- interruptions -----------------------------------------------------------------------------------


def test_what_a_kill_kept_from_being_said_is_said_at_the_next_start(
    user: Callable[..., User], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = user("one"), user("two")
    session = one.run(BETTER)
    one.share(session)
    one.sync()
    two.sync()
    with monkeypatch.context() as patch:
        patch.setattr("nightlab.commons.proposer.CommonsProposer.record_verdict", lambda *_: None)
        session = two.run()
    assert session.ledger.experiment(1).kept and verified(session) == []
    session.close()
    session = two.run()
    assert verified(session) == [("confirmed", False, True)]
    session.close()
    assert verified(two.run()) == [("confirmed", False, True)], "and once"


def test_a_finding_that_does_not_apply_on_the_champion_can_still_beat_it(user: Callable[..., User]) -> None:
    one, two = user("one"), user("two")
    session = one.run(GENOME.replace("A = 4.0", "A = 1.0"))
    one.share(session)
    one.sync()
    two.run(BETTER).close()
    two.sync()
    session = two.run()
    assert session.champion().candidate.proposer == "transplant" and session.champion().measurement.metric == 2.5
    assert session.champion().candidate.parent == session.base
    assert verified(session) == [("confirmed", False, True)]


# -- many labs' steps in one trial ---------------------------------------------------------------------


def know(user: User, *others: User) -> None:
    """Name others in the contract, in this lab's repository."""
    text = (user.lab.folder / "lab.toml").read_text()
    named = ", ".join(f'"{other.author}"' for other in others)
    user.lab.commit(**{"lab.toml": text.replace("[commons]", f"[commons]\nknown = [{named}]")})


def test_what_labs_that_one_knows_found_is_tried_together(user: Callable[..., User]) -> None:
    one, two, three = (user(name, **SUM) for name in ("one", "two", "three"))
    for each, genome in ((one, far(A=1)), (two, far(B=1))):
        session = each.run(genome)
        each.share(session)
        session.close()
        each.sync()
    know(three, one, two)
    three.sync()
    session = three.run(far(C=5), experiments=1)
    session.close()
    session = three.run()
    together = session.ledger.experiment(2)
    assert together.candidate.proposer == "transplant" and together.measurement.metric == 4 + 8 + 9 - 3 - 7 - 4
    made = FindingSource.of(together.candidate.source)
    assert not made.along and len(made.beside) == 1, "both labs' steps in one trial"
    (note,) = session.ledger.events(FindingVerified)
    assert (note.verdict, note.beside, note.gain, note.adopted) == ("inconclusive", made.beside, 10, True)
    assert {three.commons.entries()[u.author][0].id for u in (one, two)} == set(made.added)
    came = benefit_of(session)
    assert came["findings"] == 0 and came["combinations"] == 1 and came["by"].keys() == {"together"}
    assert came["by"]["together"]["gain"] == came["gain"] == 10, "no author's alone"
    peers = PeerStore(session, three.commons)
    assert {peers.trust[u.author].value for u in (one, two)} == {2.5 / 3.5}, "it says nothing of one of them"
    three.sync()
    (said,) = [e.signed.record for e in three.commons.entries()[three.author]]
    assert isinstance(said, Verification) and said.beside == list(made.beside) and said.verdict == "inconclusive"
    shared = three.share(session, 2)
    record = PeerStore(session, three.commons).entries[shared[-1]].signed.record
    assert isinstance(record, Finding) and record.inspired_by == list(made.added)
    three.sync()
    know(one, three)
    one.sync()
    session = one.run()
    assert not PeerStore(session, one.commons)._said, "nor do others take it for a measurement of one finding"


def test_a_step_of_the_champion_that_probably_harms_is_left_out(
    user: Callable[..., User], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (user(name, **SUM) for name in ("one", "two"))
    session = one.run(far(B=1))
    one.share(session)
    session.close()
    one.sync()
    session = two.run(far(A=1))
    (mine,) = two.share(session)
    two.sync()
    peers, paths = PeerStore(session, two.commons), ProvenanceIndex(session, PeerStore(session, two.commons))
    (theirs,) = (entry.id for entry in two.commons.entries()[one.author])
    steps = [peers.entries[name].signed.record.genome for name in (mine, theirs)]
    known = {steps[0]: -2.0, steps[1]: 2.0}
    monkeypatch.setattr(StepEffects, "estimate", lambda self, sigma: known)
    champion = session.champion().candidate.commit
    combiner = Combiner(session, peers, paths, used := set())
    combine = combiner.combine
    assert combine(champion, 1.0) is None, "of labs that were not named, and not measured, nothing is combined"
    combiner = Combiner(session, peers, paths, used)
    combiner.effects._trusted, combine = {one.author}, combiner.combine
    before = session.repo.run("for-each-ref", "refs/nightlab-pending").stdout
    patch, made = combine(champion, 1.0) or ("", None)
    assert made == FindingSource(theirs, without=(mine,))
    commit = session.repo.commit_patch(champion, patch, "x")
    assert session.genome(commit) == {"genome.py": far(B=1)}, "A is as it was before"
    used.add(str(made))
    assert combine(champion, 1.0) is None, "it had its turn"
    used.clear()
    fault = FindingVerified(9, theirs, one.author, beside=(mine,))
    peers.measured.append(fault)
    assert combine(champion, 1.0) is None, "what was in a trial without a number is tried by itself first"
    peers.measured += [replace(fault, target=name, beside=(), runs=[{"value": 1.0}]) for name in (theirs, mine)]
    assert combine(champion, 1.0), "and then again with others"
    peers.threats.add(theirs)
    assert combine(champion, 2.0) is None
    peers.threats.clear()
    known[steps[1]] = 0.1
    assert combine(champion, 5.0) is None, "too little to expect"
    session.repo.release_pending(commit)
    assert session.repo.run("for-each-ref", "refs/nightlab-pending").stdout == before, (
        "nothing is left of what was tried"
    )


def test_a_strangers_step_is_combined_once_a_lab_that_one_knows_has_measured_it(user: Callable[..., User]) -> None:
    one, two, three = (user(name, **SUM) for name in ("one", "two", "three"))
    session = one.run()
    repo, base, before = session.repo, session.base, some_hash(far(C=8))
    lost = one.claim(session, far(C=8), 20.0, against=[{"seed": 1, "value": 12.0}])
    patch = repo.diff(base, repo.commit_files(base, {"genome.py": far(A=1)}, "x"))
    against = [{"seed": 1, "value": 20.0}]
    claim = {"parent": before, "against": against, "inspired_by": [lost]}
    held = one.claim(session, far(A=1, C=8), 17.0, patch=patch, **claim)
    one.sync()
    two.sync()
    theirs = two.run(experiments=1)
    assert theirs.champion().measurement.metric == 18, "that stranger's finding without what it stood on"
    theirs.close()
    theirs = two.run(far(B=1))
    two.share(theirs)
    theirs.close()
    two.sync()
    patch = repo.diff(base, repo.commit_files(base, {"genome.py": far(C=0)}, "x"))
    copy = one.claim(session, far(A=1, C=8), 0.0, patch=patch, **claim)  # that genome again, by another patch
    session.close()
    one.sync()
    know(three, two)
    three.sync()
    session = three.run(far(C=5), experiments=1)
    peers = PeerStore(session, three.commons)
    *_, mine = (e.id for e in three.commons.entries()[two.author] if isinstance(e.signed.record, Finding))
    assert peers.heard() == [two.author] and lost in peers.entries
    paths = ProvenanceIndex(session, peers)
    estimates = StepEffects(session, peers, paths)
    effects = estimates.estimate(1.0)
    steps = {name: peers.entries[name].signed.record.genome for name in (held, mine, lost)} | {held: held}
    assert not effects.keys() & {lost, steps[lost]}, "what only a stranger measured"
    assert not any(estimates.maker(step) for step in (lost, steps[lost], some_hash(far(A=1, C=8))))
    assert effects[steps[held]] > 1 and effects[steps[mine]] > 1

    def combined() -> set[str]:
        found = Combiner(session, peers, paths, set()).combine(session.champion().candidate.commit, 1.0)
        return set(found[1].added) if found else set()

    assert combined() == {held, mine}
    peers.measured.append(FindingVerified(9, copy, one.author))
    assert combined() == {held, mine}, "a copy that crashed says nothing of the genome that it names"
    numbers = {"verdict": "confirmed", "runs": [{"seed": 1, "value": 3.0}], "against": [{"seed": 1, "value": 11.0}]}
    peers.measured.append(FindingVerified(10, copy, one.author, along=(lost,), **numbers))
    assert lost not in combined(), "what was on the way to another has not run by itself"
    told = [e.signed.record for e in three.commons.entries()[two.author] if isinstance(e.signed.record, Verification)]
    again = told[0].model_dump(mode="json", exclude={"v", "author", "seq", "prev"}, exclude_unset=True)
    again["runs"] = [{"seed": 1, "value": 500.0}]
    two.here().commons.publish(author_key(), [(again, None)] * 3)
    two.sync()
    three.sync()
    estimates.peers = peers = PeerStore(session, three.commons)
    assert len(list(peers.verifications(two.author))) == len(told) + 3
    assert estimates.estimate(1.0) == effects, "of one genome a lab is heard once, however often it says it"


def test_after_a_combination_that_failed_findings_are_tried_one_by_one(user: Callable[..., User]) -> None:
    """So each is answered for by its author: a combination's result is on none of them."""
    one, two, three = (user(name, **SUM) for name in ("one", "two", "three"))
    for each, genome in ((one, far(A=1)), (two, far(B=1))):
        session = each.run(genome)
        each.share(session)
        each.claim(session, far().replace("C = 9", "C = 99"), 1.0, against=[{"seed": 1, "value": 21.0}])  # it harms
        session.close()
        each.sync()
    know(three, one, two)
    three.sync()
    three.run(far(C=10), experiments=1).close()
    session = three.run(*[far(C=c) for c in range(11, 14)])
    notes = session.ledger.events(FindingVerified)
    together = [note for note in notes if not note.alone]
    assert together and not together[0].adopted and together[0].verdict == "inconclusive"
    assert notes[notes.index(together[0]) + 1].alone
