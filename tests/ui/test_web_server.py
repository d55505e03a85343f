"""The window's server, over real HTTP on loopback: who is let in, what is told, and what a broken ledger does to it."""

from __future__ import annotations

import http.client
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.labs import TinyLab
from support.processes import PATIENCE, wait
from support.window_site import EVIL, OURS, Listener, Site, add

from nightlab.analysis.study import StudyConfig, StudySession
from nightlab.analysis.study_report import StudyReport
from nightlab.core.events import EvidenceShown, Rechecked
from nightlab.core.types import Candidate, Evidence, PairedGain
from nightlab.session.session import Session
from nightlab.storage.ledger import LEDGER
from nightlab.storage.ledger.columns import ColumnReader
from nightlab.ui.web import feed
from nightlab.ui.web.app import PAGE, WebApp
from nightlab.ui.web.diffs import shown
from nightlab.ui.web.guard import HEADERS

pytestmark = pytest.mark.integration


@pytest.fixture
def session(make_lab: Any) -> Iterator[Session]:
    session = make_lab().session()
    yield session
    session.close()


@pytest.fixture
def serve(session: Session) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def start(read_only: bool = False, **more: Any) -> Site:
        sites.append(Site(WebApp(session.repo.lab, session.tag, read_only), **more))
        return sites[-1]

    yield start
    for site in sites:
        site.close()


# -- who is let in ----------------------------------------------------------------------------------------


def test_every_answer_forbids_all_that_is_not_ours(serve: Any) -> None:
    site = serve()
    for path in ("/", "/page/main.js", "/page/style.css", "/api/points", "/nothing", "/api/experiments/99"):
        answer = site.ask(path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, path
        assert "access-control-allow-origin" not in answer.headers and "server" not in answer.headers
    assert site.ask("/page/main.js").headers["content-type"].startswith("text/javascript")


def test_the_page_needs_nobody_else_and_makes_no_markup_of_words() -> None:
    for file in PAGE.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(
            r"https?://|//cdn|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text
        ), file
    page = (PAGE / "index.html").read_text()
    assert not re.search(r"<script(?! type=\"module\" src=)|<style|\sstyle=|\son\w+=", page)
    for path in re.findall(r'(?:src|href)="/page/([^"]+)"', page):
        assert (PAGE / path).exists(), path


def test_a_token_is_asked_for_everything_and_leaves_the_address(serve: Any) -> None:
    site = serve(token="secret-token")
    for path in ("/", "/page/main.js", "/api/points", "/api/events", "/nothing", "/?token=wrong", "/?token="):
        refused = site.ask(path)
        assert refused.status == 401 and b"nightlab serve" in refused.body and b"secret" not in refused.body, path
    assert site.ask("/api/orders?token=secret-token", "POST", '{"order": "pause"}', **OURS).status == 401
    welcome = site.ask("/?token=secret-token&x=1")
    assert welcome.status == 303 and welcome.headers["location"] == "/?x=1"
    cookie = welcome.headers["set-cookie"]
    assert "HttpOnly" in cookie and "samesite=lax" in cookie.lower()
    assert site.ask("/", cookie=cookie.partition(";")[0]).status == 200
    assert site.ask("/", cookie=cookie.partition(";")[0] + "x").status == 401
    away = site.ask("//evil.example/?token=secret-token")
    assert away.headers["location"].startswith("/evil.example"), "never to another machine"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "", "localhost.evil"]
)
def test_a_name_that_is_not_ours_is_refused_whatever_it_resolves_to(serve: Any, host: str) -> None:
    site = serve(token="t")
    refused = site.ask("/", host=host.format(port=site.port), cookie=f"nightlab-{site.port}=t")
    assert refused.status == 421


