"""The report: what it says of a real session, that nobody's words become markup in it, and the branch to publish."""

from __future__ import annotations

import re
import sqlite3
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer.main
from markdown_it import MarkdownIt
from support.labs import CONTRACT as TINY
from support.labs import MEASURE, TinyLab, users_own

from nightlab.analysis import report
from nightlab.cli.main import app
from nightlab.core.events import Alarm, EvidenceShown, ProposalRefused, Rechecked
from nightlab.core.text import one_line
from nightlab.core.types import Evidence, Measurement, NightlabError, PairedGain, Trial
from nightlab.sandbox.bubblewrap import NoSandbox
from nightlab.session.credit import by_proposer
from nightlab.session.session import Session, open_session
from nightlab.storage.ledger import Ledger

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("report")]  # one worker makes ``night``

CONTRACT = TINY.format(proposer="patches").replace("upkeep = 0", "sigma = 0.5\nupkeep = 3")
CONTRACT += '\n[objectives]\npeak_memory_mb = "minimise"\n'

GENOME = "A = 4.0\n#\n#\n#\n#\n#\n#\nB = 8\n"
EVIL = (
    "$x_{$ <script>alert(1)</script> <img src=http://e.example/x onerror=y> "
    "[a](http://e.example/) ![i](http://e.example/i) "
    "| a | b | `code` **bold** _it_ ~~x~~ &lt;b&gt; &amp; <http://e.example/> \\ --> ]]> \"' \x1b[31mred\x1b[0m "
    "\x1b]0;title\x07 \u202ereversed # 1. - > ``` ~~~"
)
LOUD = "raise ValueError('<script>boom()</script> | `x` [l](http://e.example/)')"


@pytest.fixture(scope="module")
def night(tmp_path_factory: Any) -> TinyLab:
    """A finished session in which everything happened once. Work on a copy: ``lab``."""
    lab = TinyLab(tmp_path_factory.mktemp("night") / "lab")
    for path, text in {"lab.toml": CONTRACT, "genome.py": GENOME, "measure.py": MEASURE}.items():
        lab.write(path, text)
    lab.git("init", "-q", "--template=", "-b", "main")
    lab.commit()
    better = GENOME.replace("A = 4.0", "A = 2.0")
    lab.idea("01", better, EVIL)
    lab.idea("02", GENOME.replace("B = 8", LOUD), EVIL)
    lab.idea("03", GENOME.replace("B = 8", "B = 8.05"), "nearly")
    lab.idea("04", GENOME.replace("B = 8", "B = 8.1"), "nearly too")
    lab.idea("05", GENOME.replace("B = 8", "B = 30"), "far off")
    lab.idea("06", better + "# again\n", "nothing new")
    _, session = lab.run()
    reasons = [e.verdict.reason for e in session.ledger.experiments() if e.verdict]
    assert reasons == ["baseline", "improved", "crashed", "regressed", "regressed", "regressed"]
    assert len(session.ledger.events(ProposalRefused)) == 1 == len(session.ledger.events(Rechecked))
    session.close()
    return lab


@pytest.fixture
def lab(night: TinyLab, tmp_path: Path) -> TinyLab:
    return night.copied(tmp_path / "lab")


def written(lab: TinyLab, *evidence: tuple[int, Evidence]) -> str:
    """The Markdown of the report, after something was shown."""
    session = lab.session()
    for number, shown in evidence:
        session.ledger.append(EvidenceShown(number, shown))
    session.close()
    return report.write_report(open_session(lab.folder, "t"))[0].read_text()


def headline(text: str) -> str:
    return " ".join(line.lstrip("> ") for line in text.splitlines() if line.startswith(">"))


def gain(mean: float, half: float, pairs: int = 4, level: float = 0.95) -> PairedGain:
    return PairedGain(mean, mean - half, mean + half, level, pairs)


def confirmed(mean: float = 8.0, half: float = 1.0, **more: Any) -> Evidence:
    return Evidence(more.pop("level", "confirmed"), 0, (1001, 1002, 1003, 1004), gain(mean, half), **more)


# -- what it says --------------------------------------------------------------------------------------


