"""Labs with each kind of number, small, as real sessions: no loss is kept, and the log says what kind it is."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import Any

import pytest

from nightlab.core.events import ScaleFound
from nightlab.core.types import Budget, Experiment, Measurement, Trial
from nightlab.judge import Noise
from nightlab.loop.metric_kind import MetricKind

CONTRACT = """\
name = "kinds"
genome = ["genome.py"]
{command}

[metric]
name = "{metric}"
goal = "{goal}"

{more}
[budget]
amount = 20

[judge]
upkeep = {upkeep}
confirm = 0

[sandbox]
allow_missing = ["files", "network", "processes", "privileges"]

[[proposers]]
kind = "patches"
"""


TRIAL = Trial("", 1, "", 1, "search", Budget("work", 1.0))


def contract(metric: str, goal: str = "minimise", more: str = "", *, upkeep: int = 0, command: str = "") -> str:
    command = command or "python measure.py"
    return CONTRACT.format(metric=metric, goal=goal, more=more, upkeep=upkeep, command=f'command = "{command}"')


def tried(lab: Any, values: list[Any]) -> tuple[list[Experiment], ScaleFound | None]:
    """The verdicts on genomes that set ``A`` to each of these, in turn, after the baseline's."""
    for number, value in enumerate(values):
        lab.idea(f"{number:02}", f"A = {value}\n", f"A is {value}")
    _, session = lab.run()
    found = session.ledger.experiments(), session.ledger.latest(ScaleFound)
    session.close()
    return found


# Noise of 10 % of the value.
SHARE = """\
import math, os, random
from genome import A
print("METRIC milliseconds=%.6f" % (A * math.exp(0.1 * random.Random(int(os.environ["NIGHTLAB_SEED"])).gauss(0, 1))))
"""


@pytest.mark.parametrize("upkeep", [0, pytest.param(25, marks=pytest.mark.machine)])
def test_with_noise_in_proportion_no_slower_program_is_kept_after_a_leap(make_lab: Any, upkeep: int) -> None:
    lab = make_lab("A = 100.0\n", SHARE, contract=contract("milliseconds", upkeep=upkeep))
    experiments, scale = tried(lab, [1.0, 2.0, 3.0, 6.0])
    assert [experiment.kept for experiment in experiments] == [True, True, False, False, False]
    assert scale is not None and scale.scale == "ratio"


# A return of a strategy, on a market for each seed that all strategies meet: it may be zero or negative.
MARKET = """\
import os, random
from genome import A
market = int(os.environ["NIGHTLAB_SEED"])
print("METRIC sharpe=%.5f" % (A + 0.2 * random.Random(market).gauss(0, 1) + 0.15 * random.Random(f"{market}/{A}").gauss(0, 1)))
"""  # noqa: E501


def test_returns_around_zero_are_compared_by_differences(make_lab: Any) -> None:
    lab = make_lab("A = -0.4\n", MARKET, contract=contract("sharpe", "maximise"))
    experiments, scale = tried(lab, [-2.0, 1.5, 0.2, -1.5])
    assert [experiment.kept for experiment in experiments] == [True, False, True, False, False]
    assert scale is None or scale.scale == "difference"


def test_a_score_that_was_taken_for_a_ratio_is_none_once_it_is_negative(make_lab: Any, nightlab: Any) -> None:
    lab = make_lab(
        "A = 0.1\n", "from genome import A\nprint(f'METRIC sharpe={A}')\n", contract=contract("sharpe", "maximise")
    )
    lab.idea("00", "A = 0.05\n")
    nightlab("run", "-n", "1", "--tag", "t", cwd=lab)
    session = lab.session()
    session.ledger.append(ScaleFound("ratio", "the runs of one program differ by a large share of their mean"))
    session.close()
    for number, value in enumerate((0.0, -1.0, -0.5)):
        lab.idea(f"1{number}", f"A = {value}\n")
    done = nightlab("run", "-n", "4", "--tag", "t", cwd=lab)
    assert "sharpe is compared by differences: a trial measured -1, which has no ratio" in done.out
    session = lab.session()
    last, scale = session.ledger.experiments()[-1], session.ledger.latest(ScaleFound)
    session.close()
    assert scale.final and scale.scale == "difference" and "no ratio" not in last.verdict.detail


