"""YAML configurations of other systems: read as plain data, and what of them a contract does not express."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any


def table(text: str) -> tuple[dict[str, Any], str]:
    """The table that a YAML text holds, and why it can't be read; empty if it can. Nothing in it is executed."""
    import yaml

    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        return {}, f"{where}{getattr(error, 'problem', None) or error}"
    if found is None:
        return {}, ""
    return (found, "") if isinstance(found, dict) else ({}, "it is no table of keys")


def number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def part_of(config: dict[str, Any], name: str) -> dict[str, Any]:
    """A table inside a configuration; an empty one if there is none."""
    part = config.get(name)
    return part if isinstance(part, dict) else {}


def unread(config: dict[str, Any], read: set[str], steering: Iterable[str], where: str) -> Iterator[str]:
    """A note on the keys that only steer the other system's search, and one on those that are unknown."""
    keys = [f"{key}.{inner}" for key, part in config.items() if isinstance(part, dict) for inner in part]
    keys += [str(key) for key, part in config.items() if not isinstance(part, dict)]
    tables = set(steering)
    search = sorted({key for key in keys if key not in read and key.split(".")[0] in tables})
    unknown = sorted({key for key in keys if key not in read and key.split(".")[0] not in tables})
    if search:
        yield f"{where}: {_some(search)} steer the other system's search; nightlab's own proposers are in lab.toml"
    if unknown:
        yield f"{where}: {_some(unknown)} is not understood, so it is not read"


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:6]) + (f" and {len(keys) - 6} more" if len(keys) > 6 else "")