def test_what_nobody_has_confirmed_is_not_called_a_result(lab: TinyLab) -> None:
    said = headline(written(lab))
    assert said.startswith("**Not confirmed yet.**") and "loss 8 better" in said and "*measured*" in said
    assert "`nightlab confirm -t t`" in said


def test_what_is_confirmed_makes_the_headline(lab: TinyLab) -> None:
    text = written(lab, (1, confirmed(held_out=gain(7.0, 0.5), level="held out")))
    said = headline(text)
    assert "**loss is 8 better than the baseline (95 % interval 7 to 9), on 4 fresh seeds, paired**" in said
    assert "evidence: *held out*" in said and "the same holds: 7 better (95 % interval 6.5 to 7.5)" in said
    assert "a gain of 8; 8 was confirmed" in text and "Not confirmed" not in text
    assert "nightlab transfer -t t --scale 4" in text and "nightlab confirm -t t --ablate" in text


def test_what_does_not_show_on_held_out_data_is_said_in_the_headline(lab: TinyLab) -> None:
    said = headline(written(lab, (1, confirmed(held_out=gain(0.1, 0.5)))))
    assert "**loss is 8 better" in said and "**it does not show**: 0.1 better" in said
    assert "intervals are apart**: what is gained fits those, or is known by heart" in said


def test_a_gain_on_held_out_data_that_may_be_as_large_is_not_called_known_by_heart(lab: TinyLab) -> None:
    said = headline(written(lab, (1, confirmed(held_out=gain(6.0, 1.0), level="held out"))))
    assert "the same holds: 6 better (95 % interval 5 to 7)" in said and "intervals are apart" not in said
    said = headline(written(lab, (1, confirmed(held_out=gain(6.0, 0.5), level="held out"))))
    assert "the same holds: 6 better (95 % interval 5.5 to 6.5)" in said and "intervals are apart" in said


def test_the_same_metric_on_other_data_stands_beside_the_gain(make_lab: Any, nightlab: Any) -> None:
    """Here the gain is one on public text only."""
    measure = (
        "import os, random\nfrom genome import A, B\nfuzz = random.Random(os.environ['NIGHTLAB_SEED']).random() / 100\n"
        "print(f'METRIC loss={A + fuzz}\\nMETRIC loss_private={B + fuzz}\\nMETRIC other=1')\n"
    )
    lab = make_lab(GENOME, measure, contract=CONTRACT)
    lab.idea("01", GENOME.replace("A = 4.0", "A = 2.0"))
    lab.run()[1].close()
    assert nightlab("confirm", "-t", "t", cwd=lab.folder).code == 0
    said = headline(report.write_report(open_session(lab.folder, "t"))[0].read_text())
    assert re.search(r"elsewhere: `loss_private` 0 (better|worse)", said), said
    assert "other" not in said


def test_a_loss_is_called_one(lab: TinyLab) -> None:
    text = written(lab, (1, confirmed(-2.0, 1.0)))
    assert headline(text).startswith(
        "**Not confirmed.** loss is 2 worse than the baseline (95 % interval 1 to 3 worse)"
    )
    assert headline(text).endswith(": it is worse.") and "more seeds" not in text


def test_an_interval_with_room_for_a_loss_confirms_nothing(lab: TinyLab) -> None:
    text = written(lab, (1, confirmed(0.5, 1.0)))
    said = headline(text)
    assert (
        said.startswith("**Not confirmed.**")
        and "does not exclude that nothing was gained" in said
        and "-0.5 to 1.5" in said
    )
    assert "Look with more seeds: `nightlab confirm -t t --seeds 8`" in text


def test_the_latest_look_counts(lab: TinyLab) -> None:
    said = headline(written(lab, (1, confirmed()), (1, confirmed(0.5, 1.0))))
    assert said.startswith("**Not confirmed.**")


def test_other_evidence_has_its_own_place(lab: TinyLab) -> None:
    worth = Evidence("confirmed", 1, (2001,), gain(2.5, 0.25), what="taken out of #1")
    there = Evidence("transferred", 0, (3001,), gain(3.0, 1.0), what="B = 6, [x](y)")
    nowhere = Evidence("transferred", 0, (3001,), gain(0.1, 1.0), what="80 s of wall-clock time")
    text = written(lab, (1, worth))
    assert headline(text).startswith("**Not confirmed yet.**"), "what one change is worth is another question"
    assert "+2.5 (+2.25 to +2.75)" in text
    said = headline(written(lab, (1, confirmed()), (1, there), (1, nowhere)))
    assert r"It transfers to B = 6, \[x\]\(y\): 3 better" in said
    assert "**not** shown to transfer to 80 s of wall-clock time" in said


