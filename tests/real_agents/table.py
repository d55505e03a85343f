"""The table of the matrix in Markdown, from the lines of JSON that its turns left: ``python table.py rows.jsonl …``.

A cell: ``kept`` or ``-`` for a turn that became a proposal or failed, the requests that were counted, and why the turn
was ended, if it was: ``cap`` of requests, ``wall``, ``repeats``, ``key`` or ``wait`` (for longer than the proxy waits).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ENDS = {
    "its cap": "cap",
    "it took longer than": "wall",
    "that it had sent before": "repeats",
    "check its key": "key",
    "it asks to wait": "wait",
}


def cell(row: dict[str, Any]) -> str:
    end = next((word for words, word in ENDS.items() if words in row["reason"]), "")
    return " ".join(filter(None, ("kept" if row["kept"] else "-", str(row["requests"]), end)))


def table(rows: list[dict[str, Any]]) -> str:
    """The last turn of each agent and event stands."""
    last = {(row["agent"], row["event"]): row for row in rows}
    agents, events = list(dict.fromkeys(a for a, _ in last)), list(dict.fromkeys(e for _, e in last))
    lines = [["after its edit", *agents], ["---"] * (len(agents) + 1)]
    lines += [[event, *(cell(last[a, event]) if (a, event) in last else "" for a in agents)] for event in events]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def summary(rows: list[dict[str, Any]]) -> str:
    last = {(row["agent"], row["event"]): row for row in rows}.values()
    stated, counted = sum(row["stated"] for row in last), sum(row["counted"] for row in last)
    off = sum(row["stated"] != row["counted"] for row in last)
    kept = sum(bool(row["kept"]) for row in last)
    tokens = f"{stated:,} tokens stated, {counted:,} counted, {off} turns where they differ"
    return f"{len(last)} turns, {kept} proposals; {tokens}"


if __name__ == "__main__":
    read = [json.loads(line) for path in sys.argv[1:] for line in Path(path).read_text().splitlines()]
    print(f"{table(read)}\n\n{summary(read)}")
