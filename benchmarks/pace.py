"""What it saves to end hopeless trials early, and what it loses: python benchmarks/pace.py [--real LAB]

Plays sessions of learning curves whose ends are known with the product's own function: how much training time a
stated risk saves, and which winners it gives up. Curves are power laws with noise; in the harder worlds winners are
behind for most of their run, once in a while or as a rule, or curves say nothing. The last world breaks what the
method assumes. --real records a session of the language-model lab in the folder LAB (made, or gone on with), every
trial to its end, and then asks of each what would have become of it.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from machine import heading, table
from scipy.special import stdtr

from nightlab.core.config import StopRules
from nightlab.core.types import Experiment, Metric
from nightlab.engines.local.curve import load_curve
from nightlab.engines.local.curve import part_losses as curve_parts
from nightlab.engines.local.prepare import run_prepare
from nightlab.judge.curve_stopping import CurveModel, FinishedCurve, is_control
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.sandbox.bubblewrap import PROTECTIONS
from nightlab.session.create import make_lab
from nightlab.session.replicates import replicates
from nightlab.session.session import Session
from nightlab.storage.git import Repo
from nightlab.ui.terminal.lines import LineObserver

METRIC = Metric("loss")
NIGHTS = ((126, 1.0), (500, 0.2))  # experiments of a session, and a share of the sessions asked for
PARTS = 9  # of ten: after each a trial may be given up
RISKS = (0.005, 0.01, 0.05)
SEEDS = 0.004  # what luck moves the metric by; effects are several times that
WORKERS = 2


# -- worlds --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProgramConfig:
    """What makes a curve: ``gain`` at the end over the champion, and how the way there differs from its."""

    gain: float
    slow: float = 0.0  # more loss early, gone as a power of the progress
    held: float = 0.0  # more loss until the learning rate falls, from ``falls`` on
    falls: float = 0.8
    other: float = 0.0  # the loss is another one: so much more all the way


def effect(draw: random.Random, number: int) -> float:
    """Of an idea on the metric: a third help at first, fewer later on, and some hurt a lot."""
    good = 0.15 + 0.25 * math.exp(-number / 30)
    if draw.random() < good:
        return min(0.01 * math.exp(0.8 * draw.gauss(0, 1)), 0.1)
    return -min(0.02 * math.exp(1.2 * draw.gauss(0, 1)), 1.0)


def parallel(draw: random.Random, number: int) -> ProgramConfig:
    return ProgramConfig(effect(draw, number), slow=0.01 * draw.gauss(0, 1))


def slow_winners(draw: random.Random, number: int) -> ProgramConfig:
    """The better it ends the later it is, as larger models are; some are just slow."""
    gain = effect(draw, number)
    return ProgramConfig(gain, slow=abs(draw.gauss(0, 0.05)) + 2 * max(gain, 0))


def schedules(draw: random.Random, number: int) -> ProgramConfig:
    """Each has a schedule of its own, and a high learning rate looks bad until it falls, in winners most of all."""
    gain = effect(draw, number)
    return ProgramConfig(gain, held=abs(draw.gauss(0, 0.1)) + 2 * max(gain, 0), falls=draw.uniform(0.3, 0.9))


def rare(share: float) -> Callable[[random.Random, int], ProgramConfig]:
    """Some few are behind for most of their run, and half of those win."""

    def world(draw: random.Random, number: int) -> ProgramConfig:
        if draw.random() >= share:
            return parallel(draw, number)
        gain = abs(effect(draw, number)) * draw.choice((1, -1))
        return ProgramConfig(min(gain, 0.1), held=draw.uniform(0.1, 0.5), falls=draw.uniform(0.6, 0.9))

    return world


def other_losses(draw: random.Random, number: int) -> ProgramConfig:
    """One in twenty reports another loss, say of two tokens at once."""
    return ProgramConfig(effect(draw, number), other=draw.uniform(-0.5, 1.0) if draw.random() < 0.05 else 0.0)


def surprise(draw: random.Random, number: int) -> ProgramConfig:
    """For 60 experiments all is parallel; from then on a third of the ideas are late winners. No order, no method."""
    return (rare(0.33) if number > 60 else parallel)(draw, number)


@dataclass(frozen=True, slots=True)
class World:
    name: str
    propose: Callable[[random.Random, int], ProgramConfig]
    noise: float = 0.01  # of a part's mean loss
    wild: float = 0.0  # chance of luck a hundred times as large
    blind: bool = False  # curves say nothing of the end


WORLDS = (
    World("parallel", parallel),
    World("noisy curves", parallel, noise=0.05),
    World("winners start slowly", slow_winners),
    World("schedules differ, winners late", schedules),
    World("1 of 50 is a late kind", rare(0.02)),
    World("1 of 10 is a late kind", rare(0.1)),
    World("1 of 20 reports another loss", other_losses),
    World("wild luck, 1 in 50", parallel, wild=0.02),
    World("curves say nothing", parallel, blind=True),
)
BROKEN = World("late winners, only after 60", surprise)
ALL = (*WORLDS, BROKEN)


def curve(world: World, program: ProgramConfig, level: float, draw: random.Random) -> tuple[tuple[float, ...], float]:
    """The mean loss in each part but the last, and the metric at the end."""

    def luck(size: float) -> float:
        return size * draw.gauss(0, 1) * (100 if draw.random() < world.wild else 1)

    losses = []
    for part in range(PARTS):
        t = (part + 0.5) / (PARTS + 1)
        common = 0.5 * ((t + 0.03) ** -0.5 - 1)
        held = program.held * min(1.0, (1 - t) / (1 - program.falls))
        own = 0.0 if world.blind else level - program.gain * min(1.0, 2 * t)
        losses.append(own + common + program.slow * (t**-0.5 - 1) + held + program.other + luck(world.noise))
    return tuple(losses), level - program.gain + luck(SEEDS)


# -- a session -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """Of one session. Times in budgets of a trial."""

    tried: int = 0
    winners: int = 0
    lost: int = 0
    given_up: int = 0
    saved: float = 0.0


Verdict = Callable[[Sequence[float], Sequence[float], float], int | None]
Method = Callable[[Sequence[FinishedCurve], float, int], Verdict]


def product(ran: Sequence[FinishedCurve], risk: float, number: int) -> Verdict:
    return (lambda *trial: None) if is_control(number) else CurveModel(METRIC, ran, risk).unpromising


def student(ran: Sequence[FinishedCurve], risk: float, number: int) -> Verdict:
    """What one would build first: after each part a regression of the metric on the loss, and Student's prediction.

    The risk is shared out among the looks.
    """
    n = len(ran)
    if n < 8:
        return lambda *trial: None
    x, y = np.array([r.losses for r in ran]), np.array([r.metric for r in ran])
    mx, my = x.mean(0), y.mean()
    sxx = ((x - mx) ** 2).sum(0)
    slope = ((x - mx) * (y - my)[:, None]).sum(0) / sxx
    spread = ((y[:, None] - my - slope * (x - mx)) ** 2).sum(0) / (n - 2)

    def unpromising(losses: Sequence[float], champion: Sequence[float], bar: float) -> int | None:
        off = np.array(losses) - mx
        chance = stdtr(n - 2, (bar - my - slope * off) / np.sqrt(spread * (1 + 1 / n + off**2 / sxx)))
        low = np.flatnonzero(chance < risk / PARTS)
        return int(low[0]) if len(low) else None

    return unpromising


METHODS: dict[str, Method] = {"nightlab": product, "regression, Student's t": student}


def play(world: World, method: Method, risk: float, session: int, experiments: int) -> Tally:
    """A session in which what beats the bar takes the champion's place, and what is hopeless is given up."""
    tally, ran = Tally(), list[FinishedCurve]()
    level, bar = 0.0, SEEDS
    best, _ = curve(world, ProgramConfig(0.0), level, random.Random(session))
    for number in range(1, experiments + 1):
        draw = random.Random(f"{session}/{number}")
        program = world.propose(draw, number)
        losses, value = curve(world, program, level, draw)
        won = value < bar
        part = method(ran, risk, number)(losses, best, bar)
        tally.tried, tally.winners = tally.tried + 1, tally.winners + won
        if part is not None:
            tally.given_up, tally.lost = tally.given_up + 1, tally.lost + won
            tally.saved += 1 - (part + 1) / (PARTS + 1)
            continue
        ran.append(FinishedCurve(losses, value, won))
        if won:
            level, bar, best = level - program.gain, value + SEEDS / 2, losses
    return tally


