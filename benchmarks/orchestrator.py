"""What nightlab itself costs per experiment, in ledgers of several lengths: python benchmarks/orchestrator.py

Fills a session's ledger with 100, 10,000 and 1,000,000 experiments (which takes minutes and 6 GB of disk), then takes
the steps of an experiment in each, in turn, with a box that yields a number at once. The last half of each session
brought no keep, so its champion has an upkeep as long as that. The trials' folders and git's refs are not made up.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from machine import heading, table

from nightlab.core.config import StopRules
from nightlab.core.events import event_of
from nightlab.core.observer import Observer
from nightlab.core.types import Budget, Candidate, Measurement, Platform, Trial, Verdict
from nightlab.engines.local.engine import LocalEngine
from nightlab.engines.slots import WHOLE, Slot
from nightlab.loop.champion_recheck import CompletedRecheck
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.proposers import Briefing
from nightlab.proposers.patches import PatchQueue
from nightlab.proposers.tuner import Tuner
from nightlab.sandbox.bubblewrap import PROTECTIONS, Sandbox
from nightlab.session.create import start_session
from nightlab.session.session import Session
from nightlab.storage.git import Repo
from nightlab.storage.ledger import LEDGER, Ledger, state_folder, tables

CONSTANTS = {f"RATE_{n}": 0.1 * (n + 1) for n in range(12)}
GENOME = "".join(f"{name} = {value}  # [0.001..10 log]\n" for name, value in CONSTANTS.items())
CONTRACT = """\
name = "long"
genome = ["genome.py"]
command = "true"
[metric]
name = "loss"
[budget]
amount = 20
[[proposers]]
kind = "tuner"
[[proposers]]
kind = "patches"
"""
KEEP, REPEAT, PATCH, UPKEEP = 50, 10, 20, 25  # every so many experiments of the story
BEGINNING = "from the start to the first trial"
BUDGET = Budget("wall", 20)
MEASURED = Measurement("measured", 0, {}, 20.0, 2.3, 2.4, 24.9, 21.0, 512.0, machine={"load": 0.5}).to_dict()
CANDIDATE, TRIAL = ([f.name for f in fields(record)] for record in (Candidate, Trial))  # asdict would take minutes
Story = Iterator[tuple[str, dict[str, Any]]]


def story(experiments: int, base: Candidate, best: Candidate) -> Story:
    """The events of a session, as the ledger writes them; its last keep, ``best``, is about half way."""
    draw = random.Random(1)
    champion, commit, bar = 0, base.commit, 1.0
    last_keep = max(experiments // 2 // KEEP * KEEP, 1)
    for n in range(experiments):
        kept = n == 0 or n == last_keep or (n < last_keep and n % KEEP == 0)
        one = base if n == 0 else best if n == last_keep else _candidate(n, draw)
        yield "proposed", {"number": n, "candidate": {name: getattr(one, name) for name in CANDIDATE}}
        value = 1 - n / 1e7 if kept else 1.01 + 0.01 * draw.random()
        seeds = (1, 2, 3) if n == 0 else (10_000 + 2 * n, 10_001 + 2 * n)[: 1 + (n % REPEAT == 0)]
        for seed in seeds:
            yield from _trial(n, one.commit, seed, "search", value + draw.gauss(0, 1e-3))
        verdict = Verdict("keep", "improved", "", value) if kept else Verdict("discard", "regressed", "0.01 worse")
        yield "judged", {"number": n, "measurement": _measured(value), "verdict": asdict(verdict)}
        if kept:
            champion, commit, bar = n, one.commit, value
        if n and n % UPKEEP == 0:
            seed = 501 + (n - champion) // UPKEEP % 500
            yield from _trial(champion, commit, seed, "upkeep", bar + draw.gauss(0, 1e-3), n)
            facts = {"before": bar, "seeds": [seed], "values": [bar], "after": n, "would": "discard", "sigma": 1e-3}
            yield "upkeep", {"number": champion, "bar": bar, **facts}
            told = {"proposer": "patches", "source": f"{n}-refused.patch", "hypothesis": "x", "reason": "it conflicts"}
            yield "refused", {**told, "usage": {}}


def _candidate(n: int, draw: random.Random) -> Candidate:
    name = draw.choice(list(CONSTANTS))
    value = round(draw.uniform(0.001, 10), 4)
    who, source = ("patches", f"{n}.patch") if n % PATCH == 0 else ("tuner", "")
    words = f"{name} {CONSTANTS[name]:.4g} → {value:.4g}"
    commit = f"{draw.getrandbits(160):040x}"
    constants = {**CONSTANTS, name: value}
    return Candidate(commit, "0" * 40, commit[::-1], who, f"tune {words}", 12, constants, (words,), source)


def _trial(experiment: int, commit: str, seed: int, purpose: Any, value: float, attempt: int = 1) -> Story:
    trial = Trial(f"{experiment:04d}-{purpose}-s{seed}-{attempt}", experiment, commit, seed, purpose, BUDGET, attempt)
    yield "started", {**{name: getattr(trial, name) for name in TRIAL}, "budget": {"clock": "wall", "amount": 20}}
    yield "finished", {"id": trial.id, "measurement": _measured(value)}


def _measured(value: float) -> dict[str, Any]:
    return {**MEASURED, "metric": value}


def fill(ledger: Ledger, events: Story) -> None:
    """Write events and their effects as the product does, in one transaction instead of one for each."""
    ledger._db.execute("PRAGMA synchronous = OFF")
    ledger._db.execute("PRAGMA cache_size = -1000000")  # KiB
    at = 1e9
    with ledger.at_once():
        for kind, data in events:
            at += 1.0
            event = event_of(kind, data, 0, at)
            row = at, kind, json.dumps(event.to_dict())
            ledger._db.execute("INSERT INTO events (at, kind, data) VALUES (?, ?, ?)", row)
            tables.apply(ledger._db, event, at)


def same_as_the_products(folder: Path, base: Candidate, best: Candidate) -> None:
    """Exit unless a filled ledger holds what the ledger's own methods write, and what is made of its events anew."""
    filled, written = Ledger(folder / "filled.db"), Ledger(folder / "written.db")
    fill(filled, story(200, base, best))
    written._db.execute("PRAGMA synchronous = OFF")
    for kind, data in story(200, base, best):
        written.append(event_of(kind, data, 0, 0.0))
    before = _content(filled)
    tables.rebuild(filled._db)
    if not before == _content(filled) == _content(written):
        sys.exit("the filled ledger is not what the product writes")


