"""Transfer in grids: whether programs keep their order in dearer settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from nightlab.analysis.transfer_grid import GridConfig, TransferGrid, rank_correlation, read_grid, result_words
from nightlab.core.config import StopRules
from nightlab.core.observer import Observer
from nightlab.core.program.constants import change_constants, find_constants
from nightlab.core.types import NightlabError
from nightlab.integrations.harness import NANOCHAT, write_handover
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.session.create import SHIPPED
from nightlab.session.session import open_session


def test_the_rank_correlation_and_its_interval() -> None:
    same = rank_correlation([1, 2, 3, 4, 5, 6, 7, 8], [10, 20, 30, 40, 50, 60, 70, 90])
    assert same and same[0] == pytest.approx(1) and same[1] > 0.9
    # r = 0.9, n = 5: tanh(atanh(0.9) ± 1.96 · sqrt((1 + 0.405) / 2))
    some = rank_correlation([1, 2, 3, 4, 5], [1, 2, 3, 5, 4])
    assert some == pytest.approx((0.9, -0.169, 0.996), abs=1e-3)
    assert rank_correlation([1, 2, 3], [1, 2, 3]) is None and rank_correlation([1, 1, 1, 1], [1, 2, 3, 4]) is None


def test_a_grid_is_every_combination_but_the_proxy() -> None:
    grid = GridConfig(scales=(1, 4), constants={"DEPTH": (2, 4)}, labs=(".", "other"))
    assert len(grid.cells()) == 8 and len(GridConfig(scales=(1, 4)).cells()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scales = [1]", "only the session's own setting"),
        ("scales = [0]", "scales: 0 is no multiple"),
        ("[constants]\nDEPTH = []", "constants.DEPTH: name at least one value"),
        ("programs = 3\nscales = [2]", "programs"),
        ("scale = [2]", "scale"),
        ("scales = [", "is no TOML"),
    ],
)
def test_a_bad_grid_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "grid.toml").write_text(text)
    with pytest.raises(NightlabError, match="toml") as raised:
        read_grid(tmp_path / "grid.toml")
    assert said in str(raised.value)
    with pytest.raises(NightlabError, match="No such file"):
        read_grid(tmp_path / "none.toml")


GENOME = "A = 4\n\n\n\nSIZE = 1\n"
MEASURE = """\
import sys
from genome import A, SIZE
if SIZE == 9 and A == 2:
    sys.exit("out of memory")
