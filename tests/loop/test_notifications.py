"""Notices: told in the background, cleaned and bounded; nobody who listens badly can hold up or end a night."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.labs import TinyLab
from support.processes import PATIENCE, has_ended, living, wait

from nightlab.core.config import NotifyConfig, StopRules, parse
from nightlab.core.events import Alarm, HookAfter, NotificationFailed
from nightlab.core.observer import Observer
from nightlab.core.types import NightlabError
from nightlab.loop import notifications
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.notifications import Notifications, ways
from nightlab.loop.scheduler import Scheduler
from nightlab.session.session import open_session

EVIL = "closer \x1b[31mred\x1b[0m \u202eback $(touch hostile) `id` " + "long " * 500


class TimedMessage(Observer):
    def __init__(self) -> None:
        self.words: list[str] = []

    def say(self, words: str) -> None:
        self.words.append(words)


@pytest.fixture(autouse=True)
def patience(monkeypatch: Any) -> None:
    """On a busy machine two processes take long to start."""
    monkeypatch.setattr(notifications, "LAST", 60.0)
    monkeypatch.setattr(notifications, "LIMIT", 60.0)


@pytest.fixture
def listener() -> Iterator[Any]:
    """A server on loopback, which remembers what was posted; ``pace`` holds up each answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.got.append((self.path, json.loads(body)))  # type: ignore[attr-defined]
            server.hold.wait(server.pace)  # type: ignore[attr-defined]
            self.send_response(server.status)  # type: ignore[attr-defined]
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.got, server.pace, server.status, server.hold = [], 0, 200, threading.Event()
    server.daemon_threads, server.url = True, f"http://127.0.0.1:{server.server_port}/hook"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.hold.set()
    server.shutdown()
    server.server_close()


def night(lab: TinyLab, view: Observer | None = None, **stop: Any) -> None:
    session = lab.session()
    try:
        ExperimentLoop(session, StopRules(**stop), Scheduler(session, view or Observer())).run()
    finally:
        session.close()


def ideas(lab: TinyLab) -> None:
    lab.idea("01", "A = 2.0\nB = 8\n", EVIL)
    lab.idea("02", "A = 6.0\nB = 8\n", "worse")
    lab.idea("03", "A = 7.0\nB = 8\n", "worse still")
    lab.idea("04", "A = 8.0\nB = 8\n", "and worse")


def test_a_webhook_is_told_of_keep_stall_and_stop(make_lab: Any, listener: Any) -> None:
    lab = make_lab(more=f'\n[notify]\nwebhook = "{listener.url}"\nstall = 2\n')
    ideas(lab)
    night(lab)
    assert [told["event"] for _, told in listener.got] == ["keep", "stall", "stop"]
    keep = listener.got[0][1]
    assert (keep["number"], keep["metric"], keep["session"], keep["evidence"]) == (1, "loss", "t", "measured")
    assert keep["value"] < keep["baseline"] and "not confirmed" in keep["text"]
    for _, told in listener.got:
        assert len(json.dumps(told)) < 3000 and "\x1b" not in str(told) and "\u202e" not in str(told)
    assert "2 experiments in a row" in listener.got[1][1]["words"]


def test_only_what_is_asked_for_is_told_and_the_environment_has_its_say(
    make_lab: Any, listener: Any, monkeypatch: Any
) -> None:
    lab = make_lab(more='\n[notify]\nwebhook = "http://127.0.0.1:9/nobody"\non = ["stop"]\n')
    monkeypatch.setenv("NIGHTLAB_WEBHOOK", listener.url)
    ideas(lab)
    night(lab)
    assert [told["event"] for _, told in listener.got] == ["stop"]
    ledger = (lab.folder / ".nightlab/t/ledger.db").read_bytes()
    assert listener.url.encode() not in ledger, "what the environment holds may be a secret"


