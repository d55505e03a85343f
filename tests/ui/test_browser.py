"""The window in a real browser: walked by keyboard, filtered, compared, steered, and looked at by axe."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.commons_users import BETTER, MORE, User
from support.extras import extra
from support.labs import GENOME, lab_in
from support.processes import PATIENCE, wait
from support.window_site import EVIL, Site, add

from nightlab.analysis.study import StudyConfig, StudySession
from nightlab.analysis.study_report import StudyReport
from nightlab.core.events import EvidenceShown, OrderTaken
from nightlab.core.types import Candidate, Evidence, Measurement, PairedGain, Verdict
from nightlab.session.session import Session
from nightlab.storage.git import Repo
from nightlab.ui.web import feed
from nightlab.ui.web.app import WebApp

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("browser")]  # one worker starts it

playwright = extra("playwright.sync_api", "dev")
axe = extra("axe_playwright_python.sync_playwright", "dev")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("needs a chromium (apt install chromium)", allow_module_level=True)
# Chromium asks nobody outside, and works for root and without a GPU.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]
SERIOUS = ("serious", "critical")
IDEAS = 40  # of a run: it goes on for longer than the slowest browser takes to open


def expect(what: Any) -> Any:
    return playwright.expect(what)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright.expect.set_options(timeout=PATIENCE * 1000)  # a busy machine is slow, and nothing here is about speed
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def start(session: Session, **more: Any) -> Site:
        sites.append(Site(WebApp(session.repo.lab, session.tag), **more))
        return sites[-1]

    yield start
    for site in sites:
        site.close()


@pytest.fixture
def look(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Open a page; whatever goes wrong in it fails the test."""
    pages: list[Any] = []
    wrong: list[str] = []

    def start(site: Site, address: str = "", width: int = 1280, scheme: str = "light") -> Any:
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        page.goto(f"http://127.0.0.1:{site.port}/{address}")
        pages.append(page)
        # What arrives moves what is below it: a click that begins before that may end elsewhere.
        while not page.evaluate("performance.getEntriesByName('painted').length"):
            page.wait_for_timeout(20)
        return page

    yield start
    for page in pages:
        page.close()
    assert not wrong


def a_night(session: Session) -> Session:
    """Ten experiments: 0 ← 1 ← 4 ← 8 were kept, 2 crashed, and 8's gain is confirmed."""
    add(session)
    for n in range(1, 10):
        status = "keep" if n in (1, 4, 8) else "crash" if n == 2 else "discard"
        words = EVIL if n == 3 else f"Halve the width, for the {n}th time"
        add(session, GENOME.replace("4.0", f"{n}.5"), words, status, 1 - n / 100 if status == "keep" else 1.0 + n / 100)
    session.ledger.append(EvidenceShown(8, Evidence("confirmed", 0, (1, 2), PairedGain(0.08, 0.05, 0.11, 0.95, 4))))
    return session


@pytest.fixture
def night(make_lab: Any) -> Iterator[Session]:
    """A night of one's own, that may go on."""
    with closing(a_night(make_lab().session())) as session:
        yield session


@pytest.fixture(scope="module")
def site(tmp_path_factory: Any) -> Iterator[Site]:
    """A night that is looked at by many, and that nobody changes."""
    with closing(a_night(lab_in(tmp_path_factory.mktemp("night")).session())) as session:
        site = Site(WebApp(session.repo.lab, session.tag))
        yield site
        site.close()


def rows(page: Any) -> Any:
    return page.locator("#rows .row")


def test_the_lineage_is_walked_by_keyboard_and_a_node_opens(site: Site, look: Any) -> None:
    page = look(site)
    expect(page.locator("#headline")).to_contain_text("0.920000")
    expect(page.locator("#headline")).to_contain_text("confirmed")
    tree = page.get_by_role("tree")
    tree.focus()
    expect(rows(page).first).to_contain_text("baseline")
    tree.press("End")
    expect(page.locator(".row.current")).to_contain_text("1 tried here")
    tree.press("ArrowRight")
    tree.press("ArrowDown")
    expect(page.locator(".row.current")).to_contain_text("#9")
    assert tree.get_attribute("aria-activedescendant") == "row-n9"
    tree.press("ArrowLeft")  # to the group, which closes next, and then to the parent
    tree.press("ArrowLeft")
    expect(page.locator("#row-n9")).to_have_count(0)
    tree.press("ArrowLeft")
    expect(page.locator(".row.current")).to_contain_text("#8")
    tree.press("Enter")
    detail = page.locator("#detail")
    expect(detail.get_by_role("heading", name="#8")).to_be_visible()
    expect(detail).to_be_focused()
    expect(detail.locator(".diff .removed code")).to_have_text("A = 4.5  # [0.25..8 log]")
    expect(detail.locator(".diff .added code")).to_have_text("A = 8.5  # [0.25..8 log]")
    expect(detail.locator(".diff .added .number")).to_have_text("8.5")
    expect(detail).to_contain_text("95 % interval 0.0500 to 0.1100")
    detail.press("Escape")
    expect(tree).to_be_focused()


