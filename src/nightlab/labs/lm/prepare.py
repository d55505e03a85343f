"""Loader, budget and metric of the language-model lab, over the data of ``corpus.py``. Frozen, like that.

    python prepare.py                     prepare the corpus, once (the only step that uses the network)
    python prepare.py --corpus FOLDER     another corpus: sotu, tinystories, climbmix, or a folder of your own
    python prepare.py evaluate            the evaluator of a trial; nightlab starts it, you never do

``train.py`` imports this file.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from corpus import BOS, CORPUS, DEVICE, SHARDS, VOCABULARY, prepare, recipe, stop, token_bytes, tokens_of

try:
    import nightlab_guest  # there inside a trial only
except ImportError:
    nightlab_guest = None

MAX_CONTEXT = {"cuda": 2048, "mps": 512, "cpu": 256}[DEVICE]  # the metric's context, whatever training uses
EVAL_TOKENS = {"cuda": 2**20, "mps": 2**18, "cpu": 2**16}[DEVICE]
EVAL_BATCH = {"cuda": 8, "mps": 16, "cpu": 8}[DEVICE]  # rows in one call of the served model
CLOCK = {"cuda": ("wall", 300), "mps": ("wall", 120), "cpu": ("cpu", 10)}[DEVICE]  # budget of a run by hand
SEED = int(os.environ.get("NIGHTLAB_SEED", "42"))  # the engine owns the seed

# An honest model answers a repeated prefix with the same bits. The room on accelerators is for kernels that
# add in no fixed order; a leak as small as this would not pay.
TOLERANCE = {"cuda": 1e-2, "mps": 1e-2, "cpu": 1e-4}[DEVICE]
PROBES = 2

if DEVICE == "cpu":
    torch.set_num_threads(1)  # process CPU time is then fair, and one seed gives one result to the last digit


class NotFinite(Exception):
    """The model answers with numbers that are none."""


class Tampered(Exception):
    """The model breaks a rule that the metric rests on."""


# --- Loader ---------------------------------------------------------------------------------------------


def rows_at(tokens: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Rows of ``length`` + 1 tokens, int64, shape (len(starts), length + 1); the last ones wrap around.

    Rows overlap by one token, and that one is replaced by BOS: every row starts with BOS, is full, and what
    a row cuts off a document the next row continues. Each token is a target exactly once.
    """
    rows = np.take(tokens, starts[:, None] + np.arange(length + 1), mode="wrap").astype(np.int64)
    rows[:, 0] = BOS
    return rows


class Loader:
    """Endless training batches: (inputs, targets), int64 tensors of shape (batch, length) on ``device``.

    An epoch is a random order of all rows, and starts where the one before ended, so cuts move and no token
    is left out. Deterministic in the seed. ``tokens`` counts what was handed out.
    """

    def __init__(self, batch: int, length: int, seed: int = SEED, device: str = DEVICE) -> None:
        self.data = tokens_of("train")
        if len(self.data) <= length:
            stop(f"A row of {length} tokens is longer than the training split. Use a shorter context.")
        self.batch, self.length, self.device = batch, length, device
        self.random = np.random.default_rng(seed)
        self.first = int(self.random.integers(len(self.data)))
        self.order = np.empty(0, dtype=np.int64)
        self.tokens = 0

    def __iter__(self) -> Loader:
        return self

    def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
        while len(self.order) < self.batch:
            self.order = np.concatenate([self.order, self.epoch()])
        starts, self.order = self.order[: self.batch], self.order[self.batch :]
        rows = torch.from_numpy(rows_at(self.data, starts, self.length))
        if self.device == "cuda":
            rows = rows.pin_memory()
        rows = rows.to(self.device, non_blocking=True)
        self.tokens += self.batch * self.length
        return rows[:, :-1], rows[:, 1:]

    def epoch(self) -> np.ndarray:
        """Where the rows of the next epoch start, shuffled, int64."""
        count = len(self.data) // self.length
        starts = self.first + self.length * self.random.permutation(count)
        self.first = (self.first + self.length * count) % len(self.data)
        return starts


def train_loader(batch: int, length: int, seed: int = SEED, device: str = DEVICE) -> Loader:
    """Batches of training data; ``length`` is the context, in tokens."""
    return Loader(batch, length, seed, device)


# --- Budget ---------------------------------------------------------------------------------------------


