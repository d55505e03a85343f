"""Other systems' folders as contracts: what is read, what is not, and what is said of it."""

from __future__ import annotations

import json

import pytest
from support.layouts import opened, problem

from nightlab.core.config import detect, from_files, parse
from nightlab.core.types import Budget, NightlabError
from nightlab.integrations.layouts.sealing import obstacle
from nightlab.session.create import written

# -- autoresearch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "seconds"), [("TIME_BUDGET = 300  # s", 600), ("TIME_BUDGET = 12.5", 25), ("", 300)]
)
def test_the_originals_layout(budget: str, seconds: float) -> None:
    lab, reading = opened({"prepare.py": f"MAX = 1\n{budget}\n", "train.py": "", "program.md": "", "x.lock": ""})
    assert lab.genome == ("train.py",) and lab.metric.name == "val_bpb" and lab.metric.goal == "minimise"
    # Its own rule ends a run at twice its time.
    assert lab.budget.on("cuda").record() == Budget("wall", seconds) and "autoresearch" in reading.source


# -- pi --------------------------------------------------------------------------------------------------

PI = {
    ".auto/measure.sh": 'python bench.py\necho "METRIC total_µs=$t"\necho "METRIC lines=3"\n',
    ".auto/checks.sh": "pytest",
    ".auto/hooks/after.sh": "cat",
    ".auto/prompt.md": "# Autoresearch: x\n## Metrics\n- **Primary**: `ops` (op/s, higher is better)\n",
    ".auto/config.json": '{"maxIterations": 30}',
    "pyproject.toml": "",
    "src/fast.py": "",
    "bench.py": "",
    "tests/test_fast.py": "",
    "README.md": "",
}
LOG = json.dumps(
    {"type": "config", "name": "fast one", "metricName": "rate", "metricUnit": "/s", "bestDirection": "higher"}
)


def test_a_pi_session_whole() -> None:
    lab, reading = opened(PI)
    assert (lab.metric.name, lab.metric.goal, lab.metric.unit) == ("ops", "maximise", "op/s")
    assert lab.command == "bash .auto/measure.sh" and lab.genome == ("src/fast.py",)
    assert [c.command for c in lab.checks] == ["bash .auto/checks.sh"]
    assert lab.hooks.after == "bash .auto/hooks/after.sh" and lab.hooks.before is None
    assert lab.stop.experiments == 30 and reading.strategy == PI[".auto/prompt.md"]
    assert any("hooks" in note for note in reading.notes)


def test_what_a_pi_log_says_goes_before_its_prompt() -> None:
    lab, _ = opened({**PI, ".auto/log.jsonl": f'{{"run": 1}}\n{LOG}\nno json "config"\n'})
    assert (lab.name, lab.metric.name, lab.metric.goal, lab.metric.unit) == ("fast-one", "rate", "maximise", "/s")


def test_a_direction_in_pis_configuration_is_read() -> None:
    lab, _ = opened(
        {**PI, ".auto/config.json": '{"bestDirection": "higher", "metricName": "wins"}', ".auto/prompt.md": ""}
    )
    assert (lab.metric.name, lab.metric.goal) == ("wins", "maximise")
    lab, _ = opened({**PI, ".auto/prompt.md": ""})
    assert (lab.metric.name, lab.metric.goal) == ("total_µs", "minimise")


def test_files_in_scope_are_the_genome() -> None:
    scope = "## Files in Scope\n- `src/` the code\n- bench.py: also\n- `no/such.py`\n\n## Off Limits\n- `README.md`\n"
    lab, _ = opened({**PI, ".auto/prompt.md": scope})
    assert lab.genome == ("src/**", "bench.py")


def test_what_pi_says_beyond_a_contract_is_noted() -> None:
    config = '{"workingDir": "../other", "maxIterations": -2, "colour": 1}'
    lab, reading = opened({**PI, ".auto/config.json": config, ".auto/ideas.md": "- try"})
    told = " ".join(reading.notes)
    assert lab.stop.experiments is None
    for words in ("workingDir is another folder", "maxIterations -2", "colour is not understood", "ideas.md is prose"):
        assert words in told, words
    _, reading = opened({**PI, ".auto/config.json": "{"})
    assert "no JSON object" in reading.notes[0]


