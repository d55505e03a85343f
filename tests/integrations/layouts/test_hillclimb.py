"""hillclimb's problems: a verifier, and a run and a scorer that are kept apart."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from nightlab_bridge.hillclimb import _call
from support.bench import Bench
from support.labs import TinyLab
from support.layouts import opened, problem

from nightlab.core.config import detect
from nightlab.core.types import NightlabError
from nightlab.engines.local.layout import detect_sandbox
from nightlab.session.create import written

SPEC = """\
problem_id: sums
metric: percent of bound
higher_is_better: true
run: run.py
score: verify.py
private: [hidden]
time_limit_s: 20
holdout: true
unit_tests: {root: tests, command: ["{python}", "-m", "pytest", "{tests}"]}
chart_baselines: {best: 3}
colour: red
"""
RUN = """\
import json, os, sys
from pathlib import Path
sys.path.insert(0, str(Path(os.environ["HILLCLIMB_SOLUTION"]).parent))
import solution
Path("answers.json").write_text(json.dumps([solution.solve(n) for n in json.loads(Path("data/in.json").read_text())]))
"""
VERIFY = """\
import json, os, sys
from pathlib import Path
answers = json.loads(Path("answers.json").read_text())
held = "--holdout" in sys.argv
scores = {f"case {n}": a + (10 if held else 0) for n, a in enumerate(answers)}
Path(os.environ["HILLCLIMB_RESULT"]).write_text(json.dumps(
    {"score": sum(scores.values()), "instances": scores, "cases": len(answers), "report": {"worst": "case 0"}}))
