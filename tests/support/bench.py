"""One candidate, one trial, under a real supervisor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nightlab.core.config import BudgetConfig, parse
from nightlab.core.types import Budget, Measurement, Trial
from nightlab.engines.local.engine import LocalEngine
from nightlab.engines.local.handles import RunningTrial
from nightlab.sandbox.bubblewrap import NoSandbox, Sandbox
from nightlab.storage.git import Repo
from support.processes import living, wait

LEAST = 'name = "x"\ngenome = ["genome.py"]\ncommand = "python genome.py"\n[metric]\nname = "loss"\n'
GUEST = "import nightlab_guest\ntrial = nightlab_guest.trial()\n"
SERVED = '[evaluator]\ncommand = "python evaluate.py"\nserved = true\n'


class Bench:
    """Runs one genome under a contract, as a session would."""

    def __init__(
        self, lab: Any, contract: str, sandbox: Sandbox | None = None, device: str = "cpu", **budget: Any
    ) -> None:
        self.lab = parse(contract)
        repo = Repo(lab.folder)
        part = BudgetConfig(**{"amount": 30, "startup": 30, "evaluation": 30, **budget})
        self.engine = LocalEngine(
            repo, self.lab, part, device, lab.folder / ".nightlab" / "t" / "trials", sandbox or NoSandbox()
        )
        self.commit, self.count = repo.resolve() or "", 0

    def start(
        self, *, budget: Budget | None = None, purpose: Any = "search", seed: int = 1, free: Any = None
    ) -> RunningTrial:
        self.count += 1
        budget = budget or self.engine.budget.record()
        trial = Trial(f"t{self.count}", 0, self.commit, seed, purpose, budget, free=free)
        return self.engine.start(trial)

    def run(self, **more: Any) -> Measurement:
        running = self.start(**more)
        wait(running.finished)
        measurement = self.engine.collect(running)
        assert living(self.engine.folder) == []
        return measurement

    @property
    def folder(self) -> Path:
        return self.engine.folder / f"t{self.count}"

    def log(self, role: str = "candidate") -> str:
        return self.engine.log(f"t{self.count}", role)


def benches(make_lab: Any, sandbox: Sandbox) -> Callable[..., Bench]:
    def make(genome: str, contract: str = LEAST, files: dict[str, str] | None = None, **budget: Any) -> Bench:
        return Bench(make_lab(genome=genome, files=files), contract, sandbox, **budget)

    return make
