"""Hopeless trials: what a candidate may say of its curve, when a trial is given up, and what becomes of it."""

from __future__ import annotations

import itertools
import math
import os
import random
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.bench import GUEST, LEAST, Bench
from support.labs import TinyLab, lab_in
from support.processes import living, wait

from nightlab.core.types import Metric
from nightlab.engines.local import curve
from nightlab.engines.local.curve import CURVE, MOST, PARTS, UNPROMISING, Curve
from nightlab.judge.curve_stopping import CurveModel, FinishedCurve, enough_curves, is_control
from nightlab.storage.ledger import Ledger

LOSS, SCORE = Metric("loss"), Metric("score", "maximise")
LOOKS = PARTS - 1
CHAMPION = (0.0,) * LOOKS


# -- the rule ------------------------------------------------------------------------------------------


def made(draw: random.Random, metric: float, wide: float = 0.01) -> FinishedCurve:
    """A trial whose losses all lie by its metric, but for luck with heavy tails (Cauchy's)."""
    off = wide * math.tan(math.pi * (draw.random() - 0.5))
    return FinishedCurve(tuple(metric + off + wide * draw.gauss(0, 1) for _ in range(LOOKS)), metric, metric < 0)


def trials(seed: int, count: int = 40) -> list[FinishedCurve]:
    draw = random.Random(seed)
    return [made(draw, draw.gauss(0, 1)) for _ in range(count)]


def given_up(
    ran: Sequence[FinishedCurve], loss: float, risk: float = 0.05, bar: float = 0.0, metric: Metric = LOSS
) -> bool:
    return CurveModel(metric, ran, risk).unpromising([loss] * LOOKS, CHAMPION, bar) is not None


def test_far_behind_is_hopeless_and_near_is_not() -> None:
    ran = trials(1)
    assert given_up(ran, 50.0) and not given_up(ran, 0.001)
    assert CurveModel(LOSS, ran, 0.05).unpromising([0.0, 0.0, 50.0], CHAMPION, 0.0) == 2
    assert not given_up(ran, 50.0, bar=50.0)  # it will do for a bar as bad as that


@given(st.integers(0, 999), st.floats(0, 100), st.floats(0, 100), st.floats(-2, 2))
def test_less_loss_is_never_more_hopeless_nor_is_a_lower_bar(seed: int, loss: float, more: float, bar: float) -> None:
    ran = trials(seed)
    assert given_up(ran, loss, bar=bar) <= given_up(ran, loss + more, bar=bar)
    assert given_up(ran, loss, bar=bar + more) <= given_up(ran, loss, bar=bar)


@given(st.integers(0, 999), st.floats(0, 3), st.randoms(use_true_random=False))
def test_neither_order_nor_scale_nor_the_goal_s_way_decides(seed: int, loss: float, draw: random.Random) -> None:
    ran = trials(seed)
    answer = given_up(ran, loss)
    mixed = draw.sample(ran, len(ran))
    assert given_up(mixed, loss) == answer
    scaled = [FinishedCurve(tuple(4 * value for value in each.losses), each.metric, each.won) for each in ran]
    assert given_up(scaled, 4 * loss) == answer
    mirrored = [FinishedCurve(each.losses, -each.metric, each.won) for each in ran]
    assert given_up(mirrored, loss, metric=SCORE) == answer


@given(st.integers(0, 999), st.floats(0.1, 50))
def test_what_won_from_as_far_behind_is_never_given_up_again(seed: int, loss: float) -> None:
    late = FinishedCurve((loss,) * LOOKS, -0.01, True)
    assert not given_up([*trials(seed), late], loss)


def test_nobody_ahead_of_the_champion_is_given_up() -> None:
    pace = CurveModel(LOSS, trials(1), 0.05)
    assert pace.unpromising([50.0] * LOOKS, [60.0] * LOOKS, 0.0) is None


@given(st.floats(0.001, 0.5), st.integers(0, 400), st.floats(0, 1))
def test_nothing_is_given_up_before_the_risk_is_known(risk: float, count: int, share: float) -> None:
    won = round(share * count)
    ran = [FinishedCurve((0.0,), 0.0, number < won) for number in range(count)]
    assert enough_curves(ran, risk) == (count + 1 >= 1 / risk and won >= 1 / (math.e * risk))
    few = trials(1, count=18)
    assert not given_up(few, 1e9, risk=0.05) and given_up(few, 1e9, risk=0.1)
    assert not given_up(trials(1), 1e9, risk=0.0)


def test_curves_that_say_nothing_end_nothing() -> None:
    draw = random.Random(3)
    for _ in range(100):
        ran = [FinishedCurve(made(draw, draw.gauss(0, 1)).losses, draw.gauss(0, 1), True) for _ in range(40)]
        assert not given_up(ran, 1e6)


