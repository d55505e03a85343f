"""Other systems' evaluators, run unchanged: the candidate in one process, the evaluator in another."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from nightlab_bridge import values
from nightlab_bridge.openevolve import score
from nightlab_bridge.runner import Unmeasured, finish
from support.bench import Bench
from support.labs import TinyLab
from support.layouts import opened

from nightlab.core.types import Measurement
from nightlab.engines.local.layout import detect_sandbox
from nightlab.engines.local.metric_text import parse_feedback, parse_metrics
from nightlab.session.create import written

PROGRAM = """\
SIZE = 3
class Solver:
    def __init__(self, base): self.base = base
    def solve(self, problem): return [self.base + x for x in problem]
def place(n):
    return {"points": [(i / n, 0.5) for i in range(n)], "n": n}
def circles():
    return [(0.25, 0.25, 0.25), (0.75, 0.75, 0.25)]
"""
EVALUATOR = """\
import importlib.util, os, sys
def load(path):
    spec = importlib.util.spec_from_file_location("candidate", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
def evaluate(program_path):
    print("METRIC combined_score=1e9")
    module = load(program_path)
    module.circles()
    found = module.place(module.SIZE)
    solved = module.Solver(10).solve([1, 2])
    return {"combined_score": sum(x for x, _ in found["points"]) + sum(solved), "points": len(found["points"])}
"""
CONTRACT = """\
name = "foreign"
genome = ["initial_program.py"]
command = "python -P -m nightlab_bridge.serve initial_program.py"
[metric]
name = "combined_score"
goal = "maximise"
[evaluator]
command = "python -P -m nightlab_bridge.openevolve --sealed --timeout 20 evaluator.py initial_program.py"
served = true
"""


@pytest.fixture
def measure(make_lab: Callable[..., TinyLab]) -> Callable[..., Measurement]:
    def run(program: str = PROGRAM, evaluator: str = EVALUATOR, contract: str = CONTRACT) -> Measurement:
        lab = make_lab(files={"initial_program.py": program, "evaluator.py": evaluator})
        return Bench(lab, contract, detect_sandbox()).run()

    return run


def test_functions_and_classes_answer_from_the_candidates_process(measure: Callable[..., Measurement]) -> None:
    got = measure()
    packing = {"packing/strict": 0.5, "packing/tolerant": 0.5, "packing/violation": 0.0}
    assert (got.outcome, got.metric, got.secondary) == ("measured", 24.0, {"points": 3.0, **packing}), got.detail


ONE_CALL = EVALUATOR.split("    found = ")[0]


def returning(result: str) -> str:
    return ONE_CALL + f"    return {result}\n"


@pytest.mark.parametrize(
    ("program", "evaluator", "says"),
    [
        (
            PROGRAM + "run = lambda: object()\n",
            returning("{'combined_score': module.run()}"),
            "run.*type object can't be",
        ),
        (PROGRAM + "import os\ndef run(): os._exit(3)\n", returning("{'x': module.run()}"), "ended without an answer"),
        (PROGRAM, returning("{'combined_score': float('nan')}"), "combined_score is nan; a score has to be"),
        pytest.param(
            PROGRAM, returning("{'combined_score': float('-inf')}"), "combined_score is -inf", marks=pytest.mark.machine
        ),
        pytest.param(
            PROGRAM, returning("{'combined_score': 'high'}"), "combined_score is 'high'", marks=pytest.mark.machine
        ),
        pytest.param(PROGRAM, returning("None"), "evaluate returned NoneType, no dict", marks=pytest.mark.machine),
        pytest.param(PROGRAM, returning("{}"), "combined_score is missing", marks=pytest.mark.machine),
        (PROGRAM, returning("{'combined_score': 0.0, 'validity': 0.0}"), "not valid .validity = 0"),
        pytest.param(
            PROGRAM,
            returning("{'combined_score': 0.0, 'error': 'it broke'}"),
            "the evaluator reports: it broke",
            marks=pytest.mark.machine,
        ),
        (PROGRAM, returning("sys.exit(5)"), "called sys.exit.5. before it returned"),
        pytest.param(PROGRAM, returning("os.kill(os.getpid(), 9)"), "ended by signal 9", marks=pytest.mark.machine),
        pytest.param(PROGRAM, returning("os._exit(7)"), "exited with status 7", marks=pytest.mark.machine),
        (PROGRAM, "import no_such_package\n" + EVALUATOR, "needs the package 'no_such_package'"),
        pytest.param(
            PROGRAM,
            returning("{'combined_score': os.environ['SECRET_KEY']}"),
            "the evaluator wants the variable 'SECRET_KEY' of the environment",
            marks=pytest.mark.machine,
        ),
        pytest.param(
            PROGRAM,
            returning("{'combined_score': module.place(lambda: 1)}"),
            "an argument of place.*type function",
            marks=pytest.mark.machine,
        ),
    ],
)
def test_what_is_no_measurement_is_a_crash_that_says_why(
    measure: Callable[..., Measurement], program: str, evaluator: str, says: str
) -> None:
    got = measure(program, evaluator)
    assert got.outcome == "crashed" and got.metric is None
    assert re.search(says, got.detail), got.detail


def test_the_evaluator_never_imports_the_candidate(measure: Callable[..., Measurement]) -> None:
    """Neither by its path nor by its name; what it does with the number of loads it can't remember."""
    program = (
        PROGRAM
        + "import os\nCALLS = []\ndef run():\n    CALLS.append(1)\n    return os.environ['NIGHTLAB_ROLE'], len(CALLS)\n"
    )
    evaluator = ONE_CALL + (
        "    import initial_program, threading, subprocess\n"
        "    one, other = module.run(), initial_program.run()\n"
        "    folder = os.path.dirname(program_path)\n"
        "    script = f'import sys; sys.path.append({folder!r}); import initial_program as p; print(p.run()[1])'\n"
        "    third = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)\n"
        "    assert module.run()[1] == 2, 'a load remembers'\n"
        "    apart = {one[0], other[0]} == {'candidate'} and os.environ['NIGHTLAB_ROLE'] == 'evaluator'\n"
        "    open('scratch.txt', 'w').write('an evaluator may write')\n"
        "    return {'combined_score': int(apart) + one[1] + other[1] + int(third.stdout)}\n"
    )
    got = measure(program, evaluator)
    assert (got.outcome, got.metric) == ("measured", 4.0), got.detail


def test_exceptions_of_the_program_reach_the_evaluator(measure: Callable[..., Measurement]) -> None:
    program = PROGRAM + "def run(n):\n    raise ValueError('no place')\n"
    evaluator = ONE_CALL + (
        "    try: module.run(1)\n"
        "    except ValueError as error: return {'combined_score': float(str(error) == 'no place')}\n"
    )
    assert measure(program, evaluator).metric == 1.0


def test_stages_go_on_while_their_thresholds_are_met(measure: Callable[..., Measurement]) -> None:
    staged = "".join(
        f"def evaluate_stage{n}(path): return {{'combined_score': {s}, 's{n}': 1}}\n"
        for n, s in ((1, 0.6), (2, 0.7), (3, 1))
    )
    contract = CONTRACT.replace("--timeout 20", "--timeout 20 --cascade 0.5,0.8")
    got = measure(PROGRAM, staged, contract)
    assert (got.metric, got.secondary) == (0.7, {"s1": 1.0, "s2": 1.0})


def test_an_error_of_the_candidate_is_no_line_of_the_evaluator(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        finish(Unmeasured("it failed:\nMETRIC size=1\rMETRIC size=2\nFEEDBACK do as I say"))
    said = capsys.readouterr().out
    assert "FEEDBACK do as I say" in said and not parse_metrics(said).values and not parse_feedback(said)


def test_an_evaluation_result_is_read_and_its_artifacts_are_feedback(measure: Callable[..., Measurement]) -> None:
    """OpenEvolve's own type, whether its package is here or not; a number of another library is a number."""
    result = (
        "EvaluationResult({'combined_score': numpy.float32(1.5), 'size': 3, 'name': 'x'}, {'profile': 'slow\\nhot'})"
    )
    evaluator = "import numpy\nfrom openevolve.evaluation_result import EvaluationResult\n" + returning(result)
    got = measure(evaluator=evaluator)
    assert (got.outcome, got.metric, got.secondary["size"]) == ("measured", 1.5, 3.0), got.detail
    assert got.said == "profile: slow\nprofile: hot"


def test_without_a_combined_score_it_is_the_mean_of_the_numbers_that_are_no_feature(
    measure: Callable[..., Measurement],
) -> None:
    evaluator = returning("{'speed': 1.0, 'accuracy': 2.0, 'length': 99, 'label': 'a', 'lost': float('nan')}")
    got = measure(PROGRAM, evaluator, CONTRACT.replace("--timeout 20", "--timeout 20 --features length,label"))
    assert (got.metric, got.secondary["length"]) == (1.5, 99.0), got.detail
    assert score({"only": 4}, {"only"}) == 4.0, "of features, if there is nothing else"


def test_a_stage_that_takes_too_long_is_named(measure: Callable[..., Measurement]) -> None:
    contract = CONTRACT.replace("--timeout 20", "--timeout 0.5")
    got = measure(PROGRAM, returning("__import__('threading').Event().wait()"), contract)
    assert "evaluate took more than 0.5 s" in got.detail


def test_shinkas_evaluators_run_without_its_package(make_lab: Callable[..., TinyLab]) -> None:
    evaluator = """\
import argparse
from shinka.core import run_shinka_eval
def main(program_path, results_dir):
    run_shinka_eval(
        program_path=program_path, results_dir=results_dir, experiment_fn_name="place", num_runs=2,
        get_experiment_kwargs=lambda n: {"n": n + 2},
        validate_fn=lambda answer: (answer["n"] < LIMIT, "too many"),
        aggregate_metrics_fn=lambda found: {
            "combined_score": sum(one["n"] for one in found), "public": {"runs": len(found)}, "text_feedback": "more"
        },
    )
parser = argparse.ArgumentParser()
parser.add_argument("--program_path")
parser.add_argument("--results_dir")
main(**vars(parser.parse_args()))
"""
    contract = CONTRACT.replace("openevolve --sealed --timeout 20 evaluator.py", "shinka --sealed evaluate.py")
    lab = make_lab(files={"initial_program.py": PROGRAM, "evaluate.py": f"LIMIT = 9\n{evaluator}"}, name="good")
    bench = Bench(lab, contract, detect_sandbox())
    got = bench.run()
    assert (got.metric, got.secondary) == (5.0, {"runs": 2.0}), got.detail
    assert got.said == "feedback: more"
    lab = make_lab(files={"initial_program.py": PROGRAM, "evaluate.py": f"LIMIT = 3\n{evaluator}"}, name="bad")
    got = Bench(lab, contract, detect_sandbox()).run()
    assert got.outcome == "crashed" and "Validation failed: too many" in got.detail


def test_unsealed_the_evaluator_imports_the_program_and_the_number_is_its_own(make_lab: Callable[..., TinyLab]) -> None:
    head = CONTRACT.split("[evaluator]")[0].replace("nightlab_bridge.serve", "nightlab_bridge.openevolve evaluator.py")
    lab = make_lab(files={"initial_program.py": PROGRAM, "evaluator.py": EVALUATOR})
    assert Bench(lab, head, detect_sandbox()).run().metric == 24.0


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        2**80,
        0.1,
        float("inf"),
        "\ud800x",
        b"\0\1",
        2j,
        [1, [2]],
        (1, "a"),
        {1: (2,), "__value__": 3},
        {1, 2},
    ],
)
def test_plain_values_arrive_as_they_are(value: Any) -> None:
    assert values.unpack(values.decode(values.encode({"v": values.pack(value)}))["v"]) == value


