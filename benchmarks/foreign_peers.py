"""The systems that foreign.py compares with: how each is had, its folders, and how it scores one itself.

A peer's script is run in a copy of a problem's folder by a Python that has the peer, and prints the first program's
score last. Packages come from PyPI and repositories from GitHub when the benchmark runs, both pinned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from foreign_made import FOLDERS

OPENEVOLVE = """\
import asyncio
import os

from openevolve.config import load_config
from openevolve.evaluator import Evaluator
from openevolve.utils.metrics_utils import get_fitness_score

config = load_config("config.yaml" if os.path.exists("config.yaml") else None)
with open("initial_program.py") as file:
    found = asyncio.run(Evaluator(config.evaluator, "evaluator.py").evaluate_program(file.read(), "first"))
print(repr(float(get_fitness_score(found, config.database.feature_dimensions))))
"""
SKYDISCOVER = """\
import asyncio

from skydiscover.config import EvaluatorConfig
from skydiscover.evaluation.evaluator import Evaluator

evaluator = Evaluator(EvaluatorConfig(evaluation_file="evaluator/evaluator.py", cascade_evaluation=False))
with open("initial_program.py") as file:
    found = asyncio.run(evaluator.evaluate_program(file.read(), "first"))
print(repr(float(found.metrics["combined_score"])))
"""
GEPA = """\
import subprocess
import sys

subprocess.run([sys.executable, "main.py", "score.json"], check=True, stdout=subprocess.DEVNULL)
print(open("score.json").read())
"""
SHINKA = """\
import json
import subprocess
import sys

call = [sys.executable, "evaluate.py", "--program_path", "initial.py", "--results_dir", "results"]
subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
assert json.load(open("results/correct.json"))["correct"]
print(repr(float(json.load(open("results/metrics.json"))["combined_score"])))
"""
HILLCLIMB = """\
import shutil
import sys
import tempfile
from pathlib import Path

from hillclimb.api import build_executor
from hillclimb.config import Config
from hillclimb.harness.dirs import create_candidate_dir
from hillclimb.problem import load_problem

config = Config()
config.paths.runtime_python = Path(sys.executable)
problem = load_problem(str(Path.cwd()), config)
with tempfile.TemporaryDirectory() as temporary:
    place = create_candidate_dir(Path(temporary), "first", problem.data_dir, problem.problem_dir, unit_tests_dir=None)
    (place / "solution.py").write_text(problem.baseline_text or "")
    for name, source in problem.baseline_files.items():
        shutil.copy(source, place / name)
    result = build_executor(config, problem).execute(place / "solution.py", place, 600)
assert result.ok, result
print(repr(float(result.val_score)))
"""
CORAL = """\
import asyncio
import importlib.metadata
import shutil
import tempfile
from pathlib import Path

importlib.metadata.version = lambda _: "0"  # it is not installed
from coral.config import CoralConfig
from coral.grader.loader import load_grader
from coral.types import Task

config = CoralConfig.from_yaml("task.yaml")
with tempfile.TemporaryDirectory() as temporary:
    shutil.copytree("eval", Path(temporary, "private", "eval"))
    grader = load_grader(config, temporary)
    task = Task(id="first", name=config.task.name, description=config.task.description)
    found = asyncio.run(grader.grade(str(Path("seed").resolve()), [task]))
print(repr(float(found.aggregated)))
"""
PROBLEMS = """\
from pathlib import Path

from autoresearch_problems.core.evaluation import run_evaluation
from autoresearch_problems.core.registry import Registry
from autoresearch_problems.program_runners.subprocess_runner import SubprocessRunner

spec = Registry(Path.cwd().parent).load(Path.cwd().name)
runner = SubprocessRunner(timeout=spec.timeout_seconds)
found = run_evaluation(spec, runner.execute(spec.initial_program, spec.function_name))
assert found.valid, found
print(repr(float(found.score)))
"""
AUTOLAB = """\
import json
import subprocess
from pathlib import Path

place = Path.cwd().parent / "container"
for name, source in (("app", "environment"), ("orig", ""), ("tests", "tests"), ("logs/verifier", "")):
    (place / name).mkdir(parents=True)
    if source:
        subprocess.run(["cp", "-r", f"{source}/.", place / name], check=True)