def test_the_old_files_of_pi() -> None:
    files = {"autoresearch.sh": "echo METRIC s=1", "autoresearch.checks.sh": "", "autoresearch.jsonl": LOG, "a.js": ""}
    lab, _ = opened(files)
    assert lab.command == "bash autoresearch.sh" and lab.checks and lab.metric.goal == "maximise"


# -- OpenEvolve ------------------------------------------------------------------------------------------

EVALUATOR = """\
import importlib.util
def evaluate(program_path):
    spec = importlib.util.spec_from_file_location("program", program_path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {"combined_score": module.run()}
"""
PROGRAM = "# EVOLVE-BLOCK-START\ndef run(): return 1\n# EVOLVE-BLOCK-END\n"
OPENEVOLVE = {"initial_program.py": PROGRAM, "evaluator.py": EVALUATOR}


def test_an_openevolve_problem_is_sealed() -> None:
    lab, reading = opened(OPENEVOLVE)
    assert lab.genome == ("initial_program.py",) and lab.between == ("EVOLVE-BLOCK-START", "EVOLVE-BLOCK-END")
    assert lab.metric.name == "combined_score" and lab.metric.goal == "maximise"
    assert lab.command == "python -P -m nightlab_bridge.serve initial_program.py"
    assert lab.evaluator and lab.evaluator.served
    assert lab.evaluator.command.endswith("openevolve --sealed --timeout=300 evaluator.py initial_program.py")
    assert "sealed" in reading.source and not reading.notes


def test_installed_packages_are_imported_ahead_unless_a_time_is_kept() -> None:
    imports = "import json, helper, no_such_package\nfrom numpy.linalg import norm\n"
    files = {**OPENEVOLVE, "evaluator.py": imports + EVALUATOR, "helper.py": ""}
    lab, _ = opened(files)
    assert lab.warm and lab.evaluator and lab.evaluator.warm[1:] == ("numpy.linalg",)
    timed, _ = opened({**files, "evaluator.py": "import time\n" + EVALUATOR + "    time.perf_counter()\n"})
    assert timed.evaluator and timed.warm == timed.evaluator.warm == ()


def test_openevolves_configuration() -> None:
    config = """\
max_iterations: 20
random_seed: 7
colour: red
evaluator: {timeout: 60, cascade_evaluation: true, cascade_thresholds: [0.2, 0.4]}
database: {feature_dimensions: [speed, size]}
prompt: {system_message: Pack circles.}
"""
    staged = EVALUATOR.replace("def evaluate(", "def evaluate_stage1(")
    lab, reading = opened({**OPENEVOLVE, "evaluator.py": staged, "config.yaml": config})
    assert lab.evaluator and "--timeout=60 --cascade=0.2,0.4 --features=speed,size" in lab.evaluator.command
    bare, _ = opened({**OPENEVOLVE, "config.yaml": "database: {feature_dimensions: []}"})
    assert bare.evaluator and "--features= " in bare.evaluator.command
    assert lab.stop.experiments == 20 and reading.strategy == "Pack circles."
    assert lab.budget.evaluation == 3 * 60 + 30
    assert any("colour is not understood" in note for note in reading.notes)
    assert any("random_seed seeds the other system's search" in note for note in reading.notes)
    _, reading = opened({**OPENEVOLVE, "config.yaml": "a: [1\nb"})
    assert reading.notes[0].startswith("config.yaml is not read: line ")


def test_packages_that_a_folder_asks_for_are_named() -> None:
    wanted = "numpy>=1.24  # arrays\n\n# more\n-r other.txt\njax[cpu]\n"
    _, reading = opened({**OPENEVOLVE, "requirements.txt": wanted})
    assert reading.notes == ("requirements.txt wants numpy>=1.24, jax[cpu]: install what is missing here",)


