"""Population-based training here and by Ray Tune's scheduler: python benchmarks/pbt.py [--repeats 20] [--members 8]

Both train a population on a toy whose best schedule is known (benchmarks/pbt_lab.py), at equal training: as many
members, parts and steps, the same ranges, factors and chance of a new draw, the lower and the upper fifth. Of each, the
winner's schedule is what counts: it trains from nothing. The toy's expected loss is exact, so a schedule's worth has no
noise; the interval is over repeats. nightlab's repeats are its decisions, played without processes; before them comes
one whole session, with the gain that it confirmed on fresh seeds. Needs ray[tune].
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import heading, table
from pbt_lab import CONTRACT, COORDINATES, FAR, GENOME, STEPS, make_lab
from scipy import optimize, stats

import nightlab
from nightlab.core.config import LabConfig
from nightlab.core.events import PopulationStarted
from nightlab.core.types import Budget, Measurement, Metric, Segment, Trial
from nightlab.loop.population import Training
from nightlab.proposers.schedules import FACTORS, QUANTILE, RESAMPLE, Schedule, moving_constants, stretched

LAB = LabConfig.model_validate(tomllib.loads(CONTRACT))
BASELINE = float(GENOME.split()[2])
Train = Callable[[int, int, Schedule, Any], tuple[float, Any]]


def expected(schedule: Sequence[float]) -> float:
    """The loss that a schedule is expected to yield from nothing: rates of equally long parts."""
    v = FAR**2
    for step in range(STEPS):
        rate = schedule[step * len(schedule) // STEPS]
        v = (1 - rate) ** 2 * v + rate**2
    return v


def best(parts: int) -> float:
    """The loss of the best schedule of this number of parts."""
    start = np.log([1 / (1 / FAR**2 + (part + 0.5) * STEPS / parts) for part in range(parts)])
    found = optimize.minimize(lambda logs: np.log(expected(np.exp(np.minimum(logs, 0.0)))), start, method="L-BFGS-B")
    return expected(np.exp(np.minimum(found.x, 0.0)))


def ours(folder: Path, members: int, parts: int, seed: int, slots: int) -> tuple[list[float], Any]:
    """nightlab's schedule, and what was confirmed of it."""
    lab = nightlab.Lab(make_lab(folder))
    with lab.session("pbt", seed=seed, slots=slots, allow_missing="all") as session:
        result = session.pbt(members, parts, confirm=4)
    return list(result.ended.schedule["RATE"]), result.evidence


def played(training: Training, base: Schedule, spaces: dict[str, Any], slots: int, train: Train) -> Schedule:
    """nightlab's decisions without its processes: the same code decides, with ``slots`` at once. The winner's schedule.

    ``train`` does a member's part: it gets the member, the part from 1 on, the schedule, and the state to go on from
    (None where training begins), and gives the loss and the state.
    """
    parts, schedules, states, running = training.started.parts, dict[str, Schedule](), dict[str, Any](), list[Trial]()
    while not training.complete:
        for member in training.waiting()[: slots - len(running)]:
            source, schedule = training.plan(member, base, spaces, lambda one: schedules[one.id])
            after, part = source[0].id if source else "", training.done(member) + 1
            trial = Trial(f"{member}/{part}", 0, "", member, "population", Budget("work", 1))
            trial = replace(trial, segment=Segment(1, member, part, parts, after, after))
            schedules[trial.id] = schedule
            training.add(trial, None)
            running.append(trial)
        trial = running.pop(0)
        assert trial.segment
        had = states.get(trial.segment.after)
        loss, states[trial.id] = train(trial.seed, trial.segment.part, schedules[trial.id], had)
        training.add(trial, Measurement("measured", loss, checkpoint=trial.id))
    last = training.scores(parts)
    return schedules[f"{min(last, key=lambda member: last[member])}/{parts}"]


