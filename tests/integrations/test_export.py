"""A session for other programs: what is written says what the ledger says, in each of the formats."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.ledgers import METRIC, fill, source

import nightlab
from nightlab.core.events import SessionStarted
from nightlab.core.types import Candidate, Measurement, Metric, NightlabError, Verdict
from nightlab.integrations import export
from nightlab.integrations.trackers import Source, to_mlflow, to_optuna, to_tensorboard, to_trackio
from nightlab.storage.ledger import Ledger

LAB = {
    "name": "tiny",
    "genome": ["genome.py"],
    "command": "true",
    "metric": {"name": "val_bpb", "unit": "bits per byte"},
}
FACTS = SessionStarted("t", lab=LAB)


@pytest.fixture(scope="module")
def home(tmp_path_factory: Any) -> Path:
    """A lab's folder with a session of twenty experiments, and one that still runs."""
    lab = tmp_path_factory.mktemp("data") / "lab"
    (lab / ".nightlab" / "t").mkdir(parents=True)
    ledger = fill(lab / ".nightlab" / "t" / "ledger.db", 20, facts=FACTS)
    words = "= a formula, \x1b[31m \u202e\n" + "long " * 200
    ledger.propose(Candidate("f" * 40, "0" * 40, "x", "tuner", words, constants={"LR": 0.05, "KIND": "gelu"}))
    ledger.close()
    return lab


@pytest.fixture
def ledger(home: Path) -> Ledger:
    return Ledger(home / ".nightlab" / "t" / "ledger.db", read_only=True)


def test_a_frame_has_a_row_for_each_experiment_and_types(home: Path, ledger: Ledger) -> None:
    pandas = pytest.importorskip("pandas")
    frame = nightlab.load(home)
    experiments = ledger.experiments()
    assert len(frame) == 22 and list(frame["number"]) == list(range(22))
    assert (frame["status"] == "keep").sum() == sum(e.kept for e in experiments)
    champion = ledger.champion()
    assert champion and champion.look
    row = frame.set_index("number").loc[champion.number]
    assert row["gain_low"] == champion.look.gain.low and row["evidence"] == "held out"
    assert row["metric"] == champion.measurement.metric and row["bar"] == champion.bar  # type: ignore[union-attr]
    assert frame["metric"].dtype == "Float64" and str(frame["judged_at"].dt.tz) == "UTC"
    assert pandas.isna(frame["metric"].iloc[-1]) and pandas.isna(frame["judged_at"].iloc[-1])
    assert frame["constant.LR"].iloc[-1] == 0.05 and frame["constant.KIND"].iloc[-1] == "gelu"
    assert frame.attrs == {
        "session": "t", "metric": "val_bpb", "goal": "minimise", "unit": "bits per byte", "imported": False,
    }  # fmt: skip
    for place in (home / ".nightlab" / "t", home / ".nightlab" / "t" / "ledger.db", str(home)):
        assert len(nightlab.load(place)) == 22


