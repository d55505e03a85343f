"""Controls the user's terminal for a screen: alternate buffer, single keys, and restoring everything at the end."""

from __future__ import annotations

import codecs
import locale
import os
import select
import signal
import termios
import threading
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from rich.console import COLOR_SYSTEMS, Console
from rich.segment import Segment
from rich.text import Text

from nightlab.ui.terminal.outlet import Outlet

ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"  # alternate buffer, no cursor, no wrapping
LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
SYNC, SHOWN = "\x1b[?2026h", "\x1b[?2026l"  # show a frame at once, where the terminal supports it
KEYS = {"[A": "up", "[B": "down", "[C": "right", "[D": "left", "[5~": "page up", "[6~": "page down",
        "[H": "home", "[F": "end", "OA": "up", "OB": "down", "OC": "right", "OD": "left"}  # fmt: skip
ESCAPE = 0.05  # seconds to wait for the rest of an escape sequence


def usable(out: int) -> bool:
    """Whether a screen can be drawn on a file descriptor: a UTF-8 terminal with cursor control."""
    utf8 = "utf" in locale.getpreferredencoding(False).lower()
    return os.isatty(out) and os.environ.get("TERM", "dumb") not in ("dumb", "unknown") and utf8


class Terminal:
    """The terminal at ``out``, with keys from ``keys`` if that is a terminal; ``console`` determines the colours.

    All methods except ``close`` must be called from one thread. The terminal is restored however the process ends,
    except after ``kill -9`` (then run ``reset``).
    """

    def __init__(self, outlet: Outlet, keys: int | None, console: Console) -> None:
        self.outlet, self.console = outlet, console
        self.keys = keys if keys is not None and os.isatty(keys) else None
        self._shown: list[Text] = []
        self._size = (0, 0)
        self._before: list[Any] | None = None
        self._inside = False
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="ignore")
        self._pressed: list[str] = []
        self._lock = threading.RLock()

    # -- in and out ------------------------------------------------------------------------------

    def enter(self) -> None:
        """Take over the terminal, if this process is in the foreground."""
        with self._lock:
            if self._inside or not self.in_front():
                return
            if self.keys is not None:
                with suppress(termios.error):
                    self._before = termios.tcgetattr(self.keys)
                    mode = termios.tcgetattr(self.keys)
                    mode[tty.LFLAG] &= ~(termios.ECHO | termios.ICANON)
                    mode[tty.CC][termios.VMIN], mode[tty.CC][termios.VTIME] = 1, 0
                    termios.tcsetattr(self.keys, termios.TCSANOW, mode)
            self.outlet.write(ENTER)
            self._inside, self._shown = True, []

    def leave(self) -> None:
        """Restore the terminal. May be called from any thread."""
        with self._lock:
            if not self._inside:
                return
            self._inside = False
            self.outlet.write(LEAVE)
            if self.keys is not None and self._before is not None:
                with suppress(termios.error), _undisturbed():
                    termios.tcsetattr(self.keys, termios.TCSANOW, self._before)

    def in_front(self) -> bool:
        if self.keys is None:
            return True
        try:
            return os.tcgetpgrp(self.keys) == os.getpgrp()
        except OSError:
            return False

    # -- drawing ---------------------------------------------------------------------------------

    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            found = os.get_terminal_size(self.outlet.fd)
        except OSError:
            return 80, 24
        return (found.columns, found.lines) if found.columns and found.lines else (80, 24)

    def paint(self, lines: Sequence[Text]) -> None:
        """Draw the lines that changed. Skipped while the terminal hangs: the next call catches up."""
        with self._lock:
            if not self._inside or not self.outlet.idle():
                return
            size, parts = self.size(), []
            if size != self._size or not self._shown:
                self._size, self._shown = size, []
                parts.append("\x1b[2J")
            for n, line in enumerate(lines[: size[1]]):
                if n >= len(self._shown) or line != self._shown[n]:
                    rest = "\x1b[K" if line.cell_len < size[0] else ""  # else it would erase the last character
                    parts.append(f"\x1b[{n + 1};1H{self._drawn(line)}{rest}")
            self._shown = list(lines)
            if parts:
                self.outlet.write(f"{SYNC}{''.join(parts)}{SHOWN}")

    def _drawn(self, line: Text) -> str:
        """A line with escape sequences. The console would also wrap, measure and record it, at five times the cost."""
        system = COLOR_SYSTEMS.get(self.console.color_system or "")
        parts = line.render(self.console)
        if self.console.no_color:
            parts = Segment.remove_color(parts)
        return "".join(style.render(text, color_system=system) if style else text for text, style, _ in parts)

    # -- keys ------------------------------------------------------------------------------------

    def key(self, seconds: float, wake: int) -> str:
        """The next key pressed within ``seconds``: a character or a key's name; empty on timeout.

        Also empty once the descriptor ``wake`` is readable. Raises EOFError when no keys can come any more.
        """
        if self._pressed:
            return self._pressed.pop(0)
        watched = [wake] if self.keys is None or not self._inside else [wake, self.keys]
        ready, _, _ = select.select(watched, [], [], seconds)
        if self.keys not in ready or self.keys is None:
            return ""
        words = self._read(self.keys)
        if words == "\x1b" or words.endswith("\x1b["):
            while select.select([self.keys], [], [], ESCAPE)[0]:
                words += self._read(self.keys)
        self._pressed = _keys(words)
        return self._pressed.pop(0) if self._pressed else ""

    def _read(self, keys: int) -> str:
        try:
            data = os.read(keys, 4096)
        except OSError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        return self._decode.decode(data)


class SuspendHandler:
    """Handle Ctrl-Z by restoring the terminal, and ``fg`` by redrawing the screen. Call it from the main thread."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.before = signal.signal(signal.SIGTSTP, self._stop)

    def close(self) -> None:
        signal.signal(signal.SIGTSTP, self.before)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.terminal.leave()
        self.terminal.outlet.drain(1)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # and here it goes on, once it is continued
        signal.signal(signal.SIGTSTP, self._stop)
        self.terminal.enter()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Allow a background process to change the terminal without being stopped."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _keys(words: str) -> list[str]:
    """The characters and key names in terminal input; anything else is dropped."""
    found, at = [], 0
    while at < len(words):
        if words[at] == "\x1b":
            name = next((name for name in KEYS if words.startswith(name, at + 1)), None)
            if name:
                found.append(KEYS[name])
                at += 1 + len(name)
                continue
            if at + 1 == len(words):
                found.append("escape")
            elif words[at + 1] in "[O":  # a key without a function here
                at += 2
                while at < len(words) and not words[at].isalpha() and words[at] != "~":
                    at += 1
        elif words[at] in "\r\n":
            found.append("enter")
        elif words[at] in "\x7f\b":
            found.append("backspace")
        elif words[at].isprintable():
            found.append(words[at])
        at += 1
    return found