def test_a_winner_is_lost_no_more_often_than_stated_whatever_the_luck() -> None:
    """With just so many trials that it may begin, luck without a variance, and a winner that just wins."""
    draw, lost, losers, times = random.Random(5), 0, 0, 1500
    for _ in range(times):
        pace = CurveModel(LOSS, [made(draw, draw.gauss(0, 1)) for _ in range(40)][:19], 0.05)
        lost += pace.unpromising(made(draw, 0.0).losses, [-9.0] * LOOKS, 0.0) is not None
        losers += pace.unpromising(made(draw, 5.0).losses, [-9.0] * LOOKS, 0.0) is not None
    assert lost / times <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / times)
    assert losers / times > 0.5


@given(st.lists(st.tuples(st.lists(st.floats(), min_size=3, max_size=3), st.floats()), max_size=30), st.floats())
def test_no_numbers_crash_it(found: list[tuple[list[float], float]], loss: float) -> None:
    ran = [FinishedCurve(tuple(losses), metric, True) for losses, metric in found]
    assert CurveModel(LOSS, ran, 0.3).unpromising([loss] * 3, [0.0] * 3, loss) in (None, 0, 1, 2)


def test_one_in_five_runs_to_its_end() -> None:
    assert [number for number in range(1, 21) if is_control(number)] == [5, 10, 15, 20]


# -- what a candidate may say --------------------------------------------------------------------------


WORDS = st.binary() | st.sampled_from([b"0.5 inf", b"0.6 nan", b"nan 1", b"inf 1", b"0.5 1 2", b"2 1", b"-1 1"])
POINTS = st.builds(lambda progress, loss: f"{progress} {loss}".encode(), st.floats(0, 1), st.floats())


@given(st.lists(WORDS | POINTS, max_size=50))
def test_whatever_is_reported_a_curve_is_short_finite_and_goes_forward(tmp_path_factory: Any, said: Any) -> None:
    folder = tmp_path_factory.mktemp("trial")
    heard = Curve(folder)
    for line in said:
        heard.add_report(b"report " + line)
    found = curve.load_curve(folder)
    assert all(0 < progress <= 1 and math.isfinite(loss) for progress, loss in found)
    assert all(before[0] < after[0] for before, after in itertools.pairwise(found))
    assert len(curve.part_losses(found)) < PARTS


def test_at_most_so_many_points(tmp_path: Path) -> None:
    heard = Curve(tmp_path)
    for number in range(1, 100_001):
        heard.add_report(f"report {number / 100_000} 1.0".encode())
    assert MOST / 2 < len(curve.load_curve(tmp_path)) <= MOST
    assert curve.part_losses(curve.load_curve(tmp_path)) == [1.0] * LOOKS


@given(st.binary(max_size=300))
def test_a_damaged_curve_is_no_obstacle(tmp_path_factory: Any, text: bytes) -> None:
    folder = tmp_path_factory.mktemp("trial")
    (folder / CURVE).write_bytes(b"[0.1, 2.0]\n" + text)
    assert curve.load_curve(folder)[:1] in ([(0.1, 2.0)], [])


def test_the_mean_of_each_part_that_is_over() -> None:
    assert curve.part_losses([(0.05, 4.0), (0.1, 2.0), (0.25, 1.0), (0.31, 9.0)]) == [
        3.0,
        pytest.approx(math.nan, nan_ok=True),
        1.0,
    ]
    assert curve.part_losses([(0.5, 1e308), (0.55, 1.7e308), (0.58, 1.7e308)])[4] == 1e308
    assert curve.part_losses([]) == []


HOSTILE = """\
import os
trial.start()
trial.report(0.1, 3.0)
said = [b"report", b"report nan 1", b"report 0.5 inf", b"report -1 2", b"report 9 9", b"report 0.05 1", b"report 1 2 3",
        b"report " + b"9" * 100_000, b"\\xff\\0report 0.4 1", b"report 0.4 " + b"1" * 5000, b"start " * 1000]
for line in said * 20:
    os.write(int(os.environ["NIGHTLAB_CONTROL"]), line + b"\\n")
for number in range(20_000):
    trial.report(0.2 + number / 100_000, 2.5)
print("METRIC loss=1")
"""


@pytest.mark.parametrize("sandboxed", [False, True])
def test_garbage_and_floods_are_bounded_and_cost_only_who_sends_them(make_lab: Any, sandboxed: bool) -> None:
    from nightlab.session.session import detect_sandbox

    one = Bench(make_lab(genome=GUEST + HOSTILE), LEAST, detect_sandbox() if sandboxed else None)
    assert one.run().metric == 1
    found = curve.load_curve(one.folder)
    assert found[0] == (0.1, 3.0) and {loss for _, loss in found[1:]} == {2.5} and len(found) <= MOST
    assert (one.folder / CURVE).stat().st_size < MOST * curve.LONGEST


