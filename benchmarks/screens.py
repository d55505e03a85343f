"""Draws a session's screen as pictures for the docs: python benchmarks/screens.py LAB/.nightlab/TAG docs/screens

At three widths, of whatever the session does at that moment.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console

from nightlab.ui.monitor import Follower
from nightlab.ui.terminal.outlet import Outlet
from nightlab.ui.terminal.screen import Screen
from nightlab.ui.terminal.terminal import Terminal

SIZES = [(40, 20), (80, 24), (200, 48)]


def draw(folder: Path, out: Path) -> None:
    follower = Follower(folder)
    out.mkdir(parents=True, exist_ok=True)
    for width, height in SIZES:
        console = Console(
            file=io.StringIO(), width=width, height=height, record=True, color_system="256", force_terminal=True
        )
        screen = Screen(Terminal(Outlet(1), None, console), may_leave=True)
        for line in screen.lines(follower.look(), width, height):
            console.print(line, no_wrap=True, highlight=False)
        path = out / f"terminal-{width}.svg"
        console.save_svg(str(path), title="nightlab watch")
        print(f"wrote {path}")


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
