"""A tiny served lab, the session that runs in it, and eyes on the machine that need nothing of nightlab's.

Each attack is a whole ``train.py``: the honest one with hostile lines put in at a named place. The lab's
evaluator calls the served function on sealed numbers, and asks some of them twice.
"""

from __future__ import annotations

import difflib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nightlab.core.config import StopRules
from nightlab.core.events import ProposalRefused
from nightlab.core.observer import Observer
from nightlab.core.types import Experiment, Measurement, Verdict
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.session.session import Session, detect_sandbox
from nightlab.storage.git import Repo

CONTRACT = """\
name = "served"
genome = ["train.py"]
command = "python train.py"

[metric]
name = "loss"
unit = "nats"

[evaluator]
command = "python prepare.py evaluate"
served = true

[budget]
clock = "{clock}"
amount = {amount}
startup = 3
evaluation = 2
wall_limit = 2

[resources]
memory = "300MB"
disk = "20MB"
processes = 40
log = "200KB"

[judge]
rule = "greedy"
upkeep = 0
confirm = 0

[data]
open = ["{data}/open"]
sealed = ["{data}/sealed"]

[[proposers]]
kind = "patches"
"""

PREPARE = '''\
"""Data, hand-over and metric of a tiny lab: guess the label of a number. Frozen."""

import math
import os
import random
import sys
from array import array

try:
    import nightlab_guest
except ImportError:
    nightlab_guest = None

DATA = os.environ.get("HERE", "{data}")
NUMBERS, LABELS, BATCH, BATCHES = 32, 4, 64, 6
TRIAL = nightlab_guest and nightlab_guest.trial()


def examples(split="open/train"):
    """Pairs of a number and its label."""
    data = open(f"{{DATA}}/{{split}}.bin", "rb").read()
    return list(zip(data[0::2], data[1::2]))


def start():
    TRIAL.start()


def serve(function):
    """Hand over a function from a list of numbers to a list of rows of LABELS scores."""
    def answer(view):
        flat = array("f")
        for row in function(view.tolist()):
            flat.extend(row)
        return memoryview(flat).cast("B").cast("f", (BATCH, LABELS))
    TRIAL.serve(answer)


def tampered(why):
    print(f"TAMPERED: {{why}}")
    sys.exit(3)


def evaluate():
    pairs = examples("sealed/val")
    batches = [pairs[BATCH * n : BATCH * (n + 1)] for n in range(BATCHES)]
    again = random.SystemRandom().sample(range(BATCHES), 2)
    order = [*range(BATCHES), *again]
    seen, total = {{}}, 0.0
    served = nightlab_guest.Served()
    inputs = (array("i", [number for number, _ in batches[n]]) for n in order)
    try:
        for n, view in zip(order, served.map(inputs, "f", (BATCH, LABELS)), strict=True):
            scores = view.tolist()
            if not all(math.isfinite(score) for row in scores for score in row):
                tampered("scores that are not finite numbers")
            if n in seen and seen[n] != scores:
                tampered("the answer to the same numbers changed")
            elif n not in seen:
                seen[n] = scores
                for row, (_, label) in zip(scores, batches[n], strict=True):
                    total += math.log(sum(math.exp(score - max(row)) for score in row)) + max(row) - row[label]
    except nightlab_guest.ServeError as error:
        print(f"no metric: {{error}}")
        sys.exit(4)
    print(f"METRIC loss={{total / BATCH / BATCHES:.9f}}")


if __name__ == "__main__" and sys.argv[1:] == ["evaluate"]:
    evaluate()
'''

HONEST = '''\
"""Guess the label of a number from how often each label came with it."""

import math
import os
import sys
import time

import prepare

SMOOTH = 1.0


def tries(name, attempt):
    """Say whether something that should not be possible is."""
    try:
        print(f"<{name}> OPEN {attempt()!r}"[:300], flush=True)
    except BaseException as error:
        print(f"<{name}> shut {type(error).__name__} {getattr(error, 'strerror', None) or error}"[:300], flush=True)


def train():
    counts = [[SMOOTH] * prepare.LABELS for _ in range(prepare.NUMBERS)]
    for number, label in prepare.examples():
        counts[number][label] += 1
    return [[math.log(c / sum(row)) for c in row] for row in counts]


def answer(numbers):
    return [table[number] for number in numbers]


# at the top
prepare.start()
table = train()
# in training
prepare.serve(answer)
# at the end
'''