def test_an_empty_session_is_an_empty_frame(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    Ledger(tmp_path / "ledger.db").close()
    frame = nightlab.load(tmp_path)
    assert len(frame) == 0 and "metric" in frame and frame["metric"].dtype == "Float64"
    with pytest.raises(NightlabError, match="no session"):
        nightlab.load(tmp_path, "none")


def test_parquet_is_the_frame(home: Path, ledger: Ledger, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    place, _ = export.write_export(ledger, METRIC, "parquet", str(tmp_path / "night.parquet"))
    pandas.testing.assert_frame_equal(pandas.read_parquet(place), nightlab.load(home), check_dtype=False)


def test_optuna_has_a_trial_for_each_and_an_export_replaces_the_one_before(home: Path, ledger: Ledger) -> None:
    import optuna

    experiments = ledger.experiments()
    for _ in range(2):
        url, look = to_optuna(source(home), experiments, None)
    assert url.endswith(".nightlab/t/optuna.db") and look.startswith("optuna-dashboard sqlite:///")
    study = optuna.load_study(study_name="nightlab tiny t", storage=url)
    values = [e.measurement.metric for e in experiments if e.measurement and e.measurement.metric is not None]
    assert len(study.trials) == 22 and study.best_value == min(values)
    assert [t.value for t in study.trials if t.value is not None] == values
    assert {t.params["LR"] for t in study.trials} == {0.04, 0.05} and "KIND" not in study.trials[-1].params
    assert study.trials[3].user_attrs["hypothesis"] == experiments[3].candidate.hypothesis
    for text in study.trials[-1].user_attrs.values():
        assert "\x1b" not in text and "\u202e" not in text and "\n" not in text and len(text) <= 250


def test_an_export_makes_the_folder_that_it_goes_into(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.db")
    place = tmp_path / "not" / "there" / "o.db"
    to_optuna(Source("x", "t", Metric("m"), tmp_path), ledger.experiments(), str(place))
    assert place.is_file()


def test_optuna_of_what_is_maximised(tmp_path: Path) -> None:
    import optuna

    ledger = fill(tmp_path / "ledger.db", 3)
    url, _ = to_optuna(Source("x", "t", Metric("m", "maximise"), tmp_path), ledger.experiments(), f"{tmp_path}/o.db")
    assert optuna.load_study(study_name="nightlab x t", storage=url).direction == optuna.study.StudyDirection.MAXIMIZE


def test_mlflow_has_a_run_for_each_below_the_sessions(home: Path, ledger: Ledger, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    experiments = ledger.experiments()
    for _ in range(2):
        url, _look = to_mlflow(source(home), experiments, f"{tmp_path}/mlflow.db")
    client = MlflowClient(tracking_uri=url)
    known = client.get_experiment_by_name("nightlab tiny")
    assert known is not None
    runs = {run.info.run_name: run for run in client.search_runs([known.experiment_id])}
    assert len(runs) == 23
    for experiment in experiments:
        value = experiment.measurement.metric if experiment.measurement else None
        assert runs[f"#{experiment.number}"].data.metrics.get("val_bpb") == value
        assert runs[f"#{experiment.number}"].data.tags["mlflow.parentRunId"] == runs["t"].info.run_id
    history = client.get_metric_history(runs["t"].info.run_id, "val_bpb")
    assert {each.step: each.value for each in history}[0] == experiments[0].measurement.metric  # type: ignore[union-attr]


def test_tensorboard_reads_what_was_written(home: Path, ledger: Ledger, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    experiments = ledger.experiments()
    for _ in range(2):
        folder, _look = to_tensorboard(source(home), experiments, str(tmp_path / "board"))
    for run, chosen in (("all", experiments), ("kept", [e for e in experiments if e.kept])):
        read = EventAccumulator(f"{folder}/tiny-t-{run}")
        read.Reload()
        values = {e.number: e.measurement.metric for e in chosen if e.measurement and e.measurement.metric is not None}
        assert {s.step: s.value for s in read.Scalars("val_bpb")} == pytest.approx(values)


def test_trackio_reads_what_was_written(home: Path, tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    program = """
import sys
from pathlib import Path
sys.path[:0] = {tests!r}
from support.ledgers import source
from nightlab.storage.ledger import Ledger
from nightlab.integrations.trackers import to_trackio
home = Path({home!r})
experiments = Ledger(home / ".nightlab/t/ledger.db", read_only=True).experiments()
for _ in range(2):
    to_trackio(source(home), experiments, {place!r})
import trackio
assert [run.name for run in trackio.Api().runs("nightlab-tiny")] == ["t"]
logs = trackio.sqlite_storage.SQLiteStorage.get_logs("nightlab-tiny", "t")
found = {{log["step"]: log["val_bpb"] for log in logs if "val_bpb" in log}}
wanted = {{e.number: e.measurement.metric for e in experiments if e.measurement and e.measurement.metric is not None}}
assert found == wanted and len(logs) == len(experiments)
"""  # trackio takes its place from the environment when it is imported
    text = program.format(tests=sys.path, home=str(home), place=str(tmp_path / "place"))
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("sink", "package"),
    [(to_mlflow, "mlflow-skinny"), (to_tensorboard, "tensorboard"), (to_trackio, "trackio")],
)
def test_a_missing_package_is_named(sink: Any, package: str, home: Path, monkeypatch: Any) -> None:
    for name in ("mlflow", "mlflow.entities", "tensorboard", "tensorboard.compat.proto.event_pb2", "trackio"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(NightlabError, match=package) as refusal:
        sink(source(home), [], None)
    assert refusal.value.hint == f"pip install {package}"


def test_a_missing_pandas_is_named(home: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(NightlabError, match="pandas") as refusal:
        nightlab.load(home)
    assert refusal.value.hint == "pip install 'nightlab[data]'"


@pytest.mark.integration
def test_the_package_stays_light() -> None:
    heavy = "import sys, nightlab; assert not {'pandas', 'numpy', 'optuna', 'pyarrow', 'pydantic'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", heavy]).returncode == 0


def test_the_command_writes_text_and_names_its_place(home: Path, nightlab: Any, ledger: Ledger) -> None:
    tsv = nightlab("export", "tsv", cwd=home)
    assert tsv.out.splitlines()[0].split("\t")[:5] == ["commit", "val_bpb", "memory_gb", "status", "description"]
    assert len(tsv.out.splitlines()) == 22, "a heading, and what has been judged"
    found = [json.loads(line) for line in nightlab("export", "jsonl", cwd=home).out.splitlines()]
    assert [each["number"] for each in found] == list(range(22))
    kept = [e.number for e in ledger.experiments() if e.kept]
    assert [each["number"] for each in found if each["status"] == "keep"] == kept
    assert found[1]["constants"] == {"LR": 0.04} and found[1]["judged_at"] > found[1]["proposed_at"] > 1e9
    assert nightlab("export", "jsonl", "--out", "night.jsonl", cwd=home).out == "wrote night.jsonl\n"
    assert len((home / "night.jsonl").read_text().splitlines()) == 22
    assert nightlab("export", "csv", cwd=home).code == 2
    assert "no session" in nightlab("export", "tsv", "--tag", "none", cwd=home).err


def test_the_examples_of_the_page_run(make_lab: Any, monkeypatch: Any) -> None:
    pytest.importorskip("pandas")
    lab = make_lab(name="my-lab")
    lab.run()[1].close()
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    monkeypatch.chdir(lab.folder.parent)
    for block in blocks:
        exec(block, {})
    assert Path("effects.svg").exists()


def test_an_experiment_without_a_number_is_no_zero(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    number = ledger.propose(Candidate("c", "c", "t", "tuner", "x"))
    ledger.judge(number, Measurement("crashed"), Verdict("crash", "crashed", "boom"))
    (line,) = export.lines(ledger, METRIC, "jsonl")
    assert json.loads(line)["metric"] is None
    url, _ = to_optuna(Source("x", "t", METRIC, tmp_path), ledger.experiments(), None)
    import optuna

    assert optuna.load_study(study_name="nightlab x t", storage=url).trials[0].state == optuna.trial.TrialState.FAIL
