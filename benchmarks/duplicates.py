"""Which edits are seen through, and what that costs: python benchmarks/duplicates.py [--sizes 1000 1000000]

Rewrites the genomes of the labs that ship in ways that change nothing, and in ways that change something, and counts
which of them have the original's fingerprint. Then it times the look-up in ledgers of several lengths.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from machine import heading, table

import nightlab
from nightlab.core.events import Proposed
from nightlab.core.program.canonical import fingerprint, identifiers
from nightlab.core.types import Candidate
from nightlab.proposers import change_constants, find_constants
from nightlab.storage.ledger import Ledger, tables

LABS = Path(nightlab.__file__).parent / "labs"
GENOMES = {"lm": "train.py", "speed": "solve.py"}
LOOKS = 200

SMALL = '''\
import math

RATE = {"cuda": 0.1, "cpu": 0.04}[DEVICE]
STEPS = 2**4
SEED = 7


def norm(x):
    total = sum(v * v for v in x)
    return math.sqrt(total)


def scale(x, by=2.0):
    """Twice as much."""
    length = norm(x)
    result = []
    for v in x:
        result.append(v * by / length)
    return result


def train(data, seed=SEED):
    best = None
    for step in range(STEPS):
        rate = RATE * (1 - step / STEPS)
        moved = [v - rate * v for v in scale(data)]
        if best is None or norm(moved) < best:
            best = norm(moved)
    return best
'''

SAME = {  # what is written instead of what, in SMALL
    "a comment": ("import math", "import math  # for the roots"),
    "blank lines": ("\n\n\ndef", "\n\n\n\n\ndef"),
    "a docstring taken out": ('    """Twice as much."""\n', ""),
    "a docstring put in": ("def norm(x):\n", 'def norm(x):\n    """How long."""\n'),
    "quotes": ('"cpu"', "'cpu'"),
    "a seed": ("SEED = 7", "SEED = 8"),
    "a number in other digits": ("0.04", "4e-2"),
    "a power of two": ("2**4", "16"),
    "only this device's entry": ('{"cuda": 0.1, "cpu": 0.04}[DEVICE]', "0.04"),
    "another device's entry": ('"cuda": 0.1', '"cuda": 0.3'),
    "a constant renamed": ("STEPS", "MANY"),
    "another one": ("RATE", "FIRST_RATE"),
    "a constant written out": ("range(STEPS)", "range(16)"),
    "a variable renamed": ("length", "far"),
    "another variable": ("best", "least"),
    "one in a loop": ("step ", "turn "),
    "one in a comprehension's function": ("moved", "then"),
    "a comprehension's variable": ("[v - rate * v for v in scale(data)]", "[w - rate * w for w in scale(data)]"),
    "a generator's variable": ("(v * v for v in x)", "(w * w for w in x)"),
    "brackets": ("(1 - step / STEPS)", "(1 - (step / STEPS))"),
    "constants in another order": ("STEPS = 2**4\nSEED = 7", "SEED = 7\nSTEPS = 2**4"),
}
OTHER = {
    "a constant": ("0.04", "0.05"),
    "another constant": ("2**4", "2**5"),
    "a default": ("by=2.0", "by=3.0"),
    "an integer for a float": ("by=2.0", "by=2"),
    "an operator": ("v * by", "v + by"),
    "a side": ("v * by / length", "length * by / v"),
    "a comparison": ("< best", "<= best"),
    "the order of operations": ("(1 - step / STEPS)", "((1 - step) / STEPS)"),
    "a call": ("math.sqrt", "math.cbrt"),
    "another variable's value": ("return best", "return rate"),
    "a variable that shadows": ("rate * v for", "rate * best for"),
    "a comprehension's other variable": ("[v - rate * v for", "[v - rate * step for"),
    "what a comprehension goes through": ("for v in scale(data)", "for v in data"),
    "a parameter's name": ("def scale(x, by=2.0)", "def scale(x, with_=2.0, by=2.0)"),
    "a function's name": ("def train(", "def fit("),
    "a statement more": ("    return best", "    best += 0\n    return best"),
    "a statement less": ("    return math.sqrt(total)", "    return total"),
    "an indentation": ("(moved)\n    return", "(moved)\n            return"),
    "which constant": ("range(STEPS)", "range(int(RATE))"),
    "a statement's place": ("    length = norm(x)\n    result = []", "    result = []\n    length = norm(result)"),
}  # fmt: skip


def planted(labs: list[str]) -> Iterator[tuple[bool, str, str, str]]:
    """Whether it is the same, which edit, the text before, the text after."""
    for same, edits in ((True, SAME), (False, OTHER)):
        for name, (old, new) in edits.items():
            after = SMALL.replace(old, new)
            assert after != SMALL, name
            yield same, name, SMALL, after
    for lab in labs:
        yield from _of_a_lab((LABS / lab / GENOMES[lab]).read_text())


def _of_a_lab(text: str) -> Iterator[tuple[bool, str, str, str]]:
    yield True, "unparsed", text, ast.unparse(ast.parse(text))
    yield True, "a comment on every line", text, re.sub(r"(?m)^(\w+ = [^\"'\[{(\n#]+)$", r"\1  # so", text)
    for name, renamed in _renamed(text):
        yield True, f"{name} renamed", text, renamed
    for first, second, swapped in _swapped_functions(text):
        yield True, f"{first} and {second} in another order", text, swapped
    constants = find_constants(text, "cpu")
    for name, constant in constants.items():
        value = constant.value
        if isinstance(value, int | float) and not isinstance(value, bool) and "SEED" not in name:
            yield False, f"{name} moved", text, change_constants(text, "cpu", {name: value * 2 + 1})
    for name, changed in _other_code(text):
        yield False, name, text, changed


def _renamed(text: str) -> Iterator[tuple[str, str]]:
    """Constants and variables, each with another name; those that others read, or strings speak of, not."""
    tree = ast.parse(text)
    frozen = _outside("lm")
    spoken = {
        w
        for n in ast.walk(tree)
        if isinstance(n, ast.Constant) and isinstance(n.value, str)
        for w in identifiers(n.value)
    }
    bound = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    read = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    attributes = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    keywords = {n.arg for n in ast.walk(tree) if isinstance(n, ast.keyword | ast.arg)}
    names = [n for n in find_constants(text, "cpu") if bound.count(n) == 1 and n in read - spoken - frozen - attributes]
    for name in [*names, *sorted({n for n in bound if n.islower()} & read - spoken - frozen - attributes - keywords)]:
        yield name, re.sub(rf"\b{name}\b", f"{name}_again" if name.islower() else f"{name}_AGAIN", text)


def _swapped_functions(text: str) -> Iterator[tuple[str, str, str]]:
    """Neighbouring functions without decorators in each other's place."""
    tree, lines = ast.parse(text), text.splitlines(keepends=True)
    for one, two in zip(tree.body, tree.body[1:], strict=False):
        if all(isinstance(n, ast.FunctionDef) and not n.decorator_list for n in (one, two)):
            a, b, c, d = one.lineno - 1, one.end_lineno, two.lineno - 1, two.end_lineno
            assert isinstance(one, ast.FunctionDef) and isinstance(two, ast.FunctionDef)
            swapped = [*lines[:a], *lines[c:d], *lines[b:c], *lines[a:b], *lines[d:]]
            yield one.name, two.name, "".join(swapped)