@pytest.mark.parametrize("model", ["primary_model: m/x-1", "models: [{name: m/x-1, weight: 2}, {name: other}]"])
def test_a_model_in_openevolves_configuration_is_asked_only_when_lab_toml_says_so(model: str) -> None:
    config = f"llm:\n  {model}\n  api_base: http://localhost:1/v1\n  temperature: 0.7\n"
    lab, reading = opened({**OPENEVOLVE, "config.yaml": config})
    assert not [one for one in lab.proposers if one.kind == "model"]
    told = next(note for note in reading.notes if "no model is asked" in note)
    keys = 'kind = "model", model = "m/x-1", base_url = "http://localhost:1/v1"'
    assert keys in told and "llm.temperature steer" in " ".join(reading.notes)
    part = "[[proposers]]\n" + keys.replace(", ", "\n") + '\nkey = "SOME_KEY"\n'
    assert parse(written(lab, reading) + part).proposers[-1].kind == "model", "as the note says it"


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"initial_program.rs": "// EVOLVE-BLOCK-START\n// EVOLVE-BLOCK-END\n"}, "no Python module"),
        ({"evaluator.py": EVALUATOR + "    open(program_path).read()\n"}, "line 7, reads the program's text"),
        (
            {"evaluator.py": "import inspect\n" + EVALUATOR + "    inspect.getsource(module)\n"},
            "reads the program's source",
        ),
        ({"evaluator.py": EVALUATOR + "    subprocess.run([sys.executable, program_path])\n"}, "starts the program"),
        ({"evaluator.py": EVALUATOR + "    Path(program_path).read_text()\n"}, "reads the program's text"),
        ({"evaluator.py": EVALUATOR + "    exec(answer)\n"}, "line 7, may execute what the program answers"),
        ({"evaluator.py": EVALUATOR + "    pickle.loads(answer)\n"}, "may execute what the program answers"),
        (
            {"evaluator.py": "import forms\n" + EVALUATOR, "forms.py": "def f(x):\n    return sympy.sympify(x)\n"},
            "forms.py, line 2, may execute what the program answers",
        ),
    ],
)
def test_where_sealing_is_impossible_the_number_is_a_claim(files: dict[str, str], why: str) -> None:
    base = {"evaluator.py": EVALUATOR} if "initial_program.rs" in files else OPENEVOLVE
    lab, reading = opened({**base, **files})
    assert lab.evaluator is None and lab.command and "--sealed" not in lab.command
    assert "the number is a claim" in reading.source and why in reading.source


@pytest.mark.parametrize(
    "line",
    [
        "from pickle import loads; loads(a)",
        "import pickle as pk; pk.loads(a)",
        "import pickle; pickle.load(io.BytesIO(a))",
        "import pickle; b = io.BytesIO(a); pickle.load(b)",
        "import pickle; pickle.Unpickler(io.BytesIO(a)).load()",
        "import numpy as np; np.load(io.BytesIO(a), allow_pickle=True)",
        "import builtins; builtins.exec(a)",
        "from builtins import exec as e; e(a)",
        "run = exec; run(a)",
        "import pandas as pd; pd.eval(a)",
        "import yaml as y; y.load(a, Loader=y.Loader)",
        "subprocess.run([sys.executable, '-c', a])",
        "from gepa.utils.code_execution import execute_code as run; run(a)",
    ],
)
def test_an_answer_may_be_executed_by_other_names(line: str) -> None:
    files = {"evaluator.py": f"{EVALUATOR}    {line}\n"}
    assert "line 7, may execute what the program answers" in obstacle(problem(files), "evaluator.py", "program.py")


