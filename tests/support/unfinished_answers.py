"""Answers of models as strategies: finished ones, and many shapes of unfinished ones, each with its finish reason."""

from __future__ import annotations

from hypothesis import strategies as st

from nightlab.proposers.edits import MIDDLE, REPLACE, SEARCH
from nightlab.proposers.finished import CUT, REGULAR

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
    [*sorted(CUT), "content_filter", "refusal", "pause_turn", "no finish reason", "tool_calls", "SAFETY", ""]
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
