"""The screen: right at every size, steered by keys, and gone without a trace, whatever ends it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyte
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from support.labs import TinyLab
from support.processes import PROGRAM, program_env, wait

from nightlab.core.events import RunStarted, RunStopped
from nightlab.core.text import CONTROLS
from nightlab.core.types import Budget, Measurement, Metric, Trial, Verdict
from nightlab.storage.ledger import LEDGER, find_ledger
from nightlab.ui.monitor import Follower
from nightlab.ui.snapshot import (
    About,
    ChampionStep,
    CommonsStatus,
    ExperimentPoint,
    ProposerShare,
    SessionSnapshot,
    TimedMessage,
    TrialSnapshot,
)
from nightlab.ui.terminal.braille import BLOCKS, curve
from nightlab.ui.terminal.outlet import LEFT_OUT, MOST, Outlet
from nightlab.ui.terminal.panels import frame
from nightlab.ui.terminal.rows import row
from nightlab.ui.terminal.screen import Screen
from nightlab.ui.terminal.staircase import PARTS, Staircase, outline
from nightlab.ui.terminal.terminal import LEAVE, Terminal

IDEAS = {
    "1": ("A = 2.0  # [0.25..8 log]\nB = 8  # [1..16]\n", "less of A"),
    "2": ("A = 9.0  # [0.25..8 log]\nB = 8  # [1..16]\n", "more of A"),
    "3": ("A = 2.0  # [0.25..8 log]\nB = nothing\n", "a name that is not there"),
}
SLOW = """\
import time
from genome import A, B
from nightlab_guest import trial

trial().start()
begun = time.monotonic()
while (gone := (time.monotonic() - begun) / trial().budget) < 0.9:
    trial().report(max(gone, 0.01), 3 - gone)
    time.sleep(0.02)
