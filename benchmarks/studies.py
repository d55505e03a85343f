"""Whether studies tell strategies apart: python benchmarks/studies.py [--studies 8] [--played] [--simulated 400]

Runs whole studies of real sessions on toy labs whose trials cost nothing and whose true gains are known
(benchmarks/studies_lab.py). In each case the better arm is known, or both are equal. Printed: how often a study names
the better one, or a wrong one (Clopper-Pearson, 95 %), and after how many rounds it ended. --played plays the decisions
of such sessions without processes (benchmarks/studies_played.py), as long ones take hours by real sessions. --simulated
runs no session: it prints how often studies of normal differences name the better arm.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import Any

from keep_rules_worlds import WORKERS
from machine import heading, table
from scipy import stats
from studies_lab import ToyEngine, make_lab
from studies_played import GAINS

import nightlab
from nightlab.analysis.study import StudyConfig, StudySession, compare, decided, run_study


@dataclass(frozen=True)
class Case:
    """Two arms; ``better``: the one that truly is, empty if they are equal."""

    words: str
    lab: str
    sigma: float
    experiments: int
    rounds: int
    arms: dict[str, Any]
    better: str = ""
    confirm: int = 4

    def study(self) -> StudyConfig:
        facts = {"name": "x", "rounds": self.rounds, "experiments": self.experiments, "confirm": self.confirm}
        return StudyConfig.model_validate({**facts, "best_of_n": len(self.arms) == 1, "arms": self.arms})


ARMS = {"best_of_n": False, "arms": {"better": {}, "other": {}}}
DIFFERENCES, ROUNDS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0), (5, 8, 12, 20, 40, 80, 160)
OTHER = {"proposers": ["studies_lab:OtherIdeas"]}
FORGETFUL = {"proposers": ["studies_lab:Forgetful"]}
CASES = {
    "equal": Case("the same ideas in two orders", "ideas", 1.0, 12, 5, {"one": {}, "other": OTHER}),
    "independent": Case("ideas on the champion, independent tries", "ideas", 0.5, 12, 5, {"ideas": {}}, "ideas"),
    "orders": Case("a hundred ideas in two orders", "mixed", 2.0, 100, 12, {"one": {}, "other": OTHER}, "", 8),
    "history": Case(
        "tuner with history, without", "settings", 0.02, 90, 12, {"with": {}, "without": FORGETFUL}, "with", 8
    ),
    "rule": Case(
        "keep rule shrunk, greedy", "mixed", 2.0, 100, 12, {"shrunk": {}, "greedy": {"judge": "greedy"}}, "shrunk", 8
    ),
}


def play(job: tuple[str, int]) -> list[StudySession]:
    """One whole study's sessions."""
    case = CASES[job[0]]
    with tempfile.TemporaryDirectory() as place:
        lab = make_lab(Path(place) / "lab", case.lab)
        return run_study(case.study(), nightlab.Lab(lab), engine=ToyEngine(lab, case.sigma), allow_missing="all")


def play_decisions(job: tuple[str, int]) -> list[StudySession]:
    """One whole study's sessions, by their decisions alone."""
    (name, number), case, results = job, CASES[job[0]], list[StudySession]()
    plan = case.study()
    for turn in range(1, plan.rounds + 1):
        for arm in plan.all_arms():
            gain = GAINS[name](arm, number, turn, case.experiments, case.sigma)
            luck = random.Random(f"{arm}/{number}/{turn}").gauss(0, case.sigma * math.sqrt(2 / plan.confirm))
            results.append(StudySession(turn, arm, gain + luck * bool(gain), 1.0, 0.0, ""))
        if turn in plan.looks() and decided(plan, compare(plan, results)):
            break
    return results


def simulated(difference: float, rounds: int, draw: random.Random) -> tuple[str, int]:
    """The arm that a study names whose arms' differences are normal, with standard deviation 1; and its rounds."""
    plan = StudyConfig.model_validate({"name": "x", "rounds": rounds, "experiments": 1, **ARMS})
    results: list[StudySession] = []
    for turn in range(1, rounds + 1):
        gains = {"better": draw.gauss(difference, 1), "other": 0.0}
        results += [StudySession(turn, arm, gain, 1.0, 0.0, "") for arm, gain in gains.items()]
        if turn in plan.looks() and (best := decided(plan, compare(plan, results))):
            return best, turn
    return "", rounds


