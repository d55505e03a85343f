"""Folders of systems without a reader are recognised, and what to do with them is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightlab.core.config import load_contract
from nightlab.core.foreign import recognise
from nightlab.core.layouts import Problem, read_layout
from nightlab.core.types import NightlabError
from nightlab.session.create import infer, open_problem

FOLDERS = {
    "GPU Mode": {"task.yml": "", "reference.py": "", "submission.py": "", "eval.py": "", "task.py": ""},
    "GEPA": {"tune.py": "import gepa\ngepa.optimize(seed_candidate={}, adapter=None)\n"},
}


@pytest.mark.parametrize("system", FOLDERS)
def test_a_system_without_a_reader_is_named_with_what_to_do(system: str, tmp_path: Path) -> None:
    files = FOLDERS[system]
    problem = Problem(tuple(files), files.get, "problem")
    assert read_layout(problem) is None
    found = recognise(problem)
    assert found and found.system == system
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    for attempt in (lambda: load_contract(tmp_path), lambda: open_problem(tmp_path, tmp_path / "new")):
        with pytest.raises(NightlabError, match=f"looks like a problem of {system}") as error:
            attempt()
        assert "lab.toml" in error.value.hint
    text, source = infer(tmp_path)
    assert system in source and "genome" in text


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"model.py": "class Model: pass\n"},
        {"task.yaml": "name: x\n"},
        {"spec.yaml": "openapi: 3\n"},
        {"problem.yaml": "type: about:blank\n"},
        {"run.py": "def evaluate(candidate): pass\n"},
    ],
)
def test_a_folder_of_ones_own_is_of_no_system(files: dict[str, str]) -> None:
    assert recognise(Problem(tuple(files), files.get)) is None
