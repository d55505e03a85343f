"""Keeps private data out of the commons: secrets block sharing; paths and machine names are removed from free text.

The patterns guard against accidents. They cannot find a secret that looks like ordinary text, so what would be shared
is also shown to the user first.
"""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

SECRETS = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "an access key of AWS": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a token of GitHub": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})"),
    "a token of GitLab": re.compile(r"\bglpat-[A-Za-z0-9_-]{18,}"),
    "a token of Hugging Face": re.compile(r"\bhf_[A-Za-z0-9]{30,}"),
    "a key of a model's API": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    "a token of Slack": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "a key of Google": re.compile(r"\bAIza[A-Za-z0-9_-]{35}"),
    "a JSON web token": re.compile(
        r"(?<![A-Za-z0-9_-])(?>[A-Za-z0-9_-]*?\beyJ)[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\."  # once in each run
    ),
    "a password in an address": re.compile(r"(?<![a-z0-9+.-])[a-z0-9+.-]+://[^\s/:@]+:[^\s/@]+@"),
    "something called a secret": re.compile(
        r"""(?i)(?:api[_-]?key|secret|passw(?:or)?d|token)["']?\s*[:=]\s*["'][^"'\s]{12,}["']"""
    ),
}
HOME = re.compile(r"(?<![\w.~-])(?:/home/|/Users/|/root\b/?|[A-Z]:\\Users\\)[^\s\"'`,;:)\]}]*")


def find_private(text: str) -> list[str]:
    """What in a text must not be shared, by line: for text that can't be altered, such as a patch."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        found += [f"line {number} holds {what}" for what, pattern in SECRETS.items() if pattern.search(line)]
        if HOME.search(line) or str(Path.home()) in line:
            found.append(f"line {number} holds a path of a home folder")
        if _host_in(line):
            found.append(f"line {number} holds this machine's name")
    return found


def scrub(words: str) -> str:
    """Free text without secrets, home paths and this machine's name."""
    for what, pattern in SECRETS.items():
        words = pattern.sub(f"[{what}]", words)
    words = HOME.sub("[a path]", words.replace(str(Path.home()), "~"))
    host = _host()
    return re.sub(rf"\b{re.escape(host)}\b", "[this machine]", words) if host else words


def _host_in(line: str) -> bool:
    host = _host()
    return bool(host) and re.search(rf"\b{re.escape(host)}\b", line) is not None


def _host() -> str:
    """This machine's name; empty if it is short or common enough to be an ordinary word."""
    host = platform.node() or os.environ.get("HOSTNAME", "")
    return host if len(host) >= 6 and host not in ("localhost", "machine", "server") else ""
