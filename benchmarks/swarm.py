"""A swarm of labs that exchange findings: python benchmarks/swarm.py [--peers 10 100] [--known | --attacks | --rules]

Event by event, over a simulated network: every peer syncs at its own pace, some go offline for a while, some join
late, the network is in two halves for some time. What decides is the product's own code (``swarm_peer``), which also
signs, encodes and checks the records, of large swarms one in twenty. Three arms meet the same landscape: the commons,
isolation, and a swarm that believes claims. --known: the honest labs have named each other, so many of the others
each (a number), or all, the attackers too;
--attacks: each attack by itself; --rules: each rule otherwise.

Not simulated: git, sandboxes, patches that conflict (they cost a turn's time, not a trial), upkeep, days that pass.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from machine import heading, table
from swarm_network import FLOOD, NAMES, Cell, Kind, Network, Result
from swarm_world import SHARE, SIZE, START

from nightlab.commons import peer_store, proposer, queue, trust

# -- rules otherwise ---------------------------------------------------------------------------------------


def unclipped(claimed: float, most: float, trusted: float, novelty: float) -> float:
    return max(claimed, 0.0) * trusted * novelty


Changed = Sequence[tuple[Any, str, Any]]
NO_CLIP: Changed = ((peer_store, "priority", unclipped),)
NO_QUARANTINE: Changed = ((trust, "QUARANTINE", 0.0),)
NO_ROUNDS: Changed = ((queue, "ROUND", 0),)
NO_SIZES: Changed = ((proposer, "draw_ranks", lambda known, draw: ()),)
NO_LIMIT: Changed = ((queue, "NEWCOMERS", 1.0), (queue, "IDLE", 1.0))
RULES: dict[str, Changed] = {
    "all rules": (),
    "no clip": NO_CLIP,
    "no quarantine": NO_QUARANTINE,
    "no rounds of authors": NO_ROUNDS,
    "no limit for newcomers": NO_LIMIT,
    "no records by size": NO_SIZES,
    "none of these": (*NO_CLIP, *NO_QUARANTINE, *NO_ROUNDS, *NO_LIMIT, *NO_SIZES),
}


@contextmanager
def rules(changed: Changed) -> Iterator[None]:
    """The product with some of its rules otherwise."""
    before = [(module, name, getattr(module, name)) for module, name, _ in changed]
    try:
        for module, name, value in changed:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


# -- tables ------------------------------------------------------------------------------------------------

MIXED: tuple[Kind, ...] = ("gross", "careful", "collude", "flood")
SLEEPERS = "copy what holds, lie and vouch from half time on"
SYBIL = f"one liar, {NAMES} new names a round"
ATTACKS: dict[str, tuple[float, tuple[Kind, ...]]] = {
    "no liars": (0.0, ()),
    "claim 59": (0.25, ("gross",)),
    "claim 4.5 sigma": (0.25, ("careful",)),
    "claim 59, vouch for each other, slander": (0.25, ("collude",)),
    f"{FLOOD} records a round": (0.25, ("flood",)),
    "these four, mixed": (0.25, MIXED),
    SLEEPERS: (0.25, ("sleeper",)),
    "two thirds vouch for each other, slander": (0.66, ("collude",)),
    SYBIL: (0.01, ("sybil",)),
    "the same, claims of 0 to 6 sigma": (0.01, ("spread",)),
    "forged records": (0.25, ("forge",)),
}
BARRED = ("these four, mixed", SLEEPERS, SYBIL)
KEPT, LIES = 0.9, 0.1  # the bars: least part of the gain that is kept, largest part of the trials spent on lies
COLUMNS = (
    "true gain", "best peer", "worst peer", "planted: rounds to 90 %", "peers that have it",
    "trials on others", "on liars", "flattered by", "CPU s",
)  # fmt: skip


def play(cell: Cell, seeds: int, changed: Changed = ()) -> list[Result]:
    begun = time.process_time()
    with rules(changed):
        found = [Network(cell, seed).play() for seed in range(seeds)]
    print(f"{cell} x {seeds}: {time.process_time() - begun:.0f} s", file=sys.stderr)  # large ones take minutes
    return found


def row(results: Sequence[Result]) -> list[str]:
    """Of one cell: gains over the start in 1e-3, trials per honest peer, means over the seeds."""

    def mean(values: Iterable[float]) -> float:
        return statistics.fmean(values)

    gains = [START - one.mean for one in results]
    off = f" ± {statistics.stdev(gains) / math.sqrt(len(gains)) * 1e3:.1f}" if len(gains) > 1 else ""
    reached = [one.reached for one in results if one.reached is not None]
    rounds = f"{mean(reached):.0f}" if reached else "-"
    rounds += f" ({len(reached)} of {len(results)})" * (0 < len(reached) < len(results))
    return [
        f"{mean(gains) * 1e3:+.1f}{off}",
        f"{mean(START - one.best for one in results) * 1e3:+.1f}",
        f"{mean(START - one.worst for one in results) * 1e3:+.1f}",
        rounds,
        f"{mean(one.share for one in results):.0%}",
        f"{mean(one.on_others for one in results):.1f}",
        f"{mean(one.on_liars for one in results):.1f}",
        f"{mean(one.flattered for one in results) * 1e3:+.1f}",
        f"{mean(one.seconds for one in results):.0f}",
    ]


def bar_table(sizes: Sequence[int], sigmas: Sequence[float], rounds: int, seeds: int, known: Any = "") -> None:
    """The arms over the same landscapes, without attackers and with three kinds of them; then the commons' bars."""
    rows, bars = list[list[str]](), list[tuple[bool, str]]()

    def arm(cell: Cell, name: str, attackers: str = "-") -> list[Result]:
        found = play(cell, seeds)
        rows.append([f"{cell.peers:,}", f"{cell.sigma:g}", attackers, name, *row(found)])
        return found

    for size, sigma in itertools.product(sizes, sigmas):
        where = f"{size:,} peers, sigma {sigma:g}"
        isolation = arm(Cell(size, sigma, rounds, policy="isolation"), "isolation")
        claims = arm(Cell(size, sigma, rounds, policy="claims"), "believes claims")
        alone = {size: arm(Cell(size, sigma, rounds, known=known), "commons")}
        part, off = ratio(alone[size], claims)
        bars.append((part >= KEPT, f"{where}: {part:.2f} ± {off:.2f} of what believing claims gains"))
        took = statistics.median(math.inf if one.reached is None else one.reached for one in alone[size])
        bars.append((took <= 2 * math.log2(size), f"{where}: a planted gain at nine of ten labs in {took:.0f} rounds"))
        for name in BARRED:
            share, kinds = ATTACKS[name]
            found = arm(Cell(size, sigma, rounds, share, kinds, known=known), "commons", name)
            honest = size - math.ceil(share * size)
            same = honest if honest < 0.95 * size else size  # a few of many labs less make no difference
            if same not in alone:
                alone[same] = arm(Cell(same, sigma, rounds, known=known), f"commons of the {same:,} honest ones")
            part, off = ratio(found, alone[same])
            bars.append((part >= KEPT, f"{where}, {name}: {part:.2f} ± {off:.2f} of what they gain without them"))
            more = mean_gain(found) - 3 * mean_gain(isolation)
            bars.append((more >= 0, f"{where}, {name}: {more * 1e3:+.1f}e-3 over 3 times isolation"))
            lies = statistics.fmean(one.on_liars for one in found) / rounds
            bars.append((lies < LIES, f"{where}, {name}: {lies:.0%} of the trials on lies"))
    table(("peers", "sigma", "attackers", "arm", *COLUMNS), rows)
    for met, words in bars:
        print("PASS" if met else "MISS", words)


