"""Words that we do not use, and better ones: ``python tools/vocabulary.py`` names file and line of each, and fails.

One term for a thing (docs/concepts.md has the table), and plain English. What is persisted or an interface keeps its
name: ``KEPT`` lists where a word is allowed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
BETTER = {
    "abroad": "commons, elsewhere",
    "crew": "scheduler",
    "doors?": "egress proxy, interface",
    "heed(?:s|ed|ing)?": "apply, respect",
    "hopeless": "unpromising",
    "mend(?:s|ed|ing|able)?": "fix, hint",
    "nobody(?:'s)?": "no one; or name the subject",
    "of (?:its|their|his|her|our|your|my) own": "separate, private, its",
    "so many": "the number",
    "somebody(?:'s)?": "name the subject: another lab, the user",
    "strangers' words": "untrusted text",
    "thoughts?": "proposal, a proposer's turn",
    "transplants?": "commons proposer",
    "upkeep": "champion re-check",
    "who(?:m)?ever": "name the subject",
}
KEPT = [  # keys of lab.toml, events and values in ledgers, keys of JSON, names in the log, the page's own address
    "judge.upkeep",
    "upkeep: int",
    "hopeless: float",
    "judge.hopeless",
    "hopeless = 0.05",
    "`transplant`",
    "--by transplant",
    '"transplant"',
    '"upkeep"',
    "'upkeep'",
    '"hopeless"',
    "told?.mend",
    "picture.mend",
    '"mend"',
    "`nobody`",
    '"nobody"',
    "NOBODY",
    "_chown_to_nobody",
]
EXCEPT = ["docs/upgrading.md"]  # it names the old words
PATTERN = re.compile(rf"(?<![a-z])(?:{'|'.join(f'({words})' for words in BETTER)})(?![a-z])", re.IGNORECASE)


def files() -> Iterator[Path]:
    yield from (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
    for path in sorted((ROOT / "src").rglob("*")):
        if path.suffix in (".py", ".md", ".js", ".html"):
            yield path


def faults(text: str) -> Iterator[tuple[int, str, str]]:
    """The line, the word and the better one of each word in a text that we do not use."""
    for kept in KEPT:
        text = text.replace(kept, " " * len(kept))
    for number, line in enumerate(text.splitlines(), 1):
        for found in PATTERN.finditer(line):
            assert found.lastindex
            yield number, found.group(), list(BETTER.values())[found.lastindex - 1]


def main() -> int:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word!r}: better: {better}"
        for path in files()
        if str(path.relative_to(ROOT)) not in EXCEPT
        for number, word, better in faults(path.read_text())
    ]
    print("\n".join(found) if found else "the words are ours")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
