"""A problem of another system, opened, checked and run, with nothing edited in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.labs import TinyLab
from support.processes import Done

from nightlab.core.config import parse

FILES = {
    "initial_program.py": (
        "# EVOLVE-BLOCK-START\nRATE = 4.0  # [0.25..8 log]\n# EVOLVE-BLOCK-END\ndef run():\n    return RATE\n"
    ),
    "evaluator.py": (
        "import importlib.util\ndef evaluate(program_path):\n"
        "    spec = importlib.util.spec_from_file_location('p', program_path)\n"
        "    module = importlib.util.module_from_spec(spec)\n    spec.loader.exec_module(module)\n"
        "    return {'combined_score': 10 - module.run()}\n"
    ),
    "config.yaml": "prompt: {system_message: Make it small.}\nnonsense: 1\n",
}


def test_an_openevolve_folder_is_opened_checked_and_run(nightlab: Callable[..., Done], tmp_path: Path) -> None:
    problem = tmp_path / "problem"
    problem.mkdir()
    for name, text in FILES.items():
        (problem / name).write_text(text)
    done = nightlab("open", str(problem), "lab", cwd=tmp_path)
    assert done.code == 0 and "sealed" in done.out and "nonsense is not understood" in done.out, done.err
    assert {path.name: path.read_text() for path in problem.iterdir()} == FILES, "the original is as it was"
    lab = tmp_path / "lab"
    assert (lab / "program.md").read_text() == "Make it small."
    checked = nightlab("check", cwd=lab)
    assert checked.code == 0 and "1 line between markers may change" in checked.out
    assert "computed by an evaluator in a separate process" in checked.out
    ran = nightlab("run", "--plain", "-n", "2", cwd=lab)
    assert ran.code == 0 and "tune RATE" in ran.out, ran.out + ran.err
    assert "exists already" in nightlab("open", str(problem), "lab", cwd=tmp_path).err
    assert "no layout that nightlab knows" in nightlab("open", str(tmp_path / "home"), cwd=tmp_path).err
    assert "is a lab already" in nightlab("open", str(lab), "again", cwd=tmp_path).err
    assert "would be inside" in nightlab("open", ".", cwd=problem).err


def test_a_baseline_that_needs_one_process_is_told_of_unsealed(nightlab: Callable[..., Done], tmp_path: Path) -> None:
    problem = tmp_path / "problem"
    problem.mkdir()
    called = FILES["evaluator.py"].replace("module.run()", "module.run(lambda: 1)")
    program = "def run(ask):\n    return ask()\n"
    for name, text in {"evaluator.py": called, "initial_program.py": program}.items():
        (problem / name).write_text(text)
    assert nightlab("open", str(problem), "lab", cwd=tmp_path).code == 0
    ran = nightlab("run", "--plain", "-n", "1", cwd=tmp_path / "lab")
    assert ran.code and "can't be handed over" in ran.err and "nightlab open --unsealed" in ran.err, ran.err


PI = {
    ".auto/measure.sh": 'echo "METRIC points=$(cat answer.txt)"\n',
    ".auto/checks.sh": 'test "$(cat answer.txt)" != 13 || { echo unlucky; exit 1; }\n',
    ".auto/hooks/after.sh": 'cat >> "$HOME/told.jsonl"\n',
    ".auto/config.json": '{"metricName": "points", "bestDirection": "higher", "maxIterations": 5}',
    ".auto/prompt.md": "## Files in Scope\n- `answer.txt`\n",
    "answer.txt": "7\n",
}
SHINKA = {
    "initial.py": "# EVOLVE-BLOCK-START\nRATE = 4.0\ndef run(n):\n    return RATE * n\n# EVOLVE-BLOCK-END\n",
    "evaluate.py": (
        "import sys\nfrom shinka.core import run_shinka_eval\n"
        "run_shinka_eval(program_path=sys.argv[2], results_dir=sys.argv[4], experiment_fn_name='run', num_runs=1,\n"
        "    get_experiment_kwargs=lambda n: {'n': 2}, aggregate_metrics_fn=lambda f: {'combined_score': f[0]})\n"
        "# --program_path --results_dir\n"
    ),
}
RUST = {
    "initial_program.rs": "// EVOLVE-BLOCK-START\nconst N: i32 = 41;\n// EVOLVE-BLOCK-END\nfn main() {}\n",
    "evaluator.py": (
        "import re\ndef evaluate(program_path):\n"
        "    return {'combined_score': int(re.search(r'= (\\d+)', open(program_path).read())[1])}\n"
    ),
}


def in_git(folder: Path, files: dict[str, str]) -> TinyLab:
    folder.mkdir()
    lab = TinyLab(folder)
    for path, text in files.items():
        lab.write(path, text)
    lab.git("init", "-q", "-b", "main")
    lab.commit()
    return lab


@pytest.mark.parametrize(
    ("files", "shown", "baseline", "idle"),
    [
        (FILES, "nightlab_bridge.openevolve --sealed", "6", False),
        (SHINKA, "nightlab_bridge.shinka --sealed", "8", False),
        (RUST, "initial_program.rs", "41", True),
    ],
    ids=["openevolve", "shinka", "another-language"],
)
def test_init_check_and_run_work_in_a_foreign_folder(
    nightlab: Callable[..., Done], tmp_path: Path, files: dict[str, str], shown: str, baseline: str, idle: bool
) -> None:
    lab = in_git(tmp_path / "problem", files)
    there = nightlab("init", "--show", cwd=lab)
    assert there.code == 0 and shown in there.out and not (lab.folder / "lab.toml").exists()
    checked = nightlab("check", cwd=lab)
    assert checked.code == 0, checked.out
    assert ("will propose nothing" in checked.out) == idle
    ran = nightlab("run", "--plain", "-n", "1", cwd=lab)
    first = next(line for line in ran.out.splitlines() if line.startswith("#0 ") and "keep" in line)
    assert ran.code == 0 and float(first.split()[2]) == float(baseline), ran.out + ran.err
    assert nightlab("init", cwd=lab).code == 0 and (lab.folder / "lab.toml").read_text() == there.out


def test_a_pi_session_runs_with_its_checks_and_hooks(nightlab: Callable[..., Done], tmp_path: Path) -> None:
    lab = in_git(tmp_path / "problem", PI)
    assert nightlab("init", cwd=lab).code == 0
    contract = (lab.folder / "lab.toml").read_text()
    lab.write("lab.toml", contract + '\n[[proposers]]\nkind = "patches"\nfolder = "ideas"\n')
    for answer in ("13", "9"):
        patch = f"--- a/answer.txt\n+++ b/answer.txt\n@@ -1 +1 @@\n-7\n+{answer}\n"
        lab.write(f"ideas/{answer}.patch", patch)
    lab.commit()
    ran = nightlab("run", "--plain", "-n", "2", cwd=lab)
    assert ran.code == 0, ran.out + ran.err
    _, unlucky, better = nightlab("log", "--json", cwd=lab).json
    assert (unlucky["status"], unlucky["reason"]) == ("discard", "checks failed")
    assert (better["status"], better["metric"]) == ("keep", 9.0)
    told = (tmp_path / "home" / "told.jsonl").read_text()
    assert told.count('"hook": "after"') == 3, "the baseline's too"


def test_init_drafts_a_contract_for_a_folder_of_no_known_layout(nightlab: Callable[..., Done], tmp_path: Path) -> None:
    one = in_git(tmp_path / "one", {"model.py": "print('METRIC seconds=1')\n", "test_model.py": "", "data.csv": "1"})
    done = nightlab("init", cwd=one)
    assert done.code == 0 and "inferred from model.py alone: set metric.name" in done.out and "next: " in done.out
    contract = parse((one.folder / "lab.toml").read_text())
    assert (contract.genome, contract.command, contract.checks) == (("model.py",), "python model.py", ())
    one.commit()
    assert nightlab("check", cwd=one).code == 0
    two = in_git(tmp_path / "two", {"a.py": "", "b.py": ""})
    done = nightlab("init", cwd=two)
    assert "inferred from nothing: set genome, command and metric.name" in done.out
    assert parse((two.folder / "lab.toml").read_text()).genome == ("solve.py",)
