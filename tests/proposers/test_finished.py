"""What is a finished turn: over many shapes of answers, none that is not finished becomes a proposal."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightlab.proposers.edits import MIDDLE, REPLACE, SEARCH, BadEdit
from nightlab.proposers.finished import CUT, REGULAR, UnfinishedTurn, finished_turn
from nightlab.proposers.model import read_answer

GENOME = {"genome.py": "A = 1\nB = 2\nC = 3\n"}
LAST = "HYPOTHESIS: it is better so, by 0.1"


def edit(name: str, value: int = 7) -> str:
    return f"genome.py\n{SEARCH}\n{name} = {'ABC'.index(name) + 1}\n{MIDDLE}\n{name} = {value}\n{REPLACE}\n"


drafts = st.sampled_from(
    ["", "Let me see.\n", f"<think>\n{edit('A', 9)}{LAST}\n</think>\n", f"{edit('A', 9)}{LAST}\n</think>\n"]
)
edits = st.lists(st.sampled_from("ABC"), min_size=1, max_size=3, unique=True).map(lambda n: "\n".join(map(edit, n)))
whole = st.builds(lambda draft, changes: f"{draft}{changes}\n{LAST}\n", drafts, edits)
regular = st.sampled_from(sorted(REGULAR))
irregular = st.sampled_from(
    [*sorted(CUT), "content_filter", "refusal", "pause_turn", "no finish reason", "tool_calls", ""]
)
afterwards = st.sampled_from(["Now I also set B, because", "<think>", "Wait, that is wrong.", edit("B"), "1. Next"])


@st.composite
def unfinished(draw: st.DrawFn) -> tuple[str, str]:
    """An answer that is none, and its finish reason, which in many ways of being cut is a regular one."""
    text = draw(whole)
    match draw(st.sampled_from(["cut", "said so", "went on", "thinks", "draft"])):
        case "cut":
            start = (
                0 if "<think>" in text or "</think>" not in text else text.find("</think>") + 9
            )  # a whole draft before it looks finished
            end = draw(st.integers(start, len(text) - len(LAST) + len("HYPOTHESIS:") - 1))
            return text[:end], draw(regular | irregular)
        case "said so":
            return text, draw(irregular)
        case "went on":
            return f"{text}\n{draw(afterwards)}", draw(regular)
        case "thinks":
            before, closed, rest = text.rpartition("</think>\n")
            return f"{before}{closed}<think>\n{rest}", draw(regular)
    return f"{edit('A', 9)}\nThat is wrong. Final answer:\n\n{text.rpartition('</think>')[2]}", draw(regular)


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
