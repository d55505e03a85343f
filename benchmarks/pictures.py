"""Takes the pictures of the window that docs/window.md shows, of a real session: python benchmarks/pictures.py OUT

Makes a lab (a small network that learns to tell spirals apart, in numpy), runs a session of it, which confirms its
gain, lets it go on, and looks at it meanwhile: at three widths, by day and by night. Needs chromium, and what the extra
dev brings.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nightlab.storage.git import Repo
from nightlab.storage.ledger import find_ledger

COLOURS = 200
TAG = time.strftime("%b%d").lower()
WIDTHS = {"phone": 360, "tablet": 820, "desktop": 1440}
HEIGHTS = {"phone": 780, "tablet": 1100, "desktop": 1000}
# Chromium asks nobody outside, and works for root and without a GPU.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync"]

TRAIN = '''\
"""A small network that learns which arm of a spiral a point belongs to."""

import numpy as np
from frozen import Budget, batches, evaluate

WIDTH = 12  # neurons of the hidden layer  [4..64 log]
LEARNING_RATE = 0.05  # [0.005..2 log]
MOMENTUM = 0.5  # [0..0.98]
BATCH = 64  # [8..256 log]
WEIGHT_DECAY = 0.003  # [0.00001..0.1 log]
INIT = 0.3  # scale of the first layer  [0.05..5 log]

budget = Budget()
rng = budget.rng


def layers():
    return [rng.normal(0, INIT, (2, WIDTH)), np.zeros(WIDTH), rng.normal(0, WIDTH**-0.5, (WIDTH, 3)), np.zeros(3)]


def forward(weights, x):
    w1, b1, w2, b2 = weights
    hidden = np.tanh(x @ w1 + b1)
    return hidden, hidden @ w2 + b2


def gradients(weights, x, y):
    hidden, logits = forward(weights, x)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    loss = -np.log(p[np.arange(len(y)), y] + 1e-9).mean()
    p[np.arange(len(y)), y] -= 1
    p /= len(y)
    back = (p @ weights[2].T) * (1 - hidden**2)
    return loss, [x.T @ back, back.sum(0), hidden.T @ p, p.sum(0)]


weights = layers()
moving = [np.zeros_like(w) for w in weights]
budget.start()
for x, y in batches(budget, BATCH):
    loss, slopes = gradients(weights, x, y)
    rate = LEARNING_RATE
    for w, v, g in zip(weights, moving, slopes):
        v *= MOMENTUM
        v += g + WEIGHT_DECAY * w
        w -= rate * v
    budget.report(loss)
evaluate(lambda x: forward(weights, x)[1])
'''

FROZEN = '''\
"""The data, the budget and the metric: no candidate changes these."""

import os
import time

import numpy as np

try:
    import nightlab_guest
except ImportError:
    nightlab_guest = None
TRIAL = nightlab_guest.trial() if nightlab_guest else None


def spirals(count, seed):
    rng = np.random.default_rng(seed)
    arm, far = rng.integers(0, 3, count), rng.uniform(0.1, 1, count)
    angle = far * 7 + arm * 2 * np.pi / 3 + rng.normal(0, 0.22, count)
    return np.stack([far * np.sin(angle), far * np.cos(angle)], 1) * 2, arm


class Budget:
    def __init__(self):
        self.rng = np.random.default_rng(TRIAL.seed if TRIAL else 1)
        self.amount = TRIAL.budget if TRIAL else 1.0
        self.loss, self.said = 0.0, 0.0

    def start(self):
        self.began = time.process_time()
        if TRIAL:
            TRIAL.start()

    @property
    def progress(self):
        return (time.process_time() - self.began) / self.amount

    def report(self, loss):
        self.loss = loss if not self.said else 0.98 * self.loss + 0.02 * loss
        if self.progress - self.said > 0.01:
            self.said = self.progress
            if TRIAL:
                TRIAL.report(min(self.said, 1.0), self.loss)


def batches(budget, size):
    x, y = spirals(3000, 0)
    while budget.progress < 0.97:
        pick = budget.rng.integers(0, len(x), max(int(size), 1))
        yield x[pick], y[pick]


def evaluate(classify):
    x, y = spirals(4000, 99)
    logits = classify(x)
    logits = logits - logits.max(1, keepdims=True)
    surprise = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]
    print("validation", len(y), "points, right", round(float((logits.argmax(1) == y).mean()), 4))
    print(f"METRIC nats={surprise.mean():.6f}")
'''

CONTRACT = """\
name = "spirals"
genome = ["train.py"]
command = "python train.py"

[metric]
name = "nats"

[budget]
clock = "cpu"
amount = 1.5
startup = 60
evaluation = 60

[judge]
upkeep = 8

[sandbox]
allow_missing = ["files", "network", "processes", "privileges"]

[[proposers]]
kind = "tuner"
share = 3

[[proposers]]
kind = "patches"
share = 2