def _content(ledger: Ledger) -> list[list[tuple[Any, ...]]]:
    """Everything in a ledger but the times."""
    columns = {
        "events": "seq, kind, data",
        "experiments": "number, tree, candidate, measurement, verdict, status, metric, bar, evidence",
        "trials": "*",
        "proposers": "*",
    }
    return [ledger._db.execute(f"SELECT {what} FROM {name} ORDER BY 1").fetchall() for name, what in columns.items()]


def make_session(folder: Path, experiments: int) -> Path:
    """A lab whose session has so many experiments."""
    folder.mkdir()
    for name, text in (("genome.py", GENOME), ("lab.toml", CONTRACT)):
        (folder / name).write_text(text)
    (folder / "ideas").mkdir()
    for n in range(PATCH, min(experiments, 100 * PATCH), PATCH):
        (folder / "ideas" / f"{n}.patch").write_text("diff")
    for command in (["init", "-q"], ["add", "lab.toml", "genome.py"], ["commit", "-q", "-m", "a lab"]):
        who = ["-c", "user.name=me", "-c", "user.email=me@here"]
        subprocess.run(["git", *who, *command], cwd=folder, check=True)
    session = Session.create(Repo(folder), "long", allow=PROTECTIONS)
    night = ExperimentLoop(session, StopRules(), Scheduler(session, Observer()))
    base = night.candidates.making.baseline()
    text = GENOME.replace("RATE_0 = 0.1 ", "RATE_0 = 0.2 ")
    commit = session.repo.commit_files(base.commit, {"genome.py": text}, "x")
    best = night.candidates.making.candidate(commit, base.commit, "tuner", "twice the rate")
    same_as_the_products(folder, base, best)
    fill(session.ledger, story(experiments, base, best))
    session.ledger._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    session.sync()
    session.close()
    return folder


class Instant:
    """Stands for a trial in flight, and for the box that ran it: it has measured something mediocre already."""

    def __init__(self, trial: Trial | None = None, real: LocalEngine | None = None) -> None:
        self.trial, self.real, self.slot, self.folder = trial, real, WHOLE, Path()

    @property
    def platform(self) -> Platform:
        assert self.real
        return self.real.platform

    @property
    def sandbox(self) -> Sandbox:
        assert self.real
        return self.real.sandbox

    def slots(self, count: int | None) -> list[Slot]:
        return [WHOLE]

    def slot_failure(self, slot: Slot) -> str:
        return ""

    def start(self, trial: Trial, slot: Slot) -> Instant:
        return Instant(trial)

    def adopt(self, trial: Trial) -> Instant:
        return Instant(trial)

    def stand_by(self, like: Trial, slot: Slot) -> None: ...

    def dismiss(self) -> None: ...

    def phase(self) -> tuple[str, float | None]:
        return "training", None

    def stop(self) -> None: ...

    def finished(self) -> bool:
        return True

    def collect(self, running: Instant) -> Measurement:
        return Measurement("measured", 1.02, training_seconds=20.0)


class Stopwatch(dict[str, list[float]]):
    def __call__(self, step: str, work: Callable[..., Any], *args: Any, **more: Any) -> Any:
        begun = _cpu_seconds()
        found = work(*args, **more)
        self.setdefault(step, []).append((_cpu_seconds() - begun) * 1e3)
        return found


