"""How ``--help`` looks, in plain text (no rich, so that it stays quick), and the option names of earlier versions."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from copy import copy
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_name

SECTIONS = {
    "Start": ("demo", "new", "open", "init", "check", "redteam"),
    "Run": ("run", "pbt", "pause", "resume", "skip", "pin", "note"),
    "Look": ("watch", "serve", "log", "show", "diff", "plot", "report"),
    "Judge": ("confirm", "transfer", "replay", "study"),
    "Share": ("join", "know", "share", "sync", "commons", "audit", "leave", "arena", "gossip", "submit", "referee"),
    "More": ("try", "wait", "skill", "mcp", "export", "import", "gene"),  # and each command not named here
}
RENAMED = {
    "best": "top",
    "fuel": "max-fuel",
    "gain-per-hour": "min-gain-per-hour",
    "look": "no-run",
    "memory": "max-memory",
    "money": "cost-limit",
    "on": "engine",
    "stall": "patience",
    "times": "repeats",
    "to": "out",
    "tokens": "token-limit",
    "waiting": "pending",
    "why": "reason",
    "work": "work-budget",
}


def current_name(name: str) -> str:
    """The name of an option that an earlier version called ``name``: accepted, and not shown in help."""
    return RENAMED.get(name, name)


def examples(epilog: str) -> list[str]:
    """The command lines of a command's epilog, ``Examples:  nightlab run   ·   nightlab run --hours 8``."""
    words = re.sub(r"^Examples?:\s*", "", " ".join(epilog.split()))
    return [line.strip() for line in words.split("·")]


class Command(TyperCommand):
    """A command whose help ends with its examples, one per line."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        _write_examples(self.epilog, formatter)


class Group(TyperGroup):
    """A group of commands whose help ends with its examples, one per line."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        _write_examples(self.epilog, formatter)


class Program(TyperGroup):
    """The program: lists its commands in ``SECTIONS``, in order of use."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        shown = {name: command for name, command in self.commands.items() if not command.hidden}
        width = max(map(len, shown))
        placed = {name for names in SECTIONS.values() for name in names}
        for title, names in SECTIONS.items():
            if title == "More":
                names += tuple(name for name in shown if name not in placed)
            rows = [(name.ljust(width), _summary(shown[name])) for name in names if name in shown]
            with formatter.section(title):
                formatter.write_dl(rows)


class App(typer.Typer):
    """A ``Typer`` whose commands show their examples one per line, and that builds the one which is called."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Run the command named on the command line. To build them all takes a third of a short command's time."""
        called, name = copy(self), sys.argv[1:2]
        called.registered_commands = [one for one in self.registered_commands if [_name(one)] == name]
        called.registered_groups = [one for one in self.registered_groups if [_group_name(one)] == name]
        known = called.registered_commands or called.registered_groups
        return super(App, called if known else self).__call__(*given, **named)

    def command(self, *given: Any, cls: Any = Command, **named: Any) -> Callable[[Any], Any]:
        return super().command(*given, cls=cls, **named)


def _name(info: Any) -> Any:
    return info.name or get_command_name(info.callback.__name__)


def _group_name(info: Any) -> Any:
    return info.typer_instance.info.name


def _summary(command: Any) -> str:
    return str(command.get_short_help_str(limit=200)).removesuffix(".")


def _write_examples(epilog: str | None, formatter: Any) -> None:
    if epilog:
        with formatter.section("Examples"):
            for line in examples(epilog):
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