def test_our_own_names_are_good(serve: Any) -> None:
    site = serve(names=("Night.Example",))
    for host in ("localhost", "127.0.0.1:1", "[::1]:8470", socket.gethostname(), "night.example:80"):
        assert site.ask("/", host=host).status == 200, host


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json"},
        {**OURS, "origin": "http://evil.example"},
        {**OURS, "origin": "null"},
        {**OURS, "sec-fetch-site": "cross-site"},
        {**OURS, "sec-fetch-site": "same-site"},
    ],
)
def test_only_the_page_itself_may_order(serve: Any, session: Session, headers: dict[str, str]) -> None:
    assert serve().ask("/api/orders", "POST", '{"order": "pause"}', **headers).status == 403
    assert not (session.folder / "orders.txt").exists()


# -- what may be told -------------------------------------------------------------------------------------


def test_orders_and_notes_are_left_as_the_commands_leave_them(serve: Any, session: Session) -> None:
    add(session)
    site = serve()
    origin = f"http://127.0.0.1:{site.port}"
    assert site.tell("/api/orders", {"order": "pause"}, origin=origin).status == 200
    assert site.tell("/api/orders", {"order": " pin\n0 "}).status == 200
    assert (session.folder / "orders.txt").read_text() == "pause\npin 0\n"
    assert site.tell("/api/notes", {"words": "try\na \x1b[31mwider\u202e net"}).status == 200
    assert (session.folder / "notes.txt").read_text() == "try a wider net\n"


@pytest.mark.parametrize(
    "told",
    ["x", {}, {"order": 1}, {"order": "skip 0"}, {"order": "pin 7"}, {"order": "pause now"}, {"order": "pause" * 2000}],
)
def test_what_is_no_order_is_refused_with_the_reason(serve: Any, session: Session, told: Any) -> None:
    add(session)
    refused = serve().tell("/api/orders", told)
    assert refused.status == 400 and refused.json["message"] and not (session.folder / "orders.txt").exists()


def test_a_window_for_looking_only(serve: Any, session: Session) -> None:
    site = serve(read_only=True)
    for path, told in (("/api/orders", {"order": "pause"}), ("/api/notes", {"words": "x"})):
        refused = site.tell(path, told)
        assert refused.status == 400 and "--read-only" in refused.json["mend"]
    assert not {"orders.txt", "notes.txt"} & {path.name for path in session.folder.iterdir()}
    assert site.ask("/api/points").json["read_only"] is True


# -- what is told -----------------------------------------------------------------------------------------


def test_no_experiment_yet(serve: Any) -> None:
    site = serve()
    told = site.ask("/api/points").json
    assert told["number"] == [] and told["picture"]["champion"] is None and told["picture"]["about"]["lab"] == "tiny"
    assert site.ask("/api/words?first=0&last=10").json == {
        "number": [], "hypothesis": [], "changes": [], "theme": [], "themes": [],
    }  # fmt: skip
    assert site.ask("/api/experiments/0").status == 400


def test_the_labs_studies_with_their_arms(serve: Any, session: Session) -> None:
    site = serve()
    assert site.ask("/api/studies").json == []
    arms: dict[str, Any] = {"one": {}, "two": {}}
    plan = StudyConfig.model_validate({"name": "x", "experiments": 1, "best_of_n": False, "arms": arms})
    curve = ((0.0, 0.0), (0.5, 2.0))
    results = [StudySession(n, arm, n, 0.5, 0.0, "", curve) for n in (1, 2, 3) for arm in arms]
    StudyReport(plan, results).write(session.repo.lab)
    (told,) = site.ask("/api/studies").json
    assert (told["name"], told["rounds"], told["best"]) == ("x", 5, "")
    for arm in told["arms"]:
        assert (arm["sessions"], arm["gain"], arm["alone"], arm["per_dollar"]) == (3, 2.0, [], None)
        assert arm["per_hour"]["mean"] == pytest.approx(4.0) and arm["per_hour"]["low"] < 4 < arm["per_hour"]["high"]
    assert told["page"] == ".nightlab/study.x.html" and set(told["curves"]) == set(arms)
    assert told["curves"]["one"][0] == [0.0, 0.0] and told["curves"]["one"][-1] == [0.5, 2.0]
    assert [pair["words"] for pair in told["pairs"]] == ["not shown"]


