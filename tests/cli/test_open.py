"""A problem of another system, opened, checked and run, with nothing edited in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from support.processes import Done

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
