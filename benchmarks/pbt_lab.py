"""A toy lab for population-based training: noisy gradient descent on a quadratic, whose best schedule is known.

Each of many coordinates starts at ``FAR`` and sees a gradient with unit noise. Its mean square v becomes
(1 - r)² v + r² in a step with the rate r, so the best rate of each step is
v / (v + 1): it falls like one over the steps.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

FAR, STEPS, COORDINATES = 3.0, 200, 2000
GENOME = """\
RATE = 0.1  # step size of gradient descent [0.001..1 log, moves]
"""
TRAIN = f'''\
import numpy as np
from genome import RATE

try:
    import nightlab_guest
    trial = nightlab_guest.trial()
except ImportError:
    trial = None


def rate(progress):
    """The rate at a part of the training, 0 to 1: a number, or one for each of equally long parts."""
    if not isinstance(RATE, tuple):
        return RATE
    return RATE[min(int(progress * len(RATE) + 1e-9), len(RATE) - 1)]


steps, begin, end, seed = (round(trial.budget), trial.begin, trial.end, trial.seed) if trial else ({STEPS}, 0, 1, 1)
had = trial.checkpoint() if trial else {{}}
x = np.array(had["x"]) if had else np.full({COORDINATES}, {FAR})
noise = np.random.default_rng((seed, round(begin * steps)))
if trial:
    trial.start()
for step in range(round(begin * steps), round(end * steps)):
    x -= rate(step / steps) * (x + noise.normal(size=x.size))
if trial:
    trial.save({{"x": x}})
print(f"METRIC loss={{np.mean(x * x):.9f}}")
'''
CONTRACT = f"""\
name = "quadratic"
genome = ["genome.py"]
command = "python train.py"

[metric]
name = "loss"
timed = false

[budget]
clock = "work"
amount = {STEPS}
startup = 60

[population]
checkpoint = "1MB"

[[proposers]]
kind = "tuner"
"""
FILES = {"genome.py": GENOME, "train.py": TRAIN, "lab.toml": CONTRACT}


def make_lab(folder: Path) -> Path:
    """The lab in a new git folder."""
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "a lab"]):
        subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@x", *words], cwd=folder, check=True)
    return folder