def _other_code(text: str) -> Iterator[tuple[str, str]]:
    """One arithmetic operator, or the order of one operator's sides, changed at a time."""
    count = sum(isinstance(n, ast.BinOp) for n in ast.walk(ast.parse(text)))
    for n in range(count):
        for what in ("operator", "sides"):
            tree = ast.parse(text)
            node = [x for x in ast.walk(tree) if isinstance(x, ast.BinOp)][n]
            before = ast.dump(node)
            if what == "operator":
                node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
            else:
                node.left, node.right = node.right, node.left
            if ast.dump(node) != before and not _table(tree, node):
                yield f"{what} {n}, line {node.lineno}", ast.unparse(tree)


def _table(tree: ast.Module, node: ast.BinOp) -> bool:
    """Whether it stands in a table by device, where a change may be another device's."""
    return any(isinstance(d, ast.Dict) and node in ast.walk(d) for d in ast.walk(tree))


def _outside(lab: str) -> set[str]:
    return {w for p in (LABS / lab).glob("*.*") if p.name not in GENOMES.values() for w in identifiers(p.read_text())}


def counts(labs: list[str]) -> tuple[list[list[str]], int]:
    """A row for each kind: how many, how many have the same fingerprint; and how many different ones were refused."""
    found: dict[bool, list[tuple[str, bool]]] = {True: [], False: []}
    outside, known = _outside("lm") | _outside("speed"), dict[str, str]()
    for same, name, before, after in planted(labs):
        known[before] = known.get(before) or fingerprint({"genome.py": before}, "cpu", outside)
        found[same].append((name, known[before] == fingerprint({"genome.py": after}, "cpu", outside)))
    missed = [name for name, equal in found[True] if not equal]
    wrong = [name for name, equal in found[False] if equal]
    rows = [
        ["the same in other words", f"{len(found[True])}", f"{len(found[True]) - len(missed)}", "; ".join(missed[:6])],
        ["something else", f"{len(found[False])}", f"{len(wrong)}", "; ".join(wrong[:6])],
    ]
    return rows, len(wrong)


