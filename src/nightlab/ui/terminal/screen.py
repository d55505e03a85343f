"""The screen: a session in a terminal, redrawn when it changes (at most twice a second), and its keys."""

from __future__ import annotations

import io
import os
import textwrap
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from rich.console import Console
from rich.text import Text

from nightlab.core.types import Experiment, Measurement, Metric, NightlabError, Trial
from nightlab.ui.snapshot import SessionSnapshot
from nightlab.ui.terminal.log import print_experiment
from nightlab.ui.terminal.panels import fitted, frame
from nightlab.ui.terminal.staircase import Staircase
from nightlab.ui.terminal.terminal import Terminal

EVERY = 0.5  # seconds between refreshes
TOLD = 15.0  # seconds for which a message is shown
LONGEST = 400  # characters of a note
KEYS = (("p", "pause"), ("s", "skip"), ("n", "note"), ("d", "details"), ("↑↓", "select"), ("?", "help"))
HELP = (
    ("p", "pause: nothing new starts, what is in flight ends as usual; p again goes on"),
    ("s", "skip the trial in flight, or the selected experiment's: it is discarded"),
    ("n", "a note for the proposers, one line: it stands in every briefing from then on"),
    ("d", "details: everything about the selected experiment, or the latest (enter does the same)"),
    ("↑ ↓", "select an experiment (k and j do the same); page up, page down, home and end go further"),
    ("esc", "back"),
    ("sigma", "a gain in units of noise, the spread of one trial by luck alone: less than 2 may well be luck"),
    ("evidence", "measured in the search; confirmed on fresh seeds; held out, on data that no decision has read; "
     "transferred to another budget. Only the last three are results"),
    ("duty", "the share of the time in which trials trained"),
    ("curve", "what a candidate reports as its loss: it is shown, and never trusted"),
)  # fmt: skip


class Followed(Protocol):
    """A session that can be watched, and that takes its user's orders."""

    def look(self) -> SessionSnapshot: ...

    def details(self, number: int) -> tuple[Experiment, Sequence[tuple[Trial, Measurement | None]], str]:
        """An experiment, its trials, and the end of its last trial's output."""
        ...

    def order(self, order: str) -> None:
        """Give an order. Raises NightlabError when it is not possible."""
        ...

    def note(self, words: str) -> None:
        """Add a note for the proposers."""
        ...


