"""Sizes and limits as a contract writes them: ``"8GB"``, ``"+20%"``."""

from __future__ import annotations

import re

SIZE_MB = {"": 1 / 2**20, "KB": 1 / 1024, "MB": 1, "GB": 1024, "TB": 2**20}


def allowed(limit: str | float, champions: float, name: str = "limit") -> float:
    """The largest value that a limit allows: ``"+20%"`` of the champion's, or a plain number."""
    if isinstance(limit, (int, float)):
        return float(limit)
    found = re.fullmatch(r"\+(\d+(?:\.\d+)?)%", limit)
    if not found:
        raise ValueError(f"{name} must be a number or like '+20%', not {limit!r}")
    return champions * (1 + float(found[1]) / 100)


def megabytes(size: str) -> float:
    """``"8GB"`` as 8192.0. Raises ValueError for anything that is not a size."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(KB|MB|GB|TB|)\s*", size, re.IGNORECASE)
    if not found:
        raise ValueError(f"{size!r} is not a size like '500MB' or '8GB'")
    return float(found[1]) * SIZE_MB[found[2].upper()]
