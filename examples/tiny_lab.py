"""A lab whose trials take a moment, for the other programs here: two constants, and a number that is to be small."""

import subprocess
import tempfile
from pathlib import Path

import nightlab

FILES = {
    "genome.py": "A = 4.0  # [0.25..8 log]\nB = 8  # [1..16]\n",
    "measure.py": "from genome import A, B\n\nprint(f'METRIC loss={(A - 1) ** 2 + 0.1 * (B - 3) ** 2:.6f}')\n",
    "lab.toml": """\
name = "tiny"
genome = ["genome.py"]                 # what a candidate may change
command = "python measure.py"          # prints METRIC loss=1.23

[metric]
name = "loss"

[budget]
amount = 10                            # seconds

[[proposers]]
kind = "tuner"

[judge]
rule = "greedy"
""",
}


def make() -> nightlab.Lab:
    """Make the lab in a new folder and commit it."""
    folder = Path(tempfile.mkdtemp(prefix="nightlab-")) / "tiny"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    me = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "the lab")):
        subprocess.run(["git", *me, *words], cwd=folder, check=True)
    return nightlab.Lab(folder)
