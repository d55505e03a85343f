"""Whether the metric is computed out of the candidate's reach: evaluators that run its code are found, not others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nightlab.core.config import LabConfig, parse
from nightlab.core.types import Candidate, Evidence, Experiment, Metric, PairedGain, Verdict
from nightlab.loop.candidate_builder import CandidateBuilder
from nightlab.proposers import Proposal
from nightlab.session.metric_claim import PRINTED, hidden_module, metric_claim, taken_for
from nightlab.storage.git import OutOfScope
from nightlab.ui.terminal.log import confirmed_words

SHIPPED = Path(__file__).parents[2] / "src/nightlab/labs"
GUEST = SHIPPED.with_name("guest")
POLICY = "KP = 2.0\ndef act(obs):\n    return -KP * obs\n"
SCORE = "from policy import act\nprint(f'METRIC reward={act(0.5)}')\n"
CONTRACT = """\
name = "pendulum"
genome = {genome}
{command}

[metric]
name = "reward"
goal = "maximise"
{evaluator}
[budget]
amount = 20

[judge]
upkeep = 0
confirm = 0.1

[sandbox]
allow_missing = ["files", "network", "processes", "privileges"]

[[proposers]]
kind = "patches"
"""


def contract(evaluator: str, *, served: bool = False, genome: str = '["policy.py"]') -> str:
    command = 'command = "python serve.py"' if served else ""
    said = f'\n[evaluator]\ncommand = "{evaluator}"\nserved = {str(served).lower()}\n'
    return CONTRACT.format(genome=genome, command=command, evaluator=said)


def claim(text: str, files: Mapping[str, str]) -> str:
    return metric_claim(parse(text), list(files), files.get)


@pytest.mark.parametrize(
    "program",
    [
        "import policy",
        "\ufeffimport policy",
        "from policy import act",
        "def f():\n    from policy import act",
        "import helper",  # which imports it
        "import importlib\nimportlib.import_module('policy')",
        "import runpy\nrunpy.run_path('policy.py')",
        "exec(open('policy.py').read())",
        "import subprocess\nsubprocess.run(['python', 'policy.py'])",
        "import os\nos.system('python policy.py > out.txt')",
        "import os, pickle\npickle.load(open(os.environ['NIGHTLAB_ARTEFACTS'] + '/m.pkl', 'rb'))",
        "import os\nexec(open(os.environ['NIGHTLAB_ARTEFACTS'] + '/m.txt').read())",
        "import os, subprocess as s\ns.run([os.environ['NIGHTLAB_ARTEFACTS'] + '/m'])",
        "import os, pandas\npandas.read_pickle(os.environ['NIGHTLAB_ARTEFACTS'] + '/m')",
        "import os, torch\ntorch.load(os.environ['NIGHTLAB_ARTEFACTS'] + '/m.pt', weights_only=False)",
        "import os as o\no.system(o.environ['NIGHTLAB_ARTEFACTS'] + '/m')",
        "import os\nfrom os import system\nsystem('python policy.py')",
        "import os, yaml as y\ny.load(open(os.environ['NIGHTLAB_ARTEFACTS'] + '/m'), Loader=y.Loader)",
    ],
)
def test_an_evaluator_that_runs_the_candidates_code_yields_a_claim(program: str) -> None:
    files = {"policy.py": POLICY, "score.py": program, "helper.py": "import policy\n"}
    assert "score.py" in (found := claim(contract("python score.py"), files)) or "helper.py" in found
    assert claim(contract("python -m score"), files)


@pytest.mark.parametrize(
    ("command", "files"),
    [
        ("python policy.py", {}),
        ("bash score.sh", {"score.sh": "set -e\npython policy.py | tail -1\n"}),
        ("sh -c 'python score.py'", {"score.py": SCORE}),
        ("bash score.sh", {"score.sh": "python score.py\n", "score.py": SCORE}),
        ("python eval/score.py", {"eval/score.py": "from eval.tools import x\n", "eval/tools.py": "import policy\n"}),
    ],
)
def test_through_a_script_or_a_package_too(command: str, files: Mapping[str, str]) -> None:
    assert claim(contract(command), {"policy.py": POLICY, **files})


def test_a_compiled_genome_too() -> None:
    files = {"kernel.c": "int f() { return 1; }", "score.sh": "gcc -O2 main.c kernel.c -o $TMPDIR/a && $TMPDIR/a"}
    assert "kernel.c" in claim(contract("bash score.sh", genome='["kernel.c"]'), files)


@pytest.mark.parametrize(
    ("score", "helper"),
    [
        ("import os, helper\nhelper.read(os.environ['NIGHTLAB_ARTEFACTS'])", "import pickle\nread = pickle.load"),
        ("import pickle, helper\npickle.load(helper.it)", "import os\nit = open(os.environ['NIGHTLAB_ARTEFACTS'])"),
    ],
)
def test_in_two_modules_of_the_lab_too(score: str, helper: str) -> None:
    files = {"policy.py": POLICY, "score.py": score, "helper.py": helper}
    assert "may execute or unpickle" in claim(contract("python score.py"), files)


@pytest.mark.parametrize(
    "program",
    [
        "import json, os\njson.load(open(os.environ['NIGHTLAB_ARTEFACTS'] + '/m.json'))",
        "text = open('policy.py').read()\nprint(f'METRIC reward={-len(text)}')",  # reads it as data
        "import re\nlong = re.compile('policy.py')",
        "import pickle\npickle.load(open('frozen.pkl', 'rb'))",
        "from policies import act",
        *(
            f"import os\n{line}\nopen(os.environ['NIGHTLAB_ARTEFACTS'] + '/m.txt'), open('policy.py')"
            for line in (
                "import platform\nplatform.system()",
                "from platform import system\nsystem()",
                "import importlib.metadata, importlib.resources",
                "from importlib import metadata\nfrom importlib.resources import files",
                "judge.call(1)",
                "from re import compile\ncompile('a')",
                "from jinja2 import Loader\nLoader('a')",
            )
        ),
        "import numpy as np, os\nnp.load(os.environ['NIGHTLAB_ARTEFACTS'] + '/m.npy')",
        "this is not Python",
    ],
)
def test_one_that_reads_data_does_not(program: str) -> None:
    assert claim(contract("python score.py"), {"policy.py": POLICY, "score.py": program, "policies.py": ""}) == ""


def test_a_served_evaluator_may_import_the_genome_for_a_start_by_hand() -> None:
    guest = "try:\n    import nightlab_guest\nexcept ImportError:\n    from policy import act\n"
    by_hand = f"{guest}def other():\n    import policy\n"
    files = {"policy.py": POLICY, "serve.py": "import policy", "score.py": by_hand}
    assert claim(contract("python score.py", served=True), files) == ""
    assert claim(contract("python score.py"), files), "one that is not served is never started by hand only"
    files["score.py"] = "import nightlab_guest\nimport policy\n"
    assert claim(contract("python score.py", served=True), files)


def test_a_command_that_prints_the_metric_makes_a_claim() -> None:
    text = CONTRACT.format(genome='["policy.py"]', command='command = "python score.py"', evaluator="")
    assert claim(text, {"policy.py": POLICY, "score.py": SCORE}) == PRINTED


@pytest.mark.parametrize("name", sorted(path.parent.name for path in SHIPPED.glob("*/lab.toml")))
def test_no_shipped_lab_makes_one(name: str) -> None:
    paths = (path for path in (SHIPPED / name).rglob("*.*") if "__pycache__" not in path.parts)
    files = {path.relative_to(SHIPPED / name).as_posix(): path.read_text() for path in paths}
    assert claim(files["lab.toml"], files) == ""


def test_a_claim_is_never_called_confirmed_without_its_label() -> None:
    gain = PairedGain(2.0, 1.0, 3.0, 0.95, 4)
    evidence = Evidence("confirmed", 0, (1, 2, 3, 4), gain, claim="score.py imports policy.py")
    assert evidence.label == "claim, confirmed"
    kept = Experiment(
        3, Candidate("c", "p", "t", "me", "x"), 0.0, verdict=Verdict("keep", "improved"), evidence=(evidence,)
    )
    assert kept.level == "claim, confirmed"
    words = confirmed_words(Metric("reward", "maximise"), evidence, [], [])
    assert "claim, confirmed:" in words and "only the candidate's claim: score.py imports policy.py" in words


def test_a_policy_that_prints_its_own_result_and_ends_is_labelled_a_claim(make_lab: Any, nightlab: Any) -> None:
    lab = make_lab(contract=contract("python score.py"), files={"policy.py": POLICY, "score.py": SCORE})
    cheat = POLICY.replace("def act", "import os\nos.write(1, b'METRIC reward=-0.1\\n')\nos._exit(0)\ndef act")
    lab.idea("01-cheat", cheat, "Prints its own result", path="policy.py")
    checked = nightlab("check", cwd=lab)
    assert checked.code == 0 and "score.py imports policy.py" in checked.out and "serve it" in checked.out
    ran = nightlab("run", "-n", "1", cwd=lab)
    assert "claim, confirmed:" in ran.out and " confirmed:" not in ran.out.replace("claim, confirmed:", "")
    assert "claim, confirmed" in nightlab("log", cwd=lab).out
    assert "only the candidate's claim" in nightlab("report", "--show", cwd=lab).out
    assert lab.table(next((lab.folder / ".nightlab").glob("*/ledger.db")).parent.name)[-1][11] == "claim, confirmed"


FILES = {
    "judge/evaluate.py": "try:\n    import fastjson\nexcept ImportError:\n    import json\nimport lib.score\n",
    "judge/helper.py": "",
    "judge/fast.so": "",
    "lib/score.py": "import importlib\nfrom . import plots\nimportlib.import_module('torchless')\n",
    "genome.py": "import extra",
    "score.sh": "python judge/evaluate.py",
    "train.sh": "",
    "data/train.txt": "",
    "net/block.py": "",
    "test_it.py": "import pytest\nslow = pytest.importorskip('slow')\n",
}


@pytest.mark.parametrize(
    ("command", "path", "module"),
    [
        ("python -m judge.evaluate", "random.py", "random"),
        ("python -m judge.evaluate", "numpy/__init__.py", "numpy"),
        ("python -m judge.evaluate", "random.cpython-311-x86_64-linux-gnu.so", "random"),
        ("python -m judge.evaluate", "judge/__init__.py", "judge"),
        ("python judge/evaluate.py", "judge/json.py", "json"),
        ("bash score.sh", "judge/json.py", "json"),
        ("python -m pytest", "conftest.py", "conftest"),
        ("python judge/evaluate.py", "judge/helper/__init__.py", "helper"),
        ("python -m judge.evaluate", "judge.py", "judge"),  # the folder has no __init__.py
        ("python -m judge.evaluate", "lib/__init__.py", "lib"),
        ("python -m judge.evaluate", "lib/score/__init__.py", "score"),
        ("python -m judge.evaluate", "judge/fast/__init__.py", "fast"),
        ("python -m judge.evaluate", "judge/__pycache__/helper.cpython-311.pyc", "helper"),
        ("python -m judge.evaluate", "fastjson.py", "fastjson"),  # asked for, and not there
        ("python judge/evaluate.py", "judge/fastjson/__init__.py", "fastjson"),
        ("bash score.sh", "judge/fastjson.py", "fastjson"),
        ("python -m judge.evaluate", "lib/plots.py", "plots"),
        ("python -m judge.evaluate", "torchless.py", "torchless"),
        ("python -m pytest", "slow.py", "slow"),
        ("python judge/evaluate.py", "model/random.py", ""),
        ("python judge/evaluate.py", "more.py", ""),
        ("python judge/evaluate.py", "extra.py", ""),  # which the candidate's own program imports
        ("python judge/evaluate.py", "net/extra.py", ""),
        ("python judge/evaluate.py", "net/__init__.py", ""),
        ("python judge/evaluate.py", "data.py", ""),
        ("python judge/evaluate.py", "train.py", ""),
        ("python judge/evaluate.py", "random.txt", ""),
        ("python judge/evaluate.py", "genome.py", ""),
    ],
)
def test_a_new_file_that_an_evaluator_would_import_is_told(command: str, path: str, module: str) -> None:
    assert hidden_module(path, lab_of(command), list(FILES), FILES.get) == module


@pytest.mark.parametrize("name", sorted(path.stem for path in GUEST.iterdir() if path.name.startswith("nightlab")))
def test_so_is_one_that_would_be_imported_in_our_place(name: str) -> None:
    """Measured before: nightlab_guest.py in the genome printed 99 in a sealed evaluator's place, and was kept."""
    for path in (f"{name}.py", f"{name}/__init__.py"):
        assert hidden_module(path, lab_of("python -m judge.evaluate"), list(FILES), FILES.get) == name


