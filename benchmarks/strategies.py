"""Strategies of the org lab, compared in stages: python benchmarks/strategies.py [--sessions 4 16 24] [--changes …]

Needs pip install 'nightlab[bench]'. Runs inner sessions of the lab, paired: each strategy has the same starts, queues
and numbers as the first, which is nightlab's default, or with --plain the lab's start. Three stages, each on sessions
that none before had: every single change of the first on the tables of the search; the best few of them; the best one
on tables that were held out (a stage of 0 sessions is left out). In the first stage ``no noise`` is the first where no
trial has noise: what no strategy can exceed by judging better. The intervals are of the mean difference over sessions
(Student's t, 95 %); only the last one is a result, as those before chose what it measures.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing import Pool
from pathlib import Path
from typing import Any

from keep_rules_worlds import WORKERS
from machine import heading, table

from nightlab.core.types import Metric
from nightlab.judge import paired_gain
from nightlab.session.create import SHIPPED

sys.path.insert(0, str(SHIPPED / "org"))
import inner
import tables

REACHED = Metric("reached", "maximise")
FEW = 3  # changes that the second stage measures again
CHANGES: dict[str, dict[str, Any]] = {
    "greedy": {"RULE": "greedy"},
    "strict": {"RULE": "strict"},
    "replicate": {"RULE": "replicate"},
    "evolution": {"SEARCH": "evolution"},
    "tree": {"SEARCH": "tree"},
    "earned shares": {"SHARES": "earned"},
    "tuner alone": {"PATCHES_SHARE": 0},
    "tuner 1 : queue 1": {"TUNER_SHARE": 1.0},
    "a controller too": {"CONTROLLER_SHARE": 1.0},
    "warm-up 6": {"TUNER_WARM_UP": 6},
    "warm-up 20": {"TUNER_WARM_UP": 20},
    "one alone 0.3": {"TUNER_ONE": 0.3},
    "one alone 0.9": {"TUNER_ONE": 0.9},
    "tuner alone, warm-up 4": {"PATCHES_SHARE": 0, "TUNER_WARM_UP": 4},
    "tuner alone, warm-up 4, strict": {"PATCHES_SHARE": 0, "TUNER_WARM_UP": 4, "RULE": "strict"},
    "tuner alone, warm-up 4, evolution": {"PATCHES_SHARE": 0, "TUNER_WARM_UP": 4, "SEARCH": "evolution"},
}
DEFAULT: dict[str, Any] = {"RULE": "shrunk", "TUNER_SHARE": 2.0}  # nightlab's, as changes of the lab's plain one
OF_PLAIN: dict[str, dict[str, Any]] = {
    "shrunk": {"RULE": "shrunk"},
    "strict": {"RULE": "strict"},
    "evolution": {"SEARCH": "evolution"},
    "tree": {"SEARCH": "tree"},
    "tuner 2 : queue 1": {"TUNER_SHARE": 2.0},
    "controller 2 : queue 1": {"CONTROLLER_SHARE": 2.0},
}
BOUND, USUAL = {"no noise": {"NOISE": False}}, inner.Session


class Noiseless(USUAL):
    """A session whose trials measure what a row measures on average."""

    def measure(self, code: str) -> float:
        return float(self.true(code))


@functools.lru_cache(3)
def stored(name: str) -> Any:
    return tables.read(name)


def play(job: tuple[dict[str, Any], str, int]) -> float:
    settings, name, number = job
    inner.Session = USUAL if settings.get("NOISE", True) else Noiseless
    return inner.played(settings, stored(name), number)


def stage(
    pool: Any, strategies: Mapping[str, dict[str, Any]], names: Sequence[str], numbers: Sequence[int]
) -> dict[str, list[float]]:
    """The share that each session reached, by strategy: those of one table one after another, in the same order."""
    jobs = [(settings, name, number) for name in names for number in numbers for settings in strategies.values()]
    reached = pool.map(play, jobs, chunksize=len(strategies))
    return {name: reached[n :: len(strategies)] for n, name in enumerate(strategies)}


def show(found: Mapping[str, list[float]]) -> str:
    """Print the strategies beside the first, and return the name of the best change."""
    default, *others = found
    rows: list[tuple[float, list[str]]] = []
    for name in others:
        gain = paired_gain(REACHED, found[default], found[name], 0.95)
        spread = statistics.stdev(b - a for a, b in zip(found[default], found[name], strict=True))
        words = f"{gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"
        rows.append((gain.mean, [name, f"{statistics.fmean(found[name]):.4f}", words, f"{spread:.3f}"]))
    rows.sort(key=lambda row: -row[0])
    first = [default, f"{statistics.fmean(found[default]):.4f}", "", f"{statistics.stdev(found[default]):.3f} unpaired"]
    columns = ["strategy", "reached", "more than the first", "spread of one session's difference"]
    table(columns, [first, *(row for _, row in rows)])
    return rows[0][1][0] if rows else default


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--sessions", type=int, nargs=3, default=(4, 16, 24), help="of a table, in each stage")
    ask.add_argument("--changes", nargs="+", choices=[*CHANGES, *OF_PLAIN], help="all, if omitted")
    ask.add_argument("--plain", action="store_true", help="changes of the lab's plain start, in place of the default")
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--record", type=Path, help="write all shares to this file")
    wanted = ask.parse_args()
    begun, whole = time.perf_counter(), []
    plain = inner.strategy((SHIPPED / "org" / "strategy.toml").read_text())
    label, first, changes = ("plain", plain, OF_PLAIN) if wanted.plain else ("the default", plain | DEFAULT, CHANGES)
    strategies = {label: first, **{name: first | changes[name] for name in wanted.changes or changes}}
    heading("org: share of the gain that inner sessions of 40 trials reach")
    since = 100_000 * (wanted.seed + 1)
    try:
        with Pool(WORKERS) as pool:
            for step, names in enumerate((tables.SEARCH, tables.SEARCH, tables.HELD_OUT)):
                if not wanted.sessions[step]:
                    continue
                numbers = range(since + 1000 * step, since + 1000 * step + wanted.sessions[step])
                bound = {} if step else {name: first | change for name, change in BOUND.items()}
                found = stage(pool, strategies | bound, names, numbers)
                where = "held-out tables" if step == 2 else "tables of the search"
                print(f"{where}: {len(names)} of {len(numbers)} sessions", flush=True)
                best = show(found)
                sys.stdout.flush()
                whole.append(found)
                ranked = sorted(found, key=lambda name: -statistics.fmean(found[name]))
                left = [name for name in ranked if name in changes][:FEW] if step == 0 else [best]
                strategies = {label: first, **{name: strategies[name] for name in left}}
    except ImportError:
        sys.exit("the tables are missing: pip install 'nightlab[bench]'")
    if wanted.record:
        wanted.record.write_text(json.dumps(whole))
    print(f"{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
