"""The language-model lab in figures: python benchmarks/lm.py [--seconds 10] [--seeds 3] [--seal]

Speed and quality of train.py against a plain GPT-2 with AdamW of the same size, at equal seconds on the same data;
what a trial costs beside its training; loader and evaluation beside the usual best-fit packer and beside a plain
loop that takes one document at a time. Runs on
whatever device there is; on a machine with a GPU: --seconds 300.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import heading, table

from nightlab.engines.platform import this_platform
from nightlab.session.create import SHIPPED
from nightlab.storage.ledger import find_ledger

PLAIN_LRS = ("5e-4", "1e-3", "2e-3", "4e-3")  # the yardstick gets its best of these, on one seed


def run(folder: Path, script: str, **env: str) -> dict[str, float]:
    """The summary block of a script run by hand in the lab."""
    done = subprocess.run(
        [sys.executable, script], cwd=folder, capture_output=True, text=True, env={**os.environ, **env}
    )
    if done.returncode:
        sys.exit(f"{script} failed:\n{done.stdout}\n{done.stderr}")
    return summary_of(done.stdout)


def summary_of(said: str) -> dict[str, float]:
    """The summary block that a script printed, with all its tokens."""
    found = {name: float(value) for name, value in re.findall(r"^(\w+):\s+([\d.]+)$", said, re.MULTILINE)}
    if step := re.search(r"(\d+) x (\d+) x (\d+) tokens a step", said):
        # The summary rounds to tenths of a million, as the original's does: too coarse for ten seconds.
        found["total_tokens_M"] = found["num_steps"] * math.prod(map(int, step.groups())) / 1e6
    return found


def quality(folder: Path, seconds: float, seeds: int, clock: str) -> None:
    budget = {"NIGHTLAB_CLOCK": clock, "NIGHTLAB_BUDGET": str(seconds)}
    first = run(folder, "train.py", NIGHTLAB_SEED="1", **budget)
    like = {"PLAIN_PARAMETERS": str(first["num_params_M"] * 1e6), "PLAIN_DEPTH": str(int(first["depth"]))}
    tries = {lr: run(folder, "plain_gpt.py", NIGHTLAB_SEED="1", PLAIN_LR=lr, **like, **budget) for lr in PLAIN_LRS}
    best = min(tries, key=lambda lr: tries[lr]["val_bpb"])
    ours, plain = [first], [tries[best]]
    for seed in range(2, seeds + 1):
        ours.append(run(folder, "train.py", NIGHTLAB_SEED=str(seed), **budget))
        plain.append(run(folder, "plain_gpt.py", NIGHTLAB_SEED=str(seed), PLAIN_LR=best, **like, **budget))

    def row(name: str, runs: list[dict[str, float]]) -> tuple[str, ...]:
        values = [r["val_bpb"] for r in runs]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        rate = statistics.median(r["total_tokens_M"] * 1e6 / r["training_seconds"] for r in runs)
        steps = statistics.median(r["num_steps"] for r in runs)
        mean = f"{statistics.mean(values):.4f} ± {spread:.4f}"
        return name, f"{runs[0]['num_params_M']:.2f}", f"{rate:,.0f}", f"{steps:.0f}", mean

    print(f"{seconds:g} s of {clock} clock, {seeds} seeds, val_bpb as mean ± sd\n")
    columns = ("program", "M parameters", "tokens/s (wall)", "steps", "val_bpb")
    table(columns, [row("train.py", ours), row(f"plain GPT-2, AdamW, lr {best}", plain)])
    if first["mfu_percent"]:
        print(f"model-flops use of train.py: {statistics.median(r['mfu_percent'] for r in ours):.1f} %\n")


def flops(folder: Path, seconds: float, clock: str) -> None:
    """Model-flops use on a CPU: the model's arithmetic over what a matrix product reaches on the same threads."""
    code = (
        "import sys, time; sys.argv=['train.py']; import torch, train\n"
        "model = train.GPT(); a = torch.randn(1024, 1024); best = 1e9\n"
        "for _ in range(20):\n"
        "    t = time.perf_counter(); a @ a; best = min(best, time.perf_counter() - t)\n"
        "print(model.flops_per_token(), 2 * 1024**3 / best)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    per_token, peak = map(float, done.stdout.split())
    summary = run(folder, "train.py", NIGHTLAB_CLOCK=clock, NIGHTLAB_BUDGET=str(seconds), NIGHTLAB_SEED="1")
    rate = summary["num_steps"] / summary["training_seconds"]
    tokens = summary["total_tokens_M"] * 1e6 / summary["training_seconds"]
    use = per_token * tokens / peak
    print(
        f"{per_token / 1e6:.2f} Mflop a token, {rate:.1f} steps/s; one thread multiplies at {peak / 1e9:.0f} Gflop/s:"
    )
    print(f"model-flops use of train.py on this CPU: {use:.0%}\n")


def phases(folder: Path, trials: int) -> None:
    """What a trial costs beside its training, from trials run by nightlab itself."""
    program = str(Path(sys.executable).with_name("nightlab"))
    subprocess.run([program, "run", "-n", "1", "-C", str(folder)], check=True, capture_output=True)
    again = [program, "replay", "0", "--times", str(trials), "-C", str(folder)]
    subprocess.run(again, check=True, capture_output=True)
    found = [m for t, m in find_ledger(folder, None).trials(0) if m and t.purpose == "replay"]
    rows = []
    for name in ("startup_seconds", "training_seconds", "evaluation_seconds", "wall_seconds"):
        values = sorted(getattr(m, name) for m in found)
        rows.append((name, f"{statistics.median(values):.2f}", f"{values[0]:.2f}", f"{values[-1]:.2f}"))
    print(f"one trial under nightlab, {trials} runs (training is on the budget's clock, the rest is wall clock)\n")
    table(("phase", "median", "min", "max"), rows)


PLAIN_EVALUATION = """
def hand_over(model):
    if nightlab_guest and (trial := nightlab_guest.trial()):
        trial.serve(served(model))


def evaluate():
    exam = Exam("val")
    calls = calls_of(nightlab_guest.Served(device=True))
    exam.score(calls)
    if AGAIN:
        from metric import losses
        losses(calls, exam.rows[: AGAIN * EVAL_BATCH, :-1], exam.rows[: AGAIN * EVAL_BATCH, 1:])
    print(f"METRIC val_bpb={exam.bits_per_byte():.9f}", flush=True)


def main()"""


# Batches that the trainer itself answers twice: two before there were clean processes, and in a plain evaluation none.
BY_THE_TRAINER = {"before": 2, "plain": 0}


def seal(folder: Path, trials: int) -> None:
    """What the evaluation costs as shipped, and where the trainer itself answers."""
    program = str(Path(sys.executable).with_name("nightlab"))
    places = {name: folder.with_name(name) for name in ("sealed", *BY_THE_TRAINER)}
    for name, place in places.items():
        subprocess.run([program, "new", str(place)], check=True, capture_output=True)
        contract, script = place / "lab.toml", place / "prepare.py"
        text = (
            contract.read_text().replace("amount = 10\n", "amount = 2\n").replace("evaluation = 60", "evaluation = 600")
        )
        text = text.replace('goal = "minimise"', 'goal = "minimise"\ntimed = false')  # a busy machine: no second try
        text = text[: text.rindex("[[proposers]]")]  # both try the first idea
        contract.write_text(text + "[judge]\nconfirm = 0\n")
        if name in BY_THE_TRAINER:
            contract.write_text(contract.read_text().replace("processes = 2 ", "processes = 0 "))
            evaluation = PLAIN_EVALUATION.replace("AGAIN", str(BY_THE_TRAINER[name]))
            script.write_text(script.read_text().replace("\ndef main()", evaluation))
        subprocess.run(["git", "commit", "-qam", name], cwd=place, check=True)
        subprocess.run([program, "run", "-n", "2", "-C", str(place)], check=True, capture_output=True)
    for _ in range(trials):
        for place in places.values():
            subprocess.run([program, "replay", "1", "-C", str(place)], capture_output=True)  # 3: another metric
    found = {}
    for name, place in places.items():
        runs = [m for t, m in find_ledger(place, None).trials(1) if m and m.measured and t.purpose == "replay"]
        started = [(m.overhead or {}).get("start", 0.0) for m in runs]
        cpu = [m.cpu_seconds - m.training_seconds - start for m, start in zip(runs, started, strict=True)]
        found[name] = statistics.median(m.evaluation_seconds for m in runs), statistics.median(cpu), len(runs)
    rows = [(name, str(count), f"{wall:.2f}", f"{cpu:.2f}") for name, (wall, cpu, count) in found.items()]
    print("evaluation of a trial, in turn: sealed and probed as shipped; as it was before clean processes, when the")
    print("trainer answered and two batches were sent twice; and by the trainer without probes\n")
    table(("evaluation", "trials", "wall s, median", "CPU s, median"), rows)
    print("CPU: of the candidate's processes beside training, with the imports that the answering ones make ahead")
    for name in BY_THE_TRAINER:
        bar = " (bar on a CPU: 1.3)" if name == "before" else ""
        print(f"sealed / {name}: {found['sealed'][0] / found[name][0]:.2f} in wall time{bar}")
    print()


LOADERS = """
import statistics, sys, time
import corpus, numpy as np, torch, prepare
length, batch, rounds = int(sys.argv[1]), 32, 5
batches = prepare.train_loader(batch, length)
tokens = prepare.tokens_of("train")[:2_000_000]
documents = [d.tolist() for d in np.split(tokens, np.flatnonzero(tokens == corpus.BOS)[1:])]

def ours():
    for _ in range(50): next(batches)
    return 50 * batch * length, 0

def best_fit():
    waiting, queue, used, dropped = [], iter(documents * 50), 0, 0
    for _ in range(200):
        room = length + 1
        while room:
            while len(waiting) < 1000: waiting.append(next(queue))
            fits = [i for i, d in enumerate(waiting) if len(d) <= room]
            if fits: d = waiting.pop(max(fits, key=lambda i: len(waiting[i])))
            else:
                d = waiting.pop(min(range(len(waiting)), key=lambda i: len(waiting[i])))
                dropped += len(d) - room; d = d[:room]
            used += len(d); room -= len(d)
    return used, dropped

def one_document():
    used = padded = 0
    rows, queue = [], iter(documents * 50)
    while used < 50 * batch * length:
        document = next(queue)
        for at in range(0, len(document) - 1, length):
            row = document[at : at + length + 1]
            used += len(row) - 1; padded += length + 1 - len(row)
            rows.append(row + [corpus.BOS] * (length + 1 - len(row)))
            if len(rows) == batch: torch.tensor(rows).to(prepare.DEVICE); rows = []
    return used, padded

waste = {}
costs = {way: [] for way in (ours, best_fit, one_document)}
for turn in range(rounds + 1):
    for way, found in costs.items():
        begun = time.process_time()
        used, waste[way] = way()
        if turn: found.append((time.process_time() - begun) / used * 1e6)
        waste[way] /= used + waste[way]
print(*(statistics.median(found) for found in costs.values()), waste[best_fit], waste[one_document])
"""


def loader(folder: Path) -> None:
    """CPU time per token of the lab's loader, of best-fit packing as it is usually written, and of no packing."""
    rows = []
    for length in (128, 256, 2048):
        ours, packer, single, dropped, padded = in_lab(folder, LOADERS, str(length))
        times = (f"{cost / ours:.0f}" for cost in (packer, single))
        rows.append(
            (length, f"{ours:.3f}", f"{packer:.3f}", f"{single:.3f}", *times, f"{dropped:.0%}", f"{padded:.0%}")
        )
    print("loader: CPU microseconds per token, median of 5, in turn; ours throws away nothing and pads nothing\n")
    columns = ("context", "ours", "best-fit packer", "document by document", "packer / ours", "documents / ours")
    table((*columns, "packer drops", "documents pad"), rows)


EVALUATIONS = """
import statistics, sys, time
sys.argv = ["train.py"]
import corpus, metric, numpy as np, torch, prepare, train
import torch.nn.functional as F
model = train.GPT().to(prepare.DEVICE).eval()
model.prepare_length(prepare.MAX_CONTEXT)
now = time.process_time if prepare.DEVICE == "cpu" else time.perf_counter
tokens, sizes = prepare.tokens_of("val"), torch.from_numpy(corpus.token_bytes().astype(np.int64))
documents = np.split(tokens, np.flatnonzero(tokens == corpus.BOS)[1:])
wanted = min((len(tokens) - 1) // prepare.MAX_CONTEXT, metric.EVAL_TOKENS // prepare.MAX_CONTEXT)
wanted = wanted // prepare.EVAL_BATCH * prepare.EVAL_BATCH * prepare.MAX_CONTEXT

@torch.no_grad()
def answer(batch): return model(batch.to(prepare.DEVICE, torch.int64)).float()

def ours():
    exam = metric.Exam("val", rounding=0.0)
    exam.score(lambda batches: map(answer, map(torch.from_numpy, batches)))
    exam.probe(lambda batches: map(answer, map(torch.from_numpy, batches)))
    exam.bits_per_byte()
    return wanted

def one_document():
    nats, count = 0.0, 0
    for document in documents:
        for at in range(0, len(document) - 1, prepare.MAX_CONTEXT):
            part = torch.from_numpy(document[at : at + prepare.MAX_CONTEXT + 1].astype(np.int64))
            row = F.pad(part[:-1], (0, prepare.MAX_CONTEXT - len(part) + 1), value=corpus.BOS)
            targets = part[1:].to(prepare.DEVICE)
            loss = F.cross_entropy(answer(row[None])[0, : len(targets)], targets, reduction="none")
            nats += loss[sizes.to(prepare.DEVICE)[targets] > 0].double().sum().item()
            count += len(targets)
            if count >= wanted: return count
    return count

rates = {ours: [], one_document: []}
for turn in range(4):
    for way, found in rates.items():
        begun = now()
        count = way()
        if turn: found.append(count / (now() - begun))
print(*(statistics.median(found) for found in rates.values()))
"""


def evaluation(folder: Path) -> None:
    """Tokens a second of the lab's evaluation, and of a loop that calls the model for one padded row at a time."""
    ours, single = in_lab(folder, EVALUATIONS)
    clock = "CPU" if this_platform().device == "cpu" else "wall"
    print(f"evaluation: tokens per second of {clock} clock, median of 3, in turn; ours sends two batches twice\n")
    table(("ours", "document by document", "ratio"), [(f"{ours:,.0f}", f"{single:,.0f}", f"{ours / single:.2f}")])


def in_lab(folder: Path, code: str, *args: str) -> list[float]:
    """The numbers that a piece of Python prints in the lab."""
    done = subprocess.run([sys.executable, "-c", code, *args], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return [float(word) for word in done.stdout.split()]


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--seconds", type=float, default=10)
    ask.add_argument("--seeds", type=int, default=3)
    ask.add_argument("--trials", type=int, default=5)
    ask.add_argument("--seal", action="store_true", help="only what sealing costs the evaluation")
    wanted = ask.parse_args()
    device = this_platform().device
    clock = "cpu" if device == "cpu" else "wall"
    heading("the language-model lab")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "lab"
        subprocess.run(
            [str(Path(sys.executable).with_name("nightlab")), "new", str(folder)], check=True, capture_output=True
        )
        subprocess.run([sys.executable, "prepare.py"], cwd=folder, check=True)
        begun = time.time()
        seal(folder, wanted.trials)
        if wanted.seal:
            return
        loader(folder)
        evaluation(folder)
        phases(folder, wanted.trials)
        shutil.copy(Path(__file__).with_name("plain_gpt.py"), folder)
        if device == "cpu":
            flops(folder, wanted.seconds, clock)
        quality(folder, wanted.seconds, wanted.seeds, clock)
        print(f"all of it took {time.time() - begun:.0f} s; the lab is {SHIPPED.name}/lm")


if __name__ == "__main__":
    main()