def genome(**lines: str) -> str:
    """The honest genome with lines put in: ``top``, ``training``, ``end``; ``instead`` of serving as it should."""
    text = HONEST
    if "instead" in lines:
        text = text.replace("prepare.serve(answer)\n", lines["instead"].strip("\n") + "\n")
    for place, comment in (("top", "# at the top\n"), ("training", "# in training\n"), ("end", "# at the end\n")):
        text = text.replace(comment, lines.get(place, "").strip("\n") + "\n")
    return text


@dataclass
class Outcome:
    """What came of one attack."""

    experiment: Experiment
    log: str
    trial: str

    @property
    def verdict(self) -> Verdict:
        assert self.experiment.verdict
        return self.experiment.verdict

    @property
    def measured(self) -> Measurement:
        assert self.experiment.measurement
        return self.experiment.measurement

    @property
    def said(self) -> tuple[str, str]:
        return self.verdict.status, self.verdict.reason

    def open(self) -> list[str]:
        """What the candidate found that it should not have."""
        return [line for line in self.log.splitlines() if "> OPEN" in line]

    def tried(self) -> list[str]:
        return [line.split(">")[0][1:] for line in self.log.splitlines() if line.startswith("<")]


def left_outside() -> set[Path]:
    """What has an attack's name in the machine's common folders."""
    return {path for place in ("/tmp", "/dev/shm", "/var/tmp") for path in Path(place).glob("hostile*")}


