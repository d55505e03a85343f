"""Parses what a trial's processes print."""

from __future__ import annotations

import math
import re

from nightlab.core.text import plain

METRIC = re.compile(r"^METRIC[ \t]+([\w.µ]+)=(\S+)[ \t]*$", re.MULTILINE)
CLAIM = re.compile(r"^([A-Za-z_]\w{0,40}):[ \t]+(\S+)[ \t]*$", re.MULTILINE)
ERROR = re.compile(r"^(?:[\w.]+(?:Error|Exception|Exit|Interrupt)\b.*|FAIL\b.*|TAMPERED:.*|.*[Kk]illed.*)$")


def parse_metrics(text: str) -> dict[str, float]:
    """The ``METRIC name=value`` lines of trusted output; the last one of each name counts."""
    return _numbers(METRIC.findall(text))


def parse_claims(text: str) -> dict[str, float]:
    """The ``name: value`` lines of a summary block. Untrusted: only for display."""
    return _numbers(CLAIM.findall(text))


def crash_summary(text: str) -> str:
    """The line of a log that best explains a failure, e.g. that of the exception."""
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
