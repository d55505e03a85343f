"""Records to test with: one of each kind, by an author whose key is fixed."""

from __future__ import annotations

import hashlib
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nightlab.commons.exchange import Commons
from nightlab.commons.record import (
    Finding,
    Retraction,
    Revocation,
    Signed,
    Threat,
    Transfer,
    Verification,
    author_of,
    revoke,
    sign,
    task_id,
)

PATCH = """\
diff --git a/genome.py b/genome.py
--- a/genome.py
+++ b/genome.py
@@ -1,2 +1,2 @@
-A = 4.0  # [0.25..8 log]
+A = 1.5  # [0.25..8 log]
 B = 8  # [1..16]
"""
AT = "2026-11-21T06:00:00Z"
PLATFORM = {
    "device": "cpu",
    "accelerator": "",
    "processor": "AMD EPYC",
    "cores": 2,
    "system": "Linux",
    "python": "Python 3.11.7",
}


@cache
def key(number: int = 0) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


@cache
def author(number: int = 0) -> str:
    return author_of(key(number))


def some_hash(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()


def task(**changed: Any) -> dict[str, Any]:
    facts = {
        "frozen_sha256": some_hash("frozen"),
        "data_sha256": None,
        "budget": {"clock": "wall", "amount": 20.0},
        "metric": {"name": "loss", "goal": "minimise", "unit": ""},
        **changed,
    }
    return {"id": task_id(facts), **facts}


def stated(kind: str, number: int = 0, seq: int = 0, prev: str | None = None) -> dict[str, Any]:
    return {"v": 1, "kind": kind, "author": author(number), "seq": seq, "prev": prev, "at": AT}


def finding(number: int = 0, seq: int = 0, prev: str | None = None, patch: str = PATCH, **changed: Any) -> Finding:
    facts = {
        **stated("finding", number, seq, prev),
        "task": task(),
        "portable": [],
        "platform": PLATFORM,
        "parent": some_hash("parent"),
        "genome": some_hash("genome"),
        "patch": {
            "git": hashlib.sha1(b"blob %d\0" % len(patch.encode()) + patch.encode()).hexdigest(),
            "sha256": some_hash(patch),
            "bytes": len(patch.encode()),
        },
        "hypothesis": "a smaller A, because the loss is a parabola",
        "changes": ["A 4.0 → 1.5"],
        "status": "keep",
        "reason": "improved",
        "runs": [{"seed": 1, "value": 2.75}],
        "against": [{"seed": 1, "value": 11.5}],
        "requires": {"devices": ["cpu"], "memory_mb": 11.25, "gpu_memory_mb": 0, "dtypes": [], "libraries": {}},
        "inspired_by": [],
        **changed,
    }
    return Finding.model_validate(facts)


def examples() -> list[Signed]:
    """One record of each kind, the chain of one author."""
    one = sign(finding(), key())
    facts = {
        **stated("verification", 0, 1, one.id),
        "target": some_hash("another's"),
        "task": task()["id"],
        "platform": PLATFORM,
        "parent": some_hash("parent"),
        "verdict": "refuted",
        "detail": "claimed 8.75, measured 1e-07",
        "adopted": False,
        "runs": [{"seed": 10002, "value": 11.5}],
        "against": [{"seed": 1, "value": 11.4999999}],
        "sigma": 0.0046,
    }
    two = sign(Verification.model_validate(facts), key())
    why = {"target": one.id, "why": "the evaluator had a fault"}
    three = sign(Retraction.model_validate({**stated("retraction", 0, 2, two.id), **why}), key())
    threat = {
        **stated("threat", 0, 3, three.id),
        "target": some_hash("another's"),
        "category": "tampering",
        "evidence_sha256": None,
        "detail": "measure.py was changed",
    }
    four = sign(Threat.model_validate(threat), key())
    facts = {**stated("revocation", 0, 4, four.id), **revoke(key(9), 7)}
    five = sign(Revocation.model_validate(facts), key())
    return [one, two, three, four, five, sign(transfer(80.0, 0.5, seq=5, prev=five.id), key())]


def transfer(amount: float, low: float, target: str = "another's", seq: int = 0, prev: str | None = None) -> Transfer:
    """What a finding gained at a budget of ``amount`` seconds: 1.0, and at least ``low``."""
    facts = {
        **stated("transfer", 0, seq, prev),
        "target": some_hash(target),
        "setting": f"{amount:g} s of wall-clock time",
        "budget": {"clock": "wall", "amount": amount},
        "platform": PLATFORM,
        "gain": low + 0.5,
        "low": low,
        "high": low + 1.0,
        "pairs": 3,
    }
    return Transfer.model_validate(facts)


def body(value: float = 2.75, patch: str = PATCH) -> tuple[dict[str, Any], bytes]:
    """A finding's body, as a lab shares it."""
    facts = finding(patch=patch, runs=[{"seed": 1, "value": value}]).model_dump()
    return {name: facts[name] for name in facts if name not in ("v", "author", "seq", "prev")}, patch.encode()


def values(where: Commons) -> list[float]:
    found = [entry.signed.record for chain in where.entries().values() for entry in chain]
    return sorted(record.runs[0].value for record in found if isinstance(record, Finding))


def git(folder: Path, *args: str, stdin: bytes = b"") -> str:
    done = subprocess.run(["git", *args], cwd=folder, input=stdin, capture_output=True, check=True)
    return done.stdout.decode().strip()


def put(remote: Path, author: str, commit: str) -> None:
    git(remote, "update-ref", f"refs/nightlab/{author}", commit)
