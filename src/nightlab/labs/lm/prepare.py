"""Loader, budget, hand-over and evaluator of the language-model lab. Frozen, like ``corpus.py`` and ``metric.py``.

    python prepare.py                     prepare the corpus, once (the only step that uses the network)
    python prepare.py --corpus FOLDER     another corpus: sotu, tinystories, climbmix, or a folder of text
    python prepare.py evaluate            the evaluator of a trial; nightlab starts it, you never do

``train.py`` imports this file.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from corpus import CORPUS, DEVICE, PRIVATE, SHARDS, VOCABULARY, prepare, recipe, stop, tokens_of, years_of
from metric import EVAL_BATCH, MAX_CONTEXT, Exam, NotFinite, Tampered, Unrepeatable, rows_at

try:
    import nightlab_guest  # there inside a trial only
except ImportError:
    nightlab_guest = None

CLOCK = {"cuda": ("wall", 300), "mps": ("wall", 120), "cpu": ("cpu", 10)}[DEVICE]  # budget of a run by hand
SEED = int(os.environ.get("NIGHTLAB_SEED", "42"))  # the engine owns the seed

if DEVICE == "cpu":
    torch.set_num_threads(1)  # process CPU time is then fair, and one seed gives one result to the last digit


# --- Loader ---------------------------------------------------------------------------------------------


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
        self.before = self.random.bit_generator.state, self.first  # before the epoch was drawn

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

    def place(self) -> np.ndarray:
        """Where it is in the data, nine int64: what ``go_on`` needs to hand out the rows that come next."""
        had, first = self.before
        words = [self.tokens, first, len(self.order)]
        words += [had["state"][name] >> shift & 2**64 - 1 for name in ("state", "inc") for shift in (0, 64)]
        return np.array([*words, had["has_uint32"], had["uinteger"]], dtype=np.uint64).view(np.int64)

    def go_on(self, place: np.ndarray) -> None:
        """Go on from a place: the epoch that it lies in begins again, without the rows that were handed out."""
        self.tokens, self.first, left, low, high, inc_low, inc_high, *half = map(int, place.view(np.uint64))
        state = {"state": low | high << 64, "inc": inc_low | inc_high << 64}
        had = {"bit_generator": "PCG64", "state": state, "has_uint32": half[0], "uinteger": half[1]}
        self.random.bit_generator.state = had
        order = self.epoch()
        self.order = order[len(order) - left :]

    def epoch(self) -> np.ndarray:
        """Where the rows of the next epoch start, shuffled, int64."""
        self.before = self.random.bit_generator.state, self.first
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
        trial = nightlab_guest.trial() if nightlab_guest else None
        self.begin, self.end = (trial.begin, trial.end) if trial else (0.0, 1.0)  # of a population's member: its part
        self.losses: list[float] = []  # since the last report
        self.reported = 0.0

    def start(self) -> None:
        """Training begins: the budget runs from now."""
        if nightlab_guest and (trial := nightlab_guest.trial()):
            trial.start()
        self.began = self.now()

    def progress(self) -> float:
        """The part of the budget that is spent, 0 to 1; ``begin`` before the start, and ``end`` at most."""
        return min(self.end, self.begin + max(0.0, (self.now() - self.began) / self.amount))

    def report(self, loss: float) -> None:
        """Tell nightlab how training goes: a mean for each hundredth of the budget. It may end early."""
        self.losses.append(loss)
        if (progress := self.progress()) - self.reported >= 0.01:
            if nightlab_guest and (trial := nightlab_guest.trial()):
                trial.report(progress, sum(self.losses) / len(self.losses))
            self.reported, self.losses = progress, []


# --- Hand-over and evaluation ---------------------------------------------------------------------------

Model = Callable[[torch.Tensor], torch.Tensor]  # tokens (int64, (batch, length)) to logits (batch, length, vocabulary)


def answer(load: Callable[[dict[str, torch.Tensor]], Model]) -> None:
    """In a process that answers the evaluator: load the trained model and serve it, never to return.

    Elsewhere this does nothing.
    ``load`` gets the state that ``hand_over`` saved, and must give the model for any length up to MAX_CONTEXT.
    """
    if nightlab_guest:
        nightlab_guest.answer(lambda arrays: served(load({name: tensor(array) for name, array in arrays.items()})))


def hand_over(model: torch.nn.Module) -> None:
    """The end of training in a trial: save the model's state, which is what will be scored, and end.

    By hand this does nothing.
    """
    if nightlab_guest and (trial := nightlab_guest.trial()):
        trial.hand_over({name: plain(value) for name, value in model.state_dict().items()})


def checkpoint() -> dict[str, torch.Tensor]:
    """What a member of a population goes on from: what ``save`` was given; empty where training begins."""
    trial = nightlab_guest.trial() if nightlab_guest else None
    return {name: tensor(array) for name, array in trial.checkpoint().items()} if trial else {}


def save(state: dict[str, torch.Tensor]) -> None:
    """Save what training needs to go on. Does nothing where it won't."""
    if nightlab_guest and (trial := nightlab_guest.trial()):
        trial.save({name: plain(value) for name, value in state.items()})


def tensor(array: memoryview) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def plain(value: torch.Tensor) -> np.ndarray:
    """A tensor as an array of a type that numpy has too."""
    value = value.detach().cpu()
    return np.ascontiguousarray((value.float() if value.is_floating_point() else value).numpy()).reshape(value.shape)


