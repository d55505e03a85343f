"""Labs as people have them, by `nightlab check` and `nightlab run`: python benchmarks/everyday_labs.py

Small labs of many kinds, most after public bug reports of tools of this kind. In each, `nightlab check`, then
`nightlab run -n 1`. A run works if it exits with 0 and its baseline has the right value. `check` should be green (or
say a note) where the run works, and red where it can't. ``--only WORDS`` picks labs, ``--program COMMAND`` another
nightlab. Labs that need uv, poetry or git-lfs are left out where these are not installed.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from everyday_labs_made import LABS, Lab
from machine import heading, table

SECONDS = 300.0
LONGEST = 110  # characters of a cell


@dataclass
class Result:
    check: str
    run: str
    agrees: bool


def measure(lab: Lab, place: Path, program: list[str]) -> Result:
    """Make the lab below ``place``, check it and run it."""
    place.mkdir()
    home = place / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TERM", "PYTHONPATH")}
    made = lab.make(place, {**kept, "HOME": str(home), "NO_COLOR": "1"})
    checked = _run([*program, "check"], made.folder, made.environ)
    ran = _run([*program, "run", "-n", "1", "--plain", "--tag", "t", *lab.options], made.folder, made.environ)
    faults = [line[5:] for line in checked.stdout.splitlines() if line.startswith(("FAIL", "fail", "no  "))]
    notes = [line[5:] for line in checked.stdout.splitlines() if line.startswith("note ") and not _usual(line)]
    said = (checked.stderr.strip().splitlines() or [""])[0]
    green = checked.returncode == 0
    words = "green" if green and not notes else f"note: {notes[-1]}" if green else f"red: {(faults or [said])[-1]}"
    value = _baseline(made.folder)
    works = ran.returncode == 0 and value == lab.value
    why = next((line for line in ran.stderr.splitlines() if line), "")
    told = f"works: {value}" if works else f"wrong: {value}" if ran.returncode == 0 else f"fails: {why}"
    return Result(_short(words, place), _short(told, place), works == green or (bool(notes) and green))


def _run(argv: list[str], folder: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, cwd=folder, env=environ, capture_output=True, text=True, errors="replace", timeout=SECONDS,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def _usual(line: str) -> bool:
    """Notes that each of these labs has."""
    return any(words in line for words in ("only the candidate's claim", "sampled twice", "never attacked"))


def _baseline(folder: Path) -> str:
    found = folder / ".nightlab" / "t" / "results.tsv"
    rows = found.read_text(encoding="utf-8").splitlines()[1:2] if found.exists() else []
    return f"{float(rows[0].split(chr(9))[1]):g}" if rows else "none"


def _short(words: str, place: Path) -> str:
    for prefix in ("its command fails in the sandbox: ", "nightlab: ", "the baseline can't be measured: ", "crashed: "):
        words = words.replace(prefix, "")
    words = words.replace(str(place), "…").replace("|", "/").replace("*", "")
    return words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--only", default="")
    ask.add_argument("--program", type=shlex.split, default=[str(Path(sys.executable).with_name("nightlab"))])
    wanted = ask.parse_args()
    rows, disagree = [], 0
    heading("labs as people have them")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp"), ignore_cleanup_errors=True) as top:
        for number, lab in enumerate(lab for lab in LABS if wanted.only in f"{lab.family}: {lab.name}"):
            if lab.needs and not shutil.which(lab.needs):
                rows.append((lab.family, lab.name, f"not tried: no {lab.needs} here", ""))
                continue
            found = measure(lab, Path(top, str(number)), wanted.program)
            disagree += not found.agrees
            rows.append((lab.family, lab.name, found.check, found.run + ("" if found.agrees else " (!)")))
            print(rows[-1], file=sys.stderr, flush=True)
    table(("family", "lab", "`check`", "`run`"), rows)
    print(f"{len(rows)} labs; in {disagree} `check` and `run` disagree (!)")
    raise SystemExit(bool(disagree))


if __name__ == "__main__":
    main()