def test_two_are_compared_and_the_address_remembers(site: Site, look: Any) -> None:
    page = look(site)
    page.get_by_role("button", name="Champion: #8").click()
    page.get_by_label("Compare with experiment number").fill("1")
    page.get_by_role("button", name="Compare", exact=True).click()
    beside = page.locator("table.beside")
    expect(beside).to_contain_text("#8")
    expect(beside).to_contain_text("#1")
    expect(page.locator("#detail .diff .added code")).to_have_text("A = 1.5  # [0.25..8 log]")
    assert page.url.endswith("#8..1")
    again = look(site, "#8..1")
    expect(again.locator("table.beside")).to_contain_text("#1")
    again.get_by_role("tree").focus()
    again.locator("#row-n4").click()
    expect(again.get_by_role("heading", name="#4")).to_be_visible()
    again.get_by_role("tree").press("ArrowLeft")
    again.get_by_role("tree").press("ArrowLeft")
    again.get_by_role("tree").press("c")
    expect(again.locator("table.beside")).to_be_visible()


def test_filters_are_of_the_list_the_tree_and_the_words_alike(site: Site, look: Any) -> None:
    page = look(site)
    expect(page.locator("#count")).to_have_text("10 experiments")
    page.get_by_label("Verdict").select_option("crash")
    expect(page.locator("#count")).to_have_text("1 of 10 experiments")
    expect(page.locator("#row-n2")).to_be_visible()
    expect(page.locator("#row-n4")).to_have_count(0)
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Log").click()
    expect(page.get_by_role("grid").get_by_role("row")).to_have_count(10)
    page.get_by_label("Words").fill("4th TIME")
    expect(page.get_by_role("grid").get_by_role("row")).to_have_count(1)
    page.get_by_label("Words").fill("nothing like it")
    expect(page.locator("#rows")).to_contain_text("No matches")
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_label("Theme").locator("option").nth(1)).to_have_text("A (9)")
    page.get_by_label("Theme").select_option("genome.py:A")
    expect(page.locator("#count")).to_have_text("9 of 10 experiments")


def test_the_colours_are_chosen_and_remembered(site: Site, look: Any) -> None:
    page = look(site)
    paper = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(paper)
    for name in ("light", "dark"):
        page.locator("#colours").click()
        expect(page.locator("#colours")).to_have_attribute("aria-label", f"Colours: {name}")
    dark = page.evaluate(paper)
    assert dark != before
    page.reload()
    expect(page.locator("#colours")).to_have_attribute("aria-label", "Colours: dark")
    assert page.evaluate(paper) == dark


def test_the_words_of_a_candidate_are_words(site: Site, look: Any) -> None:
    page = look(site, "#3")
    expect(page.locator("#row-n3")).to_be_visible()  # the group that it stands in is open
    expect(page.locator("#detail .hypothesis")).to_contain_text('<img src=x onerror="alert(1)">')
    assert page.locator("img, main script").count() == 0


def test_the_chart_is_a_slider_over_the_experiments(site: Site, look: Any) -> None:
    page = look(site)
    expect(rows(page).first).to_be_visible()
    slider = page.get_by_role("slider")
    slider.focus()
    slider.press("End")
    expect(page.get_by_role("heading", name="#9")).to_be_visible()
    slider.press("ArrowLeft")
    expect(slider).to_have_attribute("aria-valuenow", "8")
    assert "keep" in slider.get_attribute("aria-valuetext")
    ink = "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size"
    assert page.locator("#chart canvas").first.evaluate(ink) > 10, "something is drawn"
    area = slider.bounding_box()
    tip, at, across = page.locator("#tip"), 0.0, area["x"] + 60 + 0.45 * (area["width"] - 78)  # where #4 stands
    while tip.is_hidden():
        at += 12
        assert at < area["height"], "no point is found by the pointer"
        page.mouse.move(across, area["y"] + at)
    page.mouse.click(across, area["y"] + at)
    expect(page.get_by_role("heading", name="#4")).to_be_visible()
    page.get_by_role("button", name="Zoom in").click()
    slider.press("0")