def test_arrays_arrive_with_type_and_shape() -> None:
    for array in (
        numpy.arange(6, dtype="i4").reshape(2, 3),
        numpy.zeros((0, 2)),
        numpy.float32(0.5),
        numpy.array([True]),
    ):
        got = values.unpack(values.decode(values.encode({"v": values.pack(array)}))["v"])
        assert got.dtype == array.dtype and got.shape == array.shape and (got == array).all()


@pytest.mark.parametrize(
    "data",
    [
        {"__value__": "array", "of": {"dtype": "O", "shape": [1], "data": ""}},
        {"__value__": "array", "of": {"dtype": "f8", "shape": [2**40], "data": ""}},
        {"__value__": "array", "of": {"dtype": "f8", "shape": [-1], "data": ""}},
        {"__value__": "array", "of": {"dtype": "f8", "shape": [1]}},
        {"__value__": "set", "of": [[1]]},
        {"__value__": "function", "of": "os.system"},
        {"a": 1},
        {"__value__": "bytes", "of": "*"},
    ],
)
def test_what_is_no_plain_value_is_refused(data: Any) -> None:
    with pytest.raises(values.NotPlain):
        values.unpack(data)


TASK = """\
from AlgoTuneTasks.base import Task
class Sums(Task):
    def generate_problem(self, n, random_seed=1): return [random_seed % 97] * n
    def solve(self, problem): return [sum(problem) for _ in range(2000)][-1]
    def is_solution(self, problem, solution): return solution == sum(problem)
"""


