"""What the keep rules cost and find: python benchmarks/keep_rules.py [--real | --kinds | --sensitivity]

Plays whole sessions with the product's own judge, rules and noise on worlds whose truth is known: which true gain
a rule reaches with 126 trials, what it keeps and misses, and whether the numbers it leaves behind are honest. Every
rule meets the same ideas with the same luck. --real takes the noise, and the ideas, from tables of stored training
runs (pip install 'nightlab[bench]'); --kinds plays other kinds of numbers, where part of the noise is the seed's
(--cells timed additive/0.6 plays some of them); --sensitivity asks how much hangs on the judge's constants.
"""

from __future__ import annotations

import argparse
import functools
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from keep_rules_kinds import kinds_table
from keep_rules_session import (
    PAIRS,
    RULES,
    TRIALS,
    Contest,
    Result,
    claims,
    differences,
    error,
    gains,
    mean,
    play_all,
)
from keep_rules_worlds import TABLES, Cell, load
from machine import heading, table

from nightlab.judge import Rule, make_rule
from nightlab.judge.rules import Shrunk, Strict

SIGMAS = (0.25e-3, 0.5e-3, 1e-3, 2e-3)
SCENARIOS = ("trace", "plateau")
UNIT = 1e-4  # in which gains are printed

COLUMNS = (
    "rule", "true gain", "of oracle", "against greedy", "keeps", "null", "harmful", "missed", "tried",
    "bar flatters by", "claim flatters by", "95 % covers", "sigma believed",
)  # fmt: skip


def row(name: str, of: Mapping[str, list[Result]], cell: Cell) -> list[str]:
    results = of[name]
    oracle, more, claimed = mean(gains(of["oracle"])), differences(results, of["greedy"]), claims(results)

    def count(what: str) -> str:
        return f"{mean([getattr(result, what) for result in results]):.1f}"

    line = [name, f"{mean(gains(results)) / UNIT:.1f}", f"{mean(gains(results)) / oracle:.1%}"]
    line.append(f"{mean(more) / UNIT:+.1f} ± {error(more) / UNIT:.1f}")
    line += [count(what) for what in ("keeps", "null", "harmful", "missed", "tried")]
    if name == "oracle":
        return [*line, "", "", "", ""]
    line.append(f"{mean([result.bar_error for result in results]) / UNIT:+.1f}")
    line.append(f"{mean(claimed) / UNIT:+.2f} ± {error(claimed) / UNIT:.2f}")
    line.append(f"{mean([float(r.covered) for r in results if r.covered is not None]):.1%}")
    line.append(f"{mean([result.sigma for result in results]) / cell.sigma:.2f} of it")
    return line


def bars(found: Mapping[Cell, Mapping[str, list[Result]]]) -> Iterable[tuple[bool, str]]:
    """What the default rule is held to."""
    for cell, of in found.items():
        ours, theirs = mean(gains(of["shrunk"])) / UNIT, mean(gains(of["greedy"])) / UNIT
        least, words = (0.03, "beats greedy by 3 %") if cell.sigma >= 0.5e-3 else (-0.02, "loses at most 2 % to greedy")
        met = ours - theirs >= least * abs(theirs)
        yield met, f"{cell.world}, sigma {cell.sigma:g}: shrunk {words} ({ours:.1f} against {theirs:.1f})"
    for name, rule in RULES.items():
        if rule is not None and name in next(iter(found.values())):
            away = {cell: mean(claims(of[name])) / error(claims(of[name])) for cell, of in found.items()}
            worst = max(away, key=lambda cell: abs(away[cell]))
            where = f"the worst of {len(away)} is {away[worst]:+.1f}, {worst.world} at sigma {worst.sigma:g}"
            yield abs(away[worst]) <= 2, f"{name}: what is confirmed is true, within 2 standard errors ({where})"


def main_table(names: Sequence[str], sessions: int, seed: int) -> None:
    names = list(dict.fromkeys(("oracle", "greedy", "shrunk", *names)))
    cells = [Cell(scenario, sigma) for scenario in SCENARIOS for sigma in SIGMAS]
    played = play_all([Contest(cell, RULES[name]) for cell in cells for name in names], sessions, seed)
    found = {cell: {name: played[Contest(cell, RULES[name])] for name in names} for cell in cells}
    for cell, of in found.items():
        print(f"{cell.world}, noise of a trial {cell.sigma:g}; gains and errors in {UNIT:g}")
        table(COLUMNS, [row(name, of, cell) for name in names])
    for met, words in bars(found):
        print("PASS" if met else "MISS", words)


def real_table(names: Sequence[str], sessions: int, seed: int) -> None:
    names = list(dict.fromkeys(("oracle", "greedy", *names)))
    cells = [Cell(name) for name in TABLES]
    played = play_all([Contest(cell, RULES[name]) for cell in cells for name in names], sessions, seed)
    spreads = {cell: load(cell.world)[3] for cell in cells}
    shares: dict[str, list[float]] = {}
    rows = []
    for name in names[1:]:
        wrong, honest, believed, more = [], [], [], []
        for cell in cells:
            oracle, greedy, results = (played[Contest(cell, RULES[who])] for who in ("oracle", "greedy", name))
            whole, spread = mean(gains(oracle)), spreads[cell]
            shares.setdefault(name, []).append(mean(gains(results)) / whole)
            more.append([difference / whole for difference in differences(results, greedy)])
            wrong.append(mean([result.bar_error for result in results]) / spread)
            honest.append(mean(claims(results)) / spread)
            believed.append(statistics.median([result.sigma for result in results]) / spread)
        off = math.hypot(*(error(each) for each in more)) / len(more)
        against = f"{100 * mean([mean(each) for each in more]):+.1f} ± {100 * off:.1f}"
        cut = [f"{100 * share:.1f}" for share in shares[name]]
        rest = [f"{100 * mean(shares[name]):.1f}", against, f"{mean(wrong):+.2f}", f"{mean(honest):+.2f}"]
        rows.append([name, *cut, *rest, f"{statistics.median(believed):.2f}"])
    short = [name.split(":")[1].split("_")[0] for name in TABLES]
    print("percent of the noise-free gain, by table; errors and noise in sigmas of a good row\n")
    table(("rule", *short, "mean", "against greedy", "bar flatters by", "claim flatters by", "sigma believed"), rows)


