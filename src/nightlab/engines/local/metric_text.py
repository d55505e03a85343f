"""What a trial's processes print, read as data."""

from __future__ import annotations

import math
import re

from nightlab.core.text import plain

METRIC = re.compile(r"^METRIC[ \t]+([\w.µ]+)=(\S+)[ \t]*$", re.MULTILINE)
CLAIM = re.compile(r"^([A-Za-z_]\w{0,40}):[ \t]+(\S+)[ \t]*$", re.MULTILINE)
ERROR = re.compile(r"^(?:[\w.]+(?:Error|Exception|Exit|Interrupt)\b.*|FAIL\b.*|TAMPERED:.*|.*[Kk]illed.*)$")


def metrics(text: str) -> dict[str, float]:
    """The ``METRIC name=value`` lines of a trusted output; the last one of a name counts."""
    return _numbers(METRIC.findall(text))


def claims(text: str) -> dict[str, float]:
    """The ``name: value`` lines of a summary block. Shown to people, trusted by nobody."""
    return _numbers(CLAIM.findall(text))


def crash_summary(text: str) -> str:
    """The one line of a log that best says why a process failed, e.g. the exception's."""
    lines = [line.strip() for line in plain(text).splitlines() if line.strip()]
    for line in reversed(lines):
        if ERROR.match(line):
            return line[:200]
    return lines[-1][:200] if lines else "it printed nothing"


def _numbers(pairs: list[tuple[str, str]]) -> dict[str, float]:
    found = {}
    for name, value in pairs:
        try:
            found[name] = float(value)
        except ValueError:
            continue
    return {name: value for name, value in found.items() if math.isfinite(value)}
