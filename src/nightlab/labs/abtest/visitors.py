"""Frozen: shows the genome's page to visitors and prints how many of them signed up.

nightlab runs it as the evaluator. The page is read as data: a line that is no constant is no page. By hand:
python visitors.py

To test your page, let ``shown`` ask your experiment platform, and print its counts in the same way.
"""

import ast
import math
import random
import sys
from pathlib import Path

VISITORS, MOST_BYTES = 2_000, 10_000
CHOICES = {
    "HEADLINE": ("product", "benefit", "question"),
    "BUTTON": ("blue", "green", "orange"),
    "PICTURE": ("team", "screen", "none"),
    "FIELDS": range(2, 11),
    "QUOTES": range(7),
    "COUNTDOWN": ("no", "yes"),
}


class NoPage(Exception):
    """The genome is no page."""


def read(text):
    """The page's constants by name. Raises NoPage for anything but one allowed value of each."""
    try:
        _, *lines = ast.parse(text).body  # the first is what the file says of itself
        pairs = [(line.targets[0].id, ast.literal_eval(line.value)) for line in lines]
    except (SyntaxError, ValueError, AttributeError, MemoryError, RecursionError) as error:
        raise NoPage(f"page.py has to be a text and constants: {type(error).__name__}") from None
    page = dict(pairs)
    if len(page) != len(pairs) or page.keys() != CHOICES.keys():
        raise NoPage(f"page.py has to set {', '.join(CHOICES)}, each once")
    for name, value in page.items():
        if type(value) is not type(CHOICES[name][0]) or value not in CHOICES[name]:
            raise NoPage(f"{name} can't be {str(value)[:40]!r}: {', '.join(map(str, CHOICES[name]))}")
    return page


def chance(page):
    """How likely it is that a visitor signs up: what no one knows of real visitors."""
    taste = -2.2
    taste += {"product": 0.0, "benefit": 0.25, "question": 0.0}[page["HEADLINE"]]
    taste += {"team": 0.0, "screen": 0.12, "none": -0.1}[page["PICTURE"]]
    taste += 0.05 * min(page["QUOTES"], 3) - 0.05 * max(page["QUOTES"] - 4, 0)
    taste -= 0.09 * max(page["FIELDS"] - 3, 0) - 0.36
    taste -= {"no": 0.0, "yes": 0.3}[page["COUNTDOWN"]]
    return 1 / (1 + math.exp(-taste))


def shown(page):
    """How many of the visitors signed up. Not from the trial's seed: no visitor comes twice."""
    draw, likely = random.SystemRandom(), chance(page)
    return sum(draw.random() < likely for _ in range(VISITORS))


def main():
    try:
        with Path("page.py").open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise NoPage(f"page.py has more than {MOST_BYTES:,} bytes")
        page = read(raw.decode())
    except (NoPage, UnicodeDecodeError) as error:
        print(f"no page: {error}")
        sys.exit(4)
    print(f"METRIC signups={shown(page)}/{VISITORS}")


if __name__ == "__main__":
    main()
