"""The list of commands, and the option names of earlier versions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from nightlab.cli.help import RENAMED, SECTIONS, examples
from nightlab.cli.main import app


def options() -> list[tuple[str, str]]:
    """Each command with each of its long options."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return [
        (name, option.removeprefix("--"))
        for name, command in commands.items()
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--")
    ]


def test_commands_are_listed_in_order_of_use_each_summary_whole(nightlab: Any, tmp_path: Path) -> None:
    shown = nightlab("--help", cwd=tmp_path, COLUMNS="80").out
    rows = re.findall(r"^  ([a-z]+) {2,}(\S.*)$", shown, re.MULTILINE)
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert sorted(name for name, _ in rows) == sorted(commands)
    assert re.findall(r"^(\w+):$", shown, re.MULTILINE) == ["Options", *SECTIONS]
    wanted = [name for names in SECTIONS.values() for name in names]
    assert [name for name, _ in rows][: len(wanted)] == wanted
    for name, summary in rows:
        sentence = commands[name].help.split("\n\n")[0]
        assert f"{summary}." == " ".join(sentence.split()), f"the summary of {name} is cut or takes two lines"
    assert max(map(len, shown.splitlines())) <= 80


def complaint(command: str, word: str) -> str:
    """What parsing one option of a command complains about."""
    group: Any = typer.main.get_command(app)
    root = group.make_context("nightlab", [command])
    try:
        group.commands[command].make_context(command, [word], parent=root)
    except Exception as error:
        return str(error)
    return ""


@pytest.mark.parametrize("old", sorted(RENAMED))
def test_an_earlier_name_is_accepted_and_hidden(old: str) -> None:
    having = [command for command, option in options() if option == RENAMED[old]]
    assert having and not [command for command, option in options() if option == old]
    assert "No such option" not in complaint(having[0], f"--{old}")
    assert "No such option" in complaint(having[0], f"--{old}x")


def test_examples_are_read_from_an_epilog() -> None:
    assert examples("Examples:  nightlab log   ·   nightlab log --all") == ["nightlab log", "nightlab log --all"]
