"""How long a proposer rests: in proportion to what a turn costs, and not at all once it can't work here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from support.labs import changed

from nightlab.core.config import CommandConfig, TunerConfig, parse
from nightlab.core.events import ProposalRefused
from nightlab.proposers import Briefing, NoProposal, Proposal, backoff
from nightlab.proposers.backoff import FIRST, LEAST, LONGEST, Backoff
from nightlab.proposers.mixture import Mixture
from nightlab.proposers.requirements import needs

NO_BRIEFING: Any = None
PAID = {"cost_usd": 0.02, "input_tokens": 900}


class Scripted:
    """A proposer whose turns take ``takes`` seconds of the fake clock, and fail if it is told so."""

    name = "scripted"

    def __init__(self, clock: list[float], takes: float = 0.2, usage: Mapping[str, Any] | None = None) -> None:
        self.clock, self.takes, self.usage = clock, takes, usage or {}
        self.failure: NoProposal | None = None

    def propose(self, briefing: Briefing) -> Proposal:
        self.clock[0] += self.takes
        if self.failure:
            raise self.failure
        return Proposal(self.name, "the same again", usage=self.usage)

    def stop(self) -> None: ...


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    at = [1000.0]
    monkeypatch.setattr(backoff.time, "monotonic", lambda: at[0])
    return at


def rests(one: Backoff, clock: list[float], turns: int, *, refusal: str | None = "a duplicate") -> list[float]:
    """The seconds of rest after each of these turns, of proposals that are refused."""
    found = []
    for _ in range(turns):
        if proposal := one.propose(NO_BRIEFING):
            one.tell(proposal, refusal)
        found.append(round(max(one.wakes - clock[0], 0), 6))
        clock[0] = max(clock[0], one.wakes)
    return found


def test_a_quick_script_that_repeats_itself_rests_as_long_as_its_turn_took(clock: list[float]) -> None:
    assert rests(Backoff(Scripted(clock, 0.2)), clock, 12) == [0.2] * 12
    assert rests(Backoff(Scripted(clock, 0.0)), clock, 3) == [LEAST] * 3
    assert rests(Backoff(Scripted(clock, 300.0)), clock, 3) == [FIRST] * 3


def test_duplicates_that_were_paid_for_are_asked_for_less_and_less(clock: list[float]) -> None:
    assert rests(Backoff(Scripted(clock, 0.2, PAID)), clock, 9) == [10, 20, 40, 80, 160, 320, 640, LONGEST, LONGEST]


def test_an_outage_doubles_the_rest_and_a_proposal_ends_it(clock: list[float]) -> None:
    script = Scripted(clock, 0.2)
    one, script.failure = Backoff(script), NoProposal("the endpoint does not answer")
    found = rests(one, clock, 15)
    assert found[:4] == [0.2, 0.4, 0.8, 1.6] and found[-1] == LONGEST
    script.failure = None
    assert rests(one, clock, 1, refusal=None) == [0] and not one.rests
    script.failure = NoProposal("slow down", rest=77)
    assert rests(one, clock, 1) == [77]


def test_one_that_can_t_work_here_is_not_asked_again(clock: list[float]) -> None:
    script = Scripted(clock)
    script.failure = NoProposal("codex is not installed, or not on the PATH", final=True)
    one = Backoff(script)
    mixture = Mixture({"scripted": (one, 1.0)}, {})
    assert mixture.propose(NO_BRIEFING) is None and mixture.wakes == float("inf") and mixture.thinkers == 0
    (said,) = mixture.failed()
    assert "not installed" in said.reason and "not asked again" in said.reason
    clock[0] += 10 * LONGEST
    assert mixture.propose(NO_BRIEFING) is None and mixture.failed() == []
    assert mixture.why_nothing() == "scripted: codex is not installed, or not on the PATH"


def test_check_says_that_no_proposer_can_work() -> None:
    lab = parse('name = "x"\ngenome = ["g.py"]\ncommand = "x"\n[metric]\nname = "x"\n')
    missing = CommandConfig(kind="command", name="gone", command="no-such-program-at-all --print")
    only = lab.model_copy(update={"proposers": (missing,)})
    said = [what for what, there, _ in needs(only) if not there]
    assert any("no-such-program-at-all is not on the PATH" in what for what in said)
    assert "no proposer of lab.toml can work here: a session ends after its baseline" in said
    both = lab.model_copy(update={"proposers": (missing, TunerConfig(kind="tuner"))})
    assert not any("no proposer" in what for what, _, _ in needs(both))


def test_a_tuner_without_constants_says_what_it_reads(nightlab: Any, make_lab: Any) -> None:
    lab = make_lab("def f():\n    A = 4.0\n    return A\nrate = 3\n", "print('METRIC loss=1')", proposer="tuner")
    reason, session = lab.run()
    assert reason.startswith("the proposers have nothing left to propose (tuner: ") and "upper-case" in reason
    session.close()
    assert "the tuner will propose nothing" in nightlab("check", cwd=lab).out


def test_a_session_with_a_proposer_that_is_not_installed_uses_the_others_and_ends(make_lab: Any) -> None:
    more = '\n[[proposers]]\nkind = "command"\nname = "gone"\nshare = 9\ncommand = "no-such-program-at-all"\n'
    lab = make_lab(more=more)
    lab.idea("01", changed(A=2.0)["genome.py"])
    reason, session = lab.run()
    assert reason.startswith("the proposers have nothing left to propose (gone: no-such-program-at-all is not")
    assert [e.candidate.proposer for e in session.ledger.experiments()[1:]] == ["patches"]
    assert len(session.ledger.events(ProposalRefused)) == 1
    session.close()
