"""Joining and leaving change one section of lab.toml and nothing else; an audit finds what no reader may accept."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commons_examples import AT, PLATFORM, author, body, key, some_hash, task, values
from support.labs import TinyLab

from nightlab.commons.exchange import Commons
from nightlab.commons.membership import audit, join, know, leave, other_tasks, whole_copy
from nightlab.core.config import load_contract
from nightlab.core.types import NightlabError
from nightlab.storage.git import Unreachable

pytestmark = pytest.mark.integration

TOML = """\
# our lab
name = "ours"
genome = ["genome.py"]
command = "python genome.py"  # as by hand

[metric]
name = "loss"
goal = "minimise"
"""


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    folder = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "--template=", folder], check=True)
    theirs = Commons(tmp_path / "theirs")
    theirs.publish(key(1), [body(1.0), body(2.0)])
    theirs.push(str(folder), author(1))
    return folder


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "lab.toml").write_text(TOML)
    (folder / "genome.py").write_text("A = 1\n")
    return folder


def test_one_joins_and_leaves_and_the_rest_of_the_contract_stays(lab: Path, remote: Path, tmp_path: Path) -> None:
    ours = Commons(tmp_path / "ours")
    assert join(lab, ours, "../remote.git").records == 2 and values(ours) == [1.0, 2.0]
    text = (lab / "lab.toml").read_text()
    assert text.startswith(TOML) and 'remote = "../remote.git"' in text and "verifications = true" in text
    assert join(lab, ours, "../remote.git").records == 0 and (lab / "lab.toml").read_text() == text, "twice is once"
    with pytest.raises(NightlabError, match="is in the commons"):
        join(lab, ours, str(tmp_path / "another.git"))
    assert leave(lab) == "../remote.git"
    assert (lab / "lab.toml").read_text().rstrip() == TOML.rstrip() and values(ours) == [1.0, 2.0]
    with pytest.raises(NightlabError, match="in no commons"):
        leave(lab)


def test_authors_whom_one_knows_are_named_in_the_contract(lab: Path, remote: Path, tmp_path: Path) -> None:
    ours = Commons(tmp_path / "ours")
    with pytest.raises(NightlabError, match="in no commons"):
        know(lab, ours, [author(1)])
    join(lab, ours, "../remote.git")
    assert know(lab, ours, [author(1)[:12].upper()]) == [author(1)]
    text = (lab / "lab.toml").read_text()
    assert load_contract(lab)[0].commons.known == (author(1),) and text.startswith(TOML)
    assert know(lab, ours, [author(1)]) == [] and (lab / "lab.toml").read_text() == text, "twice is once"
    for wrong, why in (("zz", "no author's name begins with 'zz'"), ("", "names of 2 authors begin with ''")):
        if not wrong:
            ours.publish(key(2), [body(3.0)])
        with pytest.raises(NightlabError, match=why):
            know(lab, ours, [wrong])
    (lab / "lab.toml").write_text(text.replace(author(1), "abc"))
    with pytest.raises(NightlabError, match=r"commons\.known"):
        load_contract(lab)


def test_a_commons_of_another_task_is_said(lab: Path, remote: Path, tmp_path: Path) -> None:
    ours = Commons(tmp_path / "ours")
    join(lab, ours, "../remote.git")
    assert not other_tasks(lab, ours, "../remote.git"), "as far as its metric says: the lab has no session yet"
    (lab / "lab.toml").write_text((lab / "lab.toml").read_text().replace('"loss"', '"accuracy"'))
    assert other_tasks(lab, ours, "../remote.git") == {"its metric is loss": 1}
    assert not other_tasks(lab, ours, str(tmp_path / "empty.git")), "nothing is there"


def test_a_lab_with_a_session_compares_all_of_the_task(make_lab: Callable[..., TinyLab], remote: Path) -> None:
    tiny = make_lab()
    tiny.run()[1].close()
    ours = Commons(remote.parent / "ours")
    ours.pull(str(remote))
    (why,) = other_tasks(tiny.folder, ours, str(remote))
    assert "its frozen files or contract differ" in why


def test_what_can_not_be_joined_changes_nothing(lab: Path, tmp_path: Path) -> None:
    ours = Commons(tmp_path / "ours")
    with pytest.raises(Unreachable):
        join(lab, ours, str(tmp_path / "nothing.git"))
    assert (lab / "lab.toml").read_text() == TOML
    (lab / "lab.toml").write_text("genome = 3\n")
    with pytest.raises(NightlabError, match="genome"):
        join(lab, ours, str(tmp_path / "nothing.git"))
    (lab / "lab.toml").unlink()
    with pytest.raises(NightlabError, match=r"lab\.toml does not exist"):
        join(lab, ours, str(tmp_path / "nothing.git"))


def test_a_sound_remote_is_sound(remote: Path) -> None:
    with whole_copy(str(remote)) as there:
        found = audit(there)
    assert found.sound and found.authors == 1 and found.records == {"finding": 2}


def test_an_audit_finds_forgeries_and_words_that_contradict_their_numbers(remote: Path, tmp_path: Path) -> None:
    theirs = Commons(tmp_path / "theirs")
    target = theirs.entries()[author(1)][0].id
    said = {
        "kind": "verification", "at": AT, "target": target, "task": task()["id"], "platform": PLATFORM,
        "parent": some_hash("parent"), "verdict": "confirmed", "detail": "", "adopted": True,
        "runs": [{"seed": 1, "value": 11.0}], "against": [{"seed": 1, "value": 11.1}], "sigma": 0.2,
    }  # fmt: skip
    true = {**said, "runs": [{"seed": 1, "value": 2.0}]}
    taken_back = {"kind": "retraction", "at": AT, "target": target, "why": "not mine"}
    theirs.publish(key(2), [(said, None), (true, None), (taken_back, None)])
    theirs.push(str(remote), author(2))
    forged = theirs.chains.add({"record.json": b"{}"}, "a lie", None)
    theirs_dir = tmp_path / "theirs"
    subprocess.run(["git", "push", "-q", remote, f"{forged}:refs/nightlab/{author(3)}"], cwd=theirs_dir, check=True)
    with whole_copy(str(remote)) as there:
        found = audit(there)
    assert not found.sound
    assert [(row.author, row.category) for row in found.refused] == [(author(3), "wrong schema")]
    why = sorted(each[2] for each in found.contradictions)
    assert why == ["a retraction of another author's finding", "confirmed, with a gain of 0.1 at a noise of 0.2"]
