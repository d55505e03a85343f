"""What it costs to watch a session, in ledgers of several lengths: python benchmarks/window.py

The terminal's part: the first look and frame, a look and a frame while nothing and while something new was written, and
memory, in a process of its own for each ledger. Ledgers are made as in orchestrator.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orchestrator
import psutil
from machine import heading, table

from nightlab.core.types import Budget, Measurement, Trial, Verdict
from nightlab.storage.ledger import LEDGER, Ledger, state_folder

SIZES = [100, 1_000, 10_000, 100_000]
TURNS = 40
PER_SECOND = 2  # looks and frames, at most
NOTHING, MORE = "nothing new", "an experiment more"


def ledgers(home: Path, sizes: list[int]) -> dict[int, Path]:
    """Sessions of so many experiments below ``home``, made where they are not there: the folder of each one's state."""
    home.mkdir(parents=True, exist_ok=True)
    for size in sizes:
        if not (home / str(size)).exists():
            orchestrator.make_session(home / str(size), size)
    return {size: state_folder(home / str(size)) / "long" for size in sizes}


def one_more(ledger: Ledger, *, repeat: bool = False) -> None:
    """Another experiment, from its proposal to its verdict; a ``repeat`` tells of the noise."""
    last = ledger.experiments(1)[0]
    commit = f"{last.number + 1:040x}"
    number = ledger.propose(replace(last.candidate, commit=commit))
    measured = Measurement("measured", 1.02, training_seconds=20.0)
    for seed in (1, 2)[: 1 + repeat]:
        trial = Trial(f"{number:04d}-search-s{seed}-1", number, commit, seed, "search", Budget("wall", 20))
        ledger.start(trial)
        ledger.finish(trial, measured)
    ledger.judge(number, measured, Verdict("discard", "regressed"))


def terminal(folder: str) -> None:
    """Measure the terminal's window on one ledger, and print what was found as JSON."""
    from rich.console import Console

    from nightlab.ui.monitor import Follower
    from nightlab.ui.terminal.outlet import Outlet
    from nightlab.ui.terminal.screen import Screen
    from nightlab.ui.terminal.terminal import Terminal

    def cpu(work: Callable[[], object]) -> float:
        begun = time.process_time()
        work()
        return (time.process_time() - begun) * 1e3

    found: dict[str, float] = {}
    with open("/dev/null", "w") as nowhere:  # noqa: PTH123
        before = _memory()
        follower = Follower(Path(folder))
        seat = Terminal(Outlet(nowhere.fileno()), None, Console(force_terminal=True, color_system="256"))
        seat.enter()
        screen, writer = Screen(seat, may_leave=True), Ledger(Path(folder) / LEDGER)
        for size in ((80, 24), (200, 60)):
            seat.size = lambda size=size: size  # type: ignore[method-assign]

            def frame() -> None:
                seat.paint(screen.lines(follower.look(), *seat.size()))
                seat.outlet.drain()

            first = cpu(frame)
            found.setdefault("first look and frame", first)
            name = f"{size[0]} x {size[1]}"
            found[f"{name}, {NOTHING}"] = statistics.median(cpu(frame) for _ in range(TURNS))
            for what, repeat in ((MORE, False), ("one that tells of the noise", True)):
                times = []
                for _ in range(TURNS):
                    one_more(writer, repeat=repeat)
                    times.append(cpu(frame))
                found[f"{name}, {what}"] = statistics.median(times)
        found["memory, MB"], found["of which before the first look"] = _memory(), before
    print(json.dumps(found))


def _memory() -> float:
    return psutil.Process().memory_info().rss / 2**20


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    ask.add_argument("--folder", type=Path, help="Keep the ledgers here, and use those that are here.")
    wanted = ask.parse_args()
    with tempfile.TemporaryDirectory() as place:
        rows: dict[int, dict[str, float]] = {}
        for size, folder in ledgers(wanted.folder or Path(place), wanted.sizes).items():
            code = f"import window; window.terminal({str(folder)!r})"
            here = Path(__file__).parent
            done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=True)
            rows[size] = json.loads(done.stdout)
    heading("the terminal's window, CPU ms")
    names = list(rows[wanted.sizes[0]])
    table(("", *(f"{size:,}" for size in rows)), [(n, *(f"{row[n]:.2f}" for row in rows.values())) for n in names])
    print(f"\nat {PER_SECOND} looks a second, of a core at most:")
    for what in (NOTHING, MORE):
        most = max(row[name] for row in rows.values() for name in names if name.endswith(what))
        print(f"{most * PER_SECOND / 10:.2f} % with {what} at each of them")


if __name__ == "__main__":
    main()
