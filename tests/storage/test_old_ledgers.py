"""A session that was begun before events had records: it opens, and everything works on it.

``data/`` has the ledger that nightlab 0.1.0 wrote at commit 830416d for a tiny lab, and that lab's repository.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.labs import TinyLab

from nightlab.core.events import EVENTS, Alarm, HookAfter, OrderTaken, Rechecked, RunStarted, UnknownEvent
from nightlab.core.session_state import SelfTests
from nightlab.core.types import NightlabError
from nightlab.storage.ledger import LEDGER, Ledger
from nightlab.storage.ledger.tables import MAJOR, VERSION
from nightlab.ui.monitor import Follower

DATA = Path(__file__).parent / "data"


@pytest.fixture
def lab(tmp_path: Path) -> TinyLab:
    """The lab of the old session, with the session in it."""
    bundle, folder = DATA / "before_typed_events.bundle", tmp_path / "lab"
    clone = ["git", "clone", "-q", "--template=", "-b", "main", str(bundle), str(folder)]
    subprocess.run(clone, check=True, capture_output=True)
    made = TinyLab(folder)
    made.git("fetch", "-q", str(bundle), "refs/nightlab/*:refs/nightlab/*", "nightlab/before:nightlab/before")
    (folder / ".nightlab" / "before").mkdir(parents=True)
    (folder / ".nightlab" / ".gitignore").write_text("*\n")
    shutil.copy(DATA / "before_typed_events.db", folder / ".nightlab" / "before" / LEDGER)
    return made


def events(path: Path) -> list[tuple[int, float, str, str]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT seq, at, kind, data FROM events ORDER BY seq").fetchall()


def test_its_events_are_written_as_they_were() -> None:
    rows = events(DATA / "before_typed_events.db")
    for _, _, kind, data in rows:
        assert json.dumps(EVENTS[kind].from_dict(json.loads(data)).to_dict()) == data, "the order of the keys too"
    assert len({kind for _, _, kind, _ in rows}) == 13


@pytest.mark.integration
def test_it_is_read_as_before(lab: TinyLab) -> None:
    with closing(Ledger(lab.folder / ".nightlab" / "before" / LEDGER, read_only=True)) as ledger:
        assert [(e.number, e.verdict and e.verdict.reason) for e in ledger.experiments()] == [
            (0, "baseline"), (1, "improved"), (2, "regressed"), (3, "crashed"), (4, "improved"),
        ]  # fmt: skip
        [recheck] = ledger.events(Rechecked)
        assert (recheck.number, recheck.seeds, recheck.values, recheck.look) == (1, (501,), (3.5,), None)
        assert [taken.order for taken in ledger.events(OrderTaken)] == ["pin 1", "skip 77"]
        assert [len(ledger.events(kind)) for kind in (RunStarted, HookAfter, Alarm)] == [2, 5, 1]


@pytest.mark.integration
def test_it_is_logged_reported_watched_and_exported(lab: TinyLab, nightlab: Callable[..., object]) -> None:
    log = nightlab("log", "--json", cwd=lab.folder)
    assert [row["status"] for row in log.json] == ["keep", "keep", "discard", "crash", "keep"]  # type: ignore[attr-defined]
    assert nightlab("export", "jsonl", cwd=lab.folder).out.count("\n") == 5  # type: ignore[attr-defined]
    assert nightlab("report", cwd=lab.folder).code == 0  # type: ignore[attr-defined]
    text = (lab.folder / ".nightlab" / "before" / "report.md").read_text()
    assert "the noise has changed" in text and "less of B" in text
    seen = Follower(lab.folder / ".nightlab" / "before").look()
    assert seen.champion and seen.champion.number == 4 and seen.pinned == 1 and seen.stopped == "4 experiments are done"
    assert (seen.self_tests, seen.self_kept, seen.refused) == (1, 0, 1) and "skip 77" in seen.troubles[-1].words


@pytest.mark.integration
def test_it_goes_on(lab: TinyLab) -> None:
    lab.idea("6", "A = 1.5  # [0.25..8 log]\nB = 4  # [1..16]\n", "less of A than before")
    reason, session = lab.run("before", experiments=5)
    assert reason == "5 experiments are done" and session.ledger.experiment(5).verdict is not None
    before = events(DATA / "before_typed_events.db")
    assert events(session.folder / LEDGER)[: len(before)] == before
    session.close()


# -- other versions ------------------------------------------------------------------------------------


def test_a_newer_major_is_refused_with_what_to_do(tmp_path: Path) -> None:
    Ledger(tmp_path / LEDGER).close()
    with closing(sqlite3.connect(tmp_path / LEDGER)) as db:
        db.execute(f"PRAGMA user_version = {MAJOR + 1}")
    for read_only in (True, False):
        with pytest.raises(NightlabError, match=f"newer nightlab \\(format {MAJOR + 1}") as failure:
            Ledger(tmp_path / LEDGER, read_only=read_only)
        assert "upgrade" in failure.value.hint


def test_of_a_newer_minor_what_is_unknown_is_kept_and_skipped(tmp_path: Path) -> None:
    newer = VERSION + (1 << 16)
    with closing(Ledger(tmp_path / LEDGER)) as ledger:
        ledger.append(Rechecked(0, 1.5, would="keep"))
    rows = [
        ("alarm", {"words": "the noise", "since when": 3}),
        ("the moon", {"phase": "full"}),
        ("upkeep", {"v": 2, "bars": [1, 2]}),
    ]
    with closing(sqlite3.connect(tmp_path / LEDGER)) as db:
        db.executemany("INSERT INTO events (at, kind, data) VALUES (5e9, ?, ?)", [(k, json.dumps(d)) for k, d in rows])
        db.execute(f"PRAGMA user_version = {newer}")
        db.commit()
    with closing(Ledger(tmp_path / LEDGER)) as ledger:
        assert ledger.events(Alarm) == [Alarm("the noise")]
        assert ledger.events(Rechecked) == [Rechecked(0, 1.5, would="keep")], "the other one means something else"
        assert ledger.journal(after=2) == [UnknownEvent(*rows[1]), UnknownEvent(*rows[2])]
        ledger.append(Alarm("another"))
        assert [event.seq for event in ledger.journal()] == [1, 2, 3, 4, 5]
    assert [json.loads(data) for *_, data in events(tmp_path / LEDGER)[1:4]] == [data for _, data in rows]
    with closing(sqlite3.connect(tmp_path / LEDGER)) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == newer


def test_a_missing_key_takes_its_default_and_a_damaged_event_is_named(tmp_path: Path) -> None:
    assert Rechecked.from_dict({"number": 1, "bar": 2.0}) == Rechecked(1, 2.0)
    assert SelfTests().plus(Rechecked(1, 2.0)) == SelfTests()
    with closing(Ledger(tmp_path / LEDGER)) as ledger:
        ledger._db.execute("INSERT INTO events (at, kind, data) VALUES (1, 'judged', '{\"number\": 1}')")
        with pytest.raises(NightlabError, match=r"event 1 of the ledger \(judged\) can't be read") as failure:
            ledger.journal()
        assert "backup" in failure.value.hint
