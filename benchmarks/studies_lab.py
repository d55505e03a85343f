"""Two toy labs for studies, whose true gains are known, and an engine that measures their trials in this process.

``settings``: ten between 0 and 1; the loss is the logarithm of the distance to the best values, which each lab draws.
``ideas``: twenty switches, each of which lowers the loss by 1. ``mixed``: fifty of them, and fifty that do nothing.
Noise is Gaussian; a genome and a seed determine it.
Sessions are nightlab's own: ledger, git, judge, proposers and confirmation.
"""

from __future__ import annotations

import math
import random
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nightlab.core.program.constants import find_constants
from nightlab.core.types import Measurement, Platform, Trial
from nightlab.engines.platform import this_platform
from nightlab.engines.slots import Slot
from nightlab.proposers import Briefing, Proposal, change_constants
from nightlab.proposers.proposer import ProposerContext
from nightlab.proposers.tuner import Tuner
from nightlab.sandbox.bubblewrap import NoSandbox
from nightlab.storage.git import Repo

SETTINGS = "ABCDEFGHIJ"
NEAR = 1e-3  # a distance below this hardly counts
IDEAS = [f"IDEA_{number:02d}" for number in range(20)]
MIXED = [f"{word}_{number:02d}" for number in range(50) for word in ("IDEA", "IDLE")]
GENOMES = {
    "settings": "".join(f"{name} = 0.5  # [0.0..1.0]\n" for name in SETTINGS),
    "ideas": "".join(f"{name} = 0\n" for name in IDEAS),
    "mixed": "".join(f"{name} = 0\n" for name in MIXED),
}
CONTRACT = """\
name = "toy"
genome = ["genome.py"]
command = "true"

[metric]
name = "loss"
scale = "difference"
timed = false

[budget]
clock = "work"
amount = 1

[[proposers]]
kind = "{proposer}"
"""


def loss(values: Mapping[str, float], lab: Path) -> float:
    """What a genome truly measures in a lab."""
    if IDEAS[0] in values:
        return float(sum(1 - value for name, value in values.items() if name.startswith("IDEA")))
    draw = random.Random(f"{lab}")
    return math.log10(NEAR + math.hypot(*(value - draw.random() for _, value in sorted(values.items()))))


class Forgetful:
    """The tuner without history: it sees the champion, and how many experiments there were."""

    def __init__(self, config: Any, context: ProposerContext) -> None:
        self.name, self.tuner = context.name, Tuner(context.seed)

    def propose(self, briefing: Briefing) -> Proposal | None:
        first, *others = briefing.history
        latest = [replace(one, verdict=None, measurement=None) for one in others[-1:]]
        return self.tuner.propose(replace(briefing, history=[first, *latest]))

    def tell(self, proposal: Proposal, refusal: str | None) -> None:
        self.tuner.tell(proposal, refusal)


class Ideas:
    """Throws each switch once, on the champion, in an order at random."""

    order = "one"

    def __init__(self, config: Any, context: ProposerContext) -> None:
        self.name = context.name
        self.left: list[str] | None = None
        self.draw = random.Random(f"{context.folder}/{context.seed}/{self.order}")

    def propose(self, briefing: Briefing) -> Proposal | None:
        if self.left is None:
            self.left = list(find_constants(briefing.genome["genome.py"], "cpu"))
            self.draw.shuffle(self.left)
        if not self.left:
            return None
        name = self.left.pop()
        text = change_constants(briefing.genome["genome.py"], "cpu", {name: 1})
        return Proposal(self.name, f"throw {name}", {"genome.py": text})


class OtherIdeas(Ideas):
    """The same in another order: as good."""

    order = "other"


@dataclass
class Measured:
    """A trial that has ended at once."""

    trial: Trial
    slot: Slot

    def phase(self) -> tuple[str, float | None]:
        return "training", None

    def finished(self) -> bool:
        return True

    def stop(self) -> None: ...


class ToyEngine:
    """Measures a genome at once: its true loss, and the noise of this genome with this seed."""

    def __init__(self, lab: Path, sigma: float) -> None:
        self.repo, self.sigma = Repo(lab), sigma
        self.platform: Platform = this_platform("cpu")
        self.sandbox = NoSandbox("trials run no program")

    def slots(self, count: int | None) -> list[Slot]:
        return [Slot(0)]

    def slot_failure(self, slot: Slot) -> str:
        return ""

    def start(self, trial: Trial, slot: Slot) -> Measured:
        return Measured(trial, slot)

    def adopt(self, trial: Trial) -> Measured:
        return Measured(trial, Slot(0))

    def collect(self, handle: Measured) -> Measurement:
        text = self.repo.read(handle.trial.commit, "genome.py") or ""
        noise = random.Random(f"{text}/{handle.trial.given_seed}").gauss(0, self.sigma)
        values = {name: constant.value for name, constant in find_constants(text, "cpu").items()}
        true = loss(values, self.repo.lab)
        return Measurement("measured", true + noise, training_seconds=1.0, wall_seconds=1.0)

    def stand_by(self, like: Trial, slot: Slot) -> None: ...

    def dismiss(self) -> None: ...


def make_lab(folder: Path, kind: str) -> Path:
    """The lab in a new git folder."""
    folder.mkdir(parents=True)
    proposer = "tuner" if kind == "settings" else "studies_lab:Ideas"
    for name, text in {"genome.py": GENOMES[kind], "lab.toml": CONTRACT.format(proposer=proposer)}.items():
        (folder / name).write_text(text)
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "a lab"]):
        subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@x", *words], cwd=folder, check=True)
    return folder