def test_one_experiment_from_close_by_and_two_beside_each_other(serve: Any, session: Session) -> None:
    add(session)
    number = add(session, "A = 2.0\nB = 8  # [1..16]\n", EVIL, value=0.5)
    site = serve()
    told = site.ask(f"/api/experiments/{number}").json
    assert (told["metric"], told["bar"], told["status"], told["parent"]) == (0.5, 0.5, "keep", 0)
    added = ["".join(text for _, text in line["spans"]) for line in told["diff"] if line["kind"] == "added"]
    assert added == ["A = 2.0"] and ["number", "2.0"] in next(
        line["spans"] for line in told["diff"] if line["kind"] == "added"
    )
    assert "\x1b" not in told["hypothesis"] and "\u202e" not in told["hypothesis"]
    both = site.ask(f"/api/compare?one={number}&other=0").json
    assert [side["number"] for side in both["sides"]] == [number, 0]
    assert any(line["kind"] == "added" and line["spans"][0][1].startswith("A") for line in both["diff"])
    for wrong in (
        "/api/experiments/7",
        "/api/experiments/99999999999999999999",
        "/api/experiments/x",
        "/api/compare?one=0&other=7",
        "/api/compare?one=x&other=0",
        "/api/words?first=0",
    ):
        assert site.ask(wrong).status == 400 and site.ask(wrong).json["message"]


def test_commits_that_are_not_here_cost_the_diff_alone(serve: Any, session: Session) -> None:
    add(session)
    number = session.ledger.propose(Candidate("0" * 40, session.base, "x", "import", "from elsewhere"))
    told = serve().ask(f"/api/experiments/{number}").json
    assert told["diff"] == [] and "git diff-tree failed" in told["no_diff"] and told["status"] is None


def test_a_browser_that_comes_back_gets_what_it_missed_and_no_more(serve: Any, session: Session) -> None:
    add(session)
    site = serve()
    first = site.ask("/api/points").json
    browser = Listener(site, first["mark"])
    mark, picture = browser.next("picture")
    assert mark == first["mark"] and picture["tally"] == {"keep": 1}
    add(session, "A = 3.0\n", EVIL, "discard", 2.0)
    mark, rows = browser.judged()
    assert rows["number"] == [1] and rows["parent"] == [0] and "\x1b" not in rows["words"]["hypothesis"][0]
    browser.close()
    for value in (0.9, 0.8):
        add(session, f"A = {value}\n", "while nobody looked", value=value)
    again = Listener(site, first["mark"], **{"Last-Event-ID": mark})  # as browsers reconnect: the address is old
    _, rows = again.next("points")
    assert rows["number"] == [2, 3] and rows["status"] == [0, 0] and rows["words"]["changes"] == [["A 4 → 2"]] * 2
    again.close()


def loads_anew(site: Site, mark: str) -> None:
    browser = Listener(site, mark)
    browser.next("anew")
    browser.close()


@pytest.mark.parametrize("mark", ["", "nonsense", "1.0-1", "x-99999", "9" * 400 + "-" + "9" * 400])
def test_a_mark_of_another_ledger_has_the_page_load_anew(serve: Any, session: Session, mark: str) -> None:
    add(session)
    loads_anew(serve(), mark)


def test_a_mark_that_is_ahead_is_of_a_ledger_that_was_put_back(serve: Any, session: Session) -> None:
    add(session)
    site = serve()
    began, _, seq = site.ask("/api/points").json["mark"].rpartition("-")
    loads_anew(site, f"{began}-{int(seq) + 1}")


def test_who_missed_very_much_loads_anew(serve: Any, session: Session, monkeypatch: Any) -> None:
    monkeypatch.setattr(feed, "MOST", 2)
    add(session)
    site = serve()
    mark = site.ask("/api/points").json["mark"]
    for number in range(3):
        add(session, f"A = {number}.5\n", status="discard")
    loads_anew(site, mark)