def look_ups(sizes: list[int]) -> Iterator[list[str]]:
    """Milliseconds of a look-up that finds nothing, and of one that finds the middle one, in ledgers of these sizes."""
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            ledger = Ledger(Path(folder) / "ledger.db")
            ledger._db.execute("PRAGMA synchronous = OFF")
            with ledger.at_once():
                for n in range(size):
                    one = Candidate(f"c{n}", "c0", f"t{n}", "tuner", "x", program=_hash(n))
                    tables.apply(ledger._db, Proposed(n, one), float(n))
            none = _milliseconds(ledger, range(-LOOKS, 0))
            some = _milliseconds(ledger, range((size - LOOKS) // 2, (size + LOOKS) // 2))
            ledger.close()
            yield [f"{size:,}", f"{none:.3f}", f"{some:.3f}"]


def _hash(n: int) -> str:
    return hashlib.sha256(json.dumps(n).encode()).hexdigest()


def _milliseconds(ledger: Ledger, numbers: range) -> float:
    times = []
    for n in numbers:
        begun = time.perf_counter()
        found = ledger.find_program(_hash(n))
        times.append(1e3 * (time.perf_counter() - begun))
        assert (found.number if found else -1) == max(n, -1)
    return statistics.median(times)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--sizes", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    ask.add_argument("--labs", nargs="+", choices=GENOMES, default=list(GENOMES))
    wanted = ask.parse_args()
    heading("duplicates: programs that are the same in other words")
    rows, wrong = counts(wanted.labs)
    table(["planted", "edits", "of these seen as the same", "namely, where that is wrong"], rows)
    text = (LABS / "lm" / "train.py").read_text()
    begun = time.process_time()
    fingerprint({"train.py": text}, "cpu")
    took = 1e3 * (time.process_time() - begun)
    print(f"a fingerprint of the lm lab's genome, {len(text.splitlines())} lines: {took:.0f} ms of CPU time\n")
    table(["experiments", "ms to find none", "ms to find one"], list(look_ups(wanted.sizes)))
    if wrong:
        sys.exit("a program that is different was taken for the same")


if __name__ == "__main__":
    main()
