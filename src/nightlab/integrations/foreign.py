"""Reads other programs' logs: karpathy/autoresearch's ``results.tsv`` and pi-autoresearch's ``log.jsonl``.

Both are usually written by agents, so their content is only a claim and may be malformed. Invalid lines are reported;
the others are read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from nightlab.core.text import one_line
from nightlab.core.types import Goal, NightlabError, Status

MOST_BYTES = 64 * 2**20
STATUSES: dict[str, Status] = {"keep": "keep", "discard": "discard", "crash": "crash", "checks_failed": "crash"}
USUAL = ("commit", "memory_gb", "status", "description")  # of a results.tsv; the first other column is the metric


@dataclass(frozen=True, slots=True)
class ForeignRow:
    """One reported experiment. ``at``: seconds since the epoch, if the file has it."""

    line: int
    commit: str
    status: Status
    value: float | None
    description: str
    detail: str = ""
    memory_mb: float | None = None
    others: dict[str, float] = field(default_factory=dict)
    at: float | None = None


@dataclass(frozen=True, slots=True)
class ForeignLog:
    """A log's metric and rows, and the lines that could not be read, with the reasons."""

    by: str
    name: str
    metric: str
    unit: str
    goal: Goal
    how: str
    """Where the goal comes from, as text."""
    claims: Sequence[ForeignRow]
    faults: Sequence[str]
    left_out: str = ""


def read_foreign_log(raw: bytes, where: str, goal: Goal | None = None) -> ForeignLog:
    """The log in a file's bytes. ``goal``: which way is better, if the file does not say.

    Raises NightlabError when it has neither format, or no readable row.
    """
    if len(raw) > MOST_BYTES:
        raise NightlabError(f"{where} has {len(raw):,} bytes; the limit is {MOST_BYTES:,}", "is it the right file?")
    lines = raw.decode("utf-8", errors="replace").lstrip("\ufeff").splitlines()
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("{"):
        log = _jsonl(lines, where)
    elif {"commit", "status", "description"} <= {name.strip() for name in first.split("\t")}:
        log = _tsv(lines, goal)
    else:
        raise NightlabError(
            f"{where} is neither a results.tsv (its first line names commit, status and description, with tabs "
            "between) nor a pi-autoresearch log.jsonl",
            "give one of these files; for another tool's log, write a results.tsv from it",
        )
    if not log.claims:
        told = f": {log.faults[0]}" if log.faults else ""
        raise NightlabError(f"{where} has no readable row{told}", "fix its rows, or give another file")
    return log


def _tsv(lines: Sequence[str], goal: Goal | None) -> ForeignLog:
    rows = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    header = [name.strip() for name in next(rows)[1].split("\t")]
    metric = next((name for name in header if name not in USUAL), "metric")
    claims, faults = [], []
    for number, line in rows:
        cells = dict(zip(header, (cell.strip() for cell in line.split("\t", len(header) - 1)), strict=False))
        try:
            status = _status(cells.get("status", ""))
            value = None if status == "crash" else _number(cells.get(metric, ""), metric)
            memory = _number(cells["memory_gb"], "memory_gb") * 1024 if cells.get("memory_gb") else None
            said = one_line(cells.get("description", ""))
            claims.append(ForeignRow(number, one_line(cells["commit"], 60), status, value, said, memory_mb=memory))
        except ValueError as error:
            faults.append(f"line {number}: {error}")
    better = goal or _goal(claims)
    how = "as you say" if goal else "as the kept rows go"
    return ForeignLog("autoresearch", "autoresearch", _name(metric), "", better, how, claims, faults)


def _jsonl(lines: Sequence[str], where: str) -> ForeignLog:
    """The last segment: each new configuration starts with another baseline, and possibly another metric."""
    config: dict[str, Any] = {}
    claims: list[ForeignRow] = []
    faults: list[str] = []
    left_out = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict):
                raise ValueError("it is no object")
            if entry.get("type") == "config":
                left_out += len(claims)
                config, claims = entry, []
            elif entry.get("type") in (None, "run") and "status" in entry:
                claims.append(_claim(entry, number))
        except (ValueError, RecursionError) as error:
            why = "it is no JSON" if isinstance(error, json.JSONDecodeError | RecursionError) else str(error)
            faults.append(f"line {number}: {why}")
    if not config and not claims:
        raise NightlabError(f"{where} is JSON lines, but not a pi-autoresearch log", "give its .auto/log.jsonl")
    goal: Goal = "maximise" if config.get("bestDirection") == "higher" else "minimise"
    said = {key: one_line(str(config.get(key) or ""), 60) for key in ("name", "metricName", "metricUnit")}
    told = f"{left_out} runs of earlier segments are left out: each has a separate baseline" if left_out else ""
    name, metric = said["name"] or "pi-autoresearch", _name(said["metricName"] or "metric")
    return ForeignLog("pi-autoresearch", name, metric, said["metricUnit"], goal, "as it says", claims, faults, told)


def _claim(entry: dict[str, Any], line: int) -> ForeignRow:
    status = _status(str(entry["status"]))
    value = None if status == "crash" else _number(entry.get("metric"), "metric")
    others = entry.get("metrics") if isinstance(entry.get("metrics"), dict) else {}
    assert isinstance(others, dict)
    return ForeignRow(
        line=line,
        commit=one_line(str(entry.get("commit") or ""), 60),
        status=status,
        value=value,
        description=one_line(str(entry.get("description") or "")),
        detail="checks failed" if entry["status"] == "checks_failed" else "",
        others={_name(str(name)): float(number) for name, number in list(others.items())[:50] if _is_number(number)},
        at=_time(entry.get("timestamp")),
    )


def _status(said: str) -> Status:
    if said.lower() not in STATUSES:
        raise ValueError(f"its status {one_line(said, 40)!r} is none of {', '.join(STATUSES)}")
    return STATUSES[said.lower()]


def _number(said: Any, name: str) -> float:
    try:
        number = float(said)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"its {one_line(name, 40)} {one_line(str(said), 40)!r} is no number")
    return number


def _is_number(said: Any) -> bool:
    return isinstance(said, int | float) and not isinstance(said, bool) and abs(said) < 1e300


def _time(said: Any) -> float | None:
    """A time given as seconds, milliseconds or ISO text, detected by its form."""
    if isinstance(said, str):
        try:
            return datetime.fromisoformat(said).timestamp()
        except (ValueError, OverflowError, OSError):
            return None
    if not _is_number(said) or not 1e9 < said < 1e13:
        return None
    return said / 1000 if said > 1e11 else float(said)


def _goal(claims: Sequence[ForeignRow]) -> Goal:
    kept = [claim.value for claim in claims if claim.status == "keep" and claim.value is not None]
    return "maximise" if len(kept) > 1 and kept[-1] > kept[0] else "minimise"


def _name(said: str) -> str:
    return re.sub(r"[^\w.µ/-]+", "_", one_line(said, 60)) or "metric"