SOLVE = "from genome import A\nopen('field.txt', 'w').write(repr(A))\n"
ERROR = """\
import math, os
n = float(open(os.path.join(os.environ["NIGHTLAB_ARTEFACTS"], "field.txt")).read())
print("METRIC log10_error=%.5f" % -math.log10(n))
"""


def test_the_error_of_a_solver_is_exact_and_no_better_one_runs_twice(make_lab: Any, nightlab: Any) -> None:
    evaluator = '[evaluator]\ncommand = "python score.py"\n'
    text = contract("log10_error", more=evaluator).replace("confirm = 0", "confirm = 0.1")
    lab = make_lab("A = 48\n", SOLVE, contract=text, files={"score.py": ERROR})
    for number, value in enumerate((96, 24, 97)):
        lab.idea(f"{number:02}", f"A = {value}\n")
    done = nightlab("run", "-n", "3", "--tag", "t", cwd=lab)
    assert "log10_error is the same on every seed: the lab is deterministic" in done.out
    assert "exact: the same number on every seed" in done.out
    session = lab.session()
    finer, coarser, close = session.ledger.experiments()[1:]
    assert finer.kept and not coarser.kept and close.kept
    assert close.evidence[-1].exact and len(session.ledger.trials(close.number, "search")) == 1
    assert [len(session.ledger.trials(number, "confirm")) for number in (0, close.number)] == [1, 1]
    session.close()


# Visitors of two pages: so many of 400 do what is wanted. With A = 0.9 a candidate prints counts that can't be, with
# A = 0.2 a rate without counts.
COUNTS = """\
import os, random
from genome import A
draw = random.Random(int(os.environ["NIGHTLAB_SEED"]))
count = sum(draw.random() < A for _ in range(400))
print(f"METRIC rate={count / 400 if A == 0.2 else f'{count}/{400 if A < 0.9 else 10}'}")
"""


def test_counts_are_tested_in_sequence_and_what_they_say_is_shown(make_lab: Any, nightlab: Any) -> None:
    text = contract("rate", "maximise").replace("confirm = 0", "confirm = 0.5")
    lab = make_lab("A = 0.3\n", COUNTS, contract=text)
    for number, value in enumerate((0.6, 0.9, 0.2)):
        lab.idea(f"{number:02}", f"A = {value}\n")
    done = nightlab("run", "-n", "3", "--tag", "t", cwd=lab)
    assert "rate comes with its own precision, " in done.out and "a sequential test of the counts" in done.out
    assert "more successes than trials" in done.out
    assert "the metric is of another kind: rate of #3 comes without its own precision" in " ".join(done.out.split())
    session = lab.session()
    baseline, better, *_ = session.ledger.experiments()
    assert baseline.measurement.out_of == 800, "two trials of 400"
    trials = better.measurement.runs  # luck may ask for a second
    assert better.measurement.out_of == 400 * trials
    assert better.evidence[-1].sequential and len(better.evidence[-1].seeds) == 2, "a gain like that shows at once"
    session.close()
    assert f"({better.measurement.successes} of {400 * trials})" in nightlab("log", cwd=lab).out
    assert "Own precision" in nightlab("report", "--show", cwd=lab).out


# -- a real program that is timed: a matrix product in C -------------------------------------------------

