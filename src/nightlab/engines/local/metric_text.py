"""Metrics in what a trial's processes print: ``METRIC name=value`` lines, as people's programs write them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from itertools import islice

from nightlab.core.text import METRIC_NAME, one_line, plain
from nightlab.engines.local.own_precision import PLUS_MINUS, StatedNumber, stated_number

# What a logger puts before the word: a time, its name, a level; or ranks and times in brackets. Any other text is no
# prefix: a line that a program merely repeats is not its own.
LEVEL = (
    r"[\d:.,TZ/+\[\] -]{0,60}(?:[\w.]{1,60}[ ]-[ ])?\[?(?:DEBUG|INFO|NOTICE|WARNING|ERROR)\]?"
    r"(?::[\w.]{1,60}:|[ \t:|>-]+)"
)
PREFIX = rf"(?:{LEVEL}|(?:\[[^\]'\"=\n]{{1,60}}\]:?[ \t]*)+)?"
METRIC = re.compile(rf"^[ \t]*{PREFIX}METRIC[ \t]+(?P<name>[^\s=]+)[ \t]*=[ \t]*(?P<value>.*)$", re.MULTILINE)
FEEDBACK = re.compile(r"^FEEDBACK[ \t]+(\S.*)$", re.MULTILINE)
MOST_NAMES, LONGEST_NAME = 1000, 200  # metrics of a trial, and claims; characters of a metric's name: they are stored
MOST_FEEDBACK = 4000  # characters of it that are recorded
NAME = re.compile(METRIC_NAME)
CLAIM = re.compile(r"^([A-Za-z_]\w{0,40}):[ \t]+(\S+)[ \t]*$", re.MULTILINE)
ERROR = re.compile(r"^(?:[\w.]+(?:Error|Exception|Exit|Interrupt)\b.*|FAIL\b.*|TAMPERED:.*|.*[Kk]illed.*)$")
FRAME = re.compile(r'File "(?:/lab/)?([^"/<][^"]{0,200})", line (\d+)')  # in the lab's folder, as trials see it
NUMBER = re.compile(
    r"(?P<number>[+-]?(?:\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)[ \t]*"
    r"(?P<unit>(?:[^\W\d_]|[%°±])[^=]*)?"
)
WRAPPED = re.compile(r"[\w.]+\((.*)\)")  # np.float64(1.14), tensor(0.5)
SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0}
BYTES = {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
SCALED = (SECONDS, BYTES)


@dataclass(frozen=True, slots=True)
class ParsedMetrics:
    """The metrics of an output by name, and the lines that can't be read, by the name that each of them voids.

    ``stated``: those that say how precise they are.
    """

    values: dict[str, float] = field(default_factory=dict)
    stated: dict[str, StatedNumber] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


def parse_metrics(text: str, units: dict[str, str] | None = None) -> ParsedMetrics:
    """The ``METRIC name=value`` lines of an output. The last line of a name counts, and voids it if it can't be read.

    A line ends at a newline or at a carriage return; terminal colours are ignored. A number may have thousands
    separators and a unit. Times and sizes are converted to the unit that ``units`` gives for the name, to seconds or
    bytes if it gives none; ``%``, ``x`` and any other unit leave the number as it is printed. A number may be followed
    by ``±`` (``+/-``, ``+-``) and its standard error, or be a count of successes in trials, ``61/100``. The first
    ``MOST_NAMES`` names count, and those in ``units``.
    """
    found = ParsedMetrics()
    for line in METRIC.finditer(plain(text, len(text) + 1)):
        name, fault = line["name"], ""
        counted = name in found.values or name in found.unreadable or name in (units or {})
        if not counted and (len(name) > LONGEST_NAME or len(found.values) + len(found.unreadable) >= MOST_NAMES):
            continue
        for known in (found.values, found.stated, found.unreadable):
            known.pop(name, None)
        try:
            number = _metric_number(line["value"], (units or {}).get(name, "")) if NAME.fullmatch(name) else None
        except ValueError as impossible:
            number, fault = None, f" ({impossible})"
        if number is None:
            found.unreadable[name] = one_line(line[0], 120) + fault
            continue
        found.values[name] = number.value
        if number.error is not None:
            found.stated[name] = number
    return found


def _metric_number(text: str, unit: str) -> StatedNumber | None:
    """The number of a METRIC line. Raises ValueError where it states a precision that can't be."""
    if stated := stated_number(text, lambda part: parse_number(part, unit)):
        return stated
    value = None if PLUS_MINUS.search(text) else parse_number(text, unit)
    return None if value is None else StatedNumber(value)


