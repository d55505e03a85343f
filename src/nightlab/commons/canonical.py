"""Canonical JSON (RFC 8785): the one byte string of a value, which is what is hashed and signed."""

from __future__ import annotations

import hashlib
import importlib
import json
from typing import Any

from nightlab.core.types import NightlabError

EXACT = 2**53  # integers from here on are not exact in JSON


def import_library(name: str) -> Any:
    """Import a module of the extra ``commons``. Raises NightlabError when it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise NightlabError(f"the commons needs {name.split('.')[0]}", "pip install 'nightlab[commons]'") from None


def canonical_json(value: Any) -> bytes:
    """The canonical bytes of a JSON value (RFC 8785). Raises ValueError where there are none, e.g. for NaN."""
    return bytes(import_library("rfc8785").dumps(value))


def digest(value: Any) -> str:
    """The SHA-256 of a JSON value, in hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def read_json(raw: bytes) -> Any:
    """The value of untrusted JSON. Raises ValueError or RecursionError: for NaN and for a duplicate key too."""
    return json.loads(raw.decode(), parse_int=_integer, parse_constant=_constant, object_pairs_hook=_object)


def _integer(digits: str) -> int | float:
    """An integer literal; as a float from ``EXACT`` on, where JSON numbers are not exact integers any more."""
    if len(digits) > 310:
        raise ValueError("a number too large for a double")
    value = int(digits)
    return value if abs(value) < EXACT else float(value)


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a duplicate key")
    return found