KERNEL = """\
void matmul(int n, const double *a, const double *b, double *c) {
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            double s = 0;
            for (int k = 0; k < n; k++) s += a[i * n + k] * b[k * n + j];
            c[i * n + j] = s;
        }
}
"""
MAIN = """\
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
void matmul(int, const double *, const double *, double *);
int main(void) {
    int n = 300; double *a = malloc(8 * n * n), *b = malloc(8 * n * n), *c = malloc(8 * n * n), best = 1e9;
    for (int i = 0; i < n * n; i++) a[i] = (i * 7 % 13) / 13.0, b[i] = (i * 5 % 11) / 11.0;
    for (int r = 0; r < 7; r++) {
        struct timespec s, e;
        clock_gettime(CLOCK_MONOTONIC, &s); matmul(n, a, b, c); clock_gettime(CLOCK_MONOTONIC, &e);
        double t = (e.tv_sec - s.tv_sec) * 1e3 + (e.tv_nsec - s.tv_nsec) / 1e6; if (t < best) best = t;
    }
    printf("METRIC milliseconds=%.4f\\n", best); return 0;
}
"""
ONE_ROW = KERNEL.replace("int i = 0; i < n", "int i = 3; i < 4")  # 300 times faster: it computes only what is checked
WASTE = "static void waste{0}(void) {{ for (volatile int i = 0; i < 1500000; i++); }}\n"


def wasteful(times: int) -> str:
    """The fast kernel, but it wastes about 3 ms each of so many times."""
    calls = "".join(f"    waste{n}();\n" for n in range(times))
    return "".join(WASTE.format(n) for n in range(times)) + ONE_ROW.replace("double *c) {\n", f"double *c) {{\n{calls}")


@pytest.mark.machine
@pytest.mark.skipif(not shutil.which("gcc"), reason="needs a C compiler")
def test_of_a_kernel_in_c_no_slower_one_is_kept_and_no_comment(make_lab: Any) -> None:
    text = contract("milliseconds", upkeep=25, command="bash bench.sh").replace("genome.py", "kernel.c")
    bench = 'set -e\ngcc -O2 -o "$TMPDIR/a.out" main.c kernel.c\n"$TMPDIR/a.out"\n'
    lab = make_lab(contract=text, files={"kernel.c": KERNEL, "main.c": MAIN, "bench.sh": bench})
    kernels = [ONE_ROW, f"/* nothing */\n{ONE_ROW}", wasteful(2), wasteful(1), f"{ONE_ROW}/* nothing else */\n", KERNEL]
    for number, kernel in enumerate(kernels):
        lab.idea(f"{number:02}", kernel, f"kernel {number}", path="kernel.c")
    _, session = lab.run()
    found = {experiment.candidate.hypothesis: experiment.kept for experiment in session.ledger.experiments()}
    session.close()
    assert found == {"baseline": True, "kernel 0": True, "kernel 2": False, "kernel 3": False}, "comments are no other"


class Night:
    """What ``MetricKind`` has of a scheduler, with a noise that changes."""

    def __init__(self, same_seeds: bool) -> None:
        self.noise, self.said = Noise(1.0, 3.0), list[str]()
        self.ledger = SimpleNamespace(trials=lambda *_: [])
        self.replicates = SimpleNamespace(noise=lambda: self.noise)
        self.view = SimpleNamespace(say=self.said.append)
        scale = SimpleNamespace(metric=SimpleNamespace(scale="difference"))
        rule = SimpleNamespace(rule=SimpleNamespace(same_seeds=same_seeds))
        self.session: Any = SimpleNamespace(lab=scale, judge=rule, metric=SimpleNamespace(name="loss"))


@pytest.mark.parametrize("same_seeds", [False, True])
def test_common_luck_is_said_where_it_begins_to_show_and_where_it_ceases(same_seeds: bool) -> None:
    night = Night(same_seeds)
    kind = MetricKind(night)
    for rho in (0.0, 0.84, 0.8, 0.0, 0.0, 0.5, 0.0):
        night.noise = Noise(1.0, 3.0, rho=rho)
        kind.learn(TRIAL, Measurement("measured", 1.0))
    said = [("about 84%" in each, "rho 0)" in each) for each in night.said]
    assert said == ([] if same_seeds else [(True, False), (False, True)]), "each once in a run"
