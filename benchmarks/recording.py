"""Records a terminal program as an animated SVG: python benchmarks/recording.py OUT.svg --speed 2 -- COMMAND …

The recording in the README is of the speed lab: nightlab new faster --from speed; cd faster; then this with
``-- nightlab run -n 12``. The program runs in a pseudo-terminal of 96 x 26 cells; each frame that differs is drawn.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from html import escape
from pathlib import Path
from typing import Any

import pyte

COLUMNS, ROWS, WIDE, HIGH = 96, 26, 8.4, 18.0  # cells; pixels of a cell
APART, HOLD = 0.5, 3.0  # seconds between frames at least; seconds that the last one stays
PALETTE = {
    "default": "#d7dae0", "black": "#5c6370", "red": "#e06c75", "green": "#98c379", "brown": "#e5c07b",
    "blue": "#61afef", "magenta": "#c678dd", "cyan": "#56b6c2", "white": "#d7dae0",
}  # fmt: skip
HEAVY = ' font-weight="700"'
STYLE = """svg{background:#1e2127;border-radius:6px}
text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre}"""


def record(command: list[str]) -> list[tuple[float, tuple[str, ...]]]:
    """Run it; returns the time of each frame and its rows, as SVG text."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    stream.feed(f"$ {' '.join(command)}\r\n".encode())
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    running = subprocess.Popen(
        command,
        env={**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
        preexec_fn=lambda: os.login_tty(theirs),
    )
    os.close(theirs)
    began, frames = time.monotonic(), [(0.0, drawn(screen))]
    while running.poll() is None or select.select([ours], [], [], 0.1)[0]:
        if select.select([ours], [], [], APART)[0]:
            try:
                stream.feed(os.read(ours, 1 << 16))
            except OSError:  # the program has closed the terminal
                break
        now = time.monotonic() - began
        if now - frames[-1][0] >= APART and (rows := drawn(screen)) != frames[-1][1]:
            frames.append((now, rows))
    running.wait()
    return [*frames, (time.monotonic() - began, drawn(screen))]


def drawn(screen: pyte.Screen) -> tuple[str, ...]:
    return tuple(row(screen.buffer[y]) for y in range(ROWS))


def row(cells: Any) -> str:
    """One row as SVG: a text for each run of cells of one style, held to the grid."""
    parts, start = [], 0
    styles = [(cells[x].fg, cells[x].bold, cells[x].reverse) for x in range(COLUMNS)]
    for x in range(1, COLUMNS + 1):
        if x < COLUMNS and styles[x] == styles[start]:
            continue
        text = "".join(cells[c].data for c in range(start, x))
        if text.strip():
            shown = text.rstrip()
            left = start + len(shown) - len(shown.lstrip())
            shown = shown.lstrip()
            fg, bold, _ = styles[start]
            colour = PALETTE.get(fg) or f"#{fg}"
            parts.append(
                f'<text x="{left * WIDE:g}" textLength="{len(shown) * WIDE:g}" fill="{colour}"'
                f"{HEAVY if bold else ''}>{escape(shown)}</text>"
            )
        start = x
    return "".join(parts)


def film(frames: list[tuple[float, tuple[str, ...]]], speed: float) -> str:
    """All frames below each other, each distinct row once, moved past the opening by steps."""
    width, height = COLUMNS * WIDE + 24, ROWS * HIGH + 24
    names: dict[str, str] = {}
    for _, rows in frames:
        for text in rows:
            if text:
                names.setdefault(text, f"r{len(names)}")
    whole = frames[-1][0] / speed + HOLD
    keys = "".join(
        f"{at / speed / whole:.4%}{{transform:translateY({-n * ROWS * HIGH:g}px)}}" for n, (at, _) in enumerate(frames)
    )
    last = -(len(frames) - 1) * ROWS * HIGH
    moves = (
        f"@keyframes go{{{keys}100%{{transform:translateY({last:g}px)}}}}"
        f"#film{{animation:go {whole:.2f}s steps(1,end) infinite}}"
    )
    uses = "".join(
        f'<use href="#{names[text]}" y="{(n * ROWS + y) * HIGH:g}"/>'
        for n, (_, rows) in enumerate(frames)
        for y, text in enumerate(rows)
        if text
    )
    defs = "".join(f'<g id="{name}">{text}</g>' for text, name in names.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}">'
        f"<style>{STYLE}{moves}</style><defs>{defs}</defs>"
        f'<svg x="12" y="12" width="{COLUMNS * WIDE:g}" height="{ROWS * HIGH:g}"><g id="film">'
        f'<g transform="translate(0 13)">{uses}</g></g></svg></svg>\n'
    )


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("out", type=Path)
    asked.add_argument("--speed", type=float, default=1.0, help="how many times faster than it ran")
    asked.add_argument("command", nargs="+")
    given = asked.parse_args()
    found = record(given.command)
    given.out.write_text(film(found, given.speed))
    print(f"wrote {given.out}: {len(found)} frames of {found[-1][0]:.0f} s, {given.out.stat().st_size // 1000} kB")
