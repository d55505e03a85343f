"""Shipped labs: their frozen files as modules, and trials of genomes that a test makes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nightlab.core.types import Measurement
from nightlab.session.create import SHIPPED, make_lab
from nightlab.session.session import detect_sandbox
from support.bench import Bench
from support.labs import TinyLab


def lab_module(lab: str, name: str) -> Any:
    """A file of a shipped lab, imported as it lies there."""
    spec = importlib.util.spec_from_file_location(f"{lab}_{name}", SHIPPED / lab / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_hand(lab: str, script: str, place: Path) -> str:
    """What a lab's evaluator prints when it is started by hand."""
    folder = make_lab(place / f"{lab}-by-hand", lab)
    return subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True, check=True).stdout


def trials_of(
    lab: str, place: Path, changes: Mapping[str, str] | None = None
) -> Callable[[Mapping[str, str] | str], Measurement]:
    """Runs a trial in the sandbox: of a genome given by its files, or of one of the lab's ideas.

    ``changes``: texts in its ``lab.toml``, and what they are replaced by.
    """
    folder = make_lab(place / lab, lab)
    contract = (folder / "lab.toml").read_text()
    for text, other in (changes or {}).items():
        assert text in contract
        contract = contract.replace(text, other)
    bench = Bench(TinyLab(folder), contract, detect_sandbox(), startup=10, evaluation=60)
    base, repo = bench.commit, bench.engine.repo

    def run(genome: Mapping[str, str] | str) -> Measurement:
        if isinstance(genome, str):
            bench.commit = repo.commit_patch(base, (folder / "ideas" / f"{genome}.patch").read_text(), genome)
        else:
            bench.commit = repo.commit_files(base, dict(genome), "a genome")
        return bench.run()

    return run