def test_a_session_without_a_gain_says_so(make_lab: Any) -> None:
    lab = make_lab(GENOME, contract=CONTRACT)
    lab.run()[1].close()
    text = written(lab)
    assert headline(text) == "**No gain.** Nothing beat the baseline's loss of 11.500000."
    assert "0 experiments: 0 kept, 0 discarded, 0 failed" in text and "nightlab confirm" not in text
    lab.idea("01", GENOME.replace("B = 8", "B = 30"))
    lab.run()[1].close()
    text = written(lab)
    assert headline(text).startswith("**No gain.**") and "1 experiment: 0 kept, 1 discarded, 0 failed" in text


def test_everything_that_happened_is_in_it(lab: TinyLab) -> None:
    text = written(lab)
    session = open_session(lab.folder, "t")
    parts = {part.splitlines()[0]: part for part in text.split("\n## ")[1:]}
    assert "5 experiments: 1 kept, 3 discarded, 1 failed" in text
    for experiment in session.ledger.experiments(status="keep")[1:]:
        assert f"| {experiment.number} | " in parts["What was kept"]
    sigma = report.gather(session).sigma
    assert f"+8 ({8 / sigma:.1f} sigma)" in parts["What was kept"] and "not measured" in parts["What was kept"]
    assert "| 3 | nearly | patches | 0.05025 (0.1 sigma)" in parts["Nearly good"]
    assert "| 4 | nearly too |" in parts["Nearly good"] and "far off" not in parts["Nearly good"]
    assert "| 2 | " in parts["What failed"] and "ValueError" in parts["What failed"]
    assert "| 1 | " in parts["The front"] and "| loss | peak\\_memory\\_mb |" in parts["The front"]
    assert "| 2 | " not in parts["The front"], "what crashed is not on it"
    assert "1 proposal never became an experiment" in parts["What failed"]
    trust = parts["How far to trust this"]
    assert f"standard deviation (sigma) of {sigma:.3g}, from 1 replicate" in trust
    assert "**Common luck**: none shows" in trust
    assert "**Power**: at this noise an effect of" in trust
    assert re.search(r"tried again unchanged, would have been kept [01] of 1 time by the rule \*greedy\*", trust)
    assert "**Sealing**" in trust and "**Luck taken off**" in trust
    assert "| patches | 5 | 1 |" in parts["What it cost"] and "nothing left to propose" in parts["What it cost"]
    assert "e.g. #3 and #4" in parts["What to try next"]


def test_how_much_of_the_noise_is_the_seeds_is_in_it(lab: TinyLab) -> None:
    session = open_session(lab.folder, "t")
    ledger = Ledger(session.folder / "ledger.db")
    for number in (0, 1, 3, 4):
        tried = ledger.experiment(number)
        commit = tried.candidate.commit
        for seed, luck in enumerate((0.0, 1.0, -0.5, 0.2, -1.0), 11):
            trial = Trial(f"{number}-{seed}", number, commit, seed, "search", session.budget.record())
            ledger.start(trial)
            ledger.finish(trial, Measurement("measured", tried.measurement.metric + luck + 0.1 * (number * seed % 3)))
    ledger.close()
    rho = report.gather(open_session(lab.folder, "t")).rho
    assert 0.9 < rho < 1
    assert f"**Common luck**: about {rho:.0%} of this noise's variance is the seed's" in written(lab)