class Screen:
    """Shows one session in a terminal until it is stopped or the user leaves.

    ``may_leave``: q leaves; a running session's own screen stays until the session ends. ``may_write``: orders are
    allowed.
    """

    def __init__(self, terminal: Terminal, *, may_leave: bool, may_write: bool = True) -> None:
        self.terminal, self.may_leave, self.may_write = terminal, may_leave, may_write
        self.snapshot: SessionSnapshot | None = None
        self.selected: int | None = None
        self.mode = ""  # or: details, help, note, skip
        self.typed, self.top, self.page = "", 0, 1
        self._message, self._until = Text(), 0.0
        self._details: list[Text] = []
        self._stairs = Staircase()
        self._ended = False
        self._wake, self._waker = os.pipe()

    def run(self, followed: Followed) -> None:
        """Show a session until the end, then restore the terminal in any case."""
        self.followed, looked = followed, 0.0
        try:
            while not self._ended:
                self.terminal.enter()
                if time.monotonic() - looked >= EVERY:
                    looked = time.monotonic()
                    self.snapshot = followed.look()
                if self.snapshot:
                    self.terminal.paint(self.lines(self.snapshot, *self.terminal.size()))
                pressed = self.terminal.key(max(looked + EVERY - time.monotonic(), 0.0), self._wake)
                if pressed and self.snapshot:
                    looked -= EVERY if self.press(pressed, self.snapshot) else 0.0
        except EOFError:  # the terminal was closed
            pass
        finally:
            self.terminal.leave()

    def stop(self) -> None:
        """End it. May be called from any thread."""
        self._ended = True
        with suppress(OSError):
            os.write(self._waker, b"x")

    def tell(self, words: Text) -> None:
        """Show a message for a while."""
        self._message, self._until = words, time.monotonic() + TOLD

    # -- drawing ---------------------------------------------------------------------------------

    def lines(self, snapshot: SessionSnapshot, width: int, height: int) -> list[Text]:
        """The whole screen in its current state."""
        rows = max(height - 1, 0)
        self.page = max(rows - 3, 1)
        if self.mode == "help":
            body = _help(width)
        elif self.mode == "details":
            body = self._details
            self.top = max(min(self.top, len(body) - self.page), 0)
            body = body[self.top :]
        else:
            body = frame(snapshot, width, rows, self.selected, self._stairs)
            return [*body, *fitted([self._bottom(snapshot, width)], width, 1)]
        head = frame(snapshot, width, min(rows, 2))
        return [
            *head,
            *fitted([Text(), *body], width, rows - len(head)),
            *fitted([self._bottom(snapshot, width)], width, 1),
        ]

    def _bottom(self, snapshot: SessionSnapshot, width: int) -> Text:
        if self.mode == "note":
            typed = self.typed[-max(width - 10, 4) :]
            return Text.assemble((" note: ", "bold"), typed, ("▏", "bold cyan"))
        if self.mode == "skip":
            return Text.assemble((f" skip #{self._to_skip(snapshot)}? ", "bold"), "it is discarded, y or n")
        if time.monotonic() < self._until:
            return Text.assemble(" ", self._message)
        if self.mode:
            return Text(" esc back" + (" · ↑↓ scroll" if self.mode == "details" else ""), "dim")
        names = dict(KEYS) if self.may_write else {key: name for key, name in KEYS if key not in "psn"}
        if self.may_write and snapshot.paused:
            names["p"] = "resume"
        line, last = Text(), ("q", "leave") if self.may_leave else ("Ctrl-C", "stop")
        for key, name in [*names.items(), last]:
            line.append(" ").append(key, "bold").append(f" {name} ", "dim")
        return (
            line
            if line.cell_len <= width
            else Text.assemble((" ? ", "bold"), ("keys  ", "dim"), (last[0], "bold"), (f" {last[1]}", "dim"))
        )

    # -- keys ------------------------------------------------------------------------------------

    def press(self, key: str, snapshot: SessionSnapshot) -> bool:
        """Handle a key. Returns whether the session may have changed."""
        self._until = 0.0
        if self.mode == "note":
            return self._type(key)
        if self.mode == "skip":
            self.mode = ""
            return key == "y" and self._order(f"skip {self._to_skip(snapshot)}", "skipped", snapshot.alive)
        if key in ("escape", "q", "d", "enter", "?") and self.mode:
            self.mode = "help" if key == "?" and self.mode == "details" else ""
        elif key in ("up", "k", "down", "j", "page up", "page down", " ", "home", "end"):
            self._move(key, snapshot)
        elif key == "q":
            if self.may_leave:
                self._ended = True
            else:
                self.tell(Text("Ctrl-C ends the session; closing the terminal leaves it running"))
        elif key == "?":
            self.mode = "help"
        elif key == "escape":
            self.selected = None
        elif key in ("d", "enter"):
            self._show_details(snapshot)
        elif key in ("p", "s", "n"):
            return self._steer(key, snapshot)
        return False

    def _steer(self, key: str, snapshot: SessionSnapshot) -> bool:
        if not self.may_write:
            self.tell(Text("read-only: this window steers nothing", "yellow"))
        elif key == "p":
            order = "resume" if snapshot.paused else "pause"
            done = "it goes on" if snapshot.paused else "paused: what is in flight ends as usual"
            return self._order(order, done, snapshot.alive)
        elif key == "n":
            self.mode, self.typed = "note", ""
        elif self._to_skip(snapshot) is None:
            self.tell(Text("select the experiment in flight that you mean, then s", "yellow"))
        else:
            self.mode = "skip"
        return False

    def _type(self, key: str) -> bool:
        if key == "enter":
            self.mode = ""
            if self.typed.strip():
                self._do(partial(self.followed.note, self.typed), "noted: the proposers read it at their next turn")
        elif key == "escape":
            self.mode = ""
        elif key == "backspace":
            self.typed = self.typed[:-1]
        elif len(key) == 1 and len(self.typed) < LONGEST:
            self.typed += key
        return False

    def _order(self, order: str, done: str, alive: bool) -> bool:
        return self._do(partial(self.followed.order, order), done if alive else f"{done}, from its next start")

    def _do(self, act: Callable[[], None], done: str) -> bool:
        try:
            act()
        except (NightlabError, OSError) as error:
            self.tell(Text(f"not done: {error}", "yellow"))
            return False
        self.tell(Text(done, "green"))
        return True

    def _to_skip(self, snapshot: SessionSnapshot) -> int | None:
        """The experiment to skip: the selected one if it is running, else the only running one."""
        running = {trial.experiment for trial in snapshot.running if trial.purpose in ("search", "pilot")} - {0}
        if self.selected in running:
            return self.selected
        return next(iter(running)) if len(running) == 1 and self.selected is None else None

    def _move(self, key: str, snapshot: SessionSnapshot) -> None:
        """Scroll or select; up is towards the latest."""
        far = self.page if key.startswith("page") or key == " " else 10**9 if key in ("home", "end") else 1
        step = -far if key in ("up", "k", "page up", "home") else far
        if self.mode == "details":
            self.top += step
        elif self.mode == "" and snapshot.points:
            numbers = [point.number for point in reversed(snapshot.points)]
            at = numbers.index(self.selected) if self.selected in numbers else -1 if step > 0 else 0
            self.selected = numbers[max(min(at + step, len(numbers) - 1), 0)]

    def _show_details(self, snapshot: SessionSnapshot) -> None:
        number = self.selected if self.selected is not None else max((p.number for p in snapshot.points), default=None)
        if number is None:
            return
        try:
            found = self.followed.details(number)
        except NightlabError as error:
            self.tell(Text(f"{error}", "yellow"))
            return
        self._details = _details(snapshot.about.metric, *found, width=self.terminal.size()[0])
        self.mode, self.top = "details", 0


def _details(
    metric: Metric,
    experiment: Experiment,
    trials: Sequence[tuple[Trial, Measurement | None]],
    printed: str,
    width: int,
) -> list[Text]:
    out = io.StringIO()
    console = Console(file=out, width=max(width - 2, 20), force_terminal=True, color_system="standard")
    print_experiment(console, metric, experiment, trials, printed)
    return [Text.assemble(" ", Text.from_ansi(line)) for line in out.getvalue().splitlines()]


def _help(width: int) -> list[Text]:
    lines: list[Text] = []
    for name, words in HELP:
        for line in textwrap.wrap(words, max(width - 12, 16)):
            lines.append(Text.assemble((f" {name:<9} ", "bold"), line))
            name = ""
    return lines
