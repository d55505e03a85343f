"""How large a briefing is after many experiments, and what it still names: python benchmarks/briefing.py

Histories are drawn: the lm lab's genome, two thirds moves of its constants, one third ideas in words, one in ten
kept. The questions are those that a proposer would ask of the past: what was tried on this champion, what nearly
worked, what became of a constant.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

from machine import heading, table

from nightlab.core.config import load_contract
from nightlab.core.types import Candidate, Experiment, Measurement, Verdict
from nightlab.loop.briefing import BEST, LAST
from nightlab.proposers import Briefing, find_constants
from nightlab.proposers.briefing import render_briefing, tokens
from nightlab.proposers.command import TASK

LAB = Path(__file__).parent.parent / "src" / "nightlab" / "labs" / "lm"
SIGMA, LIMIT = 0.005, 16_000
IDEAS = ("attention", "normalisation", "residual", "embedding", "gate", "window", "rotary", "optimiser", "momentum")
VERBS = ["drop", "share", "widen", "halve", "learn", "mix", "clip", "average", "sharpen", "delay"]


def history(count: int, names: list[str], seed: int = 1) -> list[Experiment]:
    """A drawn session of so many experiments, the last ten of them on its last champion."""
    draw = random.Random(seed)
    first = Candidate("c0", "c0", "t0", "baseline", "baseline")
    made = [Experiment(0, first, 0.0, Measurement("measured", 2.0), Verdict("keep", "baseline"), bar=2.0)]
    champion, bar = "c0", 2.0
    for n in range(1, count + 1):
        kept = draw.random() < 0.1 and n <= count - 10
        gain = abs(draw.gauss(0, SIGMA)) if kept else -abs(draw.gauss(0, 4 * SIGMA))
        if draw.random() < 2 / 3:
            name = draw.choice(names)
            changes: tuple[str, ...] = (f"{name} {draw.random():.3g} → {draw.random():.3g}",)
            words = f"tune {changes[0]}"
        else:
            changes, words = (), f"{draw.choice(VERBS)} the {draw.choice(IDEAS)} of every {n}th layer"
        crashed = draw.random() < 0.05 and not kept
        measured = Measurement("crashed" if crashed else "measured", None if crashed else bar - gain)
        verdict = Verdict("crash", "crashed", "CUDA error") if crashed else Verdict("discard", "regressed")
        candidate = Candidate(f"c{n}", champion, f"t{n}", "agent", words, changes=changes)
        verdict = Verdict("keep", "improved") if kept else verdict
        made.append(Experiment(n, candidate, 0.0, measured, verdict, gap=None if crashed else -gain))
        if kept:
            champion, bar = f"c{n}", bar - gain
    return made


def told_of(past: list[Experiment]) -> list[Experiment]:
    """What a session's ledger gives a briefing: the baseline, the best, near misses and the latest."""
    measured = [e for e in past if e.measurement and e.measurement.metric is not None]
    best = sorted(measured, key=lambda e: e.measurement.metric if e.measurement and e.measurement.metric else 0)[:BEST]
    near = sorted((e for e in measured if not e.kept), key=lambda e: e.gap or 0)[:BEST]
    numbers = {0, *(e.number for e in (*best, *near, *past[-LAST:]))}
    return [e for e in past if e.number in numbers]


def main() -> None:
    lab, _ = load_contract(LAB)
    text = (LAB / "train.py").read_text()
    names = sorted(find_constants(text, "cpu"))
    heading(f"A briefing of at most {LIMIT:,} tokens")
    rows = []
    for count in (10, 100, 1000, 10_000):
        past = history(count, names)
        champion = [e for e in past if e.kept][-1]
        outline = told_of(past)
        told = Briefing(
            lab.metric.record(), "cpu", {"train.py": text}, champion, outline, None, lab, lab.budget.on("cpu").record(),
            (LAB / "program.md").read_text(), sigma=SIGMA, detectable=3 * SIGMA,
        )  # fmt: skip
        begun = time.perf_counter()
        page = render_briefing(told, TASK, LIMIT)
        seconds = time.perf_counter() - begun
        misses = [e for e in past[1:] if e.gap is not None and e.gap <= SIGMA and not e.kept]
        near = [e.number for e in sorted(misses, key=lambda e: e.gap or 0)[:10]]
        here = [e.number for e in past[1:] if e.candidate.parent == champion.candidate.commit][-10:]
        moved = {e.candidate.changes[0].split()[0] for e in past if e.candidate.changes}
        rows.append(
            (
                f"{count:,}",
                f"{tokens(page):,}",
                f"{len(page.encode()) / 1000:.1f}",
                f"{sum(f'#{n} ' in page for n in here)} of {len(here)}",
                f"{sum(f'#{n} ' in page for n in near)} of {len(near)}",
                f"{sum(f'{name}' in page.split('by subject')[-1] for name in moved)} of {len(moved)}",
                f"{seconds * 1000:.0f}",
            )
        )
    columns = "experiments", "tokens", "KB", "latest on this champion", "nearest misses", "constants tried", "ms"
    table(columns, rows)


if __name__ == "__main__":
    main()
