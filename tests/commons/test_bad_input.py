"""Keys, clocks, backups, tasks and licences that are not as they should be: named, nothing adopted, nothing lost."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commons_examples import author, body, finding, key, stated
from support.commons_users import BETTER, MORE, User
from support.labs import GENOME, TinyLab

from nightlab.cli.commons import sync_warnings
from nightlab.commons.capability import TrialResources, check_requirements
from nightlab.commons.exchange import Commons, Received
from nightlab.commons.fields import Requires
from nightlab.commons.peer_store import PeerStore
from nightlab.commons.places import author_key, key_file
from nightlab.commons.record import Rejected, Revocation, encode_record, parse_record, revoke, sign
from nightlab.commons.sync import SyncResult, own_records, revoke_key
from nightlab.core.types import NightlabError


@pytest.fixture
def user(tmp_path: Path, make_lab: Callable[..., TinyLab], monkeypatch: pytest.MonkeyPatch) -> Callable[..., User]:
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "--template=", remote], check=True)

    def make(name: str) -> User:
        return User(name, make_lab(name=name, more=MORE.format(remote=remote)), tmp_path / f"home-{name}", monkeypatch)

    return make


def test_a_revoked_key_loses_what_came_after_and_keeps_what_came_before(user: Callable[..., User]) -> None:
    one, two = user("one"), user("two")
    session = one.run(BETTER)
    one.share(session)
    one.sync()
    two.sync()
    two.run().close()
    one.here()
    lie = one.claim(session, GENOME.replace("B = 8", "B = 9"), 0.1)  # by a thief
    one.sync()
    two.sync()
    session = two.run(*[GENOME.replace("B = 8", f"B = {n}") for n in range(10, 16)])
    old, peers = one.author, PeerStore(session, two.commons)
    assert [verdict.verdict for verdict in peers.own_verdicts()] == ["confirmed", "refuted"]
    assert not peers.trust[old].proven
    champion = session.champion().candidate.commit
    one.here()
    kept, away = revoke_key(one.commons, lie)
    assert kept == 1 and away.exists() and one.author != old
    assert [signed.record.kind for signed in own_records(one.commons)] == ["revocation"]
    one.sync()
    two.sync()
    peers.update()
    assert peers.revoked == {old: 1} and peers.is_revoked(lie)
    assert [verdict.verdict for verdict in peers.own_verdicts()] == ["confirmed"] and peers.trust[old].proven
    assert peers.declined() == {"its author revoked the key": 1}
    assert session.champion().candidate.commit == champion, "what was measured and adopted here stays"
    fitting, unfit = peers.fitting()
    offers = peers.offers(fitting, 0.01, [], set(), lambda target: 1.0)
    assert lie not in {offer.id for offer in offers} | {name for name, _, _ in unfit}


def test_a_key_is_revoked_by_itself_alone() -> None:
    facts = {**stated("revocation", 0), **revoke(key(9), 7)}
    good = sign(Revocation.model_validate(facts), key())
    assert parse_record(encode_record(good)) == good, "anybody may publish it"
    for changed in ({"since": 6}, {"key": author(8)}, {"proof": "0" * 128}):
        with pytest.raises(Rejected) as error:
            parse_record(encode_record(sign(Revocation.model_validate(facts | changed), key())))
        assert error.value.category == "wrong signature"


@pytest.mark.integration
def test_what_can_not_be_revoked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    commons = Commons(tmp_path / "commons")
    with pytest.raises(NightlabError, match="no key to revoke"):
        revoke_key(commons, "")
    commons.publish(author_key(make=True), [body(1.0)])
    with pytest.raises(NightlabError, match="not the id of one record of yours"):
        revoke_key(commons, "none")
    assert key_file().exists() and len(own_records(commons)) == 1


def test_a_lab_restored_from_a_backup_goes_on_with_its_chain(user: Callable[..., User], tmp_path: Path) -> None:
    one, two = user("one"), user("two")
    two.share(two.run(BETTER))
    two.sync()
    one.sync()
    folder, backup = one.commons.folder, tmp_path / "backup"
    shutil.copytree(folder, backup)
    one.run().close()
    assert len(one.sync().sent) == 1
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)
    done = one.sync()
    assert (done.foreign, done.sent) == (1, []), "it was said, and is not said again in another place"
    assert "restored from a backup" in sync_warnings(done)[0]
    assert not sync_warnings(one.sync())


@pytest.mark.integration
def test_clocks_years_ahead_are_named(tmp_path: Path) -> None:
    theirs, ours = Commons(tmp_path / "theirs"), Commons(tmp_path / "ours")
    facts, patch = body(1.0)
    theirs.publish(key(1), [(facts, patch), ({**facts, "at": "2999-01-01T00:00:00Z"}, patch)])
    taken = ours.pull(str(tmp_path / "theirs"))
    assert (taken.records, taken.future) == (2, 1), "nothing is lost: it is received"
    (words,) = sync_warnings(SyncResult("", taken))
    assert "1 record dated in the future" in words and "this machine's clock" in words


@pytest.mark.parametrize("at", ["1990-01-01T00:00:00Z", "2999-01-01T00:00:00Z"])
def test_a_clock_that_is_years_off_neither_adopts_a_lie_nor_loses_a_find(user: Callable[..., User], at: str) -> None:
    liar, finder, two = user("liar"), user("finder"), user("two")
    lie = liar.claim(liar.run(), GENOME.replace("B = 8", "B = 9"), 0.1, at=at)
    liar.sync()
    find = finder.claim(finder.run(), BETTER, 3.5, at=at)
    finder.sync()
    assert not two.sync().taken.rejected
    session = two.run(*[GENOME.replace("B = 8", f"B = {n}") for n in range(10, 20)])
    peers = PeerStore(session, two.commons)
    verdicts = {verdict.target: verdict.verdict for verdict in peers.own_verdicts()}
    assert verdicts == {lie: "refuted", find: "confirmed"}
    assert not peers.trust[liar.author].proven and peers.trust[finder.author].proven, "by when it was measured here"
    assert "A = 2.0" in session.genome(session.champion().candidate.commit)["genome.py"]


def test_a_remote_restored_from_a_backup_is_named() -> None:
    taken = Received(rejected=Counter({"rolled back": 2}))
    (words,) = sync_warnings(SyncResult("", taken))
    assert "of 2 authors: was it restored from a backup? Nothing is lost here" in words


def test_a_licence_that_is_not_here() -> None:
    needs = Requires.model_validate(finding().requires.model_dump() | {"licences": ["Gurobi"]})
    have = TrialResources("cpu", None, None, {})
    fit = check_requirements(needs, have)
    assert fit.level == "not" and "needs the licence Gurobi" in fit.reasons[0]
    licensed = TrialResources("cpu", None, None, {}, licences=frozenset({"Gurobi"}))
    assert check_requirements(needs, licensed).level == "compatible"
    assert "licences" not in encode_record(sign(finding(), key())).decode(), "left out where there is none"