@pytest.mark.parametrize(
    "line",
    [
        "import pickle\n    with open('out.pkl', 'rb') as f:\n        pickle.load(f)",
        "import pickle, gzip; pickle.load(gzip.open('data.gz'))",
        "import numpy as np; np.load('data.npy', allow_pickle=True); np.load(a)",
        "from re import compile; compile('a')",
        "module.eval(); self.eval(1)",
        "subprocess.run([sys.executable, '-c', 'print(1)'])",
    ],
)
def test_its_own_files_and_texts_are_not_the_programs(line: str) -> None:
    files = {"evaluator.py": f"{EVALUATOR}    {line}\n"}
    assert obstacle(problem(files), "evaluator.py", "program.py") == ""


def test_unsealed_when_asked_for() -> None:
    lab, reading = opened(OPENEVOLVE, sealed=False)
    assert lab.evaluator is None and "as you asked" in reading.source


def test_an_evaluator_that_only_writes_a_script_that_imports_the_program_can_be_sealed() -> None:
    text = "def evaluate(program_path):\n    f'import {program_path}'\n    subprocess.run(['python', temp_file_path])\n"
    assert obstacle(problem({"evaluator.py": text}), "evaluator.py", "initial_program.py") == ""


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({**OPENEVOLVE, "initial_program.rs": ""}, "2 files that could be the initial program"),
        ({"evaluator.py": EVALUATOR}, "has an OpenEvolve evaluator, and no program"),
        ({"evaluate.py": "program_path results_dir", "initial.py": "", "initial.cpp": ""}, "initial.cpp, initial.py"),
        ({"evaluate.py": "program_path results_dir"}, "no initial"),
    ],
)
def test_what_is_unclear_is_named(files: dict[str, str], said: str) -> None:
    with pytest.raises(NightlabError, match=said) as error:
        detect(problem(files))
    assert error.value.hint


def test_a_program_by_its_markers_or_a_prompt_as_program() -> None:
    others = {"best_program.py": PROGRAM, "other.py": "", "README.md": PROGRAM}
    later = EVALUATOR.replace("def evaluate", "async def evaluate")
    lab, _ = opened({"evaluator.py": later, "place.py": PROGRAM, **others})
    assert lab.genome == ("place.py",)
    lab, _ = opened({"evaluator.py": EVALUATOR, "initial_prompt.txt": "Answer.", "initial_data.yaml": ""})
    assert lab.genome == ("initial_prompt.txt",) and lab.evaluator is None


def test_markers_that_are_not_read_are_named() -> None:
    odd = PROGRAM.replace("# EVOLVE", "# from here EVOLVE")
    lab, reading = opened({**OPENEVOLVE, "initial_program.py": odd})
    assert lab.between is None
    assert any(note.startswith("initial_program.py, lines 1, 3: EVOLVE-BLOCK-START or") for note in reading.notes)
    lab, reading = opened({**OPENEVOLVE, "initial_program.py": PROGRAM.replace("# EVOLVE", "x = 1  # -- EVOLVE")})
    assert lab.between and not reading.notes


# -- Shinka ----------------------------------------------------------------------------------------------


def test_a_shinka_task() -> None:
    script = "import argparse\ndef main(program_path, results_dir): run_shinka_eval(program_path=program_path)\n"
    lab, reading = opened({"evaluate.py": script, "initial.py": PROGRAM, "run_evo.py": "", "shinka_small.yaml": ""})
    assert lab.evaluator and lab.evaluator.command.endswith("shinka --sealed --timeout=600 evaluate.py initial.py")
    assert len(reading.notes) == 2
    told = opened({"evaluate.py": script + "    return {'private': {}}\n", "initial.py": PROGRAM})[1].notes
    assert told == ("private metrics are not recorded: only combined_score, public metrics and text_feedback are read",)


# -- AutoKernel and AlgoTune -----------------------------------------------------------------------------

SUMS = """\
from AlgoTuneTasks.base import Task, register_task
@register_task("sums")
class Sums(Task):
    def generate_problem(self, n, random_seed=1): return list(range(random_seed % 10, n))
    def solve(self, problem): return max(sum(problem) for _ in range(500))
    def is_solution(self, problem, solution): return solution == sum(problem)
"""