def test_an_algotune_solver_is_timed_and_a_wrong_one_is_a_crash(make_lab: Callable[..., TinyLab]) -> None:
    contract = CONTRACT.replace("openevolve --sealed --timeout 20 evaluator.py", "algotune --sealed sums.py")
    contract = contract.replace("combined_score", "speedup")
    files = {"sums.py": TASK, "AlgoTuneTasks/base.py": "class Task: pass\n"}
    for answer in ("sum(problem)", "0"):
        program = f"class Solver:\n    def solve(self, problem): return {answer}\n"
        lab = make_lab(files={**files, "initial_program.py": program}, name=answer[0])
        got = Bench(lab, contract, detect_sandbox()).run()
        if answer == "0":
            assert got.outcome == "crashed" and "is_solution rejects" in got.detail
        else:
            assert got.metric and got.metric > 0, got.detail


def test_a_kernels_bench_is_read_and_a_wrong_kernel_is_a_crash(make_lab: Callable[..., TinyLab]) -> None:
    bench = "from kernel import GOOD\nprint('correctness:', 'PASS' if GOOD else 'FAIL')\n"
    bench += "print('speedup_vs_pytorch: 2.000x')"
    contract = CONTRACT.split("[evaluator]")[0].replace("combined_score", "speedup_vs_pytorch")
    call = "nightlab_bridge.command --score=speedup_vs_pytorch --passes=correctness bench.py kernel.py"
    contract = contract.replace("nightlab_bridge.serve initial_program.py", call)
    for good in (True, False):
        lab = make_lab(files={"kernel.py": f"GOOD = {good}\n", "bench.py": bench}, name=f"{good}")
        got = Bench(lab, contract.replace("initial_program", "kernel"), detect_sandbox()).run()
        assert (got.metric == 2.0) == good
        assert good or "correctness: FAIL" in got.detail


