"""Sessions of any size, made up from a seed and written into a real ledger in a moment: for what only looks at them."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from nightlab.core.events import EvidenceShown, RunStarted, RunStopped, SessionStarted
from nightlab.core.types import Budget, Candidate, Evidence, Measurement, Metric, PairedGain, Trial, Verdict
from nightlab.integrations.trackers import Source
from nightlab.storage.ledger import Ledger

BEGUN = 1_760_000_000.0
SIGMA = 0.0005
METRIC = Metric("val_bpb", unit="bits per byte")
IDEAS = ["tune LR 0.04 → 0.05", "a wider MLP, $x_{$", "GELU instead of ReLU², and a longer warmdown than before"]


def fill(ledger_at: Path, count: int, *, slots: int = 1, facts: SessionStarted | None = None, seed: int = 0) -> Ledger:
    """A ledger with a baseline and ``count`` experiments, a stop and a new start in the middle. Returned open.

    The noise of a trial is ``SIGMA``; most kept experiments have a worth, and the champion is held out.
    """
    now = [BEGUN]
    ledger = Ledger(ledger_at, clock=lambda: now[0])
    with ledger.at_once():
        if facts:
            ledger.append(facts)
        _fill(ledger, now, count, slots, random.Random(seed))
    return ledger


def _fill(ledger: Ledger, now: list[float], count: int, slots: int, luck: random.Random) -> None:
    best, kept = 1.0, [0]
    ledger.append(RunStarted("here"))
    for first in [0, *range(1, count + 1, slots)]:
        begun, batch = now[0], range(first, min(first + slots, count + 1) if first else 1)
        trials = []
        for number in batch:
            commit, what = f"{number:040x}", luck.choice(IDEAS) if number else "baseline"
            candidate = Candidate(commit, f"{kept[-1]:040x}", commit, "tuner" if number else "baseline", what, 100)
            ledger.propose(replace(candidate, changes=(what,) if number else (), constants={"LR": 0.04}))
            trials.append(Trial(f"{number:04d}-search-s1-1", number, commit, 1, "search", Budget("wall", 20)))
            ledger.start(trials[-1])
        for number, trial in zip(batch, trials, strict=True):
            crashed, easy = bool(number) and luck.random() < 0.05, 0.3 / (1 + number / 20)
            gain = luck.choice([0.004, 0.002, 0.001] if luck.random() < easy else [0, -0.001, -0.004, -0.03])
            value = None if crashed else best - gain * bool(number) + luck.gauss(0, SIGMA)
            measured = Measurement("crashed" if crashed else "measured", value, detail="ValueError" * crashed)
            measured = replace(
                measured, startup_seconds=3.0, training_seconds=20.0 * (not crashed), evaluation_seconds=4.0,
                wall_seconds=29.0 - 20.0 * crashed, peak_memory_mb=900.0,
            )  # fmt: skip
            now[0] = begun + measured.wall_seconds
            ledger.finish(trial, measured)
            keep = not number or (value is not None and value < best)
            if keep and value is not None:
                best = value + (SIGMA / 2 if number else 0)
                kept.append(number)
            said: Any = ("keep", "improved") if keep else ("crash", "crashed") if crashed else ("discard", "regressed")
            ledger.judge(number, measured, Verdict(*said, bar=best if keep else None))
        now[0] = begun + 30
        if count // 2 in batch and count > 1:
            ledger.append(RunStopped("stopped by the user"))
            now[0] += 300
            ledger.append(RunStarted("here"))
    if champion := kept[-1]:
        gain_of = 1.0 - best
        shown = PairedGain(gain_of - 0.0004, gain_of - 0.0014, gain_of + 0.0006, 0.95, 4)
        held_out = replace(shown, mean=shown.mean - 0.0005)
        ledger.append(EvidenceShown(champion, Evidence("held out", 0, (1001, 1002), shown, held_out)))
        for number in kept[2:]:
            worth = PairedGain(mean := luck.gauss(0.001, 0.001), mean - 0.001, mean + 0.001, 0.95, 3)
            ledger.append(
                EvidenceShown(number, Evidence("confirmed", number, (2001,), worth, what=f"taken out of #{champion}"))
            )


def source(home: Path) -> Source:
    return Source("tiny", "t", METRIC, home / ".nightlab" / "t")