root = [path for path in Path("/").iterdir() if path.name not in ("app", "orig", "tests", "logs", "proc", "dev", "tmp")]
call = ["bwrap", "--unshare-all", "--tmpfs", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
for path in root:
    call += ["--symlink", str(path.readlink()), str(path)] if path.is_symlink() else ["--ro-bind", str(path), str(path)]
for name in ("app", "orig", "tests", "logs"):
    call += ["--bind", str(place / name), f"/{name}"]
subprocess.run([*call, "--chdir", "/app", "bash", "/tests/test.sh"], check=True, stdout=subprocess.DEVNULL)
found = json.loads((place / "logs/verifier/reward.json").read_text())
print(repr(float(found["metric"])))
"""


@dataclass(frozen=True)
class Peer:
    """Another system. ``folders`` says for each name where it is: in the repository, among the installed packages, or
    the files themselves.
    """

    name: str
    script: str
    folders: Mapping[str, str | Mapping[str, str]]
    packages: tuple[str, ...] = ()  # with their versions; NumPy and SciPy as they are here
    without: tuple[str, ...] = ()  # packages without what they ask for, a newer Python included
    repository: str = ""  # owner/name@commit
    package: str = ""  # its own, in the repository
    needs: tuple[str, ...] = field(default=())  # programs


def _under(folder: str, *names: str) -> dict[str, str]:
    return {name: f"{folder}/{name}" for name in names}


PEERS = (
    Peer(
        "OpenEvolve",
        OPENEVOLVE,
        _under("examples", "circle_packing")
        | _under(
            "examples/alphaevolve_math_problems",
            "heilbronn_convex/13",
            "hexagon_packing/11",
            "kissing_number",
            "minimizing_max_min_dist/2",
        ),
        packages=("openevolve==0.4.1",),
        repository="algorithmicsuperintelligence/openevolve@411fb59c886c18704caaffb611e17cf9e7d824d2",
    ),
    Peer(
        "SkyDiscover",
        SKYDISCOVER,
        _under(
            "benchmarks",
            "ADRS/prism",
            "math/heilbronn_convex/14",
            "math/hexagon_packing/12",
            "math/minimizing_max_min_dist/3",
        ),
        packages=("openai", "pyyaml", "tqdm", "python-dotenv"),
        package="skydiscover",
        repository="skydiscover-ai/skydiscover@59643ef8e7aa9ae071e86028d9ba56849fad0d80",
    ),
    Peer("GEPA", GEPA, FOLDERS["gepa"], packages=("gepa==0.1.4",)),
    Peer("ShinkaEvolve", SHINKA, FOLDERS["shinka-evolve"], packages=("shinka-evolve==0.0.7",)),
    Peer(
        "hillclimb",
        HILLCLIMB,
        _under(
            "hillclimb/_catalog/problems",
            "knapsack",
            "golomb-20",
            "heilbronn-convex-13",
            "labs-40",
            "tammes-30",
            "tsp-200",
        ),
        packages=(
            "networkx",
            "pandas",
            "plotui",
            "pydantic",
            "pydot",
            "pyyaml",
            "scikit-learn",
            "textual",
            "typer",
            "uv",
        ),
        without=("hillclimb==0.8.2",),
    ),
    Peer(
        "CORAL",
        CORAL,
        _under(
            "examples/math", "circle_packing", "first_autocorr_ineq", "heilbronn_convex_13", "sums_diffs_finite_sets"
        ),
        packages=("omegaconf==2.3.0", "pyyaml"),
        repository="Human-Agent-Society/CORAL@0af5127c6c137c790b7eb02ee1cb040a1066a743",
        package="coral",
    ),
    Peer(
        "autoresearch-problems",
        PROBLEMS,
        _under(
            "src/autoresearch_problems/problems",
            "analysis/erdos_min_overlap",
            "combinatorics/sums_differences",
            "geometry/circle_packing",
            "geometry/tammes_n14",
            "number_theory/prime_number_theorem",
        ),
        packages=("pyyaml",),
        repository="vicruz99/autoresearch-problems@f6970488eba96a544254a742dcd006f4410912ed",
        package="src/autoresearch_problems",
    ),
    Peer(
        "AutoLab",
        AUTOLAB,
        _under("tasks", "discover_sorting", "stack_machine_golf", "toy_isa_opt", "adversarial_splay"),
        repository="autolabhq/autolab@7aff5fe71dfbe152fb0b8e8ac8087210b4bc27d5",
        needs=("bwrap", "make", "gcc"),
    ),
)