def _cpu_seconds() -> float:
    """Of this process and of the gits that it waited for: what a busy machine does not change."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def one_experiment(night: ExperimentLoop, watch: Stopwatch) -> None:
    """One experiment, step by step as the loop takes them, with the polls and lookups between."""
    scheduler, candidates, session = night.scheduler, night.candidates, night.session
    if request := night.next_request():  # what the start was about
        night.start(request)
        night.update()
    watch("a poll: stop rules", lambda: (night._final_reason(), night.stopping.stalled()))
    step = watch("re-check: is it due", night.recheck.next_step, night.stopping.done(), stopping=False)
    while step:
        if isinstance(step, CompletedRecheck):
            watch("re-check: record", night.recheck.record, step)
        else:
            night.start(step)
            list(scheduler.finished())
        step = watch("re-check: what next", night.recheck.next_step, night.stopping.done(), stopping=False)
    briefing: Briefing = watch("brief the proposer", candidates.brief)
    proposal = watch("propose: tuner", Tuner(len(watch["propose: tuner"]) if "propose: tuner" in watch else 0).propose,
                     briefing)  # fmt: skip
    queue = PatchQueue(session.repo.lab / "ideas", session.ledger.sources())
    watch("look through the patch queue", queue.propose, briefing)
    candidate = watch("make the commit", candidates.making.realise, proposal, briefing.champion.candidate.commit)
    number = watch("admit", candidates.making.admit, candidate, twins=True)
    request = watch("look what to run", night.next_request)
    assert request and request.number == number
    watch("write down a start", night.start, request)
    watch("write down an end", lambda: list(scheduler.finished()))
    watch("judge, record, add to results.tsv", night.judge_all)
    scheduler._replicates = None
    watch("learn the noise anew", lambda: scheduler.replicates.noise())


def start(folder: Path) -> ExperimentLoop:
    """From ``nightlab run`` to where the first trial would start."""
    session, _ = start_session(folder, "long", None, PROTECTIONS)
    scheduler = Scheduler(session, Observer(), 1, Instant(real=session.local_engine))
    night = ExperimentLoop(session, StopRules(hours=1e6, experiments=10**9, stall=10**9), scheduler)
    session.ledger._db.execute("PRAGMA synchronous = OFF")  # the disk's pace is not nightlab's
    with night.scheduler.on_duty():
        night.resume()
        while night.next_request() is None:
            time.sleep(0.001)  # a proposer thinks
    return night


def memory(folder: Path) -> float:
    """MB that the orchestrator of a session takes at most, in a process of its own."""
    code = f"import sys, orchestrator; orchestrator.few({str(folder)!r})"
    place = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def few(folder: str) -> None:
    night = start(Path(folder))
    for _ in range(5):
        one_experiment(night, Stopwatch())
    kept = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(int(kept["VmHWM"].split()[0]) / 1024)  # getrusage would tell of the process that forked this one too


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--sizes", type=int, nargs="+", default=[100, 10_000, 1_000_000])
    ask.add_argument("--runs", type=int, default=31)
    ask.add_argument("--folder", type=Path, help="Keep the sessions here, and use those that are here.")
    wanted = ask.parse_args()
    with tempfile.TemporaryDirectory() as place:
        home = wanted.folder or Path(place)
        home.mkdir(exist_ok=True)
        labs = {size: home / str(size) for size in wanted.sizes}
        for size, folder in labs.items():
            if not folder.exists():
                make_session(folder, size)
        watches = {size: Stopwatch() for size in labs}
        for turn in range(wanted.runs + 1):
            for size, folder in labs.items():
                watch = Stopwatch() if turn == 0 else watches[size]  # the first finds everything cold
                night = watch(BEGINNING, start, folder)
                with closing(night.session):
                    one_experiment(night, watch)
        sizes = {size: (state_folder(lab) / "long" / LEDGER).stat().st_size / 2**20 for size, lab in labs.items()}
        rows = {step: [statistics.median(watch[step]) for watch in watches.values()] for step in watches[min(labs)]}
        steps = [times for step, times in rows.items() if step != BEGINNING]
        rows["all but the first of these"] = [sum(times) for times in zip(*steps, strict=True)]
        rows["memory of the process, MB"] = [memory(folder) for folder in labs.values()]
    heading(f"the orchestrator, CPU ms per step: median of {wanted.runs}, interleaved")
    print("ledgers of " + ", ".join(f"{size:,} experiments ({mb:,.0f} MB)" for size, mb in sizes.items()) + "\n")
    columns = ("step", *(f"{size:,}" for size in labs), f"{max(labs):,} against {sorted(labs)[-2]:,}")
    ordered = sorted(range(len(labs)), key=lambda i: list(labs)[i])
    table(columns, [(step, *(f"{t:.2f}" for t in times), f"{times[ordered[-1]] / times[ordered[-2]]:.2f}")
                    for step, times in rows.items()])  # fmt: skip


if __name__ == "__main__":
    main()
