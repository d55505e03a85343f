"""The language-model lab on a GPU: python benchmarks/gpu.py [--seconds 30] [--original CHECKOUT]

Where the seconds of a night go: a start with nothing compiled, with the baseline's cache, and started ahead;
evaluation; tokens per second beside a plain GPT-2 of the same size, and beside the original's train.py where a checkout
of it (with its data prepared) is given; memory; the duty cycle, measured and accounted for budgets of 60 and 300 s. One
command, under ten minutes as it stands, no download: the corpus is this machine's own Python source.
``--device cpu`` plays the same in small where there is no GPU: its figures say nothing about one.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from duty import CLOCK, Thinker
from lm import run, summary_of
from machine import heading, table

from nightlab.analysis.timeline import spans
from nightlab.core.config import StopRules
from nightlab.core.events import TrialFinished, TrialStarted
from nightlab.core.observer import Observer
from nightlab.core.types import Measurement, NightlabError
from nightlab.engines.platform import this_platform
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.sandbox.bubblewrap import PROTECTIONS
from nightlab.session.create import make_lab
from nightlab.session.session import Session
from nightlab.storage.git import Repo

TIMES = ("startup_seconds", "evaluation_seconds", "wall_seconds")
NO_GPU = "no NVIDIA GPU answers here (nvidia-smi): run this where one does, or --device cpu to see it work in small"
UNTIMED = {"cuda": 10, "cpu": 0}  # first steps of all three programs, in which kernels are compiled
CORPUS_BYTES = {"cuda": 130e6, "cpu": 4e6}
# The original's budget stands in its prepare.py; its train.py imports it from there.
ORIGINAL = "import runpy, prepare; prepare.TIME_BUDGET = {seconds}; runpy.run_path('train.py', run_name='__main__')"


def corpus(folder: Path, most: float) -> None:
    """Text of this machine: Python source of the library and of what is installed, at most so many bytes."""
    folder.mkdir()
    places = dict.fromkeys(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))
    files = (path for place in places for path in sorted(Path(place).rglob("*.py")))
    size = 0
    for number, path in enumerate(files):
        text = path.read_text(encoding="utf-8", errors="ignore")
        size += len(text)
        if size > most:
            return
        (folder / f"{number:06d}.txt").write_text(text, encoding="utf-8")


def prepared_lab(place: Path, device: str, seconds: float) -> Path:
    """The shipped lab on that corpus, with this budget and one trial for an experiment."""
    folder = make_lab(place / "lab", "lm")
    corpus(place / "texts", CORPUS_BYTES[device])
    text = (folder / "corpus.py").read_text()
    (folder / "corpus.py").write_text(text.replace("CORPUS = None", f"CORPUS = {str(place / 'texts')!r}"))
    contract = (folder / "lab.toml").read_text()
    own = f'[budget]\nclock = "{CLOCK[device]}"\namount = {seconds:g}\nstartup = 600\nevaluation = 300\n\n'
    own += '[judge]\nrule = "greedy"\nupkeep = 0\nconfirm = 0\n\n'
    (folder / "lab.toml").write_text(re.sub(r"\[budget\].*?(?=\[limits\])", own, contract, flags=re.DOTALL))
    git = ["git", "-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost"]
    subprocess.run([*git, "commit", "-qam", "a corpus of here"], cwd=folder, check=True)
    subprocess.run([sys.executable, "prepare.py"], cwd=folder, check=True)
    return folder


def night(folder: Path, experiments: int) -> tuple[list[Measurement], float, float]:
    """A session's trials, the seconds between two of them, and its duty cycle."""
    session = Session.create(Repo(folder), "gpu", allow=PROTECTIONS)
    scheduler = Scheduler(session, Observer())
    loop = ExperimentLoop(session, StopRules(experiments=experiments), scheduler)
    loop.candidates.proposers.proposers = {"thinker": (Thinker(1, 1), 1.0)}
    loop.candidates.proposers.had = {"thinker": 0}
    begun = time.perf_counter()
    loop.run()
    duty = scheduler.trained / (time.perf_counter() - begun)
    runs = spans(session.ledger.events(TrialStarted), session.ledger.events(TrialFinished))
    between = statistics.median(later.begun - one.ended for one, later in pairwise(runs))
    trials = [measured for _, measured in session.ledger.trials() if measured]
    session.close()
    if failed := [one.detail for one in trials if not one.measured]:
        raise NightlabError(f"{len(failed)} of {len(trials)} trials failed: {failed[0]}", "look at the lab")
    return trials, between, duty


