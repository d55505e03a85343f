"""The human in the loop: pause, resume, skip and pin from another terminal, hooks, budgets, and ends that are ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.labs import CONTRACT, GENOME, TinyLab
from support.observers import WAITS
from support.processes import PATIENCE, living, wait

import nightlab.loop.hooks
import nightlab.loop.stop_rules
import nightlab.proposers.backoff
from nightlab.core.config import StopRules
from nightlab.core.events import HookAfter, HookBefore, OrderTaken, ProposalRefused, RunStopped
from nightlab.core.observer import Observer
from nightlab.core.orders import parse_order
from nightlab.core.types import ProposerUsage
from nightlab.loop.controls import order_error
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.storage.ledger import Ledger, read_orders, write_order

ROOM = GENOME.replace("B = 8", "#\n#\n#\nB = 8") + "#\n#\n#\nC = 0\n"
ORDERS = st.sampled_from(["pause", "resume", "unpin", "skip 1", "pin 0"])


def idea(lab: TinyLab, number: int, code: str = "", old: str = "", new: str = "") -> None:
    lab.idea(f"{number:02}", ROOM.replace("C = 0", f"C = {number}\n{code}").replace(old, new))


def look(lab: TinyLab) -> Ledger:
    return Ledger(lab.folder / ".nightlab" / "t" / "ledger.db", read_only=True)


def seen(lab: TinyLab, what: Any) -> Any:
    """Waits until something holds of the ledger."""

    def check() -> Any:
        if not (lab.folder / ".nightlab" / "t" / "ledger.db").exists():
            return False
        ledger = look(lab)
        try:
            return what(ledger)
        finally:
            ledger.close()

    return wait(check)


def up(lab: TinyLab, number: int) -> None:
    """Waits until an experiment's candidate has begun to run."""
    wait(lambda: any(lab.folder.glob(f".nightlab/t/trials/{number:04d}-*/candidate.log")))


def verdicts(ledger: Ledger) -> list[tuple[int, str, str]]:
    return [(e.number, e.verdict.status, e.verdict.reason) for e in ledger.experiments() if e.verdict]


# -- orders --------------------------------------------------------------------------------------------


@given(orders=st.lists(ORDERS, max_size=20), cuts=st.lists(st.integers(0, 20)))
def test_each_order_is_read_once_whenever_one_looks(tmp_path_factory: Any, orders: list[str], cuts: list[int]) -> None:
    folder, found, place = tmp_path_factory.mktemp("orders"), [], 0
    assert read_orders(folder, 0) == []
    for number, order in enumerate(orders):
        write_order(folder, order)
        if number in cuts:
            read = read_orders(folder, place)
            found, place = found + [order for _, order in read], read[-1][0]
    found += [read for _, read in read_orders(folder, place)]
    assert found == orders


def test_half_a_line_waits_for_its_other_half(tmp_path: Path) -> None:
    (tmp_path / "orders.txt").write_text("pause\nskip 1")
    assert read_orders(tmp_path, 0) == [(6, "pause")] and read_orders(tmp_path, 6) == []
    write_order(tmp_path, "2")
    assert read_orders(tmp_path, 6) == [(14, "skip 12")]


@given(order=st.text() | st.sampled_from(["", "skip", "skip -1", "pin 1 2", "pause now", "skip 9999999999", "PAUSE"]))
def test_what_is_no_order_is_told_and_never_raised(ledger_of_one: Ledger, order: str) -> None:
    why = order_error(ledger_of_one, order)
    try:
        parse_order(order)
    except ValueError:
        assert "is no order" in why and "\n" not in why


@pytest.fixture(scope="module")
def ledger_of_one(tmp_path_factory: Any) -> Ledger:
    return Ledger(tmp_path_factory.mktemp("ledger") / "ledger.db")


# -- pause and resume ----------------------------------------------------------------------------------


