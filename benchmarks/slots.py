"""What do more slots bring? python benchmarks/slots.py [--ray] [--rounds 3] [--slots 1 2] [--far 1 8 64]

Experiments per hour of a whole session, its baseline and its start not counted, against how many trials run at once:
on this machine with trials that compute, and with --ray on a local Ray cluster with trials that sleep, which stand for
trials on other machines' processors. The rounds take turns. With --ray also: how long after a node is killed its trial
runs again. The proposer is a queue of patches, so that thinking takes no time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from machine import heading, table

from nightlab.core.config import StopRules
from nightlab.core.observer import Observer
from nightlab.core.types import Experiment
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.sandbox.bubblewrap import PROTECTIONS
from nightlab.session.session import Session
from nightlab.storage.git import Repo

CONTRACT = """\
name = "slots"
genome = ["genome.py"]
command = "python work.py"

[metric]
name = "loss"

[budget]
clock = "work"
amount = 1
wall_limit = 600

[judge]
rule = "greedy"
upkeep = 0
confirm = 0

[[proposers]]
kind = "patches"
"""
BURN = """\
import time

while time.process_time() < {seconds}:
    sum(range(10000))
"""
SLEEP = "import time\n\ntime.sleep({seconds})\n"
ENDS = "import genome\n\nprint(f'METRIC loss={1 + genome.A}')\n"
"""Each candidate is a little worse: the champion stays, and nothing has to be made anew."""


class Watch(Observer):
    """Remembers when each experiment was judged."""

    def __init__(self) -> None:
        self.judged_at: list[float] = []

    def judged(self, experiment: Experiment, champion: Experiment | None) -> None:
        self.judged_at.append(time.monotonic())


def make_lab(folder: Path, work: str, ideas: int) -> Repo:
    """A lab whose trials do that work, with so many patches in its queue."""
    folder.mkdir()
    for name, text in {"lab.toml": CONTRACT, "genome.py": "A = 0\n", "work.py": work + ENDS}.items():
        (folder / name).write_text(text)
    who = ("-c", "user.name=me", "-c", "user.email=me@here")
    for args in (["init", "-q", "-b", "main"], ["add", "-A"], [*who, "commit", "-qm", "lab"]):
        subprocess.run(["git", *args], cwd=folder, check=True)
    repo = Repo(folder)
    head = repo.resolve() or ""
    (folder / "ideas").mkdir()
    for number in range(1, ideas + 1):
        patch = repo.diff(head, repo.commit_files(head, {"genome.py": f"A = {number}\n"}, "x"))
        (folder / "ideas" / f"{number:04d}.patch").write_text(patch)
    return repo


def rate(work: str, slots: int, experiments: int, engine: Callable[[Session, Observer], Any] | None = None) -> float:
    """Experiments per hour of one session, from its baseline's verdict to its last."""
    with tempfile.TemporaryDirectory() as home:
        repo = make_lab(Path(home) / "lab", work, experiments)
        session, watch = Session.create(repo, "s", device="cpu", allow=PROTECTIONS), Watch()
        scheduler = Scheduler(session, watch, slots, engine and engine(session, watch))
        ExperimentLoop(session, StopRules(experiments=experiments), scheduler).run()
        bad = [m.outcome for _, m in session.ledger.trials() if m is None or m.metric is None]
        session.close()
        if bad:
            sys.exit(f"trials that were not measured: {bad}")
        return experiments / (watch.judged_at[-1] - watch.judged_at[0]) * 3600


def compare(slots: list[int], rounds: int, one: Callable[[int], float]) -> None:
    """A table of rates, medians of rounds that take turns, and what they are of the first one's."""
    found: dict[int, list[float]] = {n: [] for n in slots}
    busy: dict[int, list[float]] = {n: [] for n in slots}
    for _ in range(rounds):
        for n in slots:
            psutil.cpu_percent()
            found[n].append(one(n))
            busy[n].append(psutil.cpu_percent())
    first = slots[0]
    rows, short = [], []
    for n in slots:
        shares = [a / b / (n / first) for a, b in zip(found[n], found[first], strict=True)]
        rate, share, load = (statistics.median(values) for values in (found[n], shares, busy[n]))
        if share < 0.9 and load > 90:
            short.append(n)
        rows.append((n, f"{rate:,.0f}", f"{share:.0%}", f"{min(shares):.0%} to {max(shares):.0%}", f"{load:.0f} %"))
    table(("slots", "experiments per hour", f"of linear in {first}", "in each round", "processors busy"), rows)
    print("Busy with whatever runs on this machine, which starts every trial and runs the session itself.")
    for n in short:
        print(f"{n} slots fell short of linear with all {os.cpu_count()} processors busy: those are what is short.")
    print()


