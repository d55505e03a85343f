"""Metric of the language-model lab: bits per byte, and the probes that it rests on. Frozen.

A model is called through a ``Serve``: batches of tokens (int32, shape (EVAL_BATCH, MAX_CONTEXT)) to logits (float32,
that shape and the vocabulary), lazily and in order. In a trial two processes of the model are called, one after the
other: they share nothing, so what one was asked is no help to the other.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from corpus import BOS, DEVICE, VOCABULARY, stop, token_bytes, tokens_of

Serve = Callable[[Iterable[np.ndarray]], Iterable[torch.Tensor]]

MAX_CONTEXT = {"cuda": 2048, "mps": 512, "cpu": 256}[DEVICE]  # the metric's context, whatever training uses
EVAL_TOKENS = {"cuda": 2**20, "mps": 2**18, "cpu": 2**16}[DEVICE]
EVAL_BATCH = {"cuda": 8, "mps": 16, "cpu": 8}[DEVICE]  # rows in one call of the served model

# Rows that the second process is asked with another ending: scored ones, and ones that are shown nowhere else.
# Where a claim is made (on a candidate's trial that scores held-out data too), all scored rows, and more of the others.
PROBED, UNSEEN, UNSEEN_FOR_A_CLAIM = 48, 16, 256
# A causal model gives the same beginning the same loss, bit for bit. The room on accelerators is for kernels
# that add in no fixed order; a leak as small as this would not pay. Where the baseline's own repeats differ more,
# there is room for ROOM times that, up to MOST.
TOLERANCE = {"cuda": 1e-2, "mps": 1e-2, "cpu": 1e-4}[DEVICE]  # nats
ROOM, MOST = 4.0, 0.1
REPEATED = 16  # rows that the second process is asked as the first was, where the repeats are measured
SUSPICIOUS = 7  # standard errors between the loss at targets that were shown and at ones that never were
AGES = 3  # parts of the held-out data, by the age of its documents
CHANGED, EACH = 64, 16  # rows of the text as slightly changed, and in how many tokens of it one is another
INDEXED = 2**21  # tokens in which other endings are looked for


class NotFinite(Exception):
    """The model answers with numbers that are none."""


class Unrepeatable(Exception):
    """The model answers the same with what differs too much to tell a leak from noise."""


class Tampered(Exception):
    """The model breaks a rule that the metric rests on."""


def rows_at(tokens: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Rows of ``length`` + 1 tokens, int64, shape (len(starts), length + 1); the last ones wrap around.

    Rows overlap by one token, and that one is replaced by BOS: every row starts with BOS, is full, and what
    a row cuts off a document the next row continues. Each token is a target exactly once.
    """
    rows = np.take(tokens, starts[:, None] + np.arange(length + 1), mode="wrap").astype(np.int64)
    rows[:, 0] = BOS
    return rows


def losses(serve: Serve, inputs: np.ndarray, targets: np.ndarray) -> torch.Tensor:
    """Nats of each target, float32 on the CPU; ``inputs`` and ``targets``: (rows, MAX_CONTEXT). Rows are called in a
    random order of batches. Raises NotFinite."""
    order = list(range(0, len(inputs), EVAL_BATCH))
    random.SystemRandom().shuffle(order)
    found = torch.empty(targets.shape, dtype=torch.float32)

    def batches() -> Iterator[np.ndarray]:
        for at in order:
            yield np.ascontiguousarray(inputs[at : at + EVAL_BATCH], dtype=np.int32)

    for at, logits in zip(order, serve(batches()), strict=True):
        if not torch.isfinite(logits.sum()):  # one of infinity or NaN is enough to spoil the sum
            raise NotFinite("the model answered with logits that are not finite numbers")
        for row in range(EVAL_BATCH):  # one at a time: a batch has half a gigabyte of logits on CUDA
            wanted = torch.from_numpy(targets[at + row]).to(logits.device)
            found[at + row] = F.cross_entropy(logits[row], wanted, reduction="none").cpu()
    return found


def bits_per_byte(nats: torch.Tensor, targets: np.ndarray) -> float:
    """Of losses at targets, of the same shape; without those that stand for no bytes."""
    sizes = torch.from_numpy(token_bytes())[torch.from_numpy(targets)]
    return nats[sizes > 0].double().sum().item() / (math.log(2) * sizes.sum().item())