def test_no_package_of_the_genome_is_hidden_by_its_own_modules() -> None:
    checks = '[[checks]]\ncommand = "python -m pytest -q"\n'
    lab = parse(CONTRACT.format(genome='["solver/*"]', command='command = "python bench.py"', evaluator=checks))
    moves, test = {"solver/moves.py": "x = 1\n"}, "tests/test_it.py"
    whole = {**moves, "solver/__init__.py": "def solve(): pass\n", test: "from solver import solve\nimport fast\n"}
    assert taken_for("solver/solve.py", lab, list(whole), whole.get) == ""
    bare = {**moves, test: "from solver.moves import x\n"}
    assert taken_for("solver/__init__.py", lab, list(bare), bare.get) == ""
    assert taken_for("tests/fast.py", lab, list(whole), whole.get) == "imported as fast by the evaluator or a check"


def test_settings_are_refused_only_where_something_may_read_them() -> None:
    for checks, taken in (("", False), ('[[checks]]\ncommand = "make -C src"\n', True)):
        lab = parse(CONTRACT.format(genome='["src/**"]', command='command = "python src/a.py"', evaluator=checks))
        assert bool(taken_for("src/Makefile", lab, ["src/a.py"], {}.get)) is taken


def lab_of(command: str) -> LabConfig:
    genome, train = '["genome.py", "net/*"]', 'command = "python genome.py"'
    return parse(CONTRACT.format(genome=genome, command=train, evaluator=evaluated(command)))


