"""The pictures: what is drawn of sessions of 0, 1, 20 and 2,000 experiments is what the ledger says."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.labs import TinyLab
from support.ledgers import SIGMA, fill

from nightlab.analysis import charts
from nightlab.analysis.summary import Row
from nightlab.analysis.timeline import PHASES, Span, lanes, off_duty, run_time, shares, spans
from nightlab.core.events import RunStarted, RunStopped, TrialFinished, TrialStarted
from nightlab.core.types import Budget, Candidate, Experiment, Measurement, Metric, PairedGain, Trial, Verdict
from nightlab.storage.ledger import Ledger

METRIC = Metric("val_bpb", unit="bits per byte")


def drawn(figure: Any) -> str:
    """The figure as SVG, so that it really is drawn, with its text as text."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(out := io.StringIO(), format="svg")
    return out.getvalue()


def experiment(number: int, value: float | None, status: str = "keep", **more: Any) -> Experiment:
    candidate = Candidate(f"c{number}", "c0", f"t{number}", "tuner", more.pop("hypothesis", f"change {number}"))
    measured = Measurement("measured" if value is not None else "crashed", value)
    return Experiment(number, candidate, 1.0, measured, Verdict(status, "improved"), number + 1.0, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: Any) -> Ledger:
    return fill(tmp_path_factory.mktemp("twenty") / "ledger.db", 20)


@pytest.mark.parametrize("goal", ["minimise", "maximise"])
@pytest.mark.integration
def test_evidence_stands_at_its_champion_with_its_interval(goal: Any, twenty: Ledger) -> None:
    experiments = twenty.experiments()
    champion = twenty.champion()
    assert champion is not None and champion.look is not None and champion.look.held_out is not None
    axes = charts.progress(Metric("m", goal), experiments).axes[0]
    base, sign = experiments[0].bar, -1 if goal == "minimise" else 1
    found = [bars for bars in axes.containers if hasattr(bars, "lines")]
    for bars, gain in zip(found, (champion.look.gain, champion.look.held_out), strict=True):
        (segment,) = bars.lines[2][0].get_segments()
        assert base is not None and sorted(segment[:, 1]) == pytest.approx(
            sorted((base + sign * gain.low, base + sign * gain.high))
        )
        assert set(segment[:, 0]) == {champion.number}
    reach = [y for bars in found for y in bars.lines[2][0].get_segments()[0][:, 1]]
    assert axes.get_ylim()[0] < min(reach) and axes.get_ylim()[1] > max(reach)