class Budget:
    """How much training is allowed, and how much of it is spent.

    The clock is ``wall`` or ``cpu`` (seconds) or ``work`` (tokens that the loader handed out). Inside a trial
    this is what the candidate steers by; the supervisor keeps its own clock.
    """

    def __init__(self, loader: Loader) -> None:
        self.clock = os.environ.get("NIGHTLAB_CLOCK", CLOCK[0])
        self.amount = float(os.environ.get("NIGHTLAB_BUDGET", CLOCK[1] if self.clock == CLOCK[0] else 0))
        clocks = {"wall": time.perf_counter, "cpu": time.process_time, "work": lambda: loader.tokens}
        if self.clock not in clocks or self.amount <= 0:
            stop(
                f"No budget for the clock {self.clock!r}. Set NIGHTLAB_CLOCK to wall, cpu or work, and "
                "NIGHTLAB_BUDGET to seconds, or for work to tokens."
            )
        self.now = clocks[self.clock]
        self.began = math.inf
        self.losses: list[float] = []  # since the last report
        self.reported = 0.0

    def start(self) -> None:
        """Training begins: the budget runs from now."""
        if nightlab_guest and (trial := nightlab_guest.trial()):
            trial.start()
        self.began = self.now()

    def progress(self) -> float:
        """The part of the budget that is spent, 0 to 1; 0 before the start."""
        return min(1.0, max(0.0, (self.now() - self.began) / self.amount))

    def report(self, loss: float) -> None:
        """Tell nightlab how training goes: a mean for each hundredth of the budget. A hopeless trial may end early."""
        self.losses.append(loss)
        if (progress := self.progress()) - self.reported >= 0.01:
            if nightlab_guest and (trial := nightlab_guest.trial()):
                trial.report(progress, sum(self.losses) / len(self.losses))
            self.reported, self.losses = progress, []


# --- Metric ---------------------------------------------------------------------------------------------


