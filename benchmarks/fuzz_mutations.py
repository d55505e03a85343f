"""How benchmarks/fuzz_commons.py changes an input: its bytes, or what its JSON says, hashed and signed again."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

import atheris
from support.commons_examples import key

from nightlab.commons.canonical import canonical_json
from nightlab.commons.record import author_of

VALUES: list[Any] = [
    None, True, -1, 0, 1, 2, 0.5, 1e308, -1e308, 5e-324, 2**53, 2**63, "", "x" * 401, "\u202e\x1b[31m\n", "\ud800",
    [], {}, "0" * 64, "finding", "verification", "threat", "retraction", "keep", "maximise", "2026-99-99T99:99:99Z",
    "../../x",
]  # fmt: skip


def mutate(raw: bytes, size: int, seed: int) -> bytes:
    """Half of the time bytes; else, where it is JSON, what it says, hashed and signed again every other time."""
    draw, kind = random.Random(seed), raw[:1]
    if draw.random() < 0.5 or kind not in b"rlf":
        return kind + atheris.Mutate(raw[1:], size - 1)
    try:
        said = json.loads(raw[1:])
        for _ in range(draw.choice((1, 1, 1, 2, 4))):
            alter(said, draw)
        if draw.random() < 0.7:
            signed = said if kind == b"r" else said["record"]
            resign(signed, draw)
            if kind == b"l":
                said["message"] = signed["id"]
            elif kind == b"f" and draw.random() < 0.8:
                said["lines"][-1] = signed["id"] + "\n"
        made = kind + canonical_json(said)
        return made if len(made) <= size else raw
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return kind + atheris.Mutate(raw[1:], size - 1)


def alter(value: Any, draw: random.Random) -> None:
    """Change something, anywhere within."""
    while isinstance(value, (dict, list)) and value:
        at = draw.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if isinstance(value[at], (dict, list)) and value[at] and draw.random() < 0.85:
            value = value[at]
            continue
        how = draw.random()
        if how < 0.15:
            del value[at]
        elif how < 0.3 and isinstance(value, dict):
            value[draw.choice(("v", "kind", "genes", "x", "\u20ac", at + "_"))] = draw.choice(VALUES)
        elif how < 0.4 and isinstance(value, list):
            value.extend(json.loads(json.dumps([value[at]] * draw.choice((1, 3, 201)))))
        elif how < 0.7 and isinstance(value[at], str):
            old, place = value[at], draw.randrange(len(value[at]) + 1)
            value[at] = (
                old[:place] + draw.choice(("", "0", "f", "é", "\n", " ", old)) + old[place + draw.randrange(2) :]
            )
        elif how < 0.85 and isinstance(value[at], (int, float)):
            value[at] = value[at] * draw.choice((-1, 0, 10, 1e155, 0.1)) + draw.choice((-1, 0, 1, 1e-9))
        else:
            value[at] = draw.choice(VALUES)
        return


def resign(signed: dict[str, Any], draw: random.Random) -> None:
    """Make a record's name and signature those of what it says now, by an author who has the key."""
    record = signed["record"]
    if isinstance(record.get("task"), dict) and draw.random() < 0.8:
        record["task"].pop("id", None)
        record["task"]["id"] = hashlib.sha256(canonical_json(record["task"])).hexdigest()
    if draw.random() < 0.9:
        record["author"] = author_of(key())
    name = hashlib.sha256(canonical_json(record)).digest()
    signed["id"], signed["signature"] = name.hex(), key().sign(name).hex()