@pytest.mark.integration
def test_evidence_that_shows_no_gain_says_so(twenty: Ledger) -> None:
    first, last = experiment(0, 1.0, bar=1.0), experiment(1, 0.9, bar=0.95)
    from nightlab.core.types import Evidence

    shown = Evidence("confirmed", 0, (1,), PairedGain(0.1, -0.1, 0.3, 0.95, 4))
    other = Evidence("transferred", 0, (1,), PairedGain(0.1, 0.05, 0.15, 0.95, 4))
    champion = Experiment(
        1, last.candidate, 1.0, last.measurement, last.verdict, 2.0, bar=0.95, evidence=(shown, other)
    )
    said = drawn(charts.progress(METRIC, [first, champion]))
    assert "interval: not shown" in said and "bar: without luck" in said
    assert "fresh seeds" not in drawn(charts.progress(METRIC, [first, last]))


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5])
def test_a_constant_metric_is_drawn_without_a_warning(value: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = [experiment(0, value, bar=value), *(experiment(n, value, "discard") for n in (1, 2))]
        assert "val_bpb" in drawn(charts.progress(METRIC, same))
        drawn(charts.effects(METRIC, [Row(one, 0.0, None) for one in same], 0.0))


@pytest.mark.integration
def test_worth_is_sorted_and_what_may_be_nothing_is_grey() -> None:
    gains = [
        PairedGain(0.1, 0.05, 0.15, 0.95, 3),
        PairedGain(0.2, -0.1, 0.5, 0.95, 3),
        PairedGain(-1, -2, -0.5, 0.9, 3),
    ]
    rows = [Row(experiment(n, 1.0), 0.1, gain) for n, gain in enumerate(gains, 1)] + [Row(experiment(9, 1.0), 0.1)]
    figure = charts.worth_chart(METRIC, rows)
    axes = figure.axes[0]
    import matplotlib.colors

    colours = [matplotlib.colors.to_hex(bar.get_facecolor()) for bar in axes.patches]
    assert colours == [matplotlib.colors.to_hex(c) for c in ("tab:red", "tab:green", "0.65")]
    assert [bar.get_width() for bar in axes.patches] == [-1, 0.1, 0.2]
    assert [label.get_text().split()[0] for label in axes.get_yticklabels()] == ["#3", "#1", "#2"]
    assert "1 kept not measured" in axes.get_title() and "90 %, 95 %" in axes.get_xlabel()


@pytest.mark.integration
def test_effects_are_in_units_of_noise() -> None:
    rows = [Row(experiment(n, 1.0, status), gain) for n, (status, gain) in enumerate(
        [("keep", 0.5), ("discard", -0.25), ("discard", -50.0), ("crash", None)], 1)]  # fmt: skip
    axes = charts.effects(METRIC, rows, 0.25).axes[0]
    found = [tuple(map(float, point)) for points in axes.collections for point in points.get_offsets()]
    assert found == [(1, 2), (2, -1), (3, -200)]
    assert "1 without a number" in axes.get_title() and "one is 0.25" in axes.get_ylabel()
    assert axes.get_yscale() == "symlog" and axes.get_ylim()[0] < -200
    unknown = charts.effects(METRIC, rows, 0.0).axes[0]
    assert "noise is not known" in unknown.get_ylabel() and unknown.get_yscale() == "linear"


@pytest.mark.parametrize("count", [0, 1, 200, pytest.param(2000, marks=pytest.mark.machine)])
@pytest.mark.integration
def test_every_size_is_drawn_soon(count: int, tmp_path: Path) -> None:
    ledger = fill(tmp_path / "ledger.db", count, slots=4 if count > 100 else 1)
    experiments = ledger.experiments()
    rows = [Row(e, 0.001 * e.number, e.evidence[-1].gain if e.evidence else None) for e in experiments[1:]]
    ran = spans(ledger.events(TrialStarted), ledger.events(TrialFinished))
    figures = [
        charts.progress(METRIC, experiments),
        charts.worth_chart(METRIC, rows),
        charts.effects(METRIC, rows, SIGMA),
        charts.duty_chart(ran, off_duty(ledger.events(RunStarted), ledger.events(RunStopped))),
    ]
    sizes = [len(drawn(figure)) for figure in figures]
    assert max(sizes) < 5_000_000
    assert len(ran) == count + 1


@pytest.mark.integration
def test_nothing_to_show_is_a_sentence() -> None:
    said = [
        charts.progress(METRIC, []),
        charts.worth_chart(METRIC, []),
        charts.effects(METRIC, [], 0.0),
        charts.duty_chart([]),
    ]
    words = ["nothing is measured yet", "nightlab confirm --ablate", "nothing is compared", "no trial has run yet"]
    for figure, expected in zip(map(drawn, said), words, strict=True):
        assert expected in figure


@pytest.mark.integration
def test_hostile_words_are_text(tmp_path: Path) -> None:
    evil = "$\\frac{$ <script>x</script> \x1b[31m \u202e ^_{" + "long " * 99
    rows = [Row(experiment(0, 1.0), None), Row(experiment(1, 0.5, hypothesis=evil), 0.5, PairedGain(1, 0, 2, 0.9, 3))]
    unit = Metric("µ", unit="$x_{")
    for figure in (
        charts.progress(unit, [row.experiment for row in rows]),
        charts.worth_chart(unit, rows),
        charts.effects(unit, rows, 0.1),
    ):
        text = drawn(figure)
        assert "<script>" not in text and "\x1b" not in text and "\u202e" not in text


# -- the duty cycle ------------------------------------------------------------------------------------


def test_spans_end_when_the_supervisor_says(tmp_path: Path) -> None:
    measured = Measurement(
        "measured", 1.0, wall_seconds=30.0, startup_seconds=3.0, training_seconds=20.0, evaluation_seconds=4.0
    )
    began = {"a": 100.0, "b": 200.0, "c": 300.0}
    started = [TrialStarted(Trial(name, 1, "c", 1, "search", Budget("wall", 20)), at=at) for name, at in began.items()]
    finished = [
        TrialFinished("a", measured, at=5000.0),  # recorded after a kill
        TrialFinished("b", replace(measured, wall_seconds=10.0), at=210.0),  # cut short
        TrialFinished("unknown", measured, at=400.0),
    ]
    a, b = spans(started, finished)
    assert (a.begun, a.ended, a.seconds) == (100.0, 130.0, (3.0, 20.0, 4.0, 3.0))
    assert (b.begun, b.ended, b.seconds) == (200.0, 210.0, (3.0, 7.0, 0.0, 0.0))


def test_time_off_duty_counts_for_nothing() -> None:
    runs = [RunStarted(at=0.0), RunStarted(at=500.0)]
    assert off_duty(runs, [RunStopped(at=100.0), RunStopped(at=900.0)]) == [(100.0, 500.0)]
    assert off_duty(runs, [RunStopped(at=100.0), RunStopped(at=101.0)]) == [(101.0, 500.0)]
    trained = (0.0, 100.0, 0.0, 0.0)
    found = [Span(0.0, trained), Span(500.0, trained)]
    assert shares(found, 1, [(100.0, 500.0)], 6)[2] == pytest.approx(1.0)
    assert shares(found, 1, [], 6)[2] == pytest.approx(200 / 600)
    assert shares(found, 1, [(100.0, 500.0)], 6)[1]["training"] == pytest.approx([1, 0, 0, 0, 0, 1])


def test_the_time_of_runs_is_that_in_which_something_ran() -> None:
    trial = (0.0, 10.0, 0.0, 0.0)
    runs, stops = [RunStarted(at=0.0), RunStarted(at=500.0, slots=2)], [RunStopped(at=100.0)]
    assert run_time(runs, stops, [], now=560.0) == (160.0, 220.0), "the pause between two runs does not count"
    killed = [Span(0.0, trial), Span(510.0, trial)]
    assert run_time(runs, stops, killed) == (120.0, 140.0), "a killed run ends with its last trial"
    later = [Span(200.0, trial), Span(205.0, trial), Span(300.0, trial)]
    assert run_time(runs[:1], stops, later) == (125.0, 125.0), "a confirmation outside of a run counts, once"
    assert run_time([], [], []) == (0.0, 0.0)


times = st.floats(0, 1000).map(lambda x: round(x, 3))


@given(st.lists(st.tuples(times, st.tuples(times, times, times, times)), min_size=1, max_size=30), st.integers(1, 50))
def test_no_slot_has_two_trials_and_no_time_is_lost(found: list[Any], bins: int) -> None:
    ran = sorted((Span(begun, seconds) for begun, seconds in found), key=lambda span: span.begun)
    rows = lanes(ran)
    assert sorted(map(repr, (span for row in rows for span in row))) == sorted(map(repr, ran))
    for row in rows:
        assert all(one.ended <= other.begun for one, other in pairwise(row))
    edges, found_shares, trained = shares(ran, len(rows), [], bins)
    width = edges[1] - edges[0]
    for place, phase in enumerate(PHASES):
        spent = sum(span.seconds[place] for span in ran)
        assert sum(found_shares[phase]) * width * len(rows) == pytest.approx(spent, rel=1e-6, abs=1e-3)
    assert -1e-9 <= trained <= 1 + 1e-9


# -- the command ---------------------------------------------------------------------------------------


def test_the_command_draws_each_of_them(make_lab: Any, nightlab: Any) -> None:
    lab: TinyLab = make_lab()
    lab.idea("01", "A = 2.0\nB = 8\n", "closer")
    lab.run()[1].close()
    for kind in ("progress", "worth", "effects", "duty"):
        assert f".nightlab/t/{kind}.png" in nightlab("plot", kind, cwd=lab).out
        assert (lab.folder / f".nightlab/t/{kind}.png").read_bytes().startswith(b"\x89PNG")
    assert nightlab("plot", "duty", "--out", "d.svg", cwd=lab).code == 0
    assert (lab.folder / "d.svg").read_text().startswith("<?xml")
    assert nightlab("plot", "pie", cwd=lab).code == 2
    assert nightlab("plot", "--out", "d.gif", cwd=lab).code == 1