def test_what_is_new_appears_and_a_restarted_server_is_found_again(night: Session, serve: Any, look: Any) -> None:
    site = serve(night)
    page = look(site)
    expect(page.locator("#count")).to_have_text("10 experiments")
    add(night, GENOME.replace("4.0", "0.5"), "A leap", "keep", 0.5)
    expect(page.locator("#headline")).to_contain_text("0.500000")
    expect(page.locator("#said")).to_contain_text("kept: #10")
    site.close()
    expect(page.locator("#trouble")).to_contain_text("does not answer")
    add(night, GENOME.replace("4.0", "0.25"), "While nobody looked", "keep", 0.4)
    serve(night, port=site.port)
    expect(page.locator("#count")).to_have_text("12 experiments")
    expect(page.locator("#headline")).to_contain_text("0.400000")
    expect(page.locator("#trouble")).to_be_hidden()


def test_who_missed_too_much_loads_anew(night: Session, serve: Any, look: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(feed, "MOST", 0)
    page = look(serve(night))
    expect(page.locator("#count")).to_have_text("10 experiments")
    add(night, GENOME.replace("4.0", "0.5"), "A leap", "keep", 0.5)
    expect(page.locator("#count")).to_have_text("11 experiments")
    expect(page.locator("#headline")).to_contain_text("0.500000")


def test_a_run_is_paused_resumed_and_noted_from_the_page(
    make_lab: Any, start_nightlab: Any, serve: Any, look: Any
) -> None:
    lab = make_lab(measure="import time; time.sleep(1)\nfrom genome import A, B\nprint(f'METRIC loss={A + B}')\n")
    lab.idea("00", GENOME.replace("4.0", "0.5"), "idea 0")
    first = (lab.folder / "ideas" / "00.patch").read_text()
    for n in range(1, IDEAS):
        lab.write(f"ideas/{n:02}.patch", first.replace("0.5", f"{n}.5").replace("idea 0", f"idea {n}"))
    running = start_nightlab("run", "--tag", "t", cwd=lab)
    wait(lambda: (lab.folder / ".nightlab" / "t" / "ledger.db").exists())
    session = Session(Repo(lab.folder), "t", writer=False)
    page = look(serve(session))
    expect(page.locator("#now .flight")).to_be_visible()
    expect(page.get_by_role("progressbar").first).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#state")).to_contain_text("paus")
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    expect(page.locator("#now")).to_contain_text("Paused: nothing new starts.")
    assert [note.order for note in session.ledger.events(OrderTaken)] == ["pause"]
    page.get_by_label("A note").fill("try a <b>smaller</b> A")
    page.get_by_role("button", name="Leave it").click()
    expect(page.locator("#notes li")).to_have_text("try a <b>smaller</b> A")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#now .flight")).to_be_visible()
    running.terminate()
    running.wait()
    expect(page.locator("#state")).to_contain_text("ended: stopped by the user")
    session.close()


def test_a_window_without_experiments_and_one_for_looking_only(make_lab: Any, serve: Any, look: Any) -> None:
    session = make_lab().session()
    site = Site(WebApp(session.repo.lab, session.tag, read_only=True))
    try:
        page = look(site)
        expect(page.locator("#headline")).to_contain_text("No number yet")
        expect(page.locator("#rows")).to_contain_text("the baseline runs first")
        expect(page.get_by_role("button", name="Pause")).to_be_hidden()
        expect(page.locator("#note")).to_be_hidden()
    finally:
        site.close()
        session.close()


def test_the_labs_studies_are_in_a_card(night: Session, serve: Any, look: Any) -> None:
    arms: dict[str, Any] = {"one": {}, "two": {}}
    plan = StudyConfig.model_validate({"name": "x", "experiments": 1, "best_of_n": False, "arms": arms})
    gains = {"one": 2.0, "two": 0.0}
    curves = {arm: ((0.0, 0.0), (0.5, gain)) for arm, gain in gains.items()}
    results = [StudySession(n, arm, gain, 0.5, 0.0, "", curves[arm]) for n in (1, 2, 3) for arm, gain in gains.items()]
    page = look(serve(night))
    expect(page.locator("#studies")).to_be_hidden()
    StudyReport(plan, results).write(night.repo.lab)
    page.reload()
    card = page.get_by_role("region", name="Studies")
    expect(card).to_contain_text("one is shown to be the best")
    expect(card.get_by_role("row").nth(1)).to_contain_text("one32.0000004.0000 (4.0000 to 4.0000)–nothing")
    expect(card.get_by_role("img")).to_have_accessible_name("Gain over hours: one ends at 2.0000, two ends at 0.0000")
    expect(card).to_contain_text(".nightlab/study.x.html")
    expect(card).to_contain_text("one over two: 2.000000 (2.000000 to 2.000000), shown")


def test_of_many_experiments_only_those_that_are_seen_are_there(make_lab: Any, serve: Any, look: Any) -> None:
    session = make_lab().session()
    session.ledger._db.execute("PRAGMA synchronous = OFF")
    add(session)
    for n in range(1, 1200):
        add_quickly(session, n)
    page = look(serve(session))
    page.get_by_role("button", name="Log").click()
    expect(page.get_by_role("grid")).to_have_attribute("aria-rowcount", "1200")
    grid = page.get_by_role("grid")
    expect(rows(page).first).to_contain_text("#1199")
    assert rows(page).count() < 60
    page.locator("#rows").evaluate("box => { box.scrollTop = 600 * 34; }")
    expect(page.locator("#row-n595")).to_be_visible()  # it is drawn with the next frame
    place = page.locator("#row-n595").bounding_box()
    add_quickly(session, 1200)
    expect(grid).to_have_attribute("aria-rowcount", "1201")
    assert page.locator("#row-n595").bounding_box() == place, "what is read does not move"
    grid.focus()
    grid.press("End")
    expect(page.locator(".row.current")).to_contain_text("#0")
    assert rows(page).count() < 60
    session.close()


def add_quickly(session: Session, n: int) -> None:
    """An experiment without a commit of its own."""
    session.ledger.propose(Candidate(f"{n:040x}", session.base, f"{n}", "tuner", f"number {n}"))
    session.ledger.judge(n, Measurement("measured", 1 + n / 1e5), Verdict("discard", "regressed"))


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_axe_finds_nothing_serious(site: Site, look: Any, width: int, scheme: str) -> None:
    page = look(site, "#8", width, scheme)
    expect(page.get_by_role("heading", name="#8")).to_be_visible()
    assert not faults(page)
    page.get_by_role("button", name="Log").click()
    page.get_by_role("button", name="Compare with parent").click()
    expect(page.locator("table.beside")).to_be_visible()
    assert not faults(page)
    for narrow in (width, 320):
        page.set_viewport_size({"width": narrow, "height": 900})
        assert page.evaluate("document.scrollingElement.scrollWidth") <= narrow, "nothing sticks out"


def faults(page: Any) -> list[str]:
    """What axe finds that would keep somebody out."""
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {[node['html'][:200] for node in one['nodes'][:3]]}" for one in found if one["impact"] in SERIOUS
    ]