class Exam:
    """The scored rows of a split. First ``score``, which gives ``bits_per_byte``; then ``probe``, by another process.

    ``claim``: probe as thoroughly as a claim deserves. ``rounding``: by how many nats the baseline's loss of a target
    differs from one process to the other; None, of the baseline itself or by hand, has ``probe`` measure it.
    """

    def __init__(self, split: str, claim: bool = False, rounding: float | None = None) -> None:
        self.data, self.claim, self.rounding = tokens_of(split), claim, rounding
        there = (len(self.data) - 1) // MAX_CONTEXT
        count = min(there, EVAL_TOKENS // MAX_CONTEXT) // EVAL_BATCH * EVAL_BATCH
        if not count:
            stop(f"The {split} split is shorter than one batch of {EVAL_BATCH * MAX_CONTEXT:,} tokens: use more text.")
        picked = np.linspace(0, there - 1, count).astype(np.int64)  # spread over all documents
        self.starts = picked * MAX_CONTEXT
        self.rows = rows_at(self.data, self.starts, MAX_CONTEXT)
        self.unseen = np.setdiff1d(np.arange(there), picked) * MAX_CONTEXT  # where rows start that are not scored
        self.endings = Endings(self.data)  # now: an evaluator has time while its model trains
        self.losses = torch.empty(0)

    def score(self, serve: Serve) -> None:
        self.losses = losses(serve, self.rows[:, :-1], self.rows[:, 1:])

    def bits_per_byte(self) -> float:
        """Independent of the vocabulary, lower is better: the sum of nats over the sum of the targets' UTF-8 bytes,
        BOS left out of both, as karpathy/autoresearch and nanochat define it; softmax and logarithm are ours."""
        return bits_per_byte(self.losses, self.rows[:, 1:])

    def by_age(self, years: np.ndarray) -> dict[str, float]:
        """Bits per byte of AGES equal parts of the rows, from old to new; ``years``: of each document. A row has the
        age of the document that it starts in. Keys are like ``1790_to_1865``."""
        document = np.searchsorted(np.flatnonzero(self.data == BOS), self.starts, side="right") - 1
        parts = np.array_split(np.argsort(years[document], kind="stable"), AGES)
        ends = [(years[document[part[0]]], years[document[part[-1]]]) for part in parts]
        return {
            f"{first}_to_{last}": bits_per_byte(self.losses[part], self.rows[part, 1:])
            for (first, last), part in zip(ends, parts, strict=True)
        }

    def changed(self, serve: Serve) -> float:
        """Bits per byte of the same text with one token in EACH replaced, at the targets that are as they were.

        The changes are the same for each model: one that knows the text by heart loses more by them.
        """
        chance, endings = random.Random(0), Endings(self.data, random.Random(0))
        count = _whole_batches(CHANGED, len(self.rows))
        rows = self.rows[np.linspace(0, len(self.rows) - 1, count).astype(np.int64)]
        inputs, targets = rows[:, :-1].copy(), rows[:, 1:].copy()
        for row, its in zip(inputs, targets, strict=True):
            for at in chance.sample(range(1, MAX_CONTEXT), MAX_CONTEXT // EACH):
                row[at], its[at - 1] = endings.other(row[: at + 1], 1)[0], BOS  # a target of no bytes: left out
        return bits_per_byte(losses(serve, inputs, targets), targets)

    def probe(self, serve: Serve) -> None:
        """Ask a process that has seen none of this for rows with other endings. Raises Tampered, Unrepeatable.

        1. Up to the cut, the loss on a scored row must be what it was: also at the target that was replaced in the
           input. A model that looks ahead by one token at a share p of all positions passes n rows with a probability
           of (1 - p)^n. A model that remembers what it was asked was asked something else here.
        2. On rows that are not scored, the replaced target was shown to no process at all. Its loss must be that of the
           shown ones. This trusts neither the processes nor their numbers; it finds only what pays a lot.
        """
        chance = random.SystemRandom()
        probed = _whole_batches(len(self.rows) if self.claim else PROBED, len(self.rows))
        unseen = _whole_batches(UNSEEN_FOR_A_CLAIM if self.claim else UNSEEN, len(self.unseen))
        known = chance.sample(range(len(self.rows)), probed)
        fresh = np.array(chance.sample(self.unseen.tolist(), unseen), dtype=np.int64)
        rows = np.concatenate([self.rows[known], rows_at(self.data, fresh, MAX_CONTEXT)])
        mixed = chance.sample(range(len(rows)), len(rows))
        cuts = np.array([chance.randrange(1, MAX_CONTEXT) for _ in rows])
        inputs = rows[:, :-1].copy()
        for row, cut in zip(inputs, cuts, strict=True):
            row[cut:] = self.endings.other(row[: cut + 1], MAX_CONTEXT - cut)
        found = torch.empty(inputs.shape)
        found[mixed] = losses(serve, inputs[mixed], rows[mixed, 1:])

        if self.rounding is None:
            rows_again = known[: _whole_batches(REPEATED, probed)]
            again = losses(serve, self.rows[rows_again, :-1], self.rows[rows_again, 1:])
            self.rounding = (again - self.losses[rows_again]).abs().max().item()
        if ROOM * self.rounding > MOST:
            raise Unrepeatable(
                f"the model's loss at a target differs by {self.rounding:.3g} nats when it is asked the same again "
                f"(at most {MOST / ROOM:g}); use deterministic kernels (torch.use_deterministic_algorithms)"
            )
        tolerance = max(TOLERANCE, ROOM * self.rounding)
        before = torch.arange(MAX_CONTEXT) < torch.from_numpy(cuts[:probed])[:, None]
        moved = ((found[:probed] - self.losses[known]).abs() * before).max().item()
        if moved > tolerance:
            raise Tampered(
                f"the model looks ahead or changes between calls: the loss before a changed token moved by {moved:.3g} "
                f"nats from one process to the other (at most {tolerance:g} is rounding)"
            )
        if unseen:
            hidden = found[torch.arange(probed, len(rows)), torch.from_numpy(cuts[probed:] - 1)]
            self._compare(hidden.double())

    def _compare(self, hidden: torch.Tensor) -> None:
        shown = self.losses.double()
        error = shown.std().item() / math.sqrt(len(hidden))
        worse = (hidden.mean() - shown.mean()).item()
        if worse > SUSPICIOUS * error:
            raise Tampered(
                f"the model knows targets that it was shown: its loss at {len(hidden)} targets that it was not shown "
                f"is {worse:.2f} nats above the others' (at most {SUSPICIOUS * error:.2f} is chance)"
            )


class Endings:
    """Other continuations of a text, from the same data: plausible, so that a model can't tell them from the true."""

    def __init__(self, data: np.ndarray, chance: random.Random | None = None) -> None:
        self.chance = chance or random.SystemRandom()
        first = self.chance.randrange(max(1, len(data) - INDEXED))
        self.data = data[first : first + INDEXED].astype(np.int64)
        self.pairs = self.data[:-1] * VOCABULARY + self.data[1:]
        self.by_pair, self.by_token = (np.argsort(keys, kind="stable") for keys in (self.pairs, self.data))

    def other(self, text: np.ndarray, length: int) -> np.ndarray:
        """``length`` tokens that follow elsewhere on the two tokens before the last of ``text``, or on the one; the
        first of them is another than that last one."""
        chance, *before, true = self.chance, *text[-3:].tolist()
        places = [chance.randrange(len(self.data)) for _ in range(8)]
        for keys, order, key, width in (
            (self.data, self.by_token, before[-1], 1),
            (self.pairs, self.by_pair, before[0] * VOCABULARY + before[-1], len(before)),
        ):
            low, high = (np.searchsorted(keys, key, side, sorter=order) for side in ("left", "right"))
            found = [int(order[chance.randrange(low, high)]) + width for _ in range(8)] if low < high else []
            places = [place for place in found if self.data[place % len(self.data)] != true] + places
        place = next((place for place in places if self.data[place % len(self.data)] != true), places[-1])
        return np.take(self.data, np.arange(place, place + length), mode="wrap")


def _whole_batches(wanted: int, there: int) -> int:
    return min(wanted, there) // EVAL_BATCH * EVAL_BATCH