def bits_per_byte(serve: Callable[[Iterable[np.ndarray]], Iterable[torch.Tensor]], split: str) -> float:
    """Bits per byte of a split: independent of the vocabulary, lower is better.

    ``serve`` maps batches of tokens (int32, shape (EVAL_BATCH, MAX_CONTEXT)) to logits (float32, the same
    shape and the vocabulary), lazily and in order. The sum of nats over the sum of the targets' UTF-8 bytes,
    BOS left out of both, as karpathy/autoresearch and nanochat define it; softmax and logarithm are ours.

    Some batches are sent twice, at random places among the others and with other endings: a model that looks
    ahead, or that learns from what it was asked before, gives itself away by answering the common beginning
    differently. A model that remembers its own answers and repeats them could still pass.

    Raises Tampered when logits look ahead, NotFinite when they are not finite.
    """
    data, sizes = tokens_of(split), torch.from_numpy(token_bytes())
    there = (len(data) - 1) // MAX_CONTEXT
    count = min(there, EVAL_TOKENS // MAX_CONTEXT) // EVAL_BATCH * EVAL_BATCH
    if not count:
        stop(f"The {split} split is shorter than one batch of {EVAL_BATCH * MAX_CONTEXT:,} tokens: use more text.")
    starts = np.linspace(0, there - 1, count).astype(np.int64) * MAX_CONTEXT  # spread over all documents
    batches = np.split(rows_at(data, starts, MAX_CONTEXT), count // EVAL_BATCH)

    chance = random.SystemRandom()
    calls = [(number, None) for number in range(len(batches))]  # (batch, where its endings are changed)
    probed = chance.sample(range(len(batches)), min(PROBES, len(batches)))
    for number in probed:
        cuts = torch.tensor([chance.randrange(1, MAX_CONTEXT) for _ in range(EVAL_BATCH)])[:, None]
        calls.insert(chance.randrange(len(calls) + 1), (number, cuts))

    def inputs() -> Iterator[np.ndarray]:
        for number, cuts in calls:
            tokens = batches[number][:, :-1]
            if cuts is not None:  # real text from another row takes over at the cut
                tokens = np.where(np.arange(MAX_CONTEXT) < cuts.numpy(), tokens, np.roll(tokens, 1, axis=0))
            yield np.ascontiguousarray(tokens, dtype=np.int32)

    nats, nbytes, kept = 0.0, 0, {}
    for (number, cuts), logits in zip(calls, serve(inputs()), strict=True):
        if not torch.isfinite(logits.sum()):  # one of infinity or NaN is enough to spoil the sum
            raise NotFinite("the model answered with logits that are not finite numbers")
        if number in kept:
            _compare(kept.pop(number), (logits, cuts))
        elif number in probed:
            kept[number] = logits.clone(), cuts
        if cuts is None:
            targets = torch.from_numpy(batches[number][:, 1:]).to(logits.device)
            size = sizes.to(logits.device)[targets]
            for row in range(EVAL_BATCH):  # one at a time: a batch has half a gigabyte of logits on CUDA
                loss = F.cross_entropy(logits[row], targets[row], reduction="none")
                nats += loss[size[row] > 0].double().sum().item()
            nbytes += size.sum().item()
    return nats / (math.log(2) * nbytes)


def _compare(one: tuple, other: tuple) -> None:
    cuts = (one[1] if one[1] is not None else other[1]).to(one[0].device)
    before = torch.arange(MAX_CONTEXT, device=cuts.device) < cuts
    moved = [(a - b).abs().amax(-1)[seen].max() for a, b, seen in zip(one[0], other[0], before, strict=True)]
    change = max(moved).item()
    if change > TOLERANCE:
        raise Tampered(
            f"the model looks ahead or changes between calls: logits before a changed token moved by "
            f"{change:.3g} (at most {TOLERANCE:g} is rounding)"
        )


def finish(model: Callable[[torch.Tensor], torch.Tensor]) -> float | None:
    """The end of training. By hand: evaluate and return val_bpb. In a trial: serve the model, return None.

    ``model`` maps tokens (int64, shape (batch, length), any length up to MAX_CONTEXT) to logits of shape
    (batch, length, vocabulary).
    """

    @torch.no_grad()
    def answer(tokens: torch.Tensor) -> torch.Tensor:
        return model(tokens.to(DEVICE, torch.int64)).float()

    def serve(array):
        if hasattr(array, "__cuda_array_interface__"):  # it stays on the device, and so does the answer
            return answer(torch.as_tensor(array, device=DEVICE)).contiguous()
        return answer(torch.from_numpy(np.array(array))).contiguous().cpu().numpy()

    if nightlab_guest and (trial := nightlab_guest.trial()):
        if DEVICE == "cuda":
            torch.cuda.empty_cache()  # what training has done with is room for the evaluator
        trial.serve(serve)
        return None
    try:
        return bits_per_byte(lambda batches: map(answer, map(torch.from_numpy, batches)), "val")
    except Tampered as reason:
        stop(f"TAMPERED: {reason}", 3)
    except NotFinite as reason:
        stop(f"No metric: {reason}.", 4)


def evaluate() -> None:
    """The evaluator's process: score the model that the candidate serves.

    Prints ``METRIC val_bpb=…``, and told NIGHTLAB_HELD_OUT=1, for trials that decide nothing, the same of the
    held-out split as ``METRIC held_out=…``. Exit status 3: a rule was broken. 4: the candidate answered badly.
    """
    if nightlab_guest is None or os.environ.get("NIGHTLAB_ROLE") != "evaluator":
        stop("This is for nightlab's evaluator. By hand, python train.py evaluates its model itself.")
    splits = {"val_bpb": "val"} | ({"held_out": "heldout"} if os.environ.get("NIGHTLAB_HELD_OUT") == "1" else {})
    served = nightlab_guest.Served(device=True)
    shape = (EVAL_BATCH, MAX_CONTEXT, VOCABULARY)

    def serve(batches: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        for array in served.map(batches, "f", shape):
            there = hasattr(array, "__cuda_array_interface__")
            yield torch.as_tensor(array, device=DEVICE) if there else torch.from_numpy(np.asarray(array))

    try:
        for name, split in splits.items():
            print(f"METRIC {name}={bits_per_byte(serve, split):.9f}", flush=True)
    except Tampered as reason:
        stop(f"TAMPERED: {reason}", 3)
    except NotFinite as reason:
        stop(f"No metric: {reason}.", 4)
    except nightlab_guest.ServeError as error:
        stop(f"No metric: {error}. The candidate's own output says more.", 4)


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare the corpus of the language-model lab.")
    parser.add_argument("action", nargs="?", choices=["prepare", "evaluate"], default="prepare")
    parser.add_argument("--corpus", help="sotu, tinystories, climbmix, or a folder of .txt or .parquet files")
    parser.add_argument("--shards", type=int, default=SHARDS, help="training shards of climbmix")
    parser.add_argument("--workers", type=int, default=8, help="downloads at a time")
    options = parser.parse_args()
    if options.action == "evaluate":
        return evaluate()
    corpus = options.corpus or CORPUS
    if corpus and corpus not in ("sotu", "tinystories", "climbmix"):
        corpus = str(Path(corpus).expanduser().absolute())
    prepare(corpus, options.shards, options.workers)
    if recipe(corpus, options.shards) != recipe():
        print(f"To train on it, say so in corpus.py:  CORPUS = {corpus!r}  and  SHARDS = {options.shards}")
    return None


if __name__ == "__main__":
    main()
