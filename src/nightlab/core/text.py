"""Untrusted text made harmless: the one place where what a stranger wrote becomes text that others may see."""

from __future__ import annotations

import re

NO_BYTE = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")  # lone surrogates that stand for no byte
METRIC_NAME = r"[\w.µ/-]+"  # what METRIC lines and the contract may call a metric
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
# Control characters, and whatever is not seen: direction marks, joiners, fillers, variation selectors, and the
# tag characters in which instructions are hidden from people.
CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    r"\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)


def plain(raw: bytes | str, limit: int = 4000) -> str:
    """Text without terminal escapes, control or direction characters, at most ``limit`` characters.

    The middle goes when it is too long: the head says what ran, the tail how it ended.
    """
    text = raw.decode("utf-8", errors="replace") if isinstance(raw, bytes) else raw
    text = CONTROLS.sub("", ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"
    return text


def one_line(raw: str, limit: int = 400) -> str:
    """Untrusted text, made harmless, in one line: a hypothesis, a reason."""
    line = " ".join(plain(raw, 10 * limit).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def typed(argument: str) -> str:
    """The text of a command-line argument: bytes that the locale could not decode are read as UTF-8."""
    return NO_BYTE.sub("\ufffd", argument).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def counted(number: int, noun: str) -> str:
    """``1 trial``, ``2,000 trials``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