# -- a trial that is given up --------------------------------------------------------------------------

STUCK = GUEST + "import time\ntrial.start()\nprint('up', flush=True)\ntime.sleep(999)\n"


@pytest.mark.parametrize("adopted", [False, True])
def test_one_that_is_given_up_ends_at_once_and_says_why(make_lab: Any, adopted: bool) -> None:
    one = Bench(make_lab(genome=STUCK), LEAST)
    running = one.start()
    wait(lambda: (one.folder / "phase.json").exists())
    curve.request_stop(one.folder, "it is far behind")
    if adopted:
        assert running.process
        running.process.wait()
        running = one.engine.adopt(running.trial)
    wait(running.finished)
    measured = one.engine.collect(running)
    assert (measured.outcome, measured.metric, measured.detail) == ("hopeless", None, "it is far behind")
    assert measured.machine and living(one.folder) == []


GENOME = "C = 100.0\n"
MEASURE = """\
import time
import nightlab_guest
from genome import C
trial = nightlab_guest.trial()
trial.start()
for step in range(1, 101):
    trial.report(step / 100, C + C * 7919 % 0.1 + 1 / step)
    if C > 200 and step == 45:
        time.sleep(999)
print(f"METRIC loss={C}")
"""
SETTINGS = '[judge]\nrule = "greedy"\nupkeep = 0\nconfirm = 0\n'


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> TinyLab:
    """A session in which twelve trials have run to their end, half of them winners."""
    lab = lab_in(tmp_path_factory.mktemp("twelve"), GENOME, MEASURE)
    contract = (lab.folder / "lab.toml").read_text()
    lab.write("lab.toml", contract.replace(SETTINGS, SETTINGS + "hopeless = 0.2\n"))
    lab.commit()
    for number in range(1, 13):
        lab.idea(f"{number:02}", f"C = {100.0 - number if number % 2 else 105.0 + number}\n")
    _, session = lab.run()
    assert len(session.ledger.experiments()) == 13
    session.close()
    return lab


@pytest.fixture
def night(twelve: TinyLab, tmp_path: Path) -> TinyLab:
    """The same session with two more ideas."""
    lab = twelve.copied(tmp_path / "lab")
    lab.idea("13", "C = 300.0\n", "hopeless")
    lab.idea("14", "C = 50.0\n", "good")
    return lab


def the_end(lab: TinyLab, ledger: Ledger) -> None:
    unpromising, good = ledger.experiments()[13:]
    assert unpromising.verdict and (unpromising.verdict.status, unpromising.verdict.reason) == (
        "discard",
        "stopped early",
    )
    # A trial beside which others disturbed the machine does not count: on a busy one there are fewer than 13.
    assert re.search(r"% its loss was 2\d\d above the champion's: none of \d+ trials", unpromising.verdict.detail)
    assert unpromising.measurement and unpromising.measurement.metric is None
    assert good.kept and good.measurement and good.measurement.metric == 50.0
    assert living(lab.folder / ".nightlab") == []


@pytest.mark.integration
@pytest.mark.xdist_group("twelve")  # one worker makes them
def test_a_night_gives_up_what_can_not_win_and_goes_on(night: TinyLab) -> None:
    _, session = night.run()
    the_end(night, session.ledger)
    assert [measured.outcome for _, measured in session.ledger.trials(13) if measured] == ["hopeless"]
    ended = [e.verdict.reason for e in session.ledger.experiments()[1:13] if e.verdict]
    assert "regressed" in ended, "near enough to run to its end"
    assert night.table()[14][3] == "discard"


@pytest.mark.parametrize(
    "until", [UNPROMISING, *(pytest.param(name, marks=pytest.mark.machine) for name in (CURVE, "result.json"))]
)
@pytest.mark.integration
@pytest.mark.xdist_group("twelve")
def test_a_kill_changes_nothing_of_it(night: TinyLab, start_nightlab: Any, until: str) -> None:
    program = start_nightlab("run", cwd=night)
    trials = night.folder / ".nightlab" / "t" / "trials"
    wait(lambda: any(trials.glob(f"0013-*/{until}")))
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    _, session = night.run()
    the_end(night, session.ledger)
    assert len(session.ledger.trials(13)) == 1


@pytest.mark.machine  # by default: nothing is given up before the risk is known
def test_without_a_stated_risk_all_run_to_their_end(make_lab: Any) -> None:
    lab = make_lab(GENOME, MEASURE.replace("time.sleep(999)", "time.sleep(1.5)"))
    for number in range(1, 13):
        lab.idea(f"{number:02}", f"C = {100.0 - number}\n")
    lab.idea("13", "C = 300.0\n")
    _, session = lab.run()
    assert [e.verdict.reason for e in session.ledger.experiments()[1:]] == ["improved"] * 12 + ["regressed"]
