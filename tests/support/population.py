"""A tiny lab that goes on from checkpoints: descent without noise, so that a schedule yields the same again."""

from __future__ import annotations

from collections.abc import Callable

from support.labs import TinyLab

GENOME = "LR = 0.05  # [0.001..1.5 log, moves]\n"
TRAIN = """\
from array import array
import os, time
import nightlab_guest
from genome import LR

trial = nightlab_guest.trial()
steps = round(trial.budget)
had = trial.checkpoint()
x, done = (had["x"][0], had["done"][0]) if had else (5.0, 0)
assert done == round(trial.begin * steps), "goes on where the checkpoint is"
try:
    had["x"][0] = 0.0
    raise SystemExit("a checkpoint can be written to")
except (TypeError, KeyError):
    pass
trial.start()
for step in range(done, round(trial.end * steps)):
    lr = LR[step * len(LR) // steps] if isinstance(LR, tuple) else LR
    x -= lr * (x - 1)
    done += 1
SAVE
time.sleep(0.05)
print(f"METRIC loss={(x - 1) ** 2:.12f}")
"""
SAVE = 'trial.save({"x": array("d", [x]), "done": array("q", [done])})'
POPULATION = """
[population]
checkpoint = "1MB"
"""


def population_lab(
    make_lab: Callable[..., TinyLab], save: str = SAVE, genome: str = GENOME, more: str = POPULATION
) -> TinyLab:
    """Make one; ``save``: how its program hands over what it goes on from."""
    lab = make_lab(genome, TRAIN.replace("SAVE", save), more=more)
    contract = (lab.folder / "lab.toml").read_text().replace("amount = 20", 'clock = "work"\namount = 12')
    lab.commit(lab_toml=contract)
    return lab