def test_a_pause_starts_nothing_new_survives_a_kill_and_ends_with_resume(
    make_lab: Any, start_nightlab: Any, nightlab: Any
) -> None:
    lab = make_lab(ROOM)
    for number, code in ((1, WAITS), (2, ""), (3, "")):
        idea(lab, number, code)
    running = start_nightlab("run", "--tag", "t", cwd=lab)
    up(lab, 1)
    said = nightlab("pause", cwd=lab)
    assert said.code == 0 and "nightlab resume --tag t" in said.out
    seen(lab, lambda ledger: ledger.events(OrderTaken))
    (trial,) = lab.folder.glob(".nightlab/t/trials/0001-*")
    (trial / "work" / "go").touch()
    seen(lab, lambda ledger: len(verdicts(ledger)) == 2)  # what flew has ended, and is judged
    time.sleep(0.5)
    assert look(lab).next_number() == 2 and look(lab).open_trials() == []
    os.kill(running.pid, signal.SIGKILL)
    assert "nothing new starts; go on with: nightlab resume --tag t" in running.communicate(timeout=PATIENCE)[0]

    again = start_nightlab("run", cwd=lab)
    while "paused:" not in (line := again.stdout.readline()):
        assert again.poll() is None
    assert "nightlab resume --tag t" in line
    time.sleep(0.5)
    assert look(lab).next_number() == 2
    assert nightlab("resume", cwd=lab).code == 0
    out, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, out
    assert [number for number, *_ in verdicts(look(lab))] == [0, 1, 2, 3]
    assert [note.order for note in look(lab).events(OrderTaken)] == ["pause", "resume"]


# Another change each turn, after a while.
PONDERS = """
import random, re, time
time.sleep(1)
text = open("genome.py").read()
open("genome.py", "w").write(re.sub("C = .*", f"C = {random.randrange(10**9)}", text))
print("HYPOTHESIS: another C")
"""


def turns_under_way(mark: str) -> int:
    """How many turns run whose command has this word: programs, without the sandboxes around them."""
    found = 0
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = entry.read_bytes().split(b"\0")
            found += words[1:3] == [b"agent.py", mark.encode()]
    return found


def test_several_turns_at_once_are_paused_killed_and_gone_on_with(
    make_lab: Any, start_nightlab: Any, nightlab: Any, tmp_path: Path
) -> None:
    mark = f"turn-of-{tmp_path.name}"
    part = f'\n[[proposers]]\nkind = "command"\ncommand = "{sys.executable} agent.py {mark}"\nname = "a"\n'
    lab = make_lab(ROOM, contract=CONTRACT.split("[[proposers]]")[0] + part, files={"agent.py": PONDERS})
    argv = ("run", "--tag", "t", "--slots", "2", "-n", "8")
    running = start_nightlab(*argv, cwd=lab)
    wait(lambda: turns_under_way(mark) >= 2)
    assert nightlab("pause", cwd=lab).code == 0
    seen(lab, lambda ledger: ledger.events(OrderTaken) and not ledger.open_trials())
    wait(lambda: not turns_under_way(mark))
    before = seen(lab, lambda ledger: ledger.next_number())
    time.sleep(1)
    assert turns_under_way(mark) == 0 and look(lab).next_number() == before, "no turn begins, no trial starts"
    os.kill(running.pid, signal.SIGKILL)
    running.communicate(timeout=PATIENCE)

    again = start_nightlab(*argv, cwd=lab)
    assert nightlab("resume", cwd=lab).code == 0
    wait(lambda: turns_under_way(mark) >= 2)
    os.kill(again.pid, signal.SIGKILL)
    again.communicate(timeout=PATIENCE)
    wait(lambda: not turns_under_way(mark))  # they end with it

    done = nightlab(*argv, cwd=lab)
    assert done.code == 0, done.err
    ledger = look(lab)
    assert [e.number for e in ledger.experiments()] == list(range(9)) and not ledger.unjudged()
    assert len({e.candidate.tree for e in ledger.experiments()}) == 9, "none was tried twice"
    assert not living(lab.folder)