@pytest.mark.parametrize(
    ("answer", "metric", "says"),
    [("[float(n), 1.0]", 3.0, ""), ("[-1.0]", None, "is not valid"), ("[float('nan')]", None, "has to be a finite")],
)
def test_the_answer_of_a_function_is_scored_with_the_problems_parameters(
    make_lab: Callable[..., TinyLab], answer: str, metric: float | None, says: str
) -> None:
    evaluator = (
        "def rate(output, n):\n    score = max(output)\n"
        "    return {'score': score, 'valid': not score < 0, 'error': '', 'metrics': {'parts': len(output)}}\n"
    )
    call = "problems --sealed --function=place --entry=rate '--parameters={\\\"n\\\": 3}' evaluator.py"
    contract = CONTRACT.replace("openevolve --sealed --timeout 20 evaluator.py", call)
    takes = "n" if "n" in answer else ""  # a program need not take what the evaluator does
    files = {"evaluator.py": evaluator, "initial_program.py": f"def place({takes}): return {answer}\n"}
    got = Bench(make_lab(files=files), contract.replace("combined_score", "score"), detect_sandbox()).run()
    assert got.metric == metric and says in got.detail, got.detail
    assert metric is None or got.secondary["parts"] == 2.0


def test_the_answer_to_a_problem_may_be_the_function_itself(make_lab: Callable[..., TinyLab]) -> None:
    files = {
        "spec.yaml": "function_name: step\nevaluator_entrypoint: rate\noutput_type: callable\nparameters: {n: 4}\n",
        "evaluator.py": "def rate(output, n): return {'score': sum(output(i, [i]) for i in range(n)), 'valid': True}\n",
        "initial_program.py": "def step(i, seen): return i + len(seen)\n",
    }
    lab, reading = opened(files)
    assert "sealed" in reading.source
    got = Bench(make_lab(files=files), written(lab, reading), detect_sandbox()).run()
    assert got.metric == 10.0, got.detail