def mean_gain(results: Sequence[Result]) -> float:
    return statistics.fmean(START - one.mean for one in results)


def ratio(ours: Sequence[Result], theirs: Sequence[Result]) -> tuple[float, float]:
    """The mean gain of one arm as a part of another's on the same seeds, and its standard error (delta method)."""
    pairs = [(START - one.mean, START - other.mean) for one, other in zip(ours, theirs, strict=True)]
    over, under = (statistics.fmean(side) for side in zip(*pairs, strict=True))
    left = [one - over / under * other for one, other in pairs]
    return over / under, statistics.stdev(left) / math.sqrt(len(left)) / abs(under) if len(left) > 1 else math.nan


def attack_table(size: int, sigma: float, rounds: int, seeds: int, named: Sequence[str]) -> None:
    """What each attack costs the honest labs, beside what the same labs gain where the attackers are not there.

    Of those whose names have one of ``named`` in them, if any is.
    """
    rows, alone = [], dict[int, list[Result]]()
    for name, (share, kinds) in ATTACKS.items():
        if named and not any(words in name for words in named):
            continue
        found = play(Cell(size, sigma, rounds, share, kinds), seeds)
        honest = size - math.ceil(share * size)
        if honest not in alone:
            alone[honest] = found if honest == size else play(Cell(honest, sigma, rounds), seeds)
        kept, off = ratio(found, alone[honest])
        rejected = sum((one.rejected for one in found), Counter[str]())
        refused = ", ".join(f"{count:,} {what}" for what, count in rejected.most_common()) or "-"
        records = f"{statistics.fmean(one.records for one in found):,.0f}"
        rows.append([name, *row(found), f"{kept:.2f} ± {off:.2f}", records, refused])
    table((f"{size} peers; attackers", *COLUMNS, "of the same without them", "records", "refused"), rows)