def test_ctrl_c_ends_a_session_that_is_paused(make_lab: Any, start_nightlab: Any, nightlab: Any) -> None:
    lab = make_lab(ROOM)
    lab.session().close()
    assert nightlab("pause", cwd=lab).code == 0
    running = start_nightlab("run", "--tag", "t", cwd=lab)
    seen(lab, lambda ledger: ledger.events(OrderTaken))
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130, out
    assert look(lab).trials() == [], "the baseline did not start either"


# -- skip ----------------------------------------------------------------------------------------------


def test_skip_ends_the_trial_in_flight_for_good(make_lab: Any, start_nightlab: Any, nightlab: Any) -> None:
    lab = make_lab(ROOM)
    idea(lab, 1, "import time; time.sleep(99)")
    idea(lab, 2)
    running = start_nightlab("run", "--tag", "t", cwd=lab)
    up(lab, 1)
    assert nightlab("skip", "0", cwd=lab).code == 1
    done = nightlab("skip", cwd=lab)
    assert done.code == 0 and "experiment 1 of session t is skipped" in done.out
    out, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0 and "skipped: by the user" in out, out
    ledger = look(lab)
    assert verdicts(ledger)[1:] == [(1, "discard", "skipped"), (2, "discard", "inconclusive")]
    assert [m.outcome for _, m in ledger.trials(1)] == ["interrupted"] and living(lab.folder) == []
    assert ledger.experiment(1).measurement.metric is None
    for wrong, words in (("1", "has its verdict: discard, skipped"), ("0", "the baseline"), ("7", "no experiment 7")):
        refused = nightlab("skip", wrong, cwd=lab)
        assert refused.code == 1 and words in refused.err, refused.err
    assert "no candidate is in flight" in nightlab("skip", cwd=lab).err


def test_a_skip_that_nobody_heard_counts_at_the_next_start(make_lab: Any, start_nightlab: Any, nightlab: Any) -> None:
    lab = make_lab(ROOM)
    idea(lab, 1, "import time; time.sleep(99)")
    running = start_nightlab("run", "--tag", "t", cwd=lab)
    up(lab, 1)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate(timeout=PATIENCE)
    assert nightlab("skip", "1", cwd=lab).code == 0
    assert nightlab("run", cwd=lab).code == 0
    assert verdicts(look(lab))[1:] == [(1, "discard", "skipped")]
    assert living(lab.folder) == [] and len(look(lab).trials(1)) == 1


def test_a_skip_that_was_written_down_is_completed_after_a_kill(make_lab: Any) -> None:
    lab = make_lab(ROOM)
    idea(lab, 1, "import time; time.sleep(99)")
    session = lab.session()
    night = ExperimentLoop(session, StopRules(), Scheduler(session, Observer()))
    with night.scheduler.on_duty():
        night.resume()
        while not night.ledger.open_trials() or night.ledger.next_number() < 2:
            night.step()
        session.ledger.append(OrderTaken("skip 1", 7))
    session.close()  # as a kill would, just after the note
    reason, session = lab.run()
    assert "nothing left" in reason and verdicts(session.ledger)[1:] == [(1, "discard", "skipped")]
    assert living(lab.folder) == []


def test_orders_that_make_no_sense_end_nothing(make_lab: Any) -> None:
    lab = make_lab(ROOM)
    idea(lab, 1)
    session = lab.session()
    (session.folder / "orders.txt").write_bytes(b"\xff\xfe\x00\nskip 77\npin 1\n\nexplode\n" + b"x" * 5000 + b"\n")
    session.close()
    reason, session = lab.run()
    assert "nothing left" in reason and len(verdicts(session.ledger)) == 2
    assert [bool(note.refused) for note in session.ledger.events(OrderTaken)] == [True] * 6