print(f"METRIC loss={A if SIZE != 5 else -A}")
"""


def test_a_grid_is_measured_once_and_says_where_the_order_holds(make_lab: Any) -> None:
    lab, other = (make_lab(GENOME, text, name=name) for name, text in (("one", MEASURE), ("two", MEASURE + "#\n")))
    for value in (2, 3, 5):
        lab.idea(f"{value}", GENOME.replace("A = 4", f"A = {value}"))
    session, there = lab.session(), other.session()
    for one in (session, there):
        ExperimentLoop(one, StopRules(), Scheduler(one, Observer())).run()
    grid = GridConfig(programs=4, seeds=2, constants={"SIZE": (5, 9)}, labs=("../two",))

    def measured() -> TransferGrid:
        return TransferGrid(grid, Scheduler(session, Observer()), lambda lab: Scheduler(there, Observer()))

    first = measured()
    assert first.plan().startswith("4 programs in 3 settings: 24 trials; about ")
    found = {one.setting: one for one in first.run()}
    assert list(found) == ["SIZE = 5, in two", "SIZE = 9, in two"]
    for setting, one in found.items():
        assert "5" not in setting or (one.rank and one.rank[0] == pytest.approx(-1))
        assert (one.gain is None) == ("9" in setting), "the champion has A = 2, and fails at that size"
    assert "may not keep the order" in result_words(found["SIZE = 5, in two"])
    champion = session.champion().number
    fails = found["SIZE = 9, in two"]
    assert list(fails.failed) == [champion] and "out of memory" in result_words(fails)
    trials = len(session.ledger.trials()), len(there.ledger.trials())
    again = measured()
    assert "measured before" in again.plan()
    assert [one.rank for one in again.run()] == [one.rank for one in found.values()]
    assert (len(session.ledger.trials()), len(there.ledger.trials())) == trials, "nothing is measured twice"
    note = (write_handover(session, "nanochat", lab.folder / "out") / "NOTE.md").read_text()
    assert "| SIZE = 5, in two | #1 | -2 (-2 to -2)" in note and "no: it is worse there" in note
    assert "| A | 4 | 2 | none: change the code |" in note and "not confirmed" in note
    assert "+A = 2" in (lab.folder / "out" / "changes.patch").read_text()
    said = [(e.what, e.gain.mean) for e in session.ledger.experiment(champion).evidence if e.level == "transferred"]
    assert said == [("SIZE = 5, in two", -2.0)]


def test_the_note_for_nanochat_names_the_options_of_the_language_model_labs_own_constants(make_lab: Any) -> None:
    text = (SHIPPED / "lm" / "train.py").read_text()
    own = find_constants(text, "cpu")
    assert {NANOCHAT[name] for name in own if name in NANOCHAT} == set(NANOCHAT.values()), "each option has one"
    changed = {"MATRIX_LR": 0.05, "WARMDOWN": 0.5, "DEPTH": 3, "ROPE_BASE": 20000}
    measure = "import re\nprint('METRIC loss=' + re.search('MATRIX_LR = ([0-9.]+)', open('genome.py').read())[1])\n"
    lab = make_lab(text, measure)
    lab.commit(lab_toml=(lab.folder / "lab.toml").read_text().replace('"loss"', '"loss"\ngoal = "maximise"'))
    lab.idea("1", change_constants(text, "cpu", changed))
    _, session = lab.run()
    note = (write_handover(session, "nanochat", lab.folder / "out") / "NOTE.md").read_text()
    for row in (
        "| MATRIX_LR | 0.04 | 0.05 | `--matrix-lr` |",
        "| WARMDOWN | 0.75 | 0.5 | `--warmdown-ratio` |",
        "| DEPTH | 2 | 3 | `--depth` |",
        "| ROPE_BASE | 10000 | 20000 | none: change the code |",
    ):
        assert row in note, note


def test_a_grid_that_is_killed_goes_on(make_lab: Any, nightlab: Any, killed: Any) -> None:
    lab = make_lab(GENOME, MEASURE)
    for value in (2, 3, 5):
        lab.idea(f"{value}", GENOME.replace("A = 4", f"A = {value}"))
    lab.write("grid.toml", "programs = 4\nseeds = 2\n[constants]\nSIZE = [2]\n")
    assert nightlab("run", "--tag", "t", cwd=lab).code == 0

    def measured() -> list[tuple[str, int]]:
        session = open_session(lab.folder, "t")
        found = [(t.commit, t.seed) for t, m in session.ledger.trials(purpose="transfer") if m and m.measured]
        session.close()
        return found

    killed("transfer", "grid.toml", "--tag", "t", cwd=lab, until=lambda: len(measured()) >= 3)
    before = measured()
    done = nightlab("transfer", "grid.toml", "--tag", "t", cwd=lab)
    assert "rank correlation 1.00" in done.out, done.err
    assert before == measured()[: len(before)]
    assert len(measured()) == len(set(measured())) == 16, "four programs in two settings on two seeds, each once"
    done = nightlab("export", "--for", "nanochat", "--tag", "t", "--out", "out", cwd=lab)
    assert done.code == 0 and "changes.patch, and NOTE.md" in done.out, done.err
    assert "| SIZE = 2 | #1 | " in (lab.folder / "out" / "NOTE.md").read_text()


@pytest.mark.parametrize(
    ("contract", "files", "said"),
    [
        ({'"loss"': '"error"'}, {}, "two measures error, not loss alike"),
        (
            {'["genome.py"]': '["other.py"]'},
            {"other.py": "A = 1\n"},
            "two has another genome: its files differ by name",
        ),
        ({"amount = 20": 'clock = "work"\namount = 20'}, {}, "not of the same clock"),
    ],
)
def test_a_lab_that_does_not_compare_is_named(
    make_lab: Any, contract: dict[str, str], files: dict[str, str], said: str
) -> None:
    lab, other = (make_lab(GENOME, MEASURE, name=name, files=files) for name in ("one", "two"))
    text = (other.folder / "lab.toml").read_text()
    for old, new in contract.items():
        assert old in text
        text = text.replace(old, new)
    other.commit(lab_toml=text)
    lab.idea("2", GENOME.replace("A = 4", "A = 2"))
    session, there = lab.session(), other.session()
    ExperimentLoop(session, StopRules(), Scheduler(session, Observer())).run()
    with pytest.raises(NightlabError, match=re.escape(said)):
        TransferGrid(
            GridConfig(labs=("two",)), Scheduler(session, Observer()), lambda lab: Scheduler(there, Observer())
        )


BROKEN = "import os\nassert int(os.environ['NIGHTLAB_SEED']) < 1000\n" + MEASURE  # not on fresh seeds


@pytest.mark.parametrize(
    ("measure", "grid", "said"),
    [
        (MEASURE, {"constants": {"DEPTH": (2,)}}, "DEPTH: experiment 0 has no such constant"),
        (
            "import time\ntime.sleep(1.1)\n" + MEASURE,
            {"scales": (8,)},
            "with 8 times the budget, the baseline trained ",
        ),
        (BROKEN, {"scales": (2,)}, "the baseline can't be measured: "),
    ],
    ids=["constant", "budget", "baseline"],
)
def test_a_grid_that_can_not_be_measured_says_why(make_lab: Any, measure: str, grid: dict[str, Any], said: str) -> None:
    lab = make_lab(GENOME, measure)
    for value in (2, 3, 5):
        lab.idea(f"{value}", GENOME.replace("A = 4", f"A = {value}"))
    session = lab.session()
    ExperimentLoop(session, StopRules(), Scheduler(session, Observer())).run()
    with pytest.raises(NightlabError, match=re.escape(said)):
        TransferGrid(GridConfig(seeds=2, **grid), Scheduler(session, Observer()), lambda lab: None).run()


def test_what_does_not_compare_is_named(make_lab: Any) -> None:
    lab, other = make_lab(GENOME, MEASURE, name="one"), make_lab("A = 1\n", MEASURE, name="two")
    lab.idea("2", GENOME.replace("A = 4", "A = 2"))
    session, there = lab.session(), other.session()
    ExperimentLoop(session, StopRules(), Scheduler(session, Observer())).run()
    scheduler = Scheduler(session, Observer())
    with pytest.raises(NightlabError, match="has no measured baseline"):
        TransferGrid(GridConfig(labs=("two",)), scheduler, lambda lab: Scheduler(there, Observer()))
    with pytest.raises(NightlabError, match="measured 2 programs, and ranks need 4"):
        TransferGrid(GridConfig(scales=(2,)), scheduler, lambda lab: scheduler)