def simulate(studies: int) -> None:
    draw, rows = random.Random(1), []
    for difference in DIFFERENCES:
        row = [f"{difference:g}"]
        for rounds in ROUNDS:
            ended = [simulated(difference, rounds, draw) for _ in range(studies)]
            names = [name for name, _ in ended]
            right = names.count("better") + (0 if difference else names.count("other"))
            row.append(f"{right / studies:.0%} ({statistics.median(turn for _, turn in ended):g})")
        rows.append(row)
    table(["difference, in its standard deviations", *(f"{rounds} rounds" for rounds in ROUNDS)], rows)


def effect(differences: Sequence[float]) -> float:
    return statistics.fmean(differences) / statistics.stdev(differences) if len(differences) > 1 else math.nan


def share(count: int, of: int) -> str:
    """A count with the Clopper-Pearson interval of its share."""
    low, high = stats.binomtest(count, of).proportion_ci(0.95)
    return f"{count} of {of} ({low:.0%} to {high:.0%})"


def row(case: Case, found: list[list[StudySession]]) -> list[str]:
    ended = [decided(case.study(), compare(case.study(), one)) for one in found]
    rounds = [one[-1].turn for one in found]
    gains = {(n, s.arm, s.turn): s.gain for n, one in enumerate(found) for s in one}
    first, second = case.study().all_arms()
    more = [gain - gains[n, second, turn] for (n, arm, turn), gain in gains.items() if arm == first]
    wrong = sum(name not in ("", case.better) for name in ended)
    right = share(sum(name == case.better for name in ended), len(ended))
    return [case.words, f"{effect(more):.2f}", f"{case.rounds}", right, f"{wrong}", f"{statistics.median(rounds):g}"]


def recorded(path: Path | None) -> dict[tuple[str, int], list[StudySession]]:
    """The studies that a file holds."""
    lines = path.read_text().splitlines() if path and path.exists() else []
    return {(name, number): [StudySession(**one) for one in of] for name, number, of in map(json.loads, lines)}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--studies", type=int, default=8, help="of each case")
    ask.add_argument("--played", action="store_true", help="play the decisions of the sessions, without processes")
    ask.add_argument("--cases", nargs="+", choices=CASES, help="all that are played; or equal, independent and history")
    ask.add_argument("--workers", type=int, default=WORKERS, help="studies at once")
    ask.add_argument("--minutes", type=float, default=60.0, help="start no study after this time")
    ask.add_argument("--record", type=Path, help="add each study's sessions to this file, and run no study that it has")
    ask.add_argument("--simulated", type=int, default=0, help="studies of each cell of a table, in place of sessions")
    wanted = ask.parse_args()
    if wanted.played and (real := sorted({*(wanted.cases or ())} - GAINS.keys())):
        ask.error(f"no decisions are played of {', '.join(real)}: leave out --played")
    if wanted.simulated:
        heading("Studies of two arms, simulated: share that names an arm (median rounds)")
        simulate(wanted.simulated)
        return
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    heading("Studies of two arms: are they told apart?")
    begun, found = time.perf_counter(), recorded(wanted.record)
    cases = wanted.cases or (GAINS if wanted.played else ["equal", "independent", "history"])
    jobs = [(name, number) for number in range(wanted.studies) for name in cases if (name, number) not in found]
    with Pool(wanted.workers) as pool:
        for job, sessions in zip(jobs, pool.imap(play_decisions if wanted.played else play, jobs), strict=True):
            found[job] = sessions
            if wanted.record:
                with wanted.record.open("a") as file:
                    file.write(json.dumps([*job, [asdict(one) for one in sessions]]) + "\n")
            if time.perf_counter() - begun > 60 * wanted.minutes:
                break
    columns = ["arms", "difference, in its standard deviations", "rounds at most", "right", "wrong", "median rounds"]
    table(columns, [row(CASES[name], of) for name in CASES if (of := [found[job] for job in found if job[0] == name])])
    total = sum(map(len, found.values()))
    print(f"{total} sessions in {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