def parse_number(text: str, unit: str = "") -> float | None:
    """The finite number that ``text`` writes, in ``unit`` if both are times or both are sizes; None without one."""
    text = text.strip().strip("'\"")
    if wrapped := WRAPPED.fullmatch(text):
        text = wrapped[1].split(",")[0].strip()
    if (match := NUMBER.fullmatch(text)) is None:
        return None
    value, printed = float(match["number"].replace(",", "")), (match["unit"] or "").strip()
    for scale in SCALED:
        if printed in scale:
            value *= scale[printed] / scale.get(unit, 1.0)
            if printed == unit:
                value = float(match["number"].replace(",", ""))
    if re.match(r"[kKMGT]\b", printed):  # 15.2k: the next may be printed without it
        return None
    return value if math.isfinite(value) else None


def parse_claims(text: str, metric: str = "") -> dict[str, float]:
    """The ``name: value`` lines of a summary block, the last of each name. Shown to people, never trusted.

    The first ``MOST_NAMES`` names count, and ``metric``.
    """
    last = {name: parse_number(value) for name, value in CLAIM.findall(plain(text, len(text) + 1))}
    said = {name: value for name, value in last.items() if value is not None}
    return dict(islice(said.items(), MOST_NAMES)) | {name: said[name] for name in said.keys() & {metric}}


def parse_feedback(text: str) -> str:
    """The text of the ``FEEDBACK text`` lines of an output, one below the other, sanitised and shortened."""
    said = FEEDBACK.findall(plain(text, len(text) + 1))
    return plain("\n".join(map(str.rstrip, said)), MOST_FEEDBACK)


def crash_summary(text: str) -> str:
    """The line of a log that best explains a failure, e.g. that of the exception, and the lab's line that raised it."""
    lines = [line.strip() for line in plain(text).splitlines() if line.strip()]
    for number, line in reversed(list(enumerate(lines))):
        if ERROR.match(line):
            return f"{_raised(lines[:number])}{line[:200]}"
    return lines[-1][:200] if lines else "it printed nothing"


def _raised(before: list[str]) -> str:
    """The innermost line of the lab in the traceback at the end of ``before``: ``train.py, line 12: ``."""
    for line in reversed(before):
        if line.startswith("Traceback "):
            return ""
        if frame := FRAME.match(line):
            return f"{one_line(frame[1], 80)}, line {frame[2]}: "
    return ""


def missing_metric(text: str, name: str, whose: str = "program") -> str:
    """Why an output has no metric ``name``, with the line that may have been meant for it, or its last one."""
    said = f"the {whose} ended normally but printed no line METRIC {name}=…"
    lines = [line.strip() for line in plain(text).splitlines() if line.strip()]
    if not lines:
        return f"{said}; it printed nothing"
    if others := [line for line in lines if METRIC.match(line)]:
        return f"{said}; it printed another name: {one_line(others[-1], 120)}"
    near = [line for line in lines if re.search(rf"(?i)(?<![^\W_])(?:metric|{re.escape(name)})(?![^\W_])", line)]
    if near:
        return f"{said}; it printed: {one_line(near[-1], 120)}"
    return f"{said}; its last line is: {one_line(lines[-1], 120)}"