def test_a_dead_listener_is_noted_once(make_lab: Any) -> None:
    lab = make_lab(more='\n[notify]\nwebhook = "http://127.0.0.1:9/secret"\nstall = 1\n')
    ideas(lab)
    said = TimedMessage()
    night(lab, said)
    faults = [words for words in said.words if "no notice went out" in words]
    assert len(faults) == 1 and "can't be reached" in faults[0] and "secret" not in faults[0]
    ledger = open_session(lab.folder).ledger
    assert len(ledger.events(NotificationFailed)) == 1 and ledger.next_number() == 5


def test_a_slow_listener_holds_up_nothing(make_lab: Any, listener: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(notifications, "LAST", 0.5)
    listener.pace = 600
    lab = make_lab(more=f'\n[notify]\nwebhook = "{listener.url}"\n')
    ideas(lab)
    said = TimedMessage()
    night(lab, said)
    assert any("no notice went out by webhook" in words for words in said.words)
    told = [told["event"] for _, told in listener.got]
    assert told in ([], ["keep"]), "the first is on its way, the others wait for it"
    assert open_session(lab.folder).ledger.next_number() == 5


def test_a_notice_that_takes_too_long_is_ended(make_lab: Any, listener: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(notifications, "LIMIT", 0.5)
    listener.pace = 600
    lab = make_lab(more=f'\n[notify]\nwebhook = "{listener.url}"\non = ["stop"]\n')
    ideas(lab)
    said = TimedMessage()
    night(lab, said)
    assert any("took longer" in words for words in said.words)


@pytest.mark.parametrize("status", [302, 404, 500])
def test_an_answer_that_is_no_yes_is_a_fault(status: int, make_lab: Any, listener: Any) -> None:
    listener.status = status
    lab = make_lab(more=f'\n[notify]\nwebhook = "{listener.url}"\non = ["stop"]\n')
    said = TimedMessage()
    night(lab, said)
    assert any(f"it answers {status}" in words for words in said.words)
    assert len(listener.got) == 1


def test_a_command_gets_it_on_its_input_and_its_words_are_cleaned(make_lab: Any, tmp_path: Path) -> None:
    out = tmp_path / "told"
    lab = make_lab(more=f'\n[notify]\ncommand = "sh -c \'cat >> {out}; echo >> {out}\'"\non = ["keep", "stop"]\n')
    ideas(lab)
    night(lab)
    told = [json.loads(line) for line in out.read_text().splitlines()]
    assert [each["event"] for each in told] == ["keep", "stop"]
    assert not list(tmp_path.rglob("hostile")) and not Path("hostile").exists(), "a shell read a hypothesis"

    lab = make_lab(name="loud", more='\n[notify]\ncommand = "sh -c \'printf \\"\\\\033[31m no\\"; exit 3\'"\n')
    said = TimedMessage()
    night(lab, said)
    assert any(
        "no notice went out by command" in words and "no" in words and "\x1b" not in words for words in said.words
    )


def test_a_command_that_is_not_there_is_a_fault_and_no_more(make_lab: Any) -> None:
    lab = make_lab(more='\n[notify]\ncommand = "no-such-program-here"\n')
    said = TimedMessage()
    night(lab, said)
    assert any("no-such-program-here" in words for words in said.words)


def test_the_desktop_is_told_in_words_that_are_no_options(make_lab: Any, tmp_path: Path, monkeypatch: Any) -> None:
    bin_, out = tmp_path / "bin", tmp_path / "shown"
    bin_.mkdir()
    (bin_ / "notify-send").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {out}\n')
    (bin_ / "notify-send").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    monkeypatch.setenv("NIGHTLAB_DESKTOP", "1")
    lab = make_lab()
    lab.idea("01", "A = 2.0\nB = 8\n", "--urgency=critical")
    night(lab)
    shown = out.read_text().splitlines()
    assert shown[:3] == ["--app-name=nightlab", "--", "nightlab"] and "keep #1: --urgency=critical" in shown[3]


def test_trouble_is_told(make_lab: Any, listener: Any) -> None:
    lab = make_lab(measure="raise SystemExit(1)", more=f'\n[notify]\nwebhook = "{listener.url}"\n')
    with pytest.raises(NightlabError, match="baseline"):
        night(lab)
    assert [told["event"] for _, told in listener.got] == ["trouble"]
    assert "the baseline can't be measured" in listener.got[0][1]["words"]


def test_alarms_and_hooks_that_fail_are_trouble(make_lab: Any, listener: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(notifications, "LOOK", 0.0)
    lab = make_lab(more=f'\n[notify]\nwebhook = "{listener.url}"\n')
    night(lab)
    listener.got.clear()
    session = lab.session()
    told = Notifications(Scheduler(session, Observer()))
    session.ledger.append(Alarm("the noise has doubled"))
    session.ledger.append(HookAfter(0, 1.0, "", "fine"))
    session.ledger.append(HookAfter(0, 1.0, "exit status 1", ""))
    wait(lambda: told.poll() or len(listener.got) == 2)
    told.stop()
    assert [each["words"] for _, each in listener.got] == [
        "alarm: the noise has doubled",
        "hook after: exit status 1",
    ]
    session.close()


def test_what_happened_before_is_not_told_again(make_lab: Any, listener: Any) -> None:
    lab = make_lab(more=f'\n[notify]\nwebhook = "{listener.url}"\non = ["keep"]\n')
    ideas(lab)
    night(lab, experiments=1)
    night(lab)
    assert len(listener.got) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stop_waits_for_no_listener_and_leaves_no_process(
    number: signal.Signals, make_lab: Any, start_nightlab: Any, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    contract = f"\n[notify]\ncommand = \"sh -c 'echo $$ >> {pids}; exec sleep 600'\"\n"
    slow = "import time\nfrom genome import A, B\nprint(f'METRIC loss={A}', flush=True)\ntime.sleep(0.3)\n"
    lab = make_lab(measure=slow, proposer="tuner", more=contract)
    process = start_nightlab("run", cwd=lab)
    pid = int(wait(lambda: pids.exists() and pids.read_text().split())[0])
    process.send_signal(number)
    if number == signal.SIGINT:
        time.sleep(0.2)
        process.send_signal(number)
    process.wait(PATIENCE)
    wait(lambda: has_ended(pid))
    wait(lambda: not living(lab.folder))


def test_what_waits_is_bounded(make_lab: Any) -> None:
    lab = make_lab(more='\n[notify]\nwebhook = "http://127.0.0.1:9/"\n')
    session = lab.session()
    told = Notifications(Scheduler(session, Observer()))
    for number in range(1000):
        told._tell("trouble", f"{number}")
    assert [each["words"] for each in told.ways[0].waiting] == [str(n) for n in range(980, 1000)]
    session.close()


def test_no_way_out_costs_nothing(make_lab: Any) -> None:
    session = make_lab().session()
    told = Notifications(Scheduler(session, Observer()))
    session.ledger.close()  # whoever looks now fails
    told.poll()
    told.ended("the end")
    told.stop()


def test_the_contract_names_the_wrong_key() -> None:
    text = 'name="x"\ngenome=["a"]\ncommand="true"\n[metric]\nname="m"\n[notify]\n'
    for line, key in (
        ('webhook = "ftp://x/"', "notify.webhook"),
        ('on = ["keeps"]', "notify.on"),
        ("stall = 0", "notify.stall"),
        ('command = ""', "notify.command"),
        ("sound = true", "notify.sound"),
    ):
        with pytest.raises(NightlabError, match=key):
            parse(text + line)


def test_the_environment_comes_first() -> None:
    part = NotifyConfig(webhook="https://a.example/x", command="mine")
    found = ways(part, {"NIGHTLAB_NOTIFY": "yours --now", "NIGHTLAB_DESKTOP": "0"})
    assert (found[0].name, found[0].argv[0]) == ("command", "yours") and len(found) == 2
    assert not ways(NotifyConfig(), {}) and "webhook" not in [way.name for way in ways(NotifyConfig(desktop=True), {})]
