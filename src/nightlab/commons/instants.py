"""Times in records: UTC to the second, as their authors' clocks say."""

from __future__ import annotations

import time
from datetime import datetime


def format_instant(at: float | None = None) -> str:
    """A time (seconds since the epoch; default now) in the format of records."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def parse_instant(instant: str) -> float:
    """A record's time as seconds since the epoch; of one that no calendar has, 0."""
    try:
        return datetime.fromisoformat(instant).timestamp()
    except ValueError:
        return 0.0