def served(model: Model) -> Callable[[np.ndarray], np.ndarray]:
    """The function that answers the evaluator's calls."""

    def serve(array):
        if hasattr(array, "__cuda_array_interface__"):  # it stays on the device, and so does the answer
            return logits(model, torch.as_tensor(array, device=DEVICE)).contiguous()
        return logits(model, tensor(array)).contiguous().cpu().numpy()

    return serve


@torch.no_grad()
def logits(model: Model, tokens: torch.Tensor) -> torch.Tensor:
    return model(tokens.to(DEVICE, torch.int64)).float()


def finish(model: Model) -> float | None:
    """The end of training by hand: evaluate and return val_bpb. In a trial only the evaluator does: None."""
    if nightlab_guest and nightlab_guest.trial():
        return None

    def serve(batches: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        return (logits(model, torch.from_numpy(batch)) for batch in batches)

    with words_for_failures():
        exam = Exam("val")
        exam.score(serve)
        exam.probe(serve)
    return exam.bits_per_byte()


@contextmanager
def words_for_failures() -> Iterator[None]:
    """Exit with status 3 where a rule was broken, and with 4 where the model answered badly."""
    try:
        yield
    except Tampered as reason:
        stop(f"TAMPERED: {reason}", 3)
    except (NotFinite, Unrepeatable) as reason:
        stop(f"No metric: {reason}.", 4)


def evaluate() -> None:
    """The evaluator's process: score the model that the candidate handed over.

    Prints ``METRIC val_bpb=…``, and told NIGHTLAB_HELD_OUT=1, for trials that decide nothing, the same of the
    held-out split as ``METRIC held_out=…``, of its documents by age, where they have dates, as
    ``val_bpb_held_out_1806_to_1886``, of your private text as ``val_bpb_private`` and of validation text that is
    slightly changed as ``val_bpb_changed``: what a model knows by heart gains there less. Of the baseline, by how much
    its repeats differ as ``METRIC rounding=…``.
    """
    if nightlab_guest is None or os.environ.get("NIGHTLAB_ROLE") != "evaluator":
        stop("This is for nightlab's evaluator. By hand, python train.py evaluates its model itself.")
    claim = os.environ.get("NIGHTLAB_HELD_OUT") == "1"
    baseline = os.environ.get("NIGHTLAB_BASELINE")  # its numbers; not there in its own trials
    known = json.loads(baseline).get("rounding", 0.0) if baseline else None
    splits = {"val_bpb": "val"} | ({"held_out": "heldout"} if claim else {})
    splits |= {"val_bpb_private": "private"} if claim and PRIVATE else {}
    # Your own program, which the others are compared with, makes no claim.
    exams = {name: Exam(split, claim and known is not None, known) for name, split in splits.items()}
    scored, probed = (nightlab_guest.Served(device=True, process=number) for number in (0, 1))
    try:
        with words_for_failures():
            for exam in exams.values():
                exam.score(calls_of(scored))
            scored.close()
            for exam in exams.values():
                exam.probe(calls_of(probed))
            changed = exams["val_bpb"].changed(calls_of(probed)) if claim else None
    except nightlab_guest.ServeError as error:
        stop(f"No metric: {error}. The candidate's own output says more.", 4)
    for name, exam in exams.items():
        print(f"METRIC {name}={exam.bits_per_byte():.9f}", flush=True)
    if claim and (years := years_of("heldout")) is not None:
        for age, bits in exams["held_out"].by_age(years).items():
            print(f"METRIC val_bpb_held_out_{age}={bits:.9f}", flush=True)
    if changed is not None:
        print(f"METRIC val_bpb_changed={changed:.9f}", flush=True)
    if known is None:  # of the baseline: others are compared with it
        print(f"METRIC rounding={max(exam.rounding for exam in exams.values())!r}", flush=True)


def calls_of(link) -> Callable[[Iterable[np.ndarray]], Iterator[torch.Tensor]]:
    """Calls of the model at the other end of a link."""

    def serve(batches: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        for array in link.map(batches, "f", (EVAL_BATCH, MAX_CONTEXT, VOCABULARY)):
            there = hasattr(array, "__cuda_array_interface__")
            yield torch.as_tensor(array, device=DEVICE) if there else torch.from_numpy(np.asarray(array))

    return serve


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare the corpus of the language-model lab.")
    parser.add_argument("action", nargs="?", choices=["prepare", "evaluate"], default="prepare")
    parser.add_argument("--corpus", help="sotu, tinystories, climbmix, or a folder of .txt or .parquet files")
    parser.add_argument("--shards", type=int, default=SHARDS, help="training shards of climbmix")
    parser.add_argument("--workers", type=int, default=8, help="downloads at a time")
    options = parser.parse_args()
    if options.action == "evaluate":
        evaluate()
        os._exit(0)  # all is printed, and PyTorch would take half a second to shut down
    corpus = options.corpus or CORPUS
    if corpus and corpus not in ("sotu", "tinystories", "climbmix"):
        corpus = str(Path(corpus).expanduser().absolute())
    prepare(corpus, options.shards, options.workers)
    if recipe(corpus, options.shards) != recipe():
        print(f"To train on it, say so in corpus.py:  CORPUS = {corpus!r}  and  SHARDS = {options.shards}")


if __name__ == "__main__":
    main()
