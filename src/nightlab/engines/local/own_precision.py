"""How precise a number is by the program's own account: ``0.61 ± 0.02``, or ``61/100`` successes in trials."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

PLUS_MINUS = re.compile(r"±|\+/-|\+-")
COUNTS = re.compile(r"(?P<successes>\d[\d,]*)[ \t]*/[ \t]*(?P<trials>\d[\d,]*)")
LARGEST = 10**15  # of a count: larger ones are no whole numbers as floats
UNIT = re.compile(r"[^\W\d_%±][^\s]*$|%$")


@dataclass(frozen=True, slots=True)
class StatedNumber:
    """A number with its standard error, and the successes and trials that it is made of, as far as it says them."""

    value: float
    error: float | None = None
    counts: tuple[int, int] | None = None


def stated_number(text: str, read: Callable[[str], float | None]) -> StatedNumber | None:
    """The number that ``text`` writes, with its own precision; None if it has none. ``read`` reads a plain number.

    Raises ValueError, in words, where the number's precision is impossible.
    """
    text = text.strip().strip("'\"")
    if counts := COUNTS.fullmatch(text):
        successes, trials = (int(counts[name].replace(",", "")) for name in ("successes", "trials"))
        return of_counts(successes, trials)
    number, *rest = map(str.strip, PLUS_MINUS.split(text, maxsplit=1))
    if not rest or not number:
        return None
    number, error = _same_unit(number, rest[0])
    value, known = read(number), read(error)
    if value is None:
        return None
    if known is None or not known >= 0:
        raise ValueError("a standard error is a number that is not negative")
    return StatedNumber(value, known)


def of_counts(successes: int, trials: int) -> StatedNumber:
    """A proportion, with the standard error of a binomial one; it is not zero where all trials end alike.

    Raises ValueError for counts that can't be.
    """
    if trials == 0:
        raise ValueError("there are no trials")
    if successes > trials:
        raise ValueError("there are more successes than trials")
    if trials > LARGEST:
        raise ValueError("there are too many trials")
    smoothed = (successes + 0.5) / (trials + 1)  # the mean under the prior of Jeffreys
    return StatedNumber(successes / trials, math.sqrt(smoothed * (1 - smoothed) / trials), (successes, trials))


def _same_unit(number: str, error: str) -> tuple[str, str]:
    """Both in words with the unit of either: ``0.61 ± 0.02 ms``, ``0.61 ms ± 0.02``."""
    first, second = (UNIT.search(text.split()[-1]) if text else None for text in (number, error))
    if second and not first:
        return f"{number} {second[0]}", error
    if first and not second:
        return number, f"{error} {first[0]}"
    return number, error