"""
FOLDER = {
    "problem.yaml": SPEC,
    "description.md": "Sum up.",
    "baseline.py": "def solve(n): return 2 * n\n",
    "run.py": RUN,
    "verify.py": VERIFY,
    "data/in.json": "[1, 2]",
    "hidden/x": "",
}


def test_a_run_and_a_scorer_are_kept_apart() -> None:
    lab, reading = opened(FOLDER)
    assert lab.name == "sums" and lab.metric.name == "percent_of_bound" and lab.genome == ("baseline.py",)
    assert lab.evaluator and not lab.evaluator.served and lab.evaluator.held_out and "sealed" in reading.source
    assert lab.checks[0].command == "python -m pytest tests" and lab.budget.amount == 20
    told = " ".join(reading.notes)
    assert "separate sandbox; not secret: the program can read hidden, which is private" in reading.source
    assert "hidden is no secret" in told and "colour is not understood" in told and "chart" not in told
    lab, reading = opened({**FOLDER, "problem.yaml": SPEC + "holdout_inputs: [hidden]\n"})
    assert lab.evaluator and not lab.evaluator.held_out and any("holdout is not read" in n for n in reading.notes)


VERIFIER = """\
#!/usr/bin/env bash
set -euo pipefail
"$HILLCLIMB_PYTHON" "$HILLCLIMB_SOLUTION"  # writes answers.json
rm -f "$HILLCLIMB_RESULT"
"$HILLCLIMB_PYTHON" problem/verify.py
"""
ONE_STEP = {
    "problem.yaml": "metric: r\nhigher_is_better: true\n",
    "verifier.sh": VERIFIER,
    "verify.py": VERIFY,
    "solution.py": "import json\njson.dump([1, 2], open('answers.json', 'w'))\n",
}


def test_a_verifier_of_two_steps_is_sealed(make_lab: Callable[..., TinyLab]) -> None:
    lab, reading = opened(ONE_STEP)
    assert lab.evaluator and "sealed" in reading.source
    bench = Bench(make_lab(files=ONE_STEP), written(lab, reading), detect_sandbox())
    assert bench.run().metric == 3.0
    lab, reading = opened(ONE_STEP, sealed=False)
    assert lab.evaluator is None and "verifier.sh runs the program" in reading.source


def test_an_absolute_path_of_a_step_is_itself(tmp_path: Path) -> None:
    (tmp_path / "score.py").touch()
    assert _call(f"{sys.executable} score.py", tmp_path) == [sys.executable, "problem/score.py"]


RUNS_WHAT_IS_LEFT = (
    "exec(Path('answer.py').read_text(), {})",
    "run = exec",
    "__builtins__['ex' + 'ec']('')",
    "import runpy",
    "from importlib import util",
    "import subprocess as s",
    "os.system('sh answer.sh')",
    "os.execv('answer', [])",
    "sys.path.insert(0, '.')",
    "from pickle import load as read",
    "import pandas as pd; pd.read_pickle('answers')",
    "import pandas as pd; pd.eval(Path('answers').read_text())",
    "import sympy; sympy.sympify(Path('answers').read_text())",
    "import yaml; yaml.load(open('answers'), Loader=yaml.UnsafeLoader)",
)


@pytest.mark.parametrize(
    "changed",
    [
        {"verifier.sh": VERIFIER + "echo done\n"},
        {"verify.py": "import solution\n" + VERIFY},
        {"verify.py": "import checks\n" + VERIFY, "checks.py": "import os\nPATH = os.environ['HILLCLIMB_SOLUTION']\n"},
        {"verify.py": "import pickle\npickle.load(open('answers.pickle', 'rb'))\n" + VERIFY},
        *({"verify.py": f"{line}\n{VERIFY}"} for line in RUNS_WHAT_IS_LEFT),
        {"verify.py": "from parts import checks\n" + VERIFY, "parts/checks.py": "exec(open('answers.py').read())\n"},
        {"verify.py": "print 1\n"},
    ],
)
def test_a_scorer_that_needs_the_program_shares_its_sandbox(changed: dict[str, str]) -> None:
    lab, reading = opened({**ONE_STEP, **changed})
    assert lab.evaluator is None and "the number is a claim: verifier.sh" in reading.source
    spec = ONE_STEP["problem.yaml"] + "score: verify.py\n"
    if "verify.py" in changed:
        lab, reading = opened({**ONE_STEP, **changed, "problem.yaml": spec})
        assert lab.evaluator is None and "share a sandbox (" in reading.source


def test_a_scorer_that_only_reads_is_sealed_however_it_is_named() -> None:
    reads = "import re\nsys.path.insert(0, os.path.dirname(__file__))\nre.compile('a')\n"
    for score in ("verify.py", '["{python}", "verify.py"]', '[python, verify.py, "--strict"]'):
        files = {**ONE_STEP, "verify.py": VERIFY + reads, "problem.yaml": f"{ONE_STEP['problem.yaml']}score: {score}\n"}
        assert opened(files)[0].evaluator, score
    for score in ('["{python}", -m, verify.py]', '["{python}", verify.py, "{solution}"]', "[bash, verify.py]"):
        lab, reading = opened({**ONE_STEP, "problem.yaml": f"{ONE_STEP['problem.yaml']}score: {score}\n"})
        assert lab.evaluator is None and "share a sandbox" in reading.source, score


def test_a_listed_scorer_is_the_problems_own(make_lab: Callable[..., TinyLab]) -> None:
    forges = "import os\nopen(os.environ['HILLCLIMB_RESULT'], 'w').write('999')\n"
    spec = ONE_STEP["problem.yaml"] + 'score: ["{python}", verify.py]\n'
    solution = ONE_STEP["solution.py"] + f"open('verify.py', 'w').write({forges!r})\n"
    files = {**ONE_STEP, "problem.yaml": spec, "solution.py": solution}
    got = Bench(make_lab(files=files), written(*opened(files)), detect_sandbox()).run()
    assert got.metric == 3.0, got.detail


def test_a_scorer_does_not_find_the_program(make_lab: Callable[..., TinyLab]) -> None:
    looks = "print(open('solu' + 'tion.py').read())\n" + VERIFY
    files = {**ONE_STEP, "verify.py": looks, "solution.py": ONE_STEP["solution.py"] + "print('here')\n"}
    got = Bench(make_lab(files=files), written(*opened(files)), detect_sandbox()).run()
    assert got.metric is None and "verify.py exited with status 1" in got.detail


def test_a_verifier_makes_a_claim() -> None:
    lab, reading = opened(
        {
            "problem.yaml": "metric: r\nhigher_is_better: false\n",
            "verifier.sh": "",
            "solution.py": "",
            "baseline.py": "",
        }
    )
    assert lab.evaluator is None and lab.genome == ("solution.py",) and lab.metric.goal == "minimise"
    assert "the number is a claim: verifier.sh" in reading.source


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"problem.yaml": SPEC, "verify.py": ""}, "without a first solution"),
        ({"problem.yaml": SPEC, "solution.py": ""}, "whose scorer is not there: verify.py"),
        ({"problem.yaml": "higher_is_better: true\nmetric: [1\nb"}, "can't be read: line"),
    ],
)
def test_a_problem_that_cant_be_opened_says_why(files: dict[str, str], said: str) -> None:
    with pytest.raises(NightlabError, match=said) as error:
        detect(problem(files))
    assert error.value.hint


def test_a_scorer_reads_what_the_solution_left(make_lab: Callable[..., TinyLab]) -> None:
    bench = Bench(make_lab(files=FOLDER), written(*opened(FOLDER)), detect_sandbox())
    got = bench.run(purpose="confirm")
    assert (got.metric, got.held_out) == (6.0, 26.0), got.detail
    assert got.secondary == {"cases": 2.0, "instance/case_0": 2.0, "instance/case_1": 4.0}
    assert got.said == 'report: {"worst": "case 0"}'


def test_a_solution_that_writes_a_result_itself_is_not_believed(make_lab: Callable[..., TinyLab]) -> None:
    forged = "open('eval_result.json', 'w').write('99')\ndef solve(n): return n\n"
    files = {**FOLDER, "baseline.py": forged, "verify.py": ""}
    got = Bench(make_lab(files=files), written(*opened(files)), detect_sandbox()).run(purpose="confirm")
    assert got.metric is None and "verify.py wrote no score" in got.detail


def test_a_verifier_runs_the_solution(make_lab: Callable[..., TinyLab]) -> None:
    files = {
        "problem.yaml": "metric: r\nhigher_is_better: true\n",
        "verifier.sh": 'set -e\n"$HILLCLIMB_PYTHON" "$HILLCLIMB_SOLUTION" > out\ncp out "$HILLCLIMB_RESULT"\n',
        "solution.py": "print(4.5)\n",
    }
    got = Bench(make_lab(files=files), written(*opened(files)), detect_sandbox()).run()
    assert got.metric == 4.5, got.detail


def test_the_floor_of_a_problem_is_its_first_solution(make_lab: Callable[..., TinyLab]) -> None:
    files = {
        "problem.yaml": "metric: r\nhigher_is_better: true\nbaseline_files: {submission.csv: sample.csv}\n",
        "verifier.sh": '"$HILLCLIMB_PYTHON" "$HILLCLIMB_SOLUTION" && cp submission.csv "$HILLCLIMB_RESULT"\n',
        "sample.csv": "2.5\n",
    }
    lab, reading = opened(files)
    assert lab.genome == ("solution.py",) and "shutil.copyfile('problem/sample.csv'" in reading.extra["solution.py"]
    bench = Bench(make_lab(files={**files, **reading.extra}), written(lab, reading), detect_sandbox())
    assert bench.run().metric == 2.5
