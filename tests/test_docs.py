"""What people read is true: help for every command with examples, and commands in the README that exist."""

from __future__ import annotations

import re
import runpy
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from nightlab.cli.main import app
from nightlab.session.create import SHIPPED

ROOT = Path(__file__).parent.parent
COMMANDS = ["new", "init", "check", "run", "try", "log", "show", "diff", "replay", "confirm", "plot", "demo"]
SKILL = ROOT / "src" / "nightlab" / "integrations" / "SKILL.md"
PAGES = [ROOT / "README.md", SKILL, *sorted((ROOT / "docs").rglob("*.md"))]


@cache
def group() -> Any:
    return typer.main.get_command(app)


def test_these_are_the_commands() -> None:
    assert set(COMMANDS) <= set(group().commands)


@pytest.mark.parametrize("command", sorted(group().commands))
def test_every_command_has_help_with_an_example(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0 and done.stderr == ""
    text = " ".join(done.stdout.split())
    assert re.search(r"Examples?: ", text) and text.count(f"nightlab {command}") >= 2
    assert list(tmp_path.iterdir()) == [tmp_path / "home"], "help writes nothing"


def test_new_lists_the_labs_that_ship() -> None:
    shown = CliRunner().invoke(app, ["new"]).stdout
    assert set(re.findall(r"^  (\w+)", shown, re.M)) == {lab.parent.name for lab in SHIPPED.glob("*/lab.toml")}
    assert "  speed      Make `close_pairs` faster\n" in shown


def test_the_package_runs_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["nightlab", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("nightlab", run_name="__main__")
    assert not ended.value.code and capsys.readouterr().out.startswith("nightlab ")


def test_help_and_version(nightlab: Any, tmp_path: Path) -> None:
    shown = nightlab("--help", cwd=tmp_path)
    assert shown.code == 0 and all(f"  {name} " in shown.out for name in COMMANDS)
    assert nightlab("--version", cwd=tmp_path).out.startswith("nightlab ")
    assert nightlab(cwd=tmp_path).code == 0
    assert nightlab("nonsense", cwd=tmp_path).code == 2
    assert nightlab("run", "--nonsense", cwd=tmp_path).code == 2
    assert nightlab("show", "x", cwd=tmp_path).code == 2


def shown_commands() -> list[tuple[str, str]]:
    """Each command line of the pages and of the help's examples that calls nightlab, and where it stands."""
    found = []
    for page in PAGES:
        fenced = False
        for line in page.read_text().splitlines():
            fenced = not fenced if line.lstrip().startswith("```") else fenced
            words = line.strip().removeprefix("$ ")
            if (fenced or line.startswith("    ")) and words.startswith("nightlab "):
                found.append((str(page.relative_to(ROOT)), words))
            found += [(str(page.relative_to(ROOT)), words) for words in re.findall(r"`(nightlab [^`]+)`", line)]
    for name, command in group().commands.items():
        for words in re.split(r"·|\bthen: |Examples?: ", command.epilog or ""):
            if words.strip().startswith("nightlab "):
                found.append((f"{name} --help", words.strip()))
    return found


def parsed(line: str) -> None:
    """Parse a command line as the program would, without running it; a placeholder stands for a value."""
    line = re.sub(r"\s\((?:against|.*its parent).*", "", line.split("|")[0].split("&&")[0])
    words = shlex.split(re.sub(r"\s+#.*", "", line).rstrip("…. "))[1:]
    if not words or words[0].startswith("-"):
        assert set(words) <= {"--help", "--version"}, line
        return
    commands = group().commands
    assert words[0] in commands, f"there is no command {words[0]!r}: {line}"
    command = commands[words[0]]
    given = ["1" if word in ("N", "M") else word for word in words[1:]]
    if given not in (["--help"], ["-h"]):
        root = group().make_context("nightlab", [words[0]])
        command.make_context(words[0], given, parent=root, resilient_parsing=False)


@pytest.mark.parametrize(("where", "line"), sorted(set(shown_commands())))
def test_commands_that_are_shown_exist(where: str, line: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    parsed(line)


def test_the_check_itself_notices_a_wrong_command() -> None:
    for wrong in ("nightlab sleep", "nightlab run --hourz 8", "nightlab show twelve"):
        with pytest.raises(Exception):  # noqa: B017
            parsed(wrong)


def test_hints_name_commands_that_exist() -> None:
    sources = [*(ROOT / "src" / "nightlab").rglob("*.py")]
    mentioned = {
        name for s in sources for name in re.findall(r"nightlab ([a-z]+)(?= --| -C| best| N\b|\"|\))", s.read_text())
    }
    mentioned -= {"knows", "ran"}  # English sentences
    assert mentioned and mentioned <= set(group().commands), mentioned - set(group().commands)