# -- pin -----------------------------------------------------------------------------------------------

READER = """
import re
text = open("genome.py").read()
open("genome.py", "w").write(re.sub("B = .*", "B = 3", text))
print("HYPOTHESIS: B nearer to three")
"""


@pytest.mark.parametrize("kind", ["queue", "command"])
def test_what_is_pinned_is_where_proposals_start(make_lab: Any, nightlab: Any, kind: str) -> None:
    agent = f'\n[[proposers]]\nkind = "command"\ncommand = "{sys.executable} agent.py"\nname = "a"\nshare = 0.1\n'
    lab = make_lab(
        ROOM, contract=CONTRACT.format(proposer="patches") + agent * (kind == "command"), files={"agent.py": READER}
    )
    idea(lab, 1, old="A = 4.0", new="A = 2.0")
    lab.run(experiments=1)[1].close()
    assert nightlab("pin", "9", cwd=lab).code == 1
    pinned = nightlab("pin", "0", cwd=lab)
    assert pinned.code == 0 and "start from experiment 0" in pinned.out
    if kind == "queue":
        lab.idea("02", ROOM.replace("B = 8", "B = 3"))
    _, session = lab.run(experiments=2)
    base, champion, two = session.ledger.experiments()
    assert two.candidate.parent == base.candidate.commit and two.measurement.metric == 9.0, "not on the champion"
    assert session.champion() == champion and two.verdict.reason == "regressed", "but compared with it"
    session.close()
    off = nightlab("pin", "--off", cwd=lab)
    assert off.code == 0 and "the search selects parents again" in off.out
    lab.idea("03", ROOM.replace("B = 8", "B = 5"))
    _, session = lab.run(experiments=3)
    assert session.ledger.experiment(3).candidate.parent == champion.candidate.commit
    session.close()
    assert "from experiment 3 " in nightlab("pin", cwd=lab).out, "the champion, by default"
    assert nightlab("pin", "1", "--off", cwd=lab).code == 2


# -- hooks ---------------------------------------------------------------------------------------------

HOOK = """
import json, sys
told = json.load(sys.stdin)
with open({out!r}, "a") as out:
    out.write(json.dumps([told["hook"], told["number"], told["status"], told["session"]]) + "\\n")
print("look at [B]\\x1b[2J of", told["number"])
{more}
"""


def hooked(make_lab: Any, tmp_path: Path, more: str = "") -> tuple[TinyLab, Path]:
    out, script = tmp_path / "heard", tmp_path / "hook.py"
    script.write_text(HOOK.format(out=str(out), more=more))
    command = f"{sys.executable} {script}"
    hooks = f'\n[hooks]\nbefore = "{command}"\nafter = "{command}"\n'
    lab = make_lab(ROOM, contract=CONTRACT.format(proposer="patches").replace("[sandbox]", f"{hooks}\n[sandbox]"))
    return lab, out


def heard(out: Path) -> list[Any]:
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_hooks_run_before_and_after_each_experiment_and_are_told_of_it(make_lab: Any, tmp_path: Path) -> None:
    lab, out = hooked(make_lab, tmp_path)
    idea(lab, 1, old="A = 4.0", new="A = 2.0")
    lab.write("ideas/02.patch", "no patch")
    reason, session = lab.run()
    assert "nothing left" in reason
    for when, verdict in (("before", None), ("after", "keep")):
        assert [h for h in heard(out) if h[0] == when] == [[when, 0, verdict, "t"], [when, 1, verdict, "t"]]
    assert [(n.number, n.said, n.fault) for n in session.ledger.events(HookAfter)] == [
        (0, "look at [B] of 0", ""),
        (1, "look at [B] of 1", ""),
    ]
    assert session.ledger.events(HookBefore) == []
    session.close()