print(f"METRIC loss={(A - 1) ** 2 + 0.1 * (B - 3) ** 2:.6f}")
"""
ABOUT = About("nov21", "tiny", Metric("val_bpb"), Budget("wall", 300), "a machine", "sealed", "shrunk", 0.0)


# -- what it says ------------------------------------------------------------------------------------


def point(number: int, status: Any = "discard", **more: Any) -> ExperimentPoint:
    facts: dict[str, Any] = {
        "reason": "regressed", "detail": "", "metric": 1.0 + number / 100, "bar": None, "gain": -0.01 * number,
        "proposer": "tuner", "hypothesis": "tune A 4 → 2", "changes": ("A 4 → 2",), "commit": f"{number:040x}",
        "parent": 0, "proposed_at": 0.0, "judged_at": float(number), "level": "", "interval": None,
    }  # fmt: skip
    return ExperimentPoint(number=number, status=status, **{**facts, **more})


def running(number: int, **more: Any) -> TrialSnapshot:
    facts: dict[str, Any] = {
        "id": f"{number:04d}", "experiment": number, "purpose": "search", "seed": 1, "slot": 0, "phase": "training",
        "since": time.time() - 60, "budget": ABOUT.budget, "left": 240.0, "curve": ((0.1, 3.0), (0.2, 2.5)),
        "proposer": "tuner", "hypothesis": "tune A 4 → 2", "changes": ("A 4 → 2",),
    }  # fmt: skip
    return TrialSnapshot(**{**facts, **more})


words = st.text(st.characters(codec="utf-8"), max_size=60)
numbers = st.none() | st.floats()
points = st.builds(
    point, st.integers(0, 10**7), st.sampled_from(["keep", "discard", "crash", None]), metric=numbers, bar=numbers,
    gain=numbers, hypothesis=words, proposer=words, detail=words, level=st.sampled_from(["", "measured", "held out"]),
)  # fmt: skip
flights = st.builds(
    running, st.integers(0, 99), left=st.none() | st.floats(0, 1e9), hypothesis=words, phase=words,
    curve=st.lists(st.tuples(st.floats(0, 1), st.floats(allow_nan=False, allow_infinity=False)), max_size=9).map(tuple),
)  # fmt: skip
steps = st.builds(ChampionStep, st.integers(0, 10**7), st.floats())
said, shares = st.builds(TimedMessage, st.floats(0, 2e9), words), st.dictionaries(words, st.just(ProposerShare(3, 1)))
snapshots = st.builds(
    SessionSnapshot, st.just(ABOUT), st.lists(points, max_size=30).map(tuple), st.lists(steps, max_size=9).map(tuple),
    st.none() | points, st.lists(flights, max_size=9).map(tuple), proposers=shares,
    sigma=st.sampled_from([0.0, 1e-3]), alarms=st.lists(said, max_size=2).map(tuple),
    alive=st.booleans(), paused=st.booleans(), stopped=words, fault=words, duty=st.none() | st.floats(0, 1),
    machine=st.dictionaries(st.sampled_from(["load", "gpu_celsius", "gpu_slowed"]), st.floats(0, 1e3) | words),
)  # fmt: skip


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(snapshots, st.integers(1, 230), st.integers(0, 70), st.none() | st.integers(0, 30))
def test_whatever_there_is_to_see_fits_any_terminal(
    snapshot: SessionSnapshot, width: int, height: int, chosen: Any
) -> None:
    lines = frame(snapshot, width, height, chosen)
    assert len(lines) == height
    for line in lines:
        assert cell_len(line.plain) <= width and not CONTROLS.search(line.plain)


@pytest.mark.parametrize(("width", "height"), [(40, 20), (80, 24), (200, 60)])
def test_what_matters_is_there_at_every_size(width: int, height: int) -> None:
    kept = point(3, "keep", metric=0.912345, bar=0.92, gain=0.08, level="confirmed", hypothesis="a longer warmdown")
    snapshot = SessionSnapshot(
        ABOUT, (point(0, "keep", metric=1.0, gain=None), point(1), point(2, "crash", metric=None, gain=None), kept),
        (ChampionStep(0, 1.0), ChampionStep(3, 0.92)), kept, (running(4),),
        {"keep": 2, "discard": 1, "crash": 1}, sigma=0.01, replicates=5, duty=0.87, rate=11.4, alive=True,
        commons=CommonsStatus(authors=2, findings=3, verdicts={"refuted": 1}, adopted=1),
    )  # fmt: skip
    seen = "\n".join(line.plain for line in frame(snapshot, width, height))
    for what in ("nov21", "● running", "0.920000", "#4 training", "4 min left", "tune A", "longer", "+8.0σ", "crash",
                 "duty", "87%", "11.4/h", "1.000000"):  # fmt: skip
        assert what in seen, what
    if width >= 120:
        assert "3 findings of 2 peers, 1 refuted, 1 adopted" in seen
    if width >= 80:
        assert "confirmed" in seen and "by tuner" in seen and "load" not in seen and "loss 2.5, it says" in seen


def test_a_change_that_the_hypothesis_says_is_not_said_twice() -> None:
    two = {"hypothesis": "tune A 4 → 2, B 1 → 3", "changes": ("A 4 → 2", "B 1 → 3", "C 5 → 6")}
    seen = "\n".join(
        line.plain for line in frame(SessionSnapshot(ABOUT, running=(running(4, **two),), alive=True), 120, 24)
    )
    assert "tune A 4 → 2, B 1 → 3 · C 5 → 6" in seen and seen.count("A 4 → 2") == 1


LARGEST = sys.float_info.max


@pytest.mark.parametrize("values", [[LARGEST], [-LARGEST, LARGEST], [LARGEST] * 3, [5e-324], [0.0, -0.0]])
def test_values_at_the_ends_of_what_a_float_holds_are_drawn(values: list[float]) -> None:
    snapshot = SessionSnapshot(ABOUT, (), tuple(ChampionStep(n, value) for n, value in enumerate(values)))
    assert len(Staircase().lines(snapshot, 40, 8)) == 8
    assert set(curve([(0.0, value) for value in values], 6)) <= {*BLOCKS, " "}
    assert len(curve([(n / len(values), value) for n, value in enumerate(values)], 6)) == 6


@given(st.lists(snapshots, max_size=3), st.integers(20, 90))
def test_what_is_remembered_of_the_staircase_is_what_would_be_drawn(seen: list[SessionSnapshot], width: int) -> None:
    stairs = Staircase()
    for snapshot in [snapshot for snapshot in seen for _ in range(2)]:
        assert stairs.lines(snapshot, width, 8) == Staircase().lines(snapshot, width, 8)


def test_of_thousands_of_steps_those_that_can_be_told_apart_are_drawn() -> None:
    few, many = (
        [ChampionStep(n * every, 1 - n / 1e4) for n in range(size)] for size, every in ((300, 1), (10_000, 10))
    )
    assert outline(few) == few
    thin = outline(many)
    assert len(thin) <= 2 * PARTS and thin[0] == many[0] and thin[-1] == many[-1]
    assert all(before.number < after.number and before.value > after.value for before, after in pairwise(thin))


def test_strangers_words_are_harmless_in_a_row() -> None:
    evil = point(1, hypothesis="\x1b[2J\x1b]0;owned\x07 [bold]not markup[/] \u202eabc\nnext")
    line = row(SessionSnapshot(ABOUT), evil, None).plain
    assert line.isprintable() and "owned" not in line and "[bold]not markup[/]" in line


# -- in a terminal -----------------------------------------------------------------------------------


class Seat:
    """A terminal of so many columns and lines, and what is seen in it."""

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self.master, self.slave = pty.openpty()
        self.shown, self.sent = pyte.Screen(columns, lines), b""
        self.stream = pyte.ByteStream(self.shown)
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self.slave)
        os.set_blocking(self.master, False)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.shown.resize(lines, columns)

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def read(self) -> str:
        """Everything that can be seen now."""
        try:
            while data := os.read(self.master, 65536):
                self.sent += data
                self.stream.feed(data)
        except OSError:
            pass
        return "\n".join(self.shown.display)

    def see(self, what: str) -> str:
        return str(wait(lambda: (seen := self.read()) and what in seen and seen))

    def restored(self) -> bool:
        """Whether the terminal is as it was: its modes, its cursor, its own buffer."""
        self.read()
        mine = self.sent.rfind(LEAVE.encode()) > self.sent.rfind(b"\x1b[?1049h")
        return mine and termios.tcgetattr(self.slave) == self.before

    def start(self, *args: str, cwd: TinyLab, program: Sequence[str] = PROGRAM, **env: str) -> subprocess.Popen[bytes]:
        """The real program, in front at this terminal."""

        def own() -> None:
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)

        here = {name: value for name, value in program_env(cwd.folder.parent / "home").items() if name != "COLUMNS"}
        return subprocess.Popen(
            [*program, *args], cwd=cwd.folder, stdin=self.slave, stdout=self.slave, stderr=self.slave,
            env={**here, "TERM": "xterm-256color", **env}, start_new_session=True, preexec_fn=own,
        )  # fmt: skip

    def close(self) -> None:
        for handle in (self.master, self.slave):
            os.close(handle)


@pytest.fixture
def seat() -> Iterator[Seat]:
    made = Seat()
    yield made
    made.close()


@pytest.fixture
def lab(make_lab: Callable[..., TinyLab]) -> TinyLab:
    return make_lab()


@pytest.fixture
def folder(lab: TinyLab) -> Path:
    """A session of three experiments that has ended, as the ledger writes one."""
    session = lab.session()
    ledger, base = session.ledger, session.baseline_candidate()
    ledger.append(RunStarted("x", stop={"experiments": 3}))
    told = [("baseline", 11.5, "keep"), ("less of A", 3.5, "keep"), ("more of A", 66.5, "discard"),
            ("a name that is not there", None, "crash")]  # fmt: skip
    for number, (words, metric, status) in enumerate(told):
        who = "baseline" if number == 0 else "patches"
        commit = base.commit if number == 0 else f"{number:040x}"
        ledger.propose(replace(base, hypothesis=words, proposer=who, commit=commit))
        trial = Trial(f"{number:04d}-search-s1-1", number, commit, 1, "search", session.budget.record())
        ledger.start(trial)
        measured = Measurement("measured" if metric else "crashed", metric, training_seconds=0.1)
        ledger.finish(trial, measured)
        verdict = Verdict(status, "improved" if status == "keep" else "regressed", "", metric)  # type: ignore[arg-type]
        ledger.judge(number, measured, verdict)
        printed = session.folder / "trials" / trial.id / "candidate.log"
        printed.parent.mkdir(parents=True)
        printed.write_text(f"METRIC loss={metric}\n")
    ledger.append(RunStopped("3 experiments are done"))
    session.close()
    return session.folder


@pytest.fixture
def sit(seat: Seat) -> Iterator[Callable[..., Screen]]:
    """Show a session on a screen in this process, in a thread of its own."""
    running: list[tuple[Screen, threading.Thread]] = []

    def show(folder: Path, **more: Any) -> Screen:
        terminal = Terminal(Outlet(seat.slave), seat.slave, Console(force_terminal=True, no_color=True))
        terminal.in_front = lambda: True  # type: ignore[method-assign]  # it is nobody's controlling terminal
        screen = Screen(terminal, may_leave=True, **more)
        thread = threading.Thread(target=lambda: screen.run(Follower(folder)))
        thread.start()
        running.append((screen, thread))
        return screen

    yield show
    for screen, thread in running:
        screen.stop()
        thread.join(20)
        assert not thread.is_alive()
        wait(seat.restored)  # what is written to a terminal goes through a thread of its own


def test_keys_select_show_and_steer(seat: Seat, folder: Path, sit: Callable[..., Screen]) -> None:
    sit(folder)
    seen = seat.see("less of A")
    assert "a name that is not there" in seen and "✗ crash" in seen and "3 experiments are done" in seen
    seat.press("jjj")  # the latest, and two further back
    seat.press("d")
    seat.see("experiment 1: less of A")
    seat.see("METRIC loss=3.5")
    seat.press("\x1b")
    seat.see("✗ crash")
    seat.press("?")
    seat.see("a note for the proposers")
    seat.press("\x1b")
    seat.press("n")
    seat.see("note: ")
    seat.press("look at Bü\x7f")
    seat.see("note: look at B▏")
    assert not (folder / "notes.txt").exists()
    seat.press("\r")
    wait(lambda: (folder / "notes.txt").exists() and (folder / "notes.txt").read_text() == "look at B\n")
    seat.press("p")
    wait(lambda: (folder / "orders.txt").exists() and (folder / "orders.txt").read_text() == "pause\n")
    seat.see("from its next start")
    seat.press("s")
    seat.see("select the experiment in flight")
    seat.resize(40, 12)
    wait(lambda: "1/3 kept" in seat.read() and seat.read().splitlines()[0].rstrip().endswith("stopped"))
    assert len(seat.shown.display) == 12
    seat.press("q")
    wait(seat.restored)
    assert (folder / "orders.txt").read_text() == "pause\n"


def test_a_window_that_only_looks_writes_nothing(seat: Seat, folder: Path, sit: Callable[..., Screen]) -> None:
    before = sorted(path.name for path in folder.iterdir())
    sit(folder, may_write=False)
    seat.see("less of A")
    for key in "psn":
        seat.press(key)
        seat.see("read-only")
        seat.press("\x1b")
        wait(lambda: "read-only" not in seat.read())
    after = sorted(path.name for path in folder.iterdir())
    assert [name for name in after if not name.startswith(LEDGER)] == [
        name for name in before if not name.startswith(LEDGER)
    ]


def test_a_session_of_no_experiments_and_a_ledger_that_breaks(
    seat: Seat, lab: TinyLab, folder: Path, sit: Callable[..., Screen]
) -> None:
    lab.session("empty").close()
    sit(lab.folder / ".nightlab" / "empty")
    seat.see("nothing has been measured yet")
    whole = (folder / LEDGER).read_bytes()
    ledger = lab.folder / ".nightlab" / "empty" / LEDGER
    ledger.unlink()
    seat.see("not up to date")
    for left in ledger.parent.glob(f"{LEDGER}-*"):
        left.unlink()
    ledger.write_bytes(whole[: len(whole) // 2])
    seat.see("malformed")
    ledger.unlink()
    ledger.with_name("new.db").write_bytes(whole)
    os.replace(ledger.with_name("new.db"), ledger)  # somebody restores it
    assert "not up to date" not in seat.see("less of A")


def test_only_what_changed_is_drawn_again(seat: Seat, folder: Path, sit: Callable[..., Screen]) -> None:
    screen = sit(folder)
    seat.see("less of A")
    wait(screen.terminal.outlet.idle)
    seat.read()
    before, at = len(seat.sent), screen.snapshot
    wait(lambda: screen.snapshot is not at)
    time.sleep(0.1)
    seat.read()
    assert len(seat.sent) == before, "nothing has changed"
    seat.press("j")
    wait(lambda: seat.read() and len(seat.sent) > before)
    wait(screen.terminal.outlet.idle)
    seat.read()
    assert len(seat.sent) - before < 400, "one line has"


# -- what ends it ------------------------------------------------------------------------------------


def end(seat: Seat, process: subprocess.Popen[bytes]) -> int:
    wait(lambda: (seat.read(), process.poll() is not None)[1])
    return process.returncode


@pytest.mark.parametrize("how", ["q", "ctrl-c", "termination"])
def test_the_terminal_is_put_back_whatever_ends_the_watch(how: str, seat: Seat, lab: TinyLab, folder: Path) -> None:
    process = seat.start("watch", cwd=lab, NO_COLOR="1")
    seat.see("less of A")
    assert termios.tcgetattr(seat.slave) != seat.before
    if how == "termination":
        process.terminate()
    else:
        seat.press("q" if how == "q" else "\x03")
    assert end(seat, process) == 0
    assert seat.restored()
    assert not re.search(rb"\x1b\[(\d+;)*3\d(;\d+)*m", seat.sent), "NO_COLOR"


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(seat: Seat, lab: TinyLab, folder: Path) -> None:
    there = lab.folder / "modes"
    shell = seat.start("-mc", f"{shlex.join(PROGRAM)} watch; stty -a > modes; fg", cwd=lab, program=["bash"])
    seat.see("less of A")
    seat.press("\x1a")
    wait(lambda: there.exists() and "echoke" in there.read_text())
    assert " icanon" in there.read_text() and " echo " in there.read_text()
    wait(lambda: (seat.read(), seat.sent.count(b"\x1b[?1049h") == 2)[1])
    seat.press("q")
    assert end(seat, shell) == 0 and seat.restored()


def test_a_terminal_that_hangs_or_goes_does_not_hold_the_night(make_lab: Callable[..., TinyLab], seat: Seat) -> None:
    lab = make_lab(measure=SLOW.replace("0.9", "0.2"))
    lab.write("lab.toml", (lab.folder / "lab.toml").read_text().replace("amount = 20", "amount = 1"))
    lab.commit()
    for name, (genome, why) in IDEAS.items():
        lab.idea(name, genome, why)
    process = seat.start("run", "-n", "3", cwd=lab)  # of which nobody reads a word
    ledger = lab.folder / ".nightlab"

    def stopped() -> bool:
        found = [path.parent for path in ledger.glob(f"*/{LEDGER}")]
        return bool(found) and (found[0] / "report.html").exists()

    wait(stopped)
    seen = seat.see("3 experiments: 1 kept, 1 discarded, 1 crashed")
    assert "#1   keep" in seen and "#3   crash" in seen, "the lines stay when the screen goes"
    assert end(seat, process) == 0 and seat.restored()


@pytest.mark.parametrize("command", [["try", "-m", "less of A"], ["confirm", "--seeds", "2"]])
def test_a_terminal_that_hangs_does_not_hold_a_measurement(
    command: list[str], make_lab: Callable[..., TinyLab], seat: Seat
) -> None:
    lab = make_lab()
    if command[0] == "confirm":
        lab.idea("1", *IDEAS["1"])
        lab.run(experiments=1)[1].close()
    else:
        lab.write("genome.py", IDEAS["1"][0])
    termios.tcflow(seat.slave, termios.TCOOFF)  # as Ctrl-S does
    process = seat.start(*command, cwd=lab)

    def done() -> bool:
        if not list(lab.folder.glob(f".nightlab/*/{LEDGER}")):
            return False
        with closing(find_ledger(lab.folder, None)) as ledger:
            champion = ledger.champion()
            return bool(champion and champion.number and (command[0] == "try" or champion.evidence))

    wait(done)
    assert b"less of A" not in seat.sent and process.poll() is None
    termios.tcflow(seat.slave, termios.TCOON)
    assert end(seat, process) == 0
    assert ("less of A" if command[0] == "try" else "confirmed") in seat.read()


def test_a_run_that_is_killed_is_seen_from_another_terminal(
    make_lab: Callable[..., TinyLab], seat: Seat, start_nightlab: Any, sit: Callable[..., Screen]
) -> None:
    lab = make_lab(measure=SLOW)
    run = start_nightlab("run", "--tag", "t", cwd=lab)
    folder = lab.folder / ".nightlab" / "t"
    wait(lambda: (folder / LEDGER).exists() and list(folder.glob("trials/*/curve.jsonl")))
    sit(folder)
    seen = seat.see("it says")
    assert "baseline training" in seen and "● running" in seen and "s left" in seen
    run.kill()
    seat.see("no process runs this session")


def test_in_a_pipe_there_are_lines(lab: TinyLab, folder: Path, nightlab: Any) -> None:
    done = nightlab("watch", cwd=lab)
    assert done.code == 0 and "\x1b" not in done.out
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == ["0", "1", "2", "3"]
    assert lines[-1] == "3 experiments are done"


# -- the outlet --------------------------------------------------------------------------------------


def test_whoever_prints_never_waits_and_is_told_what_was_left_out() -> None:
    reading, writing = os.pipe()
    outlet = Outlet(writing)
    words = [f"{n:07d}\n" for n in range((MOST + 2**18) // 8)]  # more than waits and a pipe holds together
    for word in words:
        outlet.write(word)
    assert not outlet.idle() and not outlet.drain(0.01)
    with open(reading, "rb", buffering=0, closefd=False) as pipe:
        got = b""
        while len(got) < MOST:
            got += pipe.read(2**16)
        outlet.write("the end\n")
        while b"the end" not in got:
            got += pipe.read(2**16)
    before, after = got.split(LEFT_OUT)
    assert before.decode().splitlines(keepends=True) == words[: before.count(b"\n")] and after == b"the end\n"
    os.close(reading)
    outlet.write("nobody reads this\n")
    assert outlet.drain(10), "what nobody can read waits for nobody"
    os.close(writing)