def _play(job: tuple[int, str, float, Sequence[int], int]) -> list[Tally]:
    world, name, risk, sessions, experiments = job
    return [play(ALL[world], METHODS[name], risk, session, experiments) for session in sessions]


# -- tables --------------------------------------------------------------------------------------------


def share(tallies: Sequence[Tally], part: str, whole: str) -> tuple[float, float]:
    """A share over all sessions, with its standard error from session to session."""
    part_losses, wholes = [getattr(t, part) for t in tallies], [getattr(t, whole) for t in tallies]
    if not sum(wholes):
        return 0.0, 0.0
    ratio, n = sum(part_losses) / sum(wholes), len(tallies)
    off = [p - ratio * w for p, w in zip(part_losses, wholes, strict=True)]
    return ratio, math.sqrt(sum(o * o for o in off) * n / (n - 1)) / sum(wholes) if n > 1 else math.nan


def simulate(sessions: int, seed: int, nights: Sequence[tuple[int, float]] = NIGHTS) -> bool:
    """Every method in every world at every risk. Returns whether the product holds what it states."""
    held = True
    with Pool(WORKERS) as pool:
        for name, (experiments, part) in [("regression, Student's t", nights[0]), *(("nightlab", n) for n in nights)]:
            numbers = range(seed, seed + max(int(part * sessions), 2))
            chunks = [numbers[i : i + 10] for i in range(0, len(numbers), 10)]
            rows = []
            for place, world in enumerate(ALL):
                row = [world.name]
                for risk in RISKS:
                    jobs = [(place, name, risk, chunk, experiments) for chunk in chunks]
                    tallies = [tally for played in pool.map(_play, jobs) for tally in played]
                    (saved, _), (lost, error) = share(tallies, "saved", "tried"), share(tallies, "lost", "winners")
                    within = lost <= risk + 2 * error
                    held &= within or name != "nightlab" or world is BROKEN
                    row.append(f"{saved:.0%} · {100 * lost:.2f} ± {100 * error:.2f}{'' if within else ' !'}")
                rows.append(row)
            print(f"{name}, {len(numbers)} sessions of {experiments} experiments at each risk, which is the column's:")
            print("training time saved · winners lost, in percent of all winners, with its standard error\n")
            table(("curves", *(f"{100 * risk:g} %" for risk in RISKS)), rows)
            sys.stdout.flush()
    return held