def test_two_browsers_hear_the_same_and_one_too_many_is_told(serve: Any, session: Session, monkeypatch: Any) -> None:
    monkeypatch.setattr(feed, "LISTENERS", 2)
    add(session)
    site = serve()
    mark = site.ask("/api/points").json["mark"]
    browsers = [Listener(site, mark), Listener(site, mark)]
    for browser in browsers:
        browser.next("picture")
    refused = site.ask("/api/events")
    assert refused.status == 400 and "browsers" in refused.json["message"]
    add(session, "A = 3.0\n", status="discard")
    for browser in browsers:
        assert browser.judged()[1]["number"] == [1]
        browser.close()
    wait(lambda: site.ask("/api/points").status == 200)
    Listener(site, mark).close()  # there is room again


# -- ledgers that are not as they should be ---------------------------------------------------------------


def damaged(ledger: Path, how: str) -> None:
    if how == "removed":
        for path in ledger.parent.glob(f"{LEDGER}*"):
            path.unlink()
    elif how == "truncated":
        ledger.write_bytes(ledger.read_bytes()[:3000])
    else:
        ledger.write_text("nothing of the kind " * 500)


def test_a_ledger_of_a_newer_nightlab_is_not_guessed_at(serve: Any, session: Session) -> None:
    with closing(sqlite3.connect(session.folder / LEDGER)) as db:
        db.execute("PRAGMA user_version = 99")
    site = serve()
    refused = site.ask("/api/points")
    assert refused.status == 400 and "newer" in refused.json["message"] and "upgrade" in refused.json["mend"]
    browser = Listener(site)
    told = browser.next("picture")[1]
    assert "newer" in told["fault"] and "upgrade" in told["mend"]
    browser.close()


