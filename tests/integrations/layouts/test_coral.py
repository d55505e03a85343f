"""CORAL's tasks: what is read, and a grader that runs without its package."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.bench import Bench
from support.labs import TinyLab
from support.layouts import opened, problem

from nightlab.core.config import detect
from nightlab.core.types import NightlabError
from nightlab.engines.local.layout import detect_sandbox
from nightlab.session.create import written

TASK = """\
task: {name: Two points, description: Place them., tips: Far apart.}
grader: {timeout: 60, direction: minimize, args: {program_file: place.py, n: 2}}
agents: {count: 4}
colour: red
"""
GRADER = """\
from coral.grader import TaskGrader
from coral.types import ScoreBundle
import helper

class Grader(TaskGrader):
    def evaluate(self) -> ScoreBundle:
        program_path = f"{self.codebase_path}/{self.args['program_file']}"
        found = helper.load(program_path).place(self.args["n"])
        if min(found) < 0:
            return self.fail("a point is outside", feedback="stay inside")
        words = f"limit {self.read_eval('limit.txt')}"
        return self.score(sum(found), words, feedback="closer", metadata={"n": len(found)})
"""
HELPER = """\
import importlib.util
def load(program_path):
    spec = importlib.util.spec_from_file_location("p", program_path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
"""
FOLDER = {
    "task.yaml": TASK,
    "eval/grader.py": GRADER,
    "eval/helper.py": HELPER,
    "eval/limit.txt": "9",
    "seed/place.py": "def place(n): return [1.0] * n\n",
    "seed/other.py": "",
}


def test_a_task_is_sealed_where_its_grader_only_calls_the_program() -> None:
    lab, reading = opened(FOLDER)
    assert lab.name == "Two-points" and lab.genome == ("seed/place.py",) and lab.metric.goal == "minimise"
    assert lab.evaluator and lab.evaluator.served and reading.strategy == "Place them.\n\nFar apart."
    told = " ".join(reading.notes)
    assert "agents.count steer" in told and "colour is not understood" in told


@pytest.mark.parametrize("text", ["self.run_program('place.py')", "open(program_path).read()"])
def test_a_grader_that_runs_or_reads_the_program_makes_a_claim(text: str) -> None:
    helper = f"{HELPER}\ndef more(self, program_path): {text}\n"
    lab, reading = opened({**FOLDER, "eval/helper.py": helper})
    assert lab.evaluator is None and "the number is a claim" in reading.source and "eval/helper.py" in reading.source


def test_a_grader_in_a_package() -> None:
    task = TASK.replace("grader: {", "grader: {entrypoint: 'rate.grader:Grader', ")
    files = {**FOLDER, "task.yaml": task, "grader/src/rate/grader.py": GRADER}
    lab, _ = opened({path: text for path, text in files.items() if path != "eval/grader.py"})
    assert lab.evaluator and "--entry=rate.grader:Grader" in lab.evaluator.command
    with pytest.raises(NightlabError, match="grader:Grader is in no file"):
        detect(problem({**FOLDER, "task.yaml": task}))


@pytest.mark.parametrize(
    ("seeds", "said"),
    [({}, "without a first program"), ({"seed/a.py": "", "seed/b.cpp": ""}, "2 files that could be the first program")],
)
def test_a_task_without_one_first_program_says_so(seeds: dict[str, str], said: str) -> None:
    files = {path: text for path, text in FOLDER.items() if not path.startswith("seed/")} | seeds
    with pytest.raises(NightlabError, match=said):
        detect(problem(files))


def test_a_grader_scores_the_program_from_another_process(make_lab: Callable[..., TinyLab]) -> None:
    for first, score, says in (("1.0", 2.0, "feedback: closer"), ("-1.0", None, "a point is outside")):
        files = {**FOLDER, "seed/place.py": f"def place(n): return [{first}] * n\n"}
        bench = Bench(make_lab(files=files, name=first), written(*opened(files)), detect_sandbox())
        got = bench.run()
        assert got.metric == score and says in got.detail + got.said, got.detail
        assert score is None or (got.secondary == {"n": 2.0} and "explanation: limit 9" in got.said)
