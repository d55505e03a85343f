"""Seeds and names of trials that don't tell what a trial is for: drawn with a secret of the session.

The session counts seeds by purpose: 1 for the baseline, 1001 for a confirmation. A program that saw that number could
cheat in the search and be honest in the confirmation. So it is given another, a keyed hash of the first. The secret is
in the ledger, which no trial sees: the same trial gets the same seed again.
"""

from __future__ import annotations

import hmac
import secrets

from nightlab.core.types import Purpose


def fresh_secret() -> str:
    """A new session's secret."""
    return secrets.token_hex(32)


def drawn_seed(secret: str, seed: int) -> int:
    """The seed that a program is given, from 0 to 2**31 - 1; without a secret, in a session of before, ``seed``."""
    return int.from_bytes(_digest(secret, f"seed {seed}")[:4], "big") >> 1 if secret else seed


def trial_name(secret: str, number: int, purpose: Purpose, seed: int, attempt: int) -> str:
    """The name of a trial, which is also that of its folder: of its purpose it says nothing."""
    plain = f"{number:04d}-{purpose}-s{seed}-{attempt}"
    return f"{number:04d}-{_digest(secret, plain)[:6].hex()}" if secret else plain


def _digest(secret: str, text: str) -> bytes:
    return hmac.digest(bytes.fromhex(secret), text.encode(), "sha256")