@pytest.mark.machine
def test_what_two_labs_found_is_there_for_whoever_takes_part(
    make_lab: Any, serve: Any, look: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """One lab finds something, another says what is not true: a third measures both, and shows what came of it."""
    subprocess.run(["git", "init", "-q", "--bare", "--template=", tmp_path / "remote.git"], check=True)
    more = MORE.format(remote="../remote.git")
    there, own = (make_lab(name=name, more=more) for name in ("there", "own"))
    honest, liar, here = (
        User(name, lab, tmp_path / name, monkeypatch)
        for name, lab in (("honest", there), ("liar", there), ("here", own))
    )
    with closing(honest.run(BETTER)) as session:
        honest.share(session)
        honest.sync()
        liar.claim(session, GENOME.replace("A = 4.0", "A = 9.0"), 0.001, hypothesis=EVIL)
        liar.sync()
    session = here.run(experiments=1)
    page = look(serve(session))
    commons = page.get_by_role("region", name="Commons")
    expect(commons).to_contain_text("nothing yet: get findings with nightlab sync")
    session.close()
    here.sync()
    expect(commons).to_contain_text("2 findings of 2 peers")
    session = here.run(*[GENOME.replace("B = 8", f"B = {b}") for b in range(9, 15)])
    expect(commons).to_contain_text("1 confirmed, 1 refuted; 1 adopted")
    expect(commons).to_contain_text("+8.0000 in 2 experiments; own ideas ")
    table = commons.get_by_role("table")
    expect(table.get_by_role("row", name=honest.author[:10])).to_contain_text("1 confirmed")
    expect(table.get_by_role("row", name=liar.author[:10])).to_contain_text("1 refuted")
    expect(commons).to_contain_text('<img src=x onerror="alert(1)">')
    assert page.locator("img, main script").count() == 0
    here.share(session, 1)
    expect(commons).to_contain_text("1 finding")
    assert not faults(page)
    latest = commons.get_by_role("button").first
    latest.click()
    expect(page.locator("#detail").get_by_role("heading", name=latest.inner_text())).to_be_visible()
    session.close()


def test_who_takes_part_in_no_commons_sees_none(site: Site, look: Any) -> None:
    page = look(site)
    expect(page.locator("#count")).to_have_text("10 experiments")
    expect(page.locator("#commons")).to_be_hidden()