def show_phases(trials: list[Measurement], between: float, duty: float, seconds: float) -> None:
    """Starts and evaluations, and what duty cycle they leave."""
    cold, cached, *ahead = trials
    kinds = (("nothing compiled yet", [cold]), ("with the baseline's cache", [cached]), ("and started ahead", ahead))
    rows = [
        (name, *(f"{statistics.median(getattr(one, key) for one in found):.1f}" for key in TIMES))
        for name, found in kinds
        if found
    ]
    print("seconds of a trial beside its training, medians\n")
    table(("", "start", "evaluation", "whole trial"), rows)
    usual = ahead or [cached]
    beside = between + sum(statistics.median(getattr(one, key) for one in usual) for key in TIMES[:2])
    accounted = " and ".join(f"{budget / (budget + beside):.1%} at {budget} s" for budget in (60, 300))
    print(f"from one trial's end to the next one's start {between:.2f} s; duty cycle with {seconds:g} s: {duty:.1%},")
    print(f"accounted from a trial that was started ahead: {accounted}\n")


def summary(folder: Path) -> dict[str, float]:
    """What the baseline's program printed in its first trial, with the tokens to the last one."""
    session = Session(Repo(folder), "gpu")
    first, _ = session.ledger.trials(0)[0]
    said = session.local_engine.log(first.id)
    session.close()
    return summary_of(said)


def speed_row(name: str, claims: dict[str, float], untimed: int) -> tuple[str, ...]:
    """Tokens per second, model-flops use and peak memory, from what a program prints; the first steps are untimed."""
    steps = claims["num_steps"]
    rate = 1e6 * claims["total_tokens_M"] * (1 - untimed / steps) / claims["training_seconds"]
    return name, f"{rate:,.0f}", f"{claims.get('mfu_percent', 0):.1f} %", f"{claims.get('peak_vram_mb', 0):,.0f}"


def plain(folder: Path, like: dict[str, float], device: str, seconds: float) -> dict[str, float]:
    """What a plain GPT-2 of the same size prints."""
    shutil.copy(Path(__file__).with_name("plain_gpt.py"), folder)
    size = {"PLAIN_PARAMETERS": str(like["num_params_M"] * 1e6), "PLAIN_DEPTH": str(int(like["depth"]))}
    budget = {"NIGHTLAB_CLOCK": CLOCK[device], "NIGHTLAB_BUDGET": f"{seconds:g}", "NIGHTLAB_DEVICE": device}
    return run(folder, "plain_gpt.py", **size, **budget)


def original(checkout: Path, seconds: float) -> dict[str, float] | None:
    """What the original's train.py prints with this budget; None, said why, where it does not run."""
    command = [sys.executable, "-c", ORIGINAL.format(seconds=seconds)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, env={**os.environ})
    found = summary_of(done.stdout)
    if done.returncode or "training_seconds" not in found:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        print(f"{checkout}: its train.py does not run here: {' '.join(said)} (prepare its data there first)\n")
        return None
    return found


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--seconds", type=float, default=30, help="seconds of training of a trial")
    ask.add_argument("--experiments", type=int, default=3, help="after the baseline")
    ask.add_argument("--original", type=Path, help="a checkout of karpathy/autoresearch with its data prepared")
    ask.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    wanted = ask.parse_args()
    if wanted.device == "cuda" and this_platform().device != "cuda":
        sys.exit(NO_GPU)
    os.environ["NIGHTLAB_DEVICE"] = wanted.device
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        folder = prepared_lab(Path(place), wanted.device, wanted.seconds)
        heading(f"the language-model lab on {wanted.device}, trials of {wanted.seconds:g} s")
        trials, between, duty = night(folder, wanted.experiments)
        show_phases(trials, between, duty, wanted.seconds)
        claims, untimed = summary(folder), UNTIMED[wanted.device]
        rows = [speed_row("train.py in a trial", claims, untimed)]
        rows.append(speed_row("plain GPT-2, AdamW", plain(folder, claims, wanted.device, wanted.seconds), untimed))
        if wanted.original and (found := original(wanted.original, wanted.seconds)):
            rows.append(speed_row("the original's train.py", found, untimed))
        table(("program", "tokens/s", "model-flops use", "peak memory, MB"), rows)
        gpu = statistics.median(one.peak_gpu_memory_mb for one in trials)
        if gpu:
            print(f"peak GPU memory with the evaluator: {gpu:,.0f} MB")
    print(f"all of it took {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
