"""A contract that is changed while a session is under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from support.labs import TinyLab

from nightlab.core.events import ContractChanged
from nightlab.core.types import NightlabError
from nightlab.session.create import start_session
from nightlab.session.session import Session, open_session

COMMONS = '\n[commons]\nremote = "../commons.git"\nknown = ["{}"]\n'
LIMIT = "\n[limits]\nlines = 100\n"
STOP = "\n[stop]\nexperiments = 3\n"


@pytest.fixture
def lab(make_lab: Callable[..., TinyLab]) -> TinyLab:
    lab = make_lab()
    lab.run()[1].close()
    return lab


@contextmanager
def gone_on(lab: TinyLab, text: str) -> Iterator[tuple[Session, str]]:
    """The session that goes on with this contract, and what is said of it."""
    lab.commit(lab_toml=text)
    session, said = start_session(lab.folder, None, None)
    with closing(session):
        assert session.tag == "t"
        yield session, said


def test_a_session_goes_on_where_only_its_commons_or_its_stop_rules_have_changed(lab: TinyLab) -> None:
    text = (lab.folder / "lab.toml").read_text()
    task = lab.session()
    before = task.lab
    task.close()
    with gone_on(lab, text) as (session, said):
        assert said == "" and session.lab == before
    joined = text + COMMONS.format("a" * 64)
    with gone_on(lab, joined) as (session, said):
        assert session.lab.commons.known == ("a" * 64,) and "with what lab.toml says now of commons" in said
    with gone_on(lab, joined + STOP) as (session, said):
        assert session.lab.stop.experiments == 3 and "says now of stop" in said
    with closing(open_session(lab.folder)) as read:
        assert read.lab.commons.known and read.lab.stop.experiments == 3, "one that is only read has them too"
    with gone_on(lab, text) as (session, said):
        assert session.lab == before and "of commons, stop" in said, "it was left"
        events = session.ledger.events(ContractChanged)
    assert [sorted(event.parts) for event in events] == [["commons"], ["commons", "stop"], []]
    with gone_on(lab, text) as (session, said):
        assert said == "" and len(session.ledger.events(ContractChanged)) == 3


def test_a_study_holds_to_the_whole_contract(make_lab: Callable[..., TinyLab]) -> None:
    lab = make_lab()
    lab.run("study.s.a.1")[1].close()
    lab.commit(lab_toml=(lab.folder / "lab.toml").read_text() + STOP)
    with pytest.raises(NightlabError, match=r"lab\.toml changed since"):
        start_session(lab.folder, "study.s.a.1", None)


@pytest.mark.parametrize("change", [LIMIT, COMMONS.format("a" * 64) + LIMIT])
def test_it_ends_where_a_measurement_could_depend_on_the_change(lab: TinyLab, change: str) -> None:
    lab.commit(lab_toml=(lab.folder / "lab.toml").read_text() + change)
    with pytest.raises(NightlabError, match=r"lab\.toml changed since t began"):
        start_session(lab.folder, "t", None)
    with closing(open_session(lab.folder)) as read:
        assert read.lab.commons is None and not read.ledger.events(ContractChanged)
