"""Populations on the language-model lab, here and by Ray Tune: python benchmarks/pbt_lm.py [--members 4] [--parts 4]

As benchmarks/pbt.py, on the lab ``lm`` with few tokens on a CPU: both train a population with the lab's own train.py,
data and evaluation (of a quarter of its rows, or each part would be scored for longer than it trains), from the same
ranges and seeds, at equal training. nightlab's decisions are played without its processes.
Then the baseline and each winner's schedule train from nothing on the same fresh seeds; intervals are over
populations where there are several, as the luck of one population is in all its replays. Needs the lab's corpus
(python prepare.py) and ray[tune]. With --record the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pickle
import shutil
import statistics
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from machine import heading, table
from pbt import played, scheduler

from nightlab.core.config import LabConfig
from nightlab.core.events import PopulationStarted
from nightlab.core.files import replace_text
from nightlab.core.program.constants import change_constants
from nightlab.core.types import Metric
from nightlab.judge import paired_gain
from nightlab.loop.population import Training
from nightlab.proposers.schedules import Schedule, moving_constants, stretched
from nightlab.session.create import SHIPPED

METRIC = Metric("val_bpb")
FRESH = 1000  # the first seed of the replays


def trained(lab: Path, constants: dict[str, Any], tokens: int, seed: int, begin: float, end: float, had: Any) -> Any:
    """Train the part from ``begin`` to ``end`` with train.py in this process; bits per byte, and the state after it."""
    import numpy as np
    import torch

    found = SimpleNamespace(state=None, weights=None)
    trial = SimpleNamespace(
        begin=begin, end=end, budget=tokens, checkpoint=lambda: had or {}, start=lambda: None,
        report=lambda progress, loss: None, save=lambda state: setattr(found, "state", state),
        hand_over=lambda weights: setattr(found, "weights", weights),
    )  # fmt: skip
    sys.modules["nightlab_guest"] = SimpleNamespace(trial=lambda: trial, answer=lambda load: None)  # type: ignore
    os.environ |= {"NIGHTLAB_CLOCK": "work", "NIGHTLAB_BUDGET": f"{tokens}", "NIGHTLAB_SEED": f"{seed}"}
    sys.modules.pop("prepare", None)  # it reads the seed when it is imported
    if str(lab) not in sys.path:
        sys.path.insert(0, str(lab))
    program: dict[str, Any] = {"__name__": "train"}
    text = change_constants((lab / "train.py").read_text(), "cpu", constants)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(text, "train.py", "exec"), program)
        try:
            program["main"]()
        except SystemExit:  # it diverged
            return 99.0, had
        prepare = sys.modules["prepare"]
        model = program["load"]({name: torch.from_numpy(np.array(value)) for name, value in found.weights.items()})
        exam = prepare.Exam("val")
        exam.score(lambda batches: (prepare.logits(model, torch.from_numpy(batch)) for batch in batches))
    return float(exam.bits_per_byte()), found.state


def replayed(lab: Path, schedule: Schedule, tokens: int, seed: int) -> float:
    """The bits per byte that a schedule yields from nothing."""
    return float(trained(lab, schedule, tokens, seed, 0.0, 1.0, None)[0])


def ours(lab: Path, members: int, parts: int, tokens: int, seed: int) -> Schedule:
    """nightlab's schedule."""
    found = moving(lab)

    def train(member: int, part: int, schedule: Schedule, had: Any) -> tuple[float, Any]:
        now = {name: values[part - 1] for name, values in schedule.items()}
        return trained(lab, now, tokens, seed, (part - 1) / parts, part / parts, had)

    training = Training(PopulationStarted(1, 0, members, parts, tuple(found), seed), METRIC)
    base = {name: stretched(constant.value, parts) for name, (constant, _) in found.items()}
    return played(training, base, {name: space for name, (_, space) in found.items()}, 2, train)