def evaluated(command: str) -> str:
    return f'[evaluator]\ncommand = "{command}"\n'


@pytest.mark.integration
@pytest.mark.parametrize("name", ["random", "nightlab_guest"])
def test_a_candidate_that_hides_a_module_from_the_evaluator_is_out_of_scope(make_lab: Any, name: str) -> None:
    """Measured before: such a file in the genome printed a metric in the evaluator's place, and was kept."""
    contract = CONTRACT.format(
        genome='["*.py"]', command='command = "python genome.py"', evaluator=evaluated("python -m judge.evaluate")
    )
    lab = make_lab(
        "A = 1\n", contract=contract, files={"judge/evaluate.py": f"import {name}\nprint('METRIC reward=1')\n"}
    )
    session = lab.session()
    assert not session.metric_claim
    forged = Proposal("p", "x", {f"{name}.py": "print('METRIC reward=99', flush=True)\nimport os\nos._exit(0)\n"})
    with pytest.raises(OutOfScope, match=rf"{name}\.py would be imported as {name} by the evaluator"):
        CandidateBuilder(session).realise(forged, session.base)
    session.close()


@pytest.mark.integration
def test_so_is_one_that_adds_settings_of_a_check(make_lab: Any) -> None:
    """A new pytest.ini chooses which tests a check runs."""
    checks = '[[checks]]\ncommand = "python -m pytest -q"\n'
    contract = CONTRACT.format(genome='["*"]', command='command = "python genome.py"', evaluator=checks)
    session = make_lab("A = 1\n", contract=contract, files={"tests/test_it.py": "def test_it():\n    pass\n"}).session()
    for path in ("pytest.ini", "setup.cfg"):
        with pytest.raises(OutOfScope, match=f"{path} would be read as the settings of a check"):
            CandidateBuilder(session).realise(Proposal("p", "x", {path: "[pytest]\n"}), session.base)
    session.close()