# -- a real session ------------------------------------------------------------------------------------


def record(folder: Path, experiments: int) -> Session:
    """A session of the language-model lab in which every trial runs to its end, as far as it is not there."""
    if not folder.exists():
        make_lab(folder, "lm")
        session = Session.create(Repo(folder), "pace", device="cpu", allow=PROTECTIONS)
    else:
        session = Session(Repo(folder), "pace", writer=True, allow=PROTECTIONS)
    run_prepare(session.repo, session.lab, session.base, session.folder)
    ExperimentLoop(session, StopRules(experiments=experiments), Scheduler(session, LineObserver())).run()
    return session


@dataclass(frozen=True, slots=True)
class Recorded:
    """An experiment whose first trial has a whole curve, with the champion's curve and the bar of its time."""

    number: int
    ran: FinishedCurve
    champion: Sequence[float]
    bar: float


def recorded(session: Session) -> list[Recorded]:
    ledger, found, curves = session.ledger, list[Recorded](), dict[int, list[float]]()
    sigma = replicates(ledger, session.budget.record(), session.lab).noise().sigma
    for trial, measured in ledger.trials(purpose="search"):
        losses = curve_parts(load_curve(session.local_engine.folder / trial.id))
        if measured and measured.metric is not None and len(losses) == PARTS:
            curves.setdefault(trial.experiment, losses)
    champion: Experiment | None = None
    for experiment in ledger.experiments():
        number, measured = experiment.number, experiment.measurement
        bar = champion.verdict.bar if champion and champion.verdict else None
        if champion and bar is not None and measured and measured.metric is not None and number in curves:
            ran = FinishedCurve(tuple(curves[number]), measured.metric, experiment.kept)
            worse = session.metric.worsened(bar, sigma)
            found.append(Recorded(number, ran, curves[champion.number], worse))
        champion = experiment if experiment.kept else champion
    return found


def replay(session: Session) -> None:
    """What the rule would have done: after what had ended by then, and after all others."""
    trials, metric = recorded(session), session.metric
    won = [each.number for each in trials if each.ran.won]
    print(f"{len(trials)} experiments with whole curves, {len(won)} of them kept")
    lines = CurveModel(metric, [each.ran for each in trials], 1.0).lines
    shown = [f"{10 * (p + 1)} %: spread {line.spread:.3f}" for p, line in enumerate(lines) if line]
    print(f"parts of the budget after which loss goes with {metric.name}: {', '.join(shown) or 'none'}\n")
    rows = []
    for risk in (0.01, 0.05, 0.1, 0.2):
        for how in ("those before", "all others"):
            saved, ended, lost = 0.0, list[int](), list[int]()
            for place, each in enumerate(trials):
                others = [other.ran for other in (trials[:place] if how == "those before" else trials) if other != each]
                part = CurveModel(metric, others, risk).unpromising(each.ran.losses, each.champion, each.bar)
                if part is not None and not is_control(each.number):
                    saved += 1 - (part + 1) / (PARTS + 1)
                    (lost if each.ran.won else ended).append(each.number)
            names = ", ".join(f"#{number}" for number in lost) or "none"
            rows.append((f"{risk:.0%}", how, len(ended) + len(lost), f"{saved / max(len(trials), 1):.0%}", names))
    table(("risk", "judged by", "given up", "training saved", "winners lost"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0, help="number of the first session")
    parser.add_argument("--quick", action="store_true", help="a few short sessions: whether it runs, not what it finds")
    parser.add_argument("--real", type=Path, metavar="LAB", help="a folder for a session of real trials")
    parser.add_argument("--experiments", type=int, default=25, help="of that session")
    wanted, begun = parser.parse_args(), time.perf_counter()
    heading("hopeless trials")
    if wanted.real:
        replay(record(wanted.real, wanted.experiments))
    else:
        held = simulate(2, wanted.seed, [(40, 1.0)]) if wanted.quick else simulate(wanted.sessions, wanted.seed)
        print("PASS" if held else "MISS", "no more winners are lost than stated, within two standard errors")
    print(f"\n{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
