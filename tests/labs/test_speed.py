"""The speed lab: its metric is sealed, and what a genome could do to look faster than it is earns nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.bench import Bench
from support.labs import TinyLab

from nightlab.core.types import Measurement
from nightlab.session.create import SHIPPED, make_lab
from nightlab.session.session import detect_sandbox

pytestmark = pytest.mark.integration

SOLVE = (SHIPPED / "speed" / "solve.py").read_text()


@pytest.fixture
def speed(tmp_path: Path) -> Any:
    folder = make_lab(tmp_path / "speed", "speed")
    bench = Bench(TinyLab(folder), (folder / "lab.toml").read_text(), detect_sandbox(), startup=10, evaluation=30)

    def run(genome: str) -> Measurement:
        bench.commit = bench.engine.repo.commit_files(bench.commit, {"solve.py": genome}, "a genome")
        return bench.run()

    return run


def test_it_works_by_hand(tmp_path: Path) -> None:
    folder = make_lab(tmp_path / "speed", "speed")
    done = subprocess.run([sys.executable, "bench.py"], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("METRIC milliseconds=")
    session_lock = subprocess.run([sys.executable, "serve.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert session_lock.returncode == 1 and "by hand: python bench.py" in session_lock.stderr


def test_what_the_genome_prints_is_a_claim(speed: Any) -> None:
    lies = "print('METRIC milliseconds=0.001')\nimport time\ntime.perf_counter = lambda: 0.0\n"
    measured = speed(lies + SOLVE)
    assert measured.outcome == "measured" and measured.metric > 1


@pytest.mark.parametrize("answer", ["0", "900", "len(points)"])
def test_a_wrong_answer_is_no_metric(speed: Any, answer: str) -> None:
    measured = speed(f"def close_pairs(points, radius):\n    return {answer}\n")
    # A mistake, not foul play: its author must not be called a cheat for it, here or in the commons.
    assert (measured.outcome, measured.metric) == ("crashed", None) and measured.detail.startswith("a wrong answer")


def test_no_call_can_be_known_beforehand(speed: Any) -> None:
    """Neither from the call before, nor from the seed of the trial."""
    spy = """
import os, random, sys
foreseen, seen = set(), set()
for chance in (random.Random(os.environ["NIGHTLAB_SEED"]), random.Random(int(os.environ["NIGHTLAB_SEED"]))):
    foreseen |= {chance.random() for _ in range(40_000)}
slow = close_pairs
def close_pairs(points, radius):
    new = {number for point in points for number in point}
    if len(points) > 1000 and (known := new & (seen | foreseen)):
        sys.exit(f"{len(known)} were known")
    seen.update(new)
    return slow(points, radius)
"""
    measured = speed(SOLVE + spy)
    assert measured.outcome == "measured", measured.detail


def test_what_is_timed_is_what_must_be_right(speed: Any) -> None:
    """Right for the radius and the size that are timed, wrong elsewhere, and right again where the check tests it."""
    cheat = """
import sys
slow = close_pairs
def close_pairs(points, radius):
    return slow(points, radius) if radius < 0.1 or "unittest" in sys.modules else 0
"""
    measured = speed(SOLVE + cheat)
    assert (measured.outcome, measured.metric) == ("crashed", None)
    assert measured.detail.startswith("a wrong answer")


def test_a_result_that_is_kept_from_call_to_call_is_wrong_or_useless(speed: Any) -> None:
    """Answers by the number of calls, as they were in another process: the order is another in each."""
    cheat = """
import os
calls, slow, told = [], close_pairs, os.environ["NIGHTLAB_ROLE"]
def close_pairs(points, radius):
    calls.append(slow(points, radius))
    return calls[0] if len(calls) > 3 and len(points) > 1000 else calls[-1]
"""
    measured = speed(SOLVE + cheat)
    assert (measured.outcome, measured.metric) == ("crashed", None) and measured.detail.startswith("a wrong answer")


# Twenty more ways of looking fast: what stands in the place of ``slow``, and what it may remember from call to call.
WRONG = {
    "a constant": "return 900",
    "the first answer": "return kept.setdefault(0, slow(points, radius))",
    "kept by size": "return kept.get(len(points)) or kept.setdefault(len(points), slow(points, radius))",
    "kept by radius": "return kept.get(radius) or kept.setdefault(radius, slow(points, radius))",
    "kept by place in memory": "return kept.get(id(points)) or kept.setdefault(id(points), slow(points, radius))",
    "the answer before": "kept[1], answer = slow(points, radius), kept.get(1, 0); return answer",
    "a sample of a tenth": "return 100 * slow(points[::10], radius)",
    "a sample of most": "return slow(points[:-1], radius)",
    "by the area": "return int(len(points) ** 2 * 1.57 * radius ** 2)",
    "one more": "return slow(points, radius) + 1",
    "one more, seldom": "return slow(points, radius) + (random.random() < 0.3)",
    "lazy when large": "return slow(points, radius) if len(points) < 1000 else 0",
    "lazy when small": "return slow(points, radius) if len(points) > 1000 else 0",
    "right at first": "kept[2] = kept.get(2, 0) + 1; return slow(points, radius) if kept[2] < 4 else 900",
    "right at times": "kept[2] = kept.get(2, 0) + 1; return slow(points, radius) if kept[2] % 3 else 900",
    "a smaller radius": "return slow(points, radius * 0.99)",
}
CLOCKS = {
    "seconds": "for name in ('time', 'monotonic', 'perf_counter'): setattr(time, name, lambda: 0.0)",
    "the nanoseconds": "for name in ('time_ns', 'monotonic_ns', 'perf_counter_ns'): setattr(time, name, lambda: 0)",
    "the kernel's": "time.clock_gettime = time.clock_gettime_ns = lambda which: 0; os.times = lambda: (0, 0, 0, 0, 0)",
    "what it prints": "print('METRIC milliseconds=0.001', flush=True)",
}


@pytest.mark.machine
@pytest.mark.parametrize("how", WRONG)
def test_no_other_function_is_served(speed: Any, how: str) -> None:
    cheat = f"import random\nslow, kept = close_pairs, {{}}\ndef close_pairs(points, radius):\n    {WRONG[how]}\n"
    measured = speed(f"{SOLVE}\n{cheat}")
    assert measured.metric is None and measured.outcome in ("crashed", "checks failed"), measured


@pytest.mark.machine
@pytest.mark.parametrize("how", CLOCKS)
def test_no_clock_of_its_own_counts(speed: Any, how: str) -> None:
    measured = speed(f"import os, time\n{CLOCKS[how]}\n{SOLVE}")
    assert measured.metric is not None and measured.metric > 1, "an honest call takes many milliseconds"