def test_a_hook_that_fails_is_noted_and_ends_nothing(make_lab: Any, tmp_path: Path) -> None:
    lab, _ = hooked(make_lab, tmp_path, "sys.exit(7)")
    idea(lab, 1)
    reason, session = lab.run(experiments=1)
    assert reason == "1 experiment is done" and len(verdicts(session.ledger)) == 2
    for kind in (HookBefore, HookAfter):
        assert [n.fault for n in session.ledger.events(kind)] == ["it ended with exit status 7"] * 2
    assert not any(n.said for n in session.ledger.events(HookAfter))
    session.close()


def test_a_hook_that_hangs_is_ended_with_all_that_it_started(
    make_lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nightlab.loop.hooks, "LIMIT", 0.5)
    mark = f"hangs-{tmp_path.name}"
    lab, _ = hooked(
        make_lab, tmp_path, f"import os\nos.system('{sys.executable} -c \"import time; time.sleep(99) # {mark}\"')"
    )
    _, session = lab.run(experiments=1)
    assert [n.fault for n in session.ledger.events(HookAfter)] == ["it took longer than 0.5 s"]
    assert running(mark) == []
    session.close()


def test_a_kill_loses_no_hook_and_leaves_none(
    make_lab: Any, tmp_path: Path, start_nightlab: Any, nightlab: Any
) -> None:
    mark, gate = f"waits-{tmp_path.name}", tmp_path / "gate"
    wait_here = (
        f"import os, time\nwhile told['hook'] == 'after' and not os.path.exists({str(gate)!r}): time.sleep(0.1)  # "
    )
    lab, out = hooked(make_lab, tmp_path, wait_here + mark)
    (tmp_path / "hook.py").rename(tmp_path / mark)
    (tmp_path / "hook.py").symlink_to(tmp_path / mark)
    process = start_nightlab("run", "--tag", "t", cwd=lab)
    wait(lambda: out.exists() and len(heard(out)) == 2)
    hook = running(str(tmp_path / "hook.py"))
    assert hook
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    wait(lambda: running(str(tmp_path / "hook.py")) == [])
    gate.touch()
    assert nightlab("run", cwd=lab).code == 0
    assert [h[:3] for h in heard(out)] == [["before", 0, None], ["after", 0, "keep"], ["after", 0, "keep"]]
    assert len(look(lab).events(HookAfter)) == 1


