"""What is a finished turn: over many shapes of answers, none that is not finished becomes a proposal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import model_wire
from support.unfinished_answers import GENOME, LAST, edit, irregular, regular, unfinished, whole

from nightlab.proposers.edits import BadEdit
from nightlab.proposers.finished import CUT, UnfinishedTurn, finished_turn
from nightlab.proposers.model import read_answer
from nightlab.sandbox.answers import AnswerReader
from nightlab.sandbox.traffic import Traffic

PATHS = ("/v1/chat/completions", "/v1/responses", "/v1/messages?beta=true", "/v1beta/models/m:generateContent")


@settings(max_examples=1000)
@given(unfinished())
def test_no_unfinished_answer_is_a_proposal(answer: tuple[str, str]) -> None:
    text, stop = answer
    try:
        hypothesis, files = read_answer(text, stop, GENOME)
    except (UnfinishedTurn, BadEdit):
        return
    pytest.fail(f"{hypothesis!r} changed {files}")


@given(whole, regular)
def test_a_finished_answer_is_one_and_its_draft_is_not(text: str, stop: str) -> None:
    hypothesis, files = read_answer(text, stop, GENOME)
    assert hypothesis == "it is better so, by 0.1" and "9" not in files["genome.py"] and "7" in files["genome.py"]


def test_a_draft_with_a_hypothesis_is_replaced_by_the_final_answer() -> None:
    text = f"{edit('A', 9)}{LAST}\n\nThat is wrong, final answer:\n\n{edit('B')}\n{LAST}"
    assert read_answer(text, "stop", GENOME)[1] == {"genome.py": "A = 1\nB = 7\nC = 3\n"}


def test_the_last_line_may_be_marked_up_and_followed_by_marks() -> None:
    assert finished_turn("Done.\n**Hypothesis:** _fewer_ steps.\n```\n---\n").hypothesis == "fewer_ steps."
    for said in ("", "HYPOTHESIS:", "HYPOTHESIS: ``", "My hypothesis: x", "x\n> done"):
        with pytest.raises(UnfinishedTurn, match="did not end with a line 'HYPOTHESIS: …'"):
            finished_turn(said)


@pytest.mark.parametrize("stop", sorted(CUT))
def test_a_cut_is_told_from_a_refusal(stop: str) -> None:
    with pytest.raises(UnfinishedTurn) as failed:
        finished_turn(LAST, stop)
    assert failed.value.cut
    with pytest.raises(UnfinishedTurn) as failed:
        finished_turn(LAST, "refusal")
    assert not failed.value.cut


def stop_of(body: str, size: int) -> str | None:
    """The finish reason of an answer that came in pieces, as a turn is told of it."""
    traffic, answer, raw = Traffic(), AnswerReader(), body.encode()
    for at in range(0, len(raw), size):
        answer.feed(raw[at : at + size])
    answer.end()
    traffic.answered("endpoint", 200, 0.0, answer, tools=True)
    return traffic.stop


@settings(max_examples=250)
@given(whole, st.integers(0, 3), irregular | st.none() | st.just("early"), st.booleans(), st.integers(1, 500))
def test_whatever_the_api_a_turn_with_an_unfinished_answer_is_none(
    text: str, api: int, stop: str | None, streamed: bool, size: int
) -> None:
    """The agent's last words are whole: only the endpoint's answer says that it was cut."""
    path = PATHS[api]
    if stop == "early":
        body = "".join(event for event, _ in model_wire.unfinished(path, "m", text))
    else:
        answer = model_wire.answer(path, "m", text, stop)
        body = "".join(event for event, _ in model_wire.events(path, answer)) if streamed else json.dumps(answer)
    with pytest.raises(UnfinishedTurn):
        finished_turn(text, stop_of(body, size))


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("path", PATHS)
def test_in_each_api_a_finished_answer_says_so(path: str, streamed: bool) -> None:
    answer = model_wire.answer(path, "m", LAST)
    body = "".join(event for event, _ in model_wire.events(path, answer)) if streamed else json.dumps(answer)
    assert finished_turn(LAST, stop_of(body, 50)).hypothesis == "it is better so, by 0.1"