def here(slots: list[int], seconds: float, each: int, rounds: int) -> None:
    heading(
        f"On this machine, trials of {seconds:g} s of computing, {each} experiments per slot, {rounds} rounds in turn"
    )
    compare(slots, rounds, lambda n: rate(BURN.format(seconds=seconds), n, each * n))


def far(slots: list[int], seconds: float, each: int, rounds: int) -> None:
    """The same on a cluster of our own, whose processors are only said to be there."""
    from nightlab.engines.remote.ray_cluster import RayCluster
    from nightlab.session.create import on_cluster

    heading(f"On local Ray, trials that sleep {seconds:g} s, {each} per slot, {rounds} round(s) in turn")
    cluster = RayCluster("local-ray", max(slots))
    nodes = cluster.describe_nodes("cpu")

    def engine(session: Session, view: Observer) -> Any:
        return on_cluster(session, cluster, nodes, PROTECTIONS, print)

    work = SLEEP.format(seconds=seconds)
    rate(work, max(slots), max(slots), engine)  # every worker has then started, and the node has its copy
    compare(slots, rounds, lambda n: rate(work, n, each * n, engine))
    cluster.close()


def killed(rounds: int) -> None:
    """Kill a node under a trial, and see when its next attempt begins and computes."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # so that a cluster on the loopback is found there
    from ray.cluster_utils import Cluster

    from nightlab.engines.remote import common_platform
    from nightlab.engines.remote.ray_cluster import HEALTH, LOOPBACK, RayCluster
    from nightlab.session.create import on_cluster

    on = {"node_ip_address": LOOPBACK, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args={**on, "num_cpus": 0, "_system_config": HEALTH})
    for _ in range(2):
        nodes.add_node(num_cpus=1, node_ip_address=LOOPBACK)
    cluster = RayCluster(nodes.address)
    facts = cluster.describe_nodes("cpu")
    lost, again, runs = [], [], []
    with tempfile.TemporaryDirectory() as home:
        repo = make_lab(Path(home) / "lab", SLEEP.format(seconds=6), 0)
        session = Session.create(repo, "s", device="cpu", allow=PROTECTIONS, elsewhere=common_platform(facts))
        scheduler = Scheduler(session, Observer(), 1, on_cluster(session, cluster, facts, PROTECTIONS, print))
        candidates = ExperimentLoop(session, StopRules(), scheduler).candidates
        candidates.making.admit(candidates.making.baseline())
        scheduler.start(0, "search", 1)
        scheduler.drain()
        for seed in range(2, rounds + 2):
            scheduler.start(0, "search", seed)
            wait_for(at_work)
            node = next(n for n in nodes.worker_nodes if runs_a_trial(n))
            begun = time.monotonic()
            nodes.remove_node(node, allow_graceful=False)
            measured = next(iter(scheduler.drain().values()))
            lost.append(time.monotonic() - begun)
            assert measured.outcome == "lost", measured
            scheduler.start(0, "search", seed)
            again.append(time.monotonic() - begun)
            wait_for(at_work)
            runs.append(time.monotonic() - begun)
            assert next(iter(scheduler.drain().values())).outcome == "measured"
            nodes.add_node(num_cpus=1, node_ip_address=LOOPBACK)
        session.close()
    heading(f"A node is killed under a trial, {rounds} times: seconds until…")
    seen = {"is known to be lost": lost, "is started again": again, "has its program running again": runs}
    rows = [(f"the trial {what}", f"{statistics.median(x):.1f}", f"{max(x):.1f}") for what, x in seen.items()]
    table(("", "median", "longest"), rows)
    cluster.close()
    nodes.shutdown()


def at_work() -> bool:
    """Whether a trial's program runs."""
    return any(process.info["cmdline"] == ["python", "work.py"] for process in psutil.process_iter(["cmdline"]))


def runs_a_trial(node: Any) -> bool:
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return any("ray::trial" in " ".join(worker.cmdline()) for worker in raylet.children())


def wait_for(what: Callable[[], Any]) -> Any:
    while not (found := what()):
        time.sleep(0.02)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, nargs="*", default=[1, 2], help="on this machine")
    parser.add_argument("--seconds", type=float, default=5, help="that a trial on this machine computes")
    parser.add_argument("--each", type=int, default=4, help="experiments for each slot")
    parser.add_argument("--ray", action="store_true", help="also what needs Ray")
    parser.add_argument("--far", type=int, nargs="*", default=[1, 8, 64], help="slots on local Ray")
    parser.add_argument("--sleep", type=float, default=30, help="seconds that a trial on local Ray sleeps")
    parser.add_argument("--kills", type=int, default=3)
    options = parser.parse_args()
    if options.slots:
        here(options.slots, options.seconds, options.each, options.rounds)
    if options.ray and options.kills:
        killed(options.kills)
    if options.ray and options.far:
        far(options.far, options.sleep, options.each, 1)


if __name__ == "__main__":
    main()
