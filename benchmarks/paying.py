"""When a session should end because it no longer pays: python benchmarks/paying.py [--sessions 200]

Plays sessions with the product's judge, rule and noise in the simulated world of mixture.py, one proposer each, and
asks the product's own stop rule after every experiment. It ended one too early when the next experiments, had it gone
on, would truly have brought as much per hour as was asked for. A trial is 5 minutes.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass, field
from multiprocessing import Pool

import mixture
from keep_rules_worlds import BASELINE, WORKERS, Genome
from machine import heading, table
from mixture import METRIC, Mind

from nightlab.core.types import Measurement, Verdict
from nightlab.judge import Contestant, Judge, gain_rate
from nightlab.loop.stop_rules import KEEPS, LATELY

TRIALS = 400.0  # that a session may last at most
HOUR = 12.0  # trials
CASES = {
    "steady, as the original's late ideas": Mind(0.19),
    "runs dry after some 12 ideas": Mind(0.005, 0.6, 5.0),
    "fades slowly, over some 100": Mind(0.005, 0.3, 2.0, fades=100.0),
    "nothing to be found": Mind(0.0),
}
ASKED = (1e-4, 2.5e-4, 5e-4, 1e-3)  # bpb per hour


@dataclass
class Watched(mixture.Session):
    """A session that remembers after each experiment what it had cost, had gained by its bars, and truly gained."""

    past: list[tuple[float, float, float]] = field(default_factory=list)

    def _judged(self, judge: Judge, champion: Contestant, genome: Genome) -> tuple[Verdict, dict[int, Measurement]]:
        verdict, runs = super()._judged(judge, champion, genome)
        gain, true = 0.0, self.past[-1][2] if self.past else 0.0
        if verdict.status == "keep" and verdict.bar is not None and champion.bar is not None:
            assert genome.true is not None
            gain, true = METRIC.gain(champion.bar, verdict.bar), BASELINE - genome.true
        self.past.append((self.spent, gain, true))
        return verdict, runs


def ended(past: list[tuple[float, float, float]], asked: float, sigma: float) -> int | None:
    """After how many experiments the rule ends a session, if it does."""
    for n in range(LATELY, len(past) + 1):
        recent = past[n - LATELY : n]
        cost = recent[-1][0] - (past[n - LATELY - 1][0] if n > LATELY else 0.0)
        keeps = [gain for _, gain, _ in past[:n] if gain > 0][-KEEPS:]
        another = max([sigma, *keeps])
        if gain_rate([gain for _, gain, _ in recent], cost / HOUR, another).most < asked:
            return n
    return None


def _play(job: tuple[str, int]) -> list[tuple[float, bool, float, float] | None]:
    """For each of ``ASKED``: the hours and true gain at the end, whether that was too early, and what was left."""
    case, number = job
    mixture.BUDGET = TRIALS
    session = Watched({"one": CASES[case]}, "one", number)
    session.play()
    found: list[tuple[float, bool, float, float] | None] = []
    for asked in ASKED:
        n = ended(session.past, asked, mixture.SIGMA)
        if n is None or n + LATELY > len(session.past):
            found.append(None)
            continue
        hours, _, gained = session.past[n - 1]
        later = session.past[n + LATELY - 1]
        rate = (later[2] - gained) / (later[0] - hours) * HOUR
        found.append((hours / HOUR, rate >= asked, gained, session.past[-1][2] - gained))
    return found


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--sessions", type=int, default=200)
    sessions = ask.parse_args().sessions
    heading(f"paying: {sessions} sessions a case, of {TRIALS / HOUR:.0f} hours at most, gains in 1e-4 bpb")
    rows = []
    with Pool(WORKERS) as pool:
        for case in CASES:
            played = pool.map(_play, [(case, number) for number in range(sessions)], chunksize=4)
            for which, asked in enumerate(ASKED):
                stops = [one[which] for one in played if one[which] is not None]
                row = [case, f"{1e4 * asked:g}", f"{len(stops) / sessions:.0%}"]
                for what, unit in ((0, 1.0), (2, 1e4), (3, 1e4)):
                    row.append(f"{unit * statistics.median(stop[what] for stop in stops):.1f}" if stops else "-")
                rows.append([*row, f"{sum(stop[1] for stop in stops)} of {len(stops)}"])
    head = ["proposer", "asked per hour", "ended", "after hours", "had gained", "was left", "too early"]
    table(head, rows)


if __name__ == "__main__":
    main()
