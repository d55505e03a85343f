"""Completion, asked by a real bash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BASH = """
eval "$(nightlab completion bash)"
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
ask=$(complete -p nightlab | sed -E 's/.*-F ([^ ]+) .*/\\1/')
$ask nightlab
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(folder: Path, *words: str) -> list[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["bash", "-c", BASH, "bash", "nightlab", *words]
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split()


@pytest.mark.integration
def test_bash_completes_commands_options_and_tags(tmp_path: Path) -> None:
    for tag in ("nov21", "nov22", "wide"):
        (tmp_path / ".nightlab" / tag).mkdir(parents=True)
        (tmp_path / ".nightlab" / tag / "ledger.db").touch()
    assert set(completed(tmp_path, "re")) == {"redteam", "referee", "resume", "report", "replay"}
    assert completed(tmp_path, "run", "--pat") == ["--patience"]
    assert set(completed(tmp_path, "log", "--tag", "nov")) == {"nov21", "nov22"}
    (tmp_path / "elsewhere").mkdir()
    there = completed(tmp_path / "elsewhere", "log", "--lab", "..", "--tag", "w")
    assert there == ["wide"], "of the lab that is named"


@pytest.mark.parametrize(("shell", "word"), [("bash", "complete "), ("zsh", "compdef"), ("fish", "complete --")])
def test_a_script_for_each_shell(shell: str, word: str, nightlab: Any, tmp_path: Path) -> None:
    done = nightlab("completion", shell, cwd=tmp_path)
    assert done.code == 0 and word in done.out and "nightlab" in done.out
