"""Tiny labs in real repositories, and the changes that are made to them."""

from __future__ import annotations

import gc
import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightlab.core.config import StopRules
from nightlab.core.observer import Observer
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.session.session import Session
from nightlab.storage.git import Repo

GENOME = """\
A = 4.0  # [0.25..8 log]
B = 8  # [1..16]
"""
MEASURE = """\
from genome import A, B

print(f"METRIC loss={(A - 1) ** 2 + 0.1 * (B - 3) ** 2:.6f}")
"""
CONTRACT = """\
name = "tiny"
genome = ["genome.py"]
command = "python measure.py"

[metric]
name = "loss"

[budget]
amount = 20
startup = 20
evaluation = 20

[judge]
rule = "greedy"
upkeep = 0
confirm = 0

[sandbox]
allow_missing = ["files", "network", "processes", "privileges"]

[[proposers]]
kind = "{proposer}"
"""
SLOW_MEASURE = (
    "import time\nfrom genome import A, B\ntime.sleep(0.4)\nprint(f'METRIC loss={(A - 1) ** 2 + 0.1 * (B - 3) ** 2}')\n"
)


@dataclass
class TinyLab:
    """A lab in a git folder, whose trials take a moment."""

    folder: Path

    def git(self, *args: str) -> str:
        who = ("-c", "user.name=me", "-c", "user.email=me@here")
        return subprocess.run(
            ["git", *who, *args], cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    def write(self, path: str, text: str) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def commit(self, **files: str) -> str:
        """Commit the given files (``genome_py="…"``) and whatever else changed."""
        for name, text in files.items():
            self.write(name.replace("_py", ".py").replace("_toml", ".toml"), text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "a change", "--allow-empty")
        return self.git("rev-parse", "HEAD")

    def idea(self, name: str, genome: str, hypothesis: str = "", *, path: str = "genome.py") -> None:
        """Put a patch into the queue that gives the committed genome this text."""
        repo = Repo(self.folder)
        head = repo.resolve() or ""
        patch = repo.patch(head, repo.commit_files(head, {path: genome}, "x"))
        self.write(f"ideas/{name}.patch", (f"Hypothesis: {hypothesis}\n" if hypothesis else "") + patch)

    def session(self, tag: str = "t", **more: Any) -> Session:
        """The session ``tag``, made if it is not there, open for writing."""
        repo = Repo(self.folder)
        if (self.folder / ".nightlab" / tag / "ledger.db").exists():
            return Session(repo, tag, writer=True)
        return Session.create(repo, tag, **more)

    def run(self, tag: str = "t", *, slots: int = 1, **stop: Any) -> tuple[str, Session]:
        """Run a session in this process until it stops by itself; returns why, and the session, still open."""
        session = self.session(tag)
        return ExperimentLoop(session, StopRules(**stop), Scheduler(session, Observer(), slots)).run(), session

    def copied(self, place: Path) -> TinyLab:
        """A copy with its sessions, for a test that goes on where others begin too.

        A ledger that a test before left open is closed first: the last connection that closes removes the journal,
        and that may not happen amid the copy.
        """
        gc.collect()
        return TinyLab(Path(shutil.copytree(self.folder, place, symlinks=True)))

    def table(self, tag: str = "t") -> list[list[str]]:
        lines = (self.folder / ".nightlab" / tag / "results.tsv").read_text().splitlines()
        return [line.split("\t") for line in lines]


def lab_in(
    place: Path,
    genome: str = GENOME,
    measure: str = MEASURE,
    *,
    proposer: str = "patches",
    contract: str | None = None,
    more: str = "",
    files: Mapping[str, str] | None = None,
    name: str = "lab",
) -> TinyLab:
    """Make a tiny lab. ``patches`` for its proposer costs no import of the tuner's engine."""
    lab = TinyLab(place / name)
    lab.folder.mkdir(parents=True)
    text = CONTRACT.format(proposer=proposer) if contract is None else contract
    lab.write("lab.toml", text + more)
    lab.write("genome.py", genome)
    lab.write("measure.py", measure)
    for path, content in (files or {}).items():
        lab.write(path, content)
    lab.git("init", "-q", "--template=", "-b", "main")
    lab.commit()
    return lab


def users_own(lab: TinyLab) -> str:
    """A fingerprint of all that is the user's: every file, the index, HEAD and the user's branch."""
    found = hashlib.sha256()
    for path in sorted(lab.folder.rglob("*")):
        inside = path.relative_to(lab.folder).parts
        if path.is_file() and inside[0] not in (".git", ".nightlab"):
            found.update(f"{path}\0".encode() + path.read_bytes())
    for name in ("index", "HEAD", "refs/heads/main"):
        found.update((lab.folder / ".git" / name).read_bytes())
    return found.hexdigest()


def changed(**constants: float) -> dict[str, str]:
    text = GENOME
    for name, value in constants.items():
        old = next(line for line in text.splitlines() if line.startswith(f"{name} ="))
        text = text.replace(old, f"{name} = {value}")
    return {"genome.py": text}