@pytest.mark.parametrize("how", ["removed", "truncated", "no database"])
def test_a_broken_ledger_is_a_sentence_and_a_mended_one_goes_on(serve: Any, session: Session, how: str) -> None:
    add(session)
    session.close()
    ledger = session.folder / LEDGER
    with closing(sqlite3.connect(ledger)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(ledger, session.folder / "whole.db")
    site = serve()
    told = site.ask("/api/points").json
    browser = Listener(site, told["mark"])
    assert not browser.next("picture")[1]["fault"]
    damaged(ledger, how)
    for path in ("/api/points", "/api/experiments/0", "/api/words?first=0&last=9"):
        answer = site.ask(path)
        assert answer.status in (200, 400) and (answer.status == 200 or answer.json["message"]), answer.body
    newcomer = Listener(site, told["mark"])
    assert newcomer.next("picture")[1]["fault"]
    assert browser.next("picture")[1]["fault"]
    (session.folder / "whole.db").replace(ledger)
    picture = browser.next("picture")[1]
    while picture["fault"]:
        picture = browser.next("picture")[1]
    assert picture["champion"]["number"] == 0
    browser.close()
    newcomer.close()


def test_the_writer_is_never_held_up(serve: Any, session: Session) -> None:
    add(session)
    site = serve()
    browser = Listener(site, site.ask("/api/points").json["mark"])
    browser.next("picture")
    session.ledger._db.execute("PRAGMA busy_timeout = 0")  # a lock that is met fails at once
    for number in range(60):
        add(session, f"A = {number}.25\n", status="discard")
        if number % 10 == 0:
            assert site.ask("/api/points").status == 200
    seen: set[int] = set()
    while len(seen) < 60:
        rows = browser.next("points")[1]
        seen |= {n for n, status in zip(rows["number"], rows["status"], strict=True) if status == 1}
    browser.close()


# -- columns and diffs ------------------------------------------------------------------------------------


def test_columns_say_what_the_records_say_however_they_are_read(session: Session) -> None:
    add(session)
    with closing(ColumnReader(session.folder / LEDGER)) as feed:
        merged: dict[int, dict[str, Any]] = {}
        seq = feed.last_event()
        for number in range(1, 12):
            add(
                session,
                f"A = {number}.5\n",
                f"number {number}",
                "keep" if number % 4 == 0 else "crash" if number % 5 == 0 else "discard",
                1 - number / 100,
            )
            if number == 8:
                gain = PairedGain(0.1, 0.05, 0.15, 0.95, 4)
                session.ledger.append(EvidenceShown(4, Evidence("confirmed", 0, (1, 2), gain)))
            if number == 11:
                session.ledger.append(Rechecked(4, 0.97))
            told = feed.points(feed.touched(seq))
            names = [
                name
                for name in told
                if len(told[name]) == len(told["number"]) and name not in ("reasons", "proposers", "evidence")
            ]
            for at, n in enumerate(told["number"]):
                merged[n] = {name: told[name][at] for name in names}
            if number % 3 == 0:
                seq = feed.last_event()
        whole = feed.points()
        for at, n in enumerate(whole["number"]):
            assert n == 0 or merged[n] == {name: whole[name][at] for name in merged[n]}
        codes = {"keep": 0, "discard": 1, "crash": 2}
        for experiment in session.ledger.experiments():
            n = experiment.number
            assert experiment.verdict and experiment.measurement
            assert whole["status"][n] == codes[experiment.verdict.status] and whole["bar"][n] == experiment.bar
            assert whole["metric"][n] == experiment.measurement.metric and whole["gap"][n] == experiment.gap
            parent = session.ledger.by_commit(experiment.candidate.parent)
            assert whole["parent"][n] == (parent.number if parent and n else None)
        assert [one["number"] for one in whole["evidence"]] == [4]
        assert whole["evidence"][0]["all"][0]["gain"]["low"] == 0.05


LINES = st.lists(
    st.sampled_from(["x = 1", '"""', "  # note", "", "-- a", "++ b", "diff --git a/x b/x", "@@ -1 +1 @@", "def f():"]),
    max_size=12,
)


@settings(max_examples=40)
@given(old=LINES, new=LINES)
def test_a_diff_says_the_same_coloured(tmp_path_factory: Any, old: list[str], new: list[str]) -> None:
    folder = tmp_path_factory.mktemp("diff")
    for side, lines in (("a", old), ("b", new)):
        (folder / side).mkdir()
        (folder / side / "f.py").write_text("".join(f"{line}\n" for line in lines))
    raw = subprocess.run(
        ["git", "diff", "--no-index", "--no-prefix", "a/f.py", "b/f.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    told = shown(raw)
    rows = {
        kind: [("".join(text for _, text in line["spans"]), line) for line in told if line["kind"] == kind]
        for kind in ("added", "removed", "same")
    }
    for text, line in rows["added"]:
        assert text == new[line["new"] - 1]
    for text, line in rows["removed"]:
        assert text == old[line["old"] - 1]
    for text, line in rows["same"]:
        assert text == new[line["new"] - 1] == old[line["old"] - 1]
    assert len(rows["added"]) - len(rows["removed"]) == len(new) - len(old)


# -- the command ------------------------------------------------------------------------------------------


def test_the_command_serves_until_ctrl_c(make_lab: Any, start_nightlab: Any) -> None:
    lab: TinyLab = make_lab()
    lab.session().close()
    process = start_nightlab("serve", "--host", "127.0.0.1", "--port", "0", cwd=lab)
    address = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", process.stdout.readline())
    assert address
    link = http.client.HTTPConnection("127.0.0.1", int(address[1]), timeout=PATIENCE)
    link.request("GET", "/")
    assert link.getresponse().status == 401
    link.close()
    link.request("GET", f"/?token={address[2]}")
    assert link.getresponse().status == 303
    link.close()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "Traceback" not in out


def test_what_it_can_not_do_it_says(make_lab: Any, nightlab: Any, tmp_path: Path) -> None:
    lab = make_lab()
    none = nightlab("serve", cwd=lab)
    assert none.code == 1 and "nightlab run" in none.err
    lab.session().close()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = nightlab("serve", "--port", str(taken.getsockname()[1]), cwd=lab)
        assert busy.code == 1 and "--port" in busy.err
    (tmp_path / "without" / "starlette").mkdir(parents=True)
    (tmp_path / "without" / "starlette" / "__init__.py").write_text("raise ModuleNotFoundError(name='starlette')")
    path = ":".join([str(tmp_path / "without"), *sys.path])
    bare = nightlab("serve", cwd=lab, PYTHONPATH=path)
    assert bare.code == 1 and "pip install 'nightlab[web]'" in bare.err