def test_a_gain_stands_beside_the_bar_of_its_time(make_lab: Any) -> None:
    """After an upkeep moved the bar, what comes is compared with where it moved to."""
    contract = CONTRACT.replace('rule = "greedy"', 'rule = "shrunk"').replace("upkeep = 3", "upkeep = 1")
    lab = make_lab(
        GENOME, "import os\n" + MEASURE.replace(":.6f", " + (os.environ['NIGHTLAB_SEED'] > '5'):.6f"), contract=contract
    )
    lab.idea("01", GENOME.replace("A = 4.0", "A = 2.0"))
    lab.idea("02", GENOME.replace("B = 8", "B = 4"))
    _, session = lab.run()
    [first, *_] = session.ledger.events(Rechecked)
    one, two = session.ledger.experiment(1), session.ledger.experiment(2)
    assert first.number == 1 and first.bar > one.verdict.bar + 0.1
    row = next(row for row in report.gather(session).kept if row.experiment.number == 2)
    assert row.gain == pytest.approx(first.bar - two.measurement.metric)


def test_every_command_in_it_exists(lab: TinyLab, nightlab: Any) -> None:
    texts = [
        written(lab),
        written(lab, (1, confirmed(0.5, 1.0))),
        written(lab, (1, confirmed())),
    ]
    lines = {line for text in texts for line in re.findall(r"`(nightlab [^`]+)`|^(nightlab .+)$", text, re.MULTILINE)}
    commands = sorted({(a or b).split("#")[0].strip() for a, b in lines})
    assert {line.split()[1] for line in commands} == {"confirm", "replay", "log", "transfer"}
    known = typer.main.get_command(app)
    for line in commands:
        name, *words = line.split()[1:]
        command = known.commands[name]  # type: ignore[attr-defined]
        command.make_context(name, list(words))  # raises for an option or a value that it does not take
    assert nightlab("log", "-t", "t", "--all", cwd=lab).code == 0
    [diff] = {line for text in texts for line in text.splitlines() if line.startswith("git diff")}
    assert "+A = 2.0" in lab.git(*diff.split()[1:])