def running(mark: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


# -- budgets -------------------------------------------------------------------------------------------

PRICED = """
import json, os, re, sys, time
page = sys.stdin.read()
turn = page.count('\\n- "a"') + page.count("- Running now: ") + int(re.search(r"(\\d+) experiments: ", page)[1])
told = {"input_tokens": 900, "output_tokens": 100, "cost_usd": 0.1} if turn != 1 else {}
json.dump(told, open("nightlab-usage.json", "w"))
text = open("genome.py").read()
if turn != 2:
    open("genome.py", "w").write(re.sub("C = .*", f"C = {100 + turn}", text))
    print("HYPOTHESIS: another C")
"""


def thinker(script: str) -> dict[str, Any]:
    part = f'\n[[proposers]]\nkind = "command"\ncommand = "{sys.executable} agent.py"\nname = "a"\nconcurrency = 1\n'
    return {"contract": CONTRACT.split("[[proposers]]")[0] + part, "files": {"agent.py": script}}


@pytest.mark.parametrize(
    ("rule", "reason"), [({"money": 0.25}, "$0.30 are spent, of $0.25"), ({"tokens": 2500}, "3,000 tokens are spent")]
)
def test_a_budget_counts_every_turn_and_holds_after_a_restart(
    make_lab: Any, monkeypatch: pytest.MonkeyPatch, rule: dict[str, Any], reason: str
) -> None:
    monkeypatch.setattr(nightlab.proposers.backoff, "FIRST", 0.01)
    lab = make_lab(ROOM, **thinker(PRICED))
    why, session = lab.run(**rule)
    assert why.startswith(reason)
    spent = session.ledger.spent()
    assert (spent.tokens, spent.uncounted, spent.unpriced) == (3000, 1, 1), "refused and late ones included"
    assert spent.money == pytest.approx(0.3) and spent.turns == 4
    assert any("edited nothing" in note.reason for note in session.ledger.events(ProposalRefused))
    tried = session.ledger.next_number()
    session.close()
    again, session = lab.run(**rule)
    assert again == why and session.ledger.next_number() == tried
    session.close()


def test_a_session_ends_when_its_champion_reaches_the_target(make_lab: Any) -> None:
    lab = make_lab()
    for n, value in enumerate(("3.0", "2.0", "1.0")):  # losses of 6.5, 3.5 and 2.5 after the baseline's 11.5
        lab.idea(f"{n}", GENOME.replace("4.0", value))
    reason, session = lab.run(target=3.5)
    assert reason == "the target of 3.5 is reached: the champion's bar is 3.5"
    assert [e.kept for e in session.ledger.experiments()] == [True, True, True]
    session.close()
    reason, session = lab.run(target=20.0)
    assert "the target of 20 is reached" in reason and session.ledger.next_number() == 3, "by what was there before"
    session.close()


def test_a_session_ends_when_too_little_is_to_be_expected(make_lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nightlab.loop.stop_rules, "LATELY", 3)
    lab = make_lab()
    for n, value in enumerate(("3.0", "5.0", "6.0", "7.0", "7.5")):  # the first is kept, the others are worse
        lab.idea(f"{n}", GENOME.replace("4.0", value))
    reason, session = lab.run(gain_per_hour=1e9)
    assert session.ledger.next_number() == 4, "no sooner than there are experiments to go by"
    assert re.fullmatch(
        r"the last 3 experiments gained \S+ per hour of a slot; if the next are like them, that is \S+ at most "
        r"\(a 95% bound\), and 1e\+09 are asked for",
        reason,
    )
    assert session.ledger.events(RunStopped, last=1)[0].reason == reason
    session.close()
    more, session = lab.run(gain_per_hour=1e-6)
    assert more == "the proposers have nothing left to propose", "nothing says that so little is not to be had"
    stopping = ExperimentLoop(session, StopRules(gain_per_hour=1e-6), Scheduler(session, Observer())).stopping
    expected = stopping.expected()
    assert expected and expected.gain == 0 and expected.most > 1e3, "three worse ones of moments say little"
    session.close()


def test_what_is_not_said_counts_as_nothing() -> None:
    spent = ProposerUsage().plus({}).plus({"model": "m", "seconds": 2.0}).plus({"output_tokens": 5, "cost_usd": 1})
    assert spent == ProposerUsage(tokens=5, money=1, turns=2, uncounted=1, unpriced=1)


def test_a_thought_ends_with_the_rule_and_not_with_the_trial_that_flies(make_lab: Any, tmp_path: Path) -> None:
    mark = f"thinks-{tmp_path.name}"
    slow = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import time; time.sleep(100)  # {mark}'])\n"
    agent = thinker(slow)
    agent["contract"] += 'share = 0.1\n\n[[proposers]]\nkind = "patches"\n'
    lab = make_lab(ROOM, **agent)
    idea(lab, 1, "import time; time.sleep(6)")
    session = lab.session()
    night = ExperimentLoop(session, StopRules(), Scheduler(session, Observer()))
    found: list[bool] = []

    def stop() -> None:
        wait(lambda: running(mark) and any(lab.folder.glob(".nightlab/t/trials/0001-*/candidate.log")))
        night.scheduler.asked_to_stop = 1
        wait(lambda: running(mark) == [])
        found.append(bool(night.scheduler.running))

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    assert night.run() == "stopped by the user"
    thread.join()
    assert found == [True], "the trial still flew"
    assert [n.reason for n in session.ledger.events(ProposalRefused)] == ["it was stopped"]
    session.close()