def here(members: int, parts: int, seed: int, slots: int) -> list[float]:
    """nightlab's schedule on the toy, by its decisions alone."""
    constant, space = moving_constants(GENOME, "cpu", LAB)["RATE"]

    def train(member: int, part: int, schedule: Schedule, had: Any) -> tuple[float, Any]:
        x, noise = np.full(COORDINATES, FAR) if had is None else had, np.random.default_rng((seed, part))
        for _ in range(STEPS // parts):
            x = x - schedule["RATE"][part - 1] * (x + noise.normal(size=x.size))
        return float(np.mean(x * x)), x

    training = Training(PopulationStarted(1, 0, members, parts, ("RATE",), seed), Metric("loss"))
    return list(played(training, {"RATE": stretched(constant.value, parts)}, {"RATE": space}, slots, train)["RATE"])


def scheduler(metric: str, spaces: dict[str, Any]) -> Any:
    """Ray Tune's, with nightlab's factors, chance of a new draw, and fifths, within these ranges."""
    from ray import tune
    from ray.tune.schedulers import PopulationBasedTraining

    def within(config: dict[str, Any]) -> dict[str, Any]:
        return {**config, **{name: min(max(config[name], one.low), one.high) for name, one in spaces.items()}}

    return PopulationBasedTraining(
        time_attr="training_iteration",
        metric=metric,
        mode="min",
        perturbation_interval=1,
        hyperparam_mutations={
            name: (tune.loguniform if one.log else tune.uniform)(one.low, one.high) for name, one in spaces.items()
        },
        quantile_fraction=QUANTILE,
        resample_probability=RESAMPLE,
        perturbation_factors=FACTORS[::-1],
        custom_explore_fn=within,
    )


def rays(folder: Path, members: int, parts: int, seed: int, slots: int) -> list[float]:
    """The schedule of Ray Tune's winner: the rates that its weights were trained with."""
    import random

    from ray import tune

    random.seed(seed)
    np.random.seed(seed)

    class Quadratic(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.x, self.rates = np.full(COORDINATES, FAR), list[float]()

        def step(self) -> dict[str, Any]:
            part = len(self.rates)
            noise = np.random.default_rng((seed, part))
            for _ in range(STEPS // parts):
                self.x = self.x - self.config["RATE"] * (self.x + noise.normal(size=self.x.size))
            self.rates.append(self.config["RATE"])
            return {"loss": float(np.mean(self.x**2)), "schedule": json.dumps(self.rates)}

        def save_checkpoint(self, place: str) -> None:
            np.savez(Path(place) / "x.npz", x=self.x, rates=self.rates)

        def load_checkpoint(self, place: Any) -> None:
            had = np.load(Path(place) / "x.npz")
            self.x, self.rates = had["x"], list(had["rates"])

        def reset_config(self, config: dict[str, Any]) -> bool:
            self.config = config
            self.setup(config)
            return True

    spaces = {"RATE": moving_constants(GENOME, "cpu", LAB)["RATE"][1]}
    tuner = tune.Tuner(
        tune.with_resources(Quadratic, {"cpu": slots / members}),  # all members live at once
        param_space={"RATE": tune.loguniform(spaces["RATE"].low, spaces["RATE"].high)},
        tune_config=tune.TuneConfig(scheduler=scheduler("loss", spaces), num_samples=members, reuse_actors=True),
        run_config=tune.RunConfig(
            stop={"training_iteration": parts}, storage_path=str(folder), verbose=0, name=f"seed{seed}"
        ),
    )
    frame = tuner.fit().get_dataframe(filter_metric="loss", filter_mode="min")
    ended = frame[frame.schedule.map(lambda text: len(json.loads(text)) == parts)]
    found: list[float] = json.loads(ended.sort_values("loss").schedule.iloc[0])
    return found


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % interval (Student's t)."""
    mean, n = float(np.mean(values)), len(values)
    half = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / n**0.5) if n > 1 else float("nan")
    return f"{mean:.4f} ± {half:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--parts", type=int, default=8)
    parser.add_argument("--slots", type=int, default=2)
    given = parser.parse_args()
    import ray

    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    ray.init(num_cpus=given.slots, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    heading(f"Population-based training, {given.members} members of {given.parts} parts, {given.repeats} repeats")
    losses: dict[str, list[float]] = {"nightlab pbt": [], "Ray Tune PBT": []}
    with tempfile.TemporaryDirectory() as place:
        schedule, evidence = ours(Path(place) / "lab", given.members, given.parts, 1, given.slots)
        print(f"one session: {' '.join(f'{rate:.3g}' for rate in schedule)}: {expected(schedule):.4f}")
        if evidence:
            gain = evidence.gain
            print(f"its gain over the baseline, confirmed: {gain.mean:.4f} ({gain.low:.4f} to {gain.high:.4f})\n")
        for seed in range(1, given.repeats + 1):
            ours_here = here(given.members, given.parts, seed, given.slots)
            theirs = rays(Path(place) / "ray", given.members, given.parts, seed, given.slots)
            for name, found in zip(losses, (ours_here, theirs), strict=True):
                losses[name].append(expected(found))
                rates = " ".join(f"{rate:.3g}" for rate in found)
                print(f"seed {seed}, {name}: {rates}: {expected(found):.4f}", flush=True)
    ray.shutdown()
    constant = optimize.minimize_scalar(lambda log: expected([np.exp(log)]), bounds=(-6, 0), method="bounded")
    rows = [[name, interval(values), f"{given.members}"] for name, values in losses.items()]
    pairs = [theirs - one for one, theirs in zip(*losses.values(), strict=True)]
    rows.append(["the baseline's rate", f"{expected([BASELINE]):.4f}", "1"])
    rows.append(["the best constant rate", f"{constant.fun:.4f}", "known"])
    rows.append([f"the best schedule of {given.parts} parts", f"{best(given.parts):.4f}", "known"])
    print()
    table(["schedule", "expected loss from nothing", "whole trainings"], rows)
    print(f"Ray Tune's less nightlab's: {interval(pairs)}")


if __name__ == "__main__":
    main()