def test_a_kernel_is_measured_by_its_bench_which_is_a_claim() -> None:
    bench = 'print(f"correctness: PASS")\nprint(f"throughput_tflops: {x}")\n'
    lab, reading = opened({"bench.py": bench, "kernel.py": "", "reference.py": ""})
    assert lab.genome == ("kernel.py",) and lab.metric.name == "throughput_tflops" and lab.metric.goal == "maximise"
    assert lab.command and "--passes=correctness bench.py kernel.py" in lab.command
    assert lab.evaluator is None and "claim" in reading.source


def test_an_algotune_task_gets_a_solver_of_its_own() -> None:
    lab, reading = opened({"sums.py": SUMS, "description.txt": "Add."})
    assert lab.genome == ("solver.py",) and lab.evaluator and lab.evaluator.served
    assert reading.extra.keys() == {"solver.py", "AlgoTuneTasks/__init__.py", "AlgoTuneTasks/base.py"}
    assert "return Sums().solve(problem)" in reading.extra["solver.py"] and reading.strategy == "Add."
    with pytest.raises(NightlabError, match="no file that may change") as error:
        from_files(problem({"sums.py": SUMS}), "here")
    assert error.value.hint == "make a lab with one of it: nightlab open here"


# -- autoresearch-problems -------------------------------------------------------------------------------

SPEC = """\
name: two points
description: Place them far apart.
function_name: place
evaluator_entrypoint: rate
evaluator_dependencies: ["numpy>=1.24"]
parameters: {n: 2}
timeout_seconds: 20
maximize: false
known_best_score: 1.0
colour: red
"""
PROBLEM = {
    "spec.yaml": SPEC,
    "evaluator.py": "def rate(output, n): return {'score': max(output)}\ndef evaluate(output): pass\n",
    "initial_program.py": "def place(n): return [0.0] * n\n",
}


def test_a_problem_with_a_spec_is_sealed_and_is_none_of_openevolves() -> None:
    lab, reading = opened(PROBLEM)
    assert lab.name == "two-points" and lab.genome == ("initial_program.py",) and lab.metric.goal == "minimise"
    assert lab.evaluator and lab.evaluator.served
    options = "--timeout=20 --function=place --entry=rate '--parameters={\"n\": 2}' evaluator.py initial_program.py"
    assert lab.evaluator.command.endswith(f"nightlab_bridge.problems --sealed {options}")
    assert lab.budget.evaluation == 50 and reading.strategy == "Place them far apart."
    told = " ".join(reading.notes)
    assert "colour is not understood" in told and "needs numpy>=1.24" in told and "known_best" not in told


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({name: PROBLEM[name] for name in ("spec.yaml", "evaluator.py")}, "has no initial_program.py"),
        ({**PROBLEM, "spec.yaml": "evaluator_entrypoint: [1\nb"}, "spec.yaml can't be read: line"),
    ],
)
def test_a_problem_with_a_spec_that_cant_be_opened_says_why(files: dict[str, str], said: str) -> None:
    with pytest.raises(NightlabError, match=said) as error:
        detect(problem(files))
    assert error.value.hint


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("evaluator: [1]\nprompt: text\ndatabase: 3\n", "evaluator should be a table of keys"),
        ("evaluator: {timeout: '60'}\n", "evaluator.timeout is '60', no number above 0"),
        ("evaluator: {timeout: -5}\nmax_iterations: 0\n", "max_iterations is 0, no number above 0"),
    ],
)
def test_values_of_a_configuration_that_cant_be_meant_are_named(config: str, said: str) -> None:
    lab, reading = opened({**OPENEVOLVE, "config.yaml": config})
    assert lab.evaluator and "--timeout=300" in lab.evaluator.command and lab.stop.experiments is None
    assert said in " ".join(reading.notes)


def test_an_evaluator_that_is_no_python_is_named_with_its_line() -> None:
    _, reading = opened({**OPENEVOLVE, "evaluator.py": "def evaluate(path):\n    return {\n"})
    assert any("evaluator.py, line 2, can't be parsed" in note for note in reading.notes)