class Arena:
    """A lab with a session in it. ``attack`` runs one hostile genome, then an honest one, through the real loop."""

    def __init__(self, folder: Path, *, clock: str = "wall", amount: float = 1, more: str = "") -> None:
        self.folder = folder / "lab"
        self.data = folder / "data"
        self.home = folder / "home"
        for place in (self.folder, self.data / "open", self.data / "sealed", self.home):
            place.mkdir(parents=True)
        (self.home / "id_ed25519").write_text("a private key")
        for split, seed in (("open/train", 1), ("sealed/val", 2)):
            (self.data / f"{split}.bin").write_bytes(_pairs(seed))
        self.write("lab.toml", CONTRACT.format(data=self.data, clock=clock, amount=amount) + more)
        self.write("check.py", "import random, unittest\nimport train_twin\nassert train_twin.VALUE == 1\n")
        self.write("train_twin.py", "VALUE = 1\n")
        self.write("prepare.py", PREPARE.format(data=self.data))
        self.write("train.py", HONEST)
        self.write("lib/util.py", "VALUE = 1\n")
        for args in (["init", "-q", "--template=", "-b", "main"], ["add", "-A"]):
            self.git(*args)
        self.git("commit", "-q", "-m", "the lab")
        self.repo = Repo(self.folder)
        self.session = Session.create(self.repo, "t")
        self.outside = left_outside()  # by others than this lab's trials
        self.count = 0
        self.run(0)
        self.honest = self.metric(0)
        assert self.honest is not None

    def git(self, *args: str, **more: str) -> str:
        who = ("-c", "user.name=me", "-c", "user.email=me@here")
        done = subprocess.run(["git", *who, *args], cwd=self.folder, check=True, capture_output=True, text=True, **more)
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text)

    def idea(self, text: str, hypothesis: str) -> str:
        """Queue a patch that gives the baseline's genome this text."""
        return self.queue(patch_of(text), hypothesis)

    def queue(self, patch: str, hypothesis: str) -> str:
        self.count += 1
        name = f"{self.count:04d}.patch"
        self.write(f"ideas/{name}", f"Hypothesis: {hypothesis}\n{patch}")
        return name

    def run(self, experiments: int) -> ExperimentLoop:
        """Go on until the session has so many experiments, or nothing is left."""
        night = ExperimentLoop(
            self.session, StopRules(experiments=experiments or None), Scheduler(self.session, Observer())
        )
        night.run()
        return night

    def metric(self, number: int) -> float | None:
        measured = self.session.ledger.experiment(number).measurement
        return measured.metric if measured else None

    def attack(self, text: str, hypothesis: str = "an attack") -> Outcome:
        """Run a hostile genome to its verdict, then check that the next honest experiment is unaffected."""
        number = self.session.ledger.next_number()
        self.idea(text, hypothesis)
        self.idea(f"{HONEST}HONEST_RUN = {number + 1}\n", "an honest change")
        self.run(number + 1)
        self.check_clean()
        self.check_honest(number + 1)
        trial = self.session.ledger.trials(number)[-1][0]
        return Outcome(self.session.ledger.experiment(number), self.session.local_engine.log(trial.id), trial.id)

    def refused(self) -> list[str]:
        """Run what is queued, all of which must be refused, and an honest idea after it; returns the reasons."""
        number = self.session.ledger.next_number()
        before = len(self.session.ledger.events(ProposalRefused))
        self.idea(f"{HONEST}HONEST_RUN = {number}\n", "an honest change")
        self.run(number)
        self.check_clean()
        self.check_honest(number)
        return [str(note.reason) for note in self.session.ledger.events(ProposalRefused)[before:]]

    def check_honest(self, number: int) -> None:
        """The honest experiment measured what the baseline did, to the last digit."""
        after = self.session.ledger.experiment(number)
        assert after.candidate.hypothesis == "an honest change"
        assert after.measurement and after.verdict
        assert after.measurement.outcome == "measured", after.measurement.detail
        assert after.measurement.metric == self.honest
        assert (after.verdict.status, after.verdict.reason) == ("discard", "inconclusive")
        champion = self.session.ledger.champion()
        assert champion and champion.number == 0, "an attack became the champion"

    def check_clean(self) -> None:
        """No process and no file of a trial is left, and what the attack must not touch is as it was."""
        assert self.living() == []
        trials = self.session.local_engine.folder
        left = {p.name for trial in trials.iterdir() for p in trial.iterdir()}
        logs = {"candidate.log", "evaluator.log", "supervisor.log", "check0.log"}
        assert left <= logs | {"spec.json", "phase.json", "result.json", "lock", "born", "curve.jsonl"}, left
        assert self.git("status", "--porcelain", "--untracked-files=no") == ""
        assert {p.name for p in self.home.iterdir()} - {".cache", ".config"} == {"id_ed25519"}
        assert {p.name for p in self.data.rglob("*")} == {"open", "sealed", "train.bin", "val.bin"}
        assert left_outside() <= self.outside

    def living(self) -> list[str]:
        """Processes in this lab's trials, by what they were mounted with or by their environment."""
        mark, found = str(self.folder / ".nightlab").encode(), []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    seen = (entry / "mountinfo").read_bytes() + (entry / "environ").read_bytes()
                    stat = (entry / "stat").read_text()
                except OSError:
                    continue
                if mark in seen and stat.rsplit(")", 1)[1].split()[0] != "Z":
                    found.append(stat[:40])
        return found


def patch_of(text: str, old: str = HONEST, path: str = "train.py") -> str:
    """A unified diff from the honest genome to ``text``."""
    lines = difflib.unified_diff(old.splitlines(True), text.splitlines(True), f"a/{path}", f"b/{path}")
    return f"diff --git a/{path} b/{path}\n" + "".join(lines)


def _pairs(seed: int) -> bytes:
    """384 numbers, each with a label that mostly follows from it."""
    import random

    chance = random.Random(seed)
    numbers = [chance.randrange(32) for _ in range(384)]
    return bytes(v for n in numbers for v in (n, (n * 7 + chance.choice([0, 0, 0, 0, 1, 2])) % 4))


def open_arena(factory: pytest.TempPathFactory, **options: Any) -> Iterator[Arena]:
    sandbox = detect_sandbox()
    if sandbox.name != "bubblewrap":
        pytest.skip(f"the sealed box does not work here: {sandbox.why}")
    folder = factory.mktemp("arena")
    patch = pytest.MonkeyPatch()
    patch.setenv("HOME", str(folder / "home"))
    patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    patch.setenv("A_SECRET_KEY", "swordfish")
    made = Arena(folder, **options)
    yield made
    made.session.close()
    patch.undo()