[[proposers]]
kind = "recombine"
"""

HIDDEN, STEP = "    hidden = np.tanh(x @ w1 + b1)\n", "    rate = LEARNING_RATE\n"
DECAY, LOOP = "        v += g + WEIGHT_DECAY * w\n", "    for w, v, g in zip(weights, moving, slopes):\n"
MOVE, TARGET = "        w -= rate * v\n", "    p[np.arange(len(y)), y] -= 1\n"
IDEAS = [  # in what words, what goes, what comes
    ("A rate that falls to nothing: late steps stop bouncing", STEP, f"{STEP[:-1]} * max(1 - budget.progress, 0.0)\n"),
    ("Rectifiers instead of tanh: cheaper", HIDDEN, "    hidden = np.maximum(x @ w1 + b1, 0.0)\n"),
    ("Stretch what is far from the centre", HIDDEN, f"    x = x * (1 + (x**2).sum(1, keepdims=True)) / 2\n{HIDDEN}"),
    (
        "Clip each gradient's norm at one, so that a rare batch can't throw the weights far away",
        LOOP,
        f"{LOOP}        g = g / max(np.sqrt((g**2).sum()), 1.0)\n",
    ),
    ("No decay of the biases", DECAY, "        v += g + (WEIGHT_DECAY * w if w.ndim > 1 else 0)\n"),
    ("A second hidden layer", HIDDEN, "    hidden = np.tanh(np.tanh(x @ w1 + b1) @ w3 + b3)\n"),
    ("Warm the rate up", STEP, f"{STEP[:-1]} * min(1.0, 50 * budget.progress)\n"),
    ("Nesterov's look ahead", MOVE, "        w -= rate * (g + MOMENTUM * v)\n"),
    ("Smooth the labels: the arms overlap", TARGET, "    p[np.arange(len(y)), y] -= 0.97\n    p -= 0.01\n"),
]


def make_lab(folder: Path) -> None:
    """The lab, committed, with its ideas as patches."""
    folder.mkdir(parents=True)
    for name, text in {"train.py": TRAIN, "frozen.py": FROZEN, "lab.toml": CONTRACT}.items():
        (folder / name).write_text(text)
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "spirals"]):
        who = ["-c", "user.name=nightlab", "-c", "user.email=nightlab@localhost"]
        subprocess.run(["git", *who, *words], cwd=folder, check=True)
    repo = Repo(folder)
    head = repo.resolve() or ""
    (folder / "ideas").mkdir()
    for number, (words, old, new) in enumerate(IDEAS, 1):
        assert old in TRAIN, words
        patch = repo.diff(head, repo.commit_files(head, {"train.py": TRAIN.replace(old, new)}, words))
        (folder / "ideas" / f"{number:02}.patch").write_text(f"Hypothesis: {words}\n{patch}")


@contextlib.contextmanager
def started(*words: str, lab: Path) -> Iterator[subprocess.Popen[str]]:
    """A command of nightlab's that goes on meanwhile."""
    process = subprocess.Popen(command(*words), cwd=lab, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


def command(*words: str) -> list[str]:
    return [str(Path(sys.executable).parent / "nightlab"), *words]


def judged(lab: Path) -> int:
    with contextlib.closing(find_ledger(lab, None)) as ledger:
        return ledger.next_number() - len(ledger.unjudged())


def wait(until: Any, seconds: float = 900) -> None:
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            sys.exit("it never happened")
        time.sleep(0.2)


def answers(address: str) -> bool:
    try:
        return bool(urllib.request.urlopen(address, timeout=2).status == 200)
    except OSError:
        return False


def take(address: str, out: Path) -> None:
    """The pictures: the page at each width by day and by night, and two experiments beside each other."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        for name, width in WIDTHS.items():
            for scheme in ("light", "dark"):
                size: Any = {"width": width, "height": HEIGHTS[name]}
                page = browser.new_page(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
                page.goto(address)
                page.get_by_role("button", name="Champion").click()
                page.locator("#detail h3").wait_for()
                with contextlib.suppress(Exception):  # between two trials there is none for a moment
                    page.locator(".flight .spark").first.wait_for(timeout=20_000)
                page.evaluate("scrollTo(0, 0)")
                page.wait_for_timeout(500)
                page.screenshot(path=out / f"window-{name}-{scheme}.png", full_page=name == "desktop")
                if name == "desktop" and scheme == "dark":
                    page.get_by_role("button", name="Compare with parent").click()
                    page.locator(".beside").wait_for()
                    page.locator("#detail").screenshot(path=out / "window-compare.png")
                page.close()
        browser.close()


def slim(picture: Path) -> None:
    """A picture with as many colours as one sees in it."""
    from PIL import Image

    whole = Image.open(picture).convert("RGB")  # without k-means the paper's colour is some other
    seen = whole.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    seen.save(picture, optimize=True)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("out", type=Path, nargs="?", default=Path("docs/pictures"))
    asked.add_argument("--experiments", type=int, default=40)
    asked.add_argument("--lab", type=Path, help="keep the lab here, or look at one that is there")
    given = asked.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    lab = given.lab or Path(tempfile.mkdtemp()) / "spirals"
    if not lab.exists():
        make_lab(lab)
        subprocess.run(command("run", "--tag", TAG, "-n", str(given.experiments)), cwd=lab, check=True)
    begun = judged(lab)
    port = "8493"
    with started("run", "--tag", TAG, "-n", str(begun + 400), lab=lab), started("serve", "--port", port, lab=lab):
        wait(lambda: answers(f"http://127.0.0.1:{port}/") and judged(lab) > begun + 1)
        take(f"http://127.0.0.1:{port}/", given.out)
    for picture in sorted(given.out.glob("window-*.png")):
        slim(picture)
        print(f"{picture}: {picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", os.pathsep.join(sys.path))
    main()