def rule_table(size: int, sigma: float, rounds: int, seeds: int) -> None:
    """What each rule costs where nobody lies, and buys against a quarter of liars, crude ones or careful ones."""
    rows = []
    for name, changed in RULES.items():
        for who in ("no liars", "claim 59", "claim 4.5 sigma", SYBIL):
            rows.append([name, who, *row(play(Cell(size, sigma, rounds, *ATTACKS[who]), seeds, changed))])
    table((f"{size} peers; rules", "attackers", *COLUMNS), rows)


def whom(words: str) -> str:
    if words not in ("honest", "all") and not words.isdecimal():
        raise argparse.ArgumentTypeError(f"{words!r} is neither honest, all, nor a number of labs")
    return words


def main() -> None:
    ask: Any = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--peers", type=int, nargs="+", default=[10, 100, 1000])
    ask.add_argument("--sigmas", type=float, nargs="+", default=[0.001, 0.0035, 0.007])
    ask.add_argument("--rounds", type=int, default=60, help="trials that a peer has time for")
    ask.add_argument("--seeds", type=int, default=3)
    ask.add_argument(
        "--known", type=whom, default="", metavar="honest|N|all", help="whom the honest labs have named: so many each"
    )
    ask.add_argument("--attacks", nargs="*", metavar="NAME", help="each attack by itself, or those named so")
    ask.add_argument("--rules", action="store_true", help="each rule switched off")
    ask.add_argument("--quick", action="store_true", help="a few peers: whether it runs, not what it finds")
    wanted = ask.parse_args()
    if wanted.quick:
        wanted.peers, wanted.sigmas, wanted.rounds, wanted.seeds = [8], [0.0035], 12, 1
    seeds = f"{wanted.seeds} seed{'s' * (wanted.seeds > 1)}"
    heading(f"a swarm: {wanted.rounds} rounds of a trial each, {SHARE:.0%} of them for what others found; {seeds}")
    print(f"gains over the start, and by how much a bar flatters, in 1e-3; a good change is worth {SIZE * 1e3:g}\n")
    size, sigma = max(wanted.peers), wanted.sigmas[0]
    if wanted.quick or (wanted.attacks is None and not wanted.rules):
        bar_table(wanted.peers, wanted.sigmas, wanted.rounds, wanted.seeds, wanted.known)
    if wanted.quick or wanted.attacks is not None:
        attack_table(size, sigma, wanted.rounds, wanted.seeds, wanted.attacks or ())
    if wanted.quick or wanted.rules:
        rule_table(size, sigma, wanted.rounds, wanted.seeds)
    print(f"\n{time.process_time():.0f} s of CPU time")


if __name__ == "__main__":
    main()
