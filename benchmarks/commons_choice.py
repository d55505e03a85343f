"""What a session spends on choosing among others' findings: python benchmarks/commons_choice.py

A remote is filled with the findings of labs that this one knows, each on the one before; then a session chooses: for
the first time, again, and where its share allows no turn. CPU time of this process.
"""

from __future__ import annotations

import argparse
import difflib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from commons_scale import key, published
from machine import heading, table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.commons_examples import finding, git
from support.commons_users import MORE
from support.labs import lab_in

from nightlab.commons.finding import task_of
from nightlab.commons.places import open_commons
from nightlab.commons.proposer import CommonsProposer
from nightlab.commons.record import author_of, genome_id, sign
from nightlab.commons.sync import sync_commons
from nightlab.judge import Noise

PLACES = 400  # constants of the genome
START = "".join(f"X{place} = 0.0\n" for place in range(PLACES)) + "A = 4.0\nB = 8\n"
GAIN, SIGMA = 0.01, 0.05


def chain(number: int, task: dict[str, Any], findings: int) -> Iterator[bytes]:
    """A lab's findings, each of another constant on the genome before, for git fast-import."""
    own, draw, genome, prev = key(number + 1), random.Random(number), START, None
    name, value = author_of(own), 11.5
    for seq in range(findings):
        place, lines = draw.randrange(PLACES), genome.splitlines(keepends=True)
        lines[place] = f"X{place} = {draw.random():.6f}\n"
        after = "".join(lines)
        diff = difflib.unified_diff(genome.splitlines(keepends=True), lines, "a/genome.py", "b/genome.py")
        patch = "diff --git a/genome.py b/genome.py\n" + "".join(diff)
        facts = {
            "task": task,
            "parent": genome_id({"genome.py": genome}),
            "genome": genome_id({"genome.py": after}),
            "hypothesis": f"a better X{place}",
            "changes": [lines[place].strip()],
            "runs": [{"seed": 1, "value": value - GAIN}],
            "against": [{"seed": 1, "value": value}],
        }
        record = finding(patch=patch, **facts).model_copy(update={"author": name, "seq": seq, "prev": prev})
        signed = sign(record, own)
        yield published(signed, patch)
        genome, prev, value = after, signed.id, value - GAIN


def choices(place: Path, labs: int, findings: int) -> list[float]:
    """CPU seconds of the first choice, of one more, and of one where there is no turn."""
    os.environ |= {"XDG_DATA_HOME": str(place / "data"), "XDG_CONFIG_HOME": str(place / "config")}
    remote = place / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "--template=", remote], check=True)
    known = ", ".join(f'"{author_of(key(number + 1))}"' for number in range(labs))
    lab = lab_in(place, START, more=MORE.format(remote=remote) + f"known = [{known}]\n")
    session = lab.run()[1]
    task = task_of(session).model_dump()
    stream = b"".join(line for number in range(labs) for line in chain(number, task, findings))
    git(remote, "fast-import", "--quiet", stdin=stream + b"done\n")
    taken = sync_commons(lab.folder, open_commons(), None, None)[0].taken
    assert taken.records == labs * findings, taken
    proposer, seconds = CommonsProposer(session, {}, set(), lambda: Noise(SIGMA, 100.0)), list[float]()
    for had in (0, 0, 100):
        proposer._count, begun = had, time.process_time()
        proposer.choose([])
        seconds.append(time.process_time() - begun)
        assert (proposer._next is None) == (had > 0)
    session.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labs", type=int, nargs="+", default=[10, 40])
    parser.add_argument("--findings", type=int, default=50, help="of each lab")
    asked = parser.parse_args()
    heading("Choosing among the findings of labs that this one knows, CPU time")
    rows = []
    for labs in asked.labs:
        with tempfile.TemporaryDirectory(prefix="nightlab-choice-") as place:
            seconds = choices(Path(place), labs, asked.findings)
        rows.append([str(labs), f"{labs * asked.findings:,}", *(f"{each:.2f} s" for each in seconds)])
    table(("labs", "findings", "first choice", "again", "without a turn"), rows)


if __name__ == "__main__":
    main()