def test_missing_protections_and_troubles_are_told(make_lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nightlab.session.session.detect_sandbox", NoSandbox)
    lab = make_lab()
    _, session = lab.run()
    session.ledger.append(Alarm("the noise has *changed*"))
    session.close()
    text = written(lab)
    assert "**Sealing**: trials ran WITHOUT protection of files, network, privileges, processes" in text
    assert r"- the noise has \*changed\*" in text


# -- words of others -----------------------------------------------------------------------------------


class Seen(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.inside = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "td":
            self.inside = True
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "td"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.cells[-1] += data


def test_nobody_s_words_become_markup(lab: TinyLab) -> None:
    text = written(lab)
    page = (lab.folder / ".nightlab/t/report.html").read_text()
    plain = one_line(EVIL)
    assert "\x1b" not in text + page and "\u202e" not in text + page
    elsewhere = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough").render(text)
    for html in (page, elsewhere):
        seen = Seen(html)
        names = {tag for tag, _ in seen.tags}
        assert not names & {"script", "img", "a", "b", "s", "iframe"}
        assert not [1 for _, attrs in seen.tags for name in attrs if name.startswith("on")]
        cells = [" ".join(cell.split()) for cell in seen.cells]
        assert cells.count(plain) == 3, "the one that was kept, here and on the front, and the one that failed"
        said = "ValueError: <script>boom()</script> | `x` [l](http://e.example/) (exit status 1)"
        assert [cell for cell in cells if re.fullmatch(rf"crashed: genome.py, line \d+: {re.escape(said)}", cell)]
    rows = [line for line in text.splitlines() if line.startswith("| 1 |") or line.startswith("| 2 |")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [6, 6, 5], "no pipe of theirs makes a column"


def test_the_page_needs_nothing_from_outside(lab: TinyLab) -> None:
    written(lab, (1, confirmed()))
    page = (lab.folder / ".nightlab/t/report.html").read_text()
    seen = Seen(page)
    assert {"svg", "table", "style"} <= {tag for tag, _ in seen.tags}
    assert not {tag for tag, _ in seen.tags} & {"script", "link", "iframe", "object", "embed", "img", "base"}
    for _, attrs in seen.tags:
        for name, value in attrs.items():
            if name.split(":")[-1] in ("src", "href", "srcset", "data", "action"):
                assert value and value.startswith("#"), (name, value)
    assert all(target.startswith("#") for target in re.findall(r"url\(\s*['\"]?([^)]*)", page))
    assert "@import" not in page
    for part in ("What was kept", "Nearly good", "How far to trust this"):
        assert f"<h2>{part}</h2>" in page


# -- the branch to publish -----------------------------------------------------------------------------


def publish(nightlab: Any, lab: TinyLab) -> Any:
    return nightlab("report", "--session-branch", cwd=lab)


def test_the_session_branch_is_the_gain_and_the_log(lab: TinyLab, nightlab: Any, tmp_path: Path) -> None:
    lab.git("init", "-q", "--bare", "--template=", str(tmp_path / "remote.git"))
    lab.git("remote", "add", "origin", str(tmp_path / "remote.git"))
    lab.write("genome.py", "# the user is in the middle of something\n")
    lab.write("notes.txt", "untracked\n")
    mine = users_own(lab)
    done = publish(nightlab, lab)
    assert done.code == 0, done.err
    [name] = re.findall(r"^(exp/\S+/t) is at", done.out, re.MULTILINE)
    assert f"git push REMOTE {name}" in done.out
    commits = lab.git("log", "--format=%s", f"main..{name}").splitlines()
    assert commits[0] == "Session t: log and report" and commits[1].startswith("$x_{$ <script>") and len(commits) == 2
    assert lab.git("rev-parse", f"{name}^") == lab.git("rev-parse", "nightlab/t")
    changed = lab.git("diff", "--name-only", f"{name}^", name).splitlines()
    assert changed == ["reports/t.md", "results.tsv"]
    assert lab.git("show", f"{name}:results.tsv").splitlines() == (
        (lab.folder / ".nightlab/t/results.tsv").read_text().splitlines()
    )
    assert "## What was kept" in lab.git("show", f"{name}:reports/t.md")
    assert users_own(lab) == mine, "the user's files, index and branch are as they were"
    assert lab.git("ls-remote", "origin") == "", "nothing is pushed"

    again = publish(nightlab, lab)
    assert again.code == 0, again.err
    assert len(lab.git("log", "--format=%s", f"main..{name}").splitlines()) == 2 and users_own(lab) == mine


@pytest.mark.parametrize("where", ["the baseline", "a commit of their own", "a commit on the champion"])
def test_somebody_else_s_branch_of_that_name_is_left_alone(lab: TinyLab, where: str) -> None:
    session = open_session(lab.folder, "t")
    name, _ = report.session_branch(session)
    lab.git("branch", "-q", "-D", name)
    if where == "the baseline":
        theirs = lab.git("rev-parse", "main")
    else:
        parent = lab.git("rev-parse", "nightlab/t" if "champion" in where else "main")
        theirs = lab.git("commit-tree", f"{parent}^{{tree}}", "-p", parent, "-m", "my own work")
    lab.git("branch", name, theirs)
    with pytest.raises(NightlabError, match="exists and is not this session's") as error:
        report.session_branch(session)
    assert lab.git("rev-parse", name) == theirs
    assert f"git branch -m {name}" in error.value.hint
    lab.git(*error.value.hint.split("git ")[1].split())
    assert report.session_branch(session)[0] == name, "the mend mends it"
    assert lab.git("rev-parse", "old/t") == theirs


def test_a_branch_that_is_checked_out_is_not_moved(lab: TinyLab, tmp_path: Path) -> None:
    session = open_session(lab.folder, "t")
    name, head = report.session_branch(session)
    lab.git("worktree", "add", "-q", str(tmp_path / "elsewhere"), name)
    session.ledger.close()
    written(lab, (1, confirmed()))
    with pytest.raises(NightlabError, match="is checked out somewhere"):
        report.session_branch(open_session(lab.folder, "t"))
    assert lab.git("rev-parse", name) == head


# -- sessions with little in them, and old ones --------------------------------------------------------


def test_a_session_that_has_judged_nothing_has_no_report(make_lab: Any, nightlab: Any) -> None:
    lab = make_lab()
    lab.session().close()
    for more in ([], ["--session-branch"]):
        done = nightlab("report", *more, cwd=lab)
        assert done.code == 1 and "session t has nothing to report yet" in done.err and "nightlab run" in done.err
    assert not list(lab.folder.glob(".nightlab/t/report.*"))
    nobody = nightlab("report", "-t", "u", cwd=lab)
    assert nobody.code == 1 and "there is no session u" in nobody.err


OLD = """
DROP INDEX experiments_tree; DROP INDEX experiments_judged; DROP INDEX experiments_commit;
ALTER TABLE experiments RENAME TO now;
CREATE TABLE experiments (
    number INTEGER PRIMARY KEY, proposed_at REAL, tree TEXT, candidate TEXT,
    measurement TEXT, verdict TEXT, status TEXT, metric REAL, judged_at REAL
);
DELETE FROM events WHERE kind IN ('upkeep', 'evidence', 'opened');
UPDATE events SET data = json_remove(data, '$.verdict.bar', '$.measurement.held_out', '$.measurement.machine',
    '$.measurement.disturbed', '$.measurement.runs') WHERE kind = 'judged';
DELETE FROM events WHERE kind IN ('started', 'finished') AND data LIKE '%-upkeep-%';
DELETE FROM trials WHERE purpose = 'upkeep';
INSERT INTO experiments SELECT number, proposed_at, tree, candidate, measurement,
    json_remove(verdict, '$.bar'), status, metric, judged_at FROM now;
DROP TABLE now;
PRAGMA user_version = 1;
"""


def test_a_ledger_of_before_is_brought_up_to_date(lab: TinyLab, nightlab: Any) -> None:
    place = lab.folder / ".nightlab" / "t" / "ledger.db"
    before = Ledger(place, read_only=True).experiments()
    db = sqlite3.connect(place)
    db.executescript(OLD)
    db.close()
    for command in (["log"], ["report"], ["show", "1"]):
        refused = nightlab(*command, cwd=lab)
        assert refused.code == 1 and "written by an older nightlab (format 1)" in refused.err
        assert "nightlab run --experiments 1" in refused.err
    done = nightlab("run", "--experiments", "1", cwd=lab)
    assert done.code == 0, done.err
    now = Ledger(place, read_only=True)
    assert [(e.number, e.candidate, e.verdict.status, e.measurement.metric) for e in now.experiments()] == [
        (e.number, e.candidate, e.verdict.status, e.measurement.metric) for e in before
    ]
    assert now.champion().number == 1 and len(now.trials()) == 6
    now.close()
    assert "**Not confirmed yet.** The search measured loss 8 better" in nightlab("report", "--show", cwd=lab).out
    Session(lab.session().repo, "t").ledger.close()


def test_the_log_by_proposer(make_lab: Any, nightlab: Any) -> None:
    lab = make_lab(GENOME, contract=TINY.format(proposer="patches") + '\n[[proposers]]\nkind = "tuner"\n')
    lab.idea("01", GENOME.replace("4.0", "2.0"))
    lab.idea("02", GENOME.replace("4.0", "2.0") + "# the same\n")
    _, session = lab.run(experiments=4)
    parts = {part.name: part for part in by_proposer(session.ledger, session.metric)}
    gained = sum(part.gained for part in parts.values())
    assert gained == pytest.approx(session.ledger.experiment(0).bar - session.champion().bar)
    assert (parts["patches"].tried, parts["patches"].failed) == (1, 1)
    of = [e for e in session.ledger.experiments() if e.candidate.proposer == "tuner"]
    assert parts["tuner"].tried == len(of) == 3 and parts["tuner"].trials > 0
    session.close()
    assert [e["number"] for e in nightlab("log", "--by", "tuner", "--json", cwd=lab).json] == [e.number for e in of]
    shown = nightlab("log", "--by", "patches", cwd=lab).out.splitlines()
    assert len(shown) == 2 and " patches " in shown[1]
    table = nightlab("log", "--proposers", cwd=lab).out
    assert [line.split()[0] for line in table.splitlines()] == ["proposer", "tuner", "patches", "gained:"]
    wrong = nightlab("log", "--front", cwd=lab)
    assert wrong.code == 1 and "has no objectives" in wrong.err
    facts = nightlab("log", "--proposers", "--json", cwd=lab).json
    assert {one["name"]: one["tried"] for one in facts} == {"tuner": 3, "patches": 1}
    wrong = nightlab("log", "--by", "nobody", cwd=lab)
    assert wrong.code == 1 and "patches, tuner" in wrong.err
