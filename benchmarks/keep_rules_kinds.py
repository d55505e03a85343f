"""The default rule on each kind of number, for keep_rules.py --kinds: as nightlab judges it now, and as it did before.

Before: a seed for each candidate, and times like any other number. Now: the champion's seeds, with common luck taken
off, and times kept after rounds of candidate and champion in turn.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from keep_rules_session import RULES, Contest, Result, claims, error, gains, mean, play_all
from keep_rules_worlds import KINDS, Cell
from machine import table

RHOS = (0.0, 0.3, 0.6, 0.8, 0.95)
UNCERTAIN = 0.05  # probability that a bar over all cells is missed by chance
COLUMNS = (
    "kind", "rho", "before", "now", "now / before", "truly worse, before", "now", "measured worse",
    "claim off by", "95 % covers",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """The sessions of one cell."""

    cell: Cell
    oracle: Sequence[Result]
    before: Sequence[Result]
    now: Sequence[Result]

    @property
    def ratio(self) -> float:
        return mean(gains(self.now)) / mean(gains(self.before))

    @property
    def ratio_error(self) -> float:
        """The standard error of the ratio of the two means, of the same sessions."""
        off = [after - self.ratio * before for before, after in zip(gains(self.before), gains(self.now), strict=True)]
        return error(off) / mean(gains(self.before))

    @property
    def claim_off(self) -> float:
        """What was confirmed minus what is true, in standard errors."""
        return mean(claims(self.now)) / error(claims(self.now)) if any(claims(self.now)) else 0.0

    @property
    def covered(self) -> list[float]:
        return [float(result.covered) for result in self.now if result.covered is not None]

    def row(self) -> list[str]:
        whole = mean(gains(self.oracle))
        shares = [f"{mean(gains(each)) / whole:.1%}" for each in (self.before, self.now)]
        lost = [f"{mean([float(result.losses) for result in each]):.3f}" for each in (self.before, self.now)]
        ratio = f"{self.ratio:.3f} ± {self.ratio_error:.3f}"
        worse = sum(result.measured_losses for result in self.now)
        return [
            self.cell.world, f"{self.cell.rho:g}", *shares, ratio, *lost, f"{worse}", f"{self.claim_off:+.1f}",
            f"{mean(self.covered):.1%}",
        ]  # fmt: skip


def cells_of(names: Sequence[str] | None) -> list[Cell]:
    """The cells that are asked for, each ``kind`` or ``kind/rho``; all without names."""
    cells = [Cell(kind, 1e-3, rho=rho) for kind in KINDS for rho in (RHOS if kind != "deterministic" else RHOS[:1])]
    asked = [cell for cell in cells if not names or {cell.world, f"{cell.world}/{cell.rho:g}"} & set(names)]
    if not asked:
        raise SystemExit(f"no such cell: a kind is one of {', '.join(KINDS)}, rho one of {', '.join(map(str, RHOS))}")
    return asked


def kinds_table(names: Sequence[str] | None, sessions: int, seed: int) -> None:
    cells = cells_of(names)
    rule = RULES["shrunk"]
    contests = {cell: [Contest(cell, None), Contest(cell, rule, common=False), Contest(cell, rule)] for cell in cells}
    played = play_all([one for each in contests.values() for one in each], sessions, seed)
    found = [Found(cell, *(played[one] for one in each)) for cell, each in contests.items()]
    print(
        "true gain as a share of the oracle's; keeps a session that are truly worse by more than the standard error of"
    )
    print(
        "their comparison; all keeps that measured worse by more than that; confirmed minus true, in standard errors\n"
    )
    table(COLUMNS, [each.row() for each in found])
    for met, words in bars(found, sessions):
        print("PASS" if met else "MISS", words)


def bars(found: Sequence[Found], sessions: int) -> list[tuple[bool, str]]:
    """What the default rule is held to. A bar over all cells allows for the chance of one in that many cells."""
    chance = statistics.NormalDist().inv_cdf(1 - UNCERTAIN / 2 / len(found))
    middle, least = statistics.median(each.ratio for each in found), min(found, key=lambda each: each.ratio)
    keeps = sum(result.keeps for each in found for result in each.now)
    worse = sum(result.measured_losses for each in found for result in each.now)
    off = [abs(each.claim_off) for each in found]
    short = {each.cell: 0.95 - mean(each.covered) for each in found}
    allowed = {each.cell: chance * math.sqrt(0.95 * 0.05 / len(each.covered)) for each in found}
    covers = [mean(each.covered) for each in found]
    where = f"{least.cell.world}, rho {least.cell.rho:g}: {least.ratio:.3f} ± {least.ratio_error:.3f}"
    return [
        (middle >= 1.05, f"it finds at least 1.05 of what it found before in the median cell ({middle:.2f})"),
        (least.ratio >= 0.98, f"and never less than 0.98 ({where})"),
        (worse == 0, f"no program is kept that measured worse by over a standard error ({worse} of {keeps} keeps, "
         f"{sessions} sessions a cell)"),
        (max(off) <= chance, f"what is confirmed is true: the worst of {len(off)} cells is {max(off):.1f} standard "
         f"errors away (at most {chance:.1f}), {sum(each > 2 for each in off)} are beyond 2"),
        (all(short[cell] <= allowed[cell] for cell in short),
         f"95 % intervals cover the truth in {min(covers):.1%} to {max(covers):.1%} of the sessions"),
    ]  # fmt: skip