def rays(lab: Path, folder: Path, members: int, parts: int, tokens: int, seed: int) -> Schedule:
    """The schedule of Ray Tune's winner. Its first member begins with the genome's values, as nightlab's does."""
    import random

    import numpy as np
    from ray import tune
    from ray.tune.search.basic_variant import BasicVariantGenerator

    random.seed(seed)
    np.random.seed(seed)
    found = moving(lab)
    spaces = {name: space for name, (_, space) in found.items()}

    class Member(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.state: Any = None
            self.schedule: list[dict[str, float]] = []

        def step(self) -> dict[str, Any]:
            now, part = {name: self.config[name] for name in spaces}, len(self.schedule)
            bpb, self.state = trained(lab, now, tokens, seed, part / parts, (part + 1) / parts, self.state)
            self.schedule.append(now)
            return {"val_bpb": bpb, "schedule": json.dumps(self.schedule)}

        def save_checkpoint(self, place: str) -> None:
            (Path(place) / "state").write_bytes(pickle.dumps((self.state, self.schedule)))

        def load_checkpoint(self, place: Any) -> None:
            self.state, self.schedule = pickle.loads((Path(place) / "state").read_bytes())

        def reset_config(self, config: dict[str, Any]) -> bool:
            self.config = config
            return True

    first = {name: constant.value for name, (constant, _) in found.items()}
    ranges = {name: (tune.loguniform if s.log else tune.uniform)(s.low, s.high) for name, s in spaces.items()}
    tuner = tune.Tuner(
        tune.with_resources(Member, {"cpu": 2 / members}),  # all members live at once
        param_space=ranges,
        tune_config=tune.TuneConfig(
            scheduler=scheduler("val_bpb", spaces), num_samples=members, reuse_actors=True,
            search_alg=BasicVariantGenerator(points_to_evaluate=[first]),
        ),
        run_config=tune.RunConfig(stop={"training_iteration": parts}, storage_path=str(folder), verbose=0),
    )  # fmt: skip
    frame = tuner.fit().get_dataframe(filter_metric="val_bpb", filter_mode="min")
    ended = frame[frame.schedule.map(lambda text: len(json.loads(text)) == parts)]
    course = json.loads(ended.sort_values("val_bpb").schedule.iloc[0])
    return {name: tuple(part[name] for part in course) for name in spaces}


def moving(lab: Path) -> dict[str, Any]:
    """The constants that move, each with what it may be."""
    contract = LabConfig.model_validate(tomllib.loads((lab / "lab.toml").read_text()))
    return moving_constants((lab / "train.py").read_text(), "cpu", contract)


class Record:
    """What has been computed, by name; in a file if there is one."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.found: dict[str, Any] = json.loads(path.read_text()) if path and path.exists() else {}

    def get(self, name: str, compute: Callable[[], Any]) -> Any:
        """What has this name, computed if nothing has."""
        if name not in self.found:
            begun = time.perf_counter()
            self.found[name] = compute()
            print(f"{name}: {time.perf_counter() - begun:.0f} s", flush=True)
            if self.path:
                replace_text(self.path, json.dumps(self.found))
        return self.found[name]


def gain(before: Sequence[float], after: Sequence[float]) -> str:
    if len(before) < 2:
        return f"{METRIC.gain(before[0], after[0]):+.4f}"
    found = paired_gain(METRIC, before, after)
    return f"{found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})"


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--members", type=int, default=4)
    ask.add_argument("--parts", type=int, default=4)
    ask.add_argument("--steps", type=int, default=100, help="of 1,024 tokens")
    ask.add_argument("--repeats", type=int, default=1)
    ask.add_argument("--seeds", type=int, default=4, help="of each replay")
    ask.add_argument("--rates", type=float, default=1.0, help="the baseline's learning rates, over the lab's")
    ask.add_argument("--record", type=Path, help="a file that keeps schedules and runs")
    given = ask.parse_args()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    import ray

    size = (given.members, given.parts, 1024 * given.steps)
    heading(f"Populations on lm: {given.members} members, {given.parts} parts, {given.steps} steps a training")
    with tempfile.TemporaryDirectory() as place:
        lab = Path(place) / "lm"
        shutil.copytree(SHIPPED / "lm", lab)
        metric = (lab / "metric.py").read_text()
        (lab / "metric.py").write_text(metric.replace('"cpu": 2**16', '"cpu": 2**14'))
        text = (lab / "train.py").read_text()
        rates = {name: constant.value * given.rates for name, (constant, _) in moving(lab).items() if "LR" in name}
        (lab / "train.py").write_text(change_constants(text, "cpu", rates))
        runs: dict[str, list[float]] = {"the baseline": [], "nightlab pbt": [], "Ray Tune PBT": []}
        record = Record(given.record)
        what = f"{given.members} members, {given.parts} parts, {given.steps} steps, rates x {given.rates:g}: "

        def ray_course(seed: int) -> Schedule:
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            course = rays(lab, Path(place) / "ray", *size, seed)
            ray.shutdown()
            return course

        for seed in range(1, given.repeats + 1):
            courses: dict[str, Schedule] = {
                "the baseline": {},
                "nightlab pbt": record.get(f"{what}nightlab pbt {seed}", partial(ours, lab, *size, seed)),
                "Ray Tune PBT": record.get(f"{what}Ray Tune PBT {seed}", partial(ray_course, seed)),
            }
            courses = {n: {c: tuple(values) for c, values in course.items()} for n, course in courses.items()}
            found: dict[str, list[float]] = {name: [] for name in courses}
            for fresh in range(FRESH + 100 * seed, FRESH + 100 * seed + given.seeds):
                for name, course in courses.items():
                    replay = partial(replayed, lab, course, size[2], fresh)
                    found[name].append(record.get(f"{what}{name} {seed}, from nothing, seed {fresh}", replay))
            for name, course in courses.items():
                runs[name].append(statistics.fmean(found[name]))
                values = "; ".join(f"{c} {' '.join(f'{v:.2g}' for v in of)}" for c, of in course.items())
                more = gain(found["the baseline"], found[name]) if course else ""
                print(f"population {seed}, {name}: {values}: {runs[name][-1]:.4f} {more}", flush=True)
    base = runs["the baseline"]
    rows = [
        [name, f"{statistics.fmean(of):.4f}", gain(base, of) if of is not base else ""] for name, of in runs.items()
    ]
    table(["schedule, from nothing", "val_bpb", "gain over the baseline (95 %)"], rows)
    print(f"nightlab's over Ray Tune's: {gain(runs['Ray Tune PBT'], runs['nightlab pbt'])}")


if __name__ == "__main__":
    main()