def sensitivity_table(sessions: int, seed: int) -> None:
    """The gain of ``shrunk`` as it is, and how far each change of a constant moves it."""
    cells = [Cell(scenario, sigma) for scenario in SCENARIOS for sigma in SIGMAS]
    usual = Shrunk()
    variants: dict[str, tuple[Callable[[Cell], Cell], Rule]] = {
        "greedy": (lambda cell: cell, make_rule("greedy")),
        "sigma known": (lambda cell: replace(cell, stated=cell.sigma, prior_df=1e6), usual),
    }
    for factor, words in ((None, "0.04 %"), (1 / 8, "8 times too small"), (1.0, "right"), (8.0, "8 times too large")):
        for df in (1.0, 2.0, 4.0):
            variants[f"prior {words}, worth {df:g}"] = (functools.partial(_believing, factor, df), usual)
    for changes in (
        {"again": 0.0}, {"again": 0.5}, {"again": 2.0}, {"most": 0.5}, {"most": 2.0}, {"pull": 1.0}, {"pull": 2.0},
        {"pull": 8.0}, {"baseline_runs": 1}, {"baseline_runs": 3},
    ):  # fmt: skip
        ((what, value),) = changes.items()
        variants[f"{what} {value:g}"] = (lambda cell: cell, replace(usual, **changes))  # type: ignore[arg-type]
    for tie in (0.0, 0.5, 1.0):
        shorter = functools.partial(replace, shorter=0.3)
        variants[f"3 of 10 are shorter, tie {tie:g}"] = (shorter, replace(usual, tie=tie))
    spoilt = functools.partial(replace, spoilt=0.02)
    variants["1 run in 50 goes wrong"] = (spoilt, usual)
    variants["1 run in 50 goes wrong, greedy"] = (spoilt, make_rule("greedy"))
    variants["strict, 4 seeds at most"] = (lambda cell: cell, Strict(most_seeds=4))
    contests = {(name, cell): Contest(at(cell), rule) for name, (at, rule) in variants.items() for cell in cells}
    normal = {cell: Contest(cell, usual) for cell in cells}
    played = play_all([*normal.values(), *contests.values()], sessions, seed)
    rows = [["shrunk", *(f"{mean(gains(played[normal[cell]])) / UNIT:.1f}" for cell in cells), "", ""]]
    for name in variants:
        more = [differences(played[contests[name, cell]], played[normal[cell]]) for cell in cells]
        off = math.hypot(*(error(each) for each in more)) / len(more)
        summary = f"{mean([mean(each) for each in more]) / UNIT:+.1f} ± {off / UNIT:.1f}"
        shorter_kept = mean([r.shorter for cell in cells for r in played[contests[name, cell]]])
        moved = [f"{mean(each) / UNIT:+.1f}" for each in more]
        rows.append([name, *moved, summary, f"{shorter_kept:.1f}" if shorter_kept else ""])
    print("true gain of shrunk, then what each change adds to it (1e-4)\n")
    names = [f"{cell.world} {1e3 * cell.sigma:g}e-3" for cell in cells]
    table(("variant", *names, "mean", "shorter kept"), rows)


def _believing(factor: float | None, df: float, cell: Cell) -> Cell:
    return replace(cell, stated=None if factor is None else factor * cell.sigma, prior_df=df)


def main() -> None:
    ask: Any = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--sessions", type=int, default=1000)
    ask.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    ask.add_argument("--seed", type=int, default=0, help="number of the first session")
    ask.add_argument("--quick", action="store_true", help="a few sessions: whether it runs, not what it finds")
    ask.add_argument("--real", action="store_true", help="on tables of stored training runs")
    ask.add_argument("--kinds", action="store_true", help="on other kinds of numbers, with and without common seeds")
    ask.add_argument("--cells", nargs="+", metavar="KIND[/RHO]", help="of --kinds: which to play; default: all")
    ask.add_argument("--sensitivity", action="store_true", help="how much hangs on the judge's constants")
    wanted = ask.parse_args()
    sessions, begun = 4 if wanted.quick else wanted.sessions, time.perf_counter()
    confirmed = f"{TRIALS - 2 * PAIRS} for the search and {2 * PAIRS} to confirm what it found"
    heading(f"keep rules: {sessions} sessions of {TRIALS} trials each, {confirmed}")
    if wanted.real:
        try:
            real_table(wanted.rules, sessions, wanted.seed)
        except ImportError:
            sys.exit("the tables are missing: pip install 'nightlab[bench]'")
    elif wanted.kinds:
        kinds_table(wanted.cells, sessions, wanted.seed)
    elif wanted.sensitivity:
        sensitivity_table(sessions, wanted.seed)
    else:
        main_table(wanted.rules, sessions, wanted.seed)
    print(f"\n{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
