"""Sinks: a session written into a tracker that people already run. Each is one function, and needs its own package.

What candidates and proposers wrote goes out as one cleaned line; how a tracker shows it is the tracker's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nightlab.core.text import one_line
from nightlab.core.types import Experiment, Metric, NightlabError
from nightlab.integrations.frame import session_frame, when
from nightlab.storage.ledger import LEDGER

LONGEST = 250  # characters of a text, which is what the strictest of them takes


@dataclass(frozen=True, slots=True)
class Source:
    """Whose experiments these are, and where its session keeps its files."""

    lab: str
    tag: str
    metric: Metric
    folder: Path

    @property
    def name(self) -> str:
        return f"nightlab {self.lab} {self.tag}"


def to_parquet(source: Source, experiments: Sequence[Experiment], place: str | None) -> tuple[str, str]:
    """A Parquet file of the frame that ``nightlab.load`` gives, with one row per experiment."""
    path = _made(Path(place) if place else source.folder / "experiments.parquet")
    frame = session_frame(source.folder / LEDGER)
    try:
        frame.to_parquet(path, index=False)
    except ImportError:
        raise NightlabError("pyarrow is not installed", "pip install 'nightlab[data]'") from None
    return str(path), f"pandas.read_parquet({str(path)!r})"


def to_optuna(source: Source, experiments: Sequence[Experiment], place: str | None) -> tuple[str, str]:
    """A study, one trial each, for optuna-dashboard. ``place``: a file, or the URL of a storage.

    Constants that differ between experiments are its parameters, so that the dashboard can say which matter.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = _database(place, source.folder / "optuna.db")
    ranges = _ranges(experiments)
    spaces = {name: optuna.distributions.FloatDistribution(low, high) for name, (low, high) in ranges.items()}
    storage = optuna.storages.get_storage(url)
    if source.name in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=source.name, storage=storage)
    direction: Any = {"minimise": "minimize", "maximise": "maximize"}[source.metric.goal]
    study = optuna.create_study(storage=storage, study_name=source.name, direction=direction)
    study.set_user_attr("metric", source.metric.name)
    for experiment in experiments:
        value = _value(experiment)
        states = optuna.trial.TrialState
        state = states.RUNNING if experiment.verdict is None else states.FAIL if value is None else states.COMPLETE
        mine = {n: float(v) for n, v in experiment.candidate.constants.items() if n in spaces}
        study.add_trial(
            optuna.trial.FrozenTrial(
                number=experiment.number,
                trial_id=-1,  # the storage's to give
                state=state,
                value=value,
                datetime_start=_local(experiment.proposed_at),
                datetime_complete=_local(experiment.judged_at),
                params=mine,
                distributions={name: spaces[name] for name in mine},
                user_attrs=_words(experiment),
                system_attrs={},
                intermediate_values={},
            )
        )
    return url, f"optuna-dashboard {url}"


def to_mlflow(source: Source, experiments: Sequence[Experiment], place: str | None) -> tuple[str, str]:
    """One run for the session with the metric's history, and one below it for each experiment."""
    with _needed("mlflow", "mlflow-skinny"):
        from mlflow.entities import Metric as Logged
        from mlflow.entities import Param, RunTag
        from mlflow.tracking import MlflowClient
    url = _database(place, source.folder / "mlflow.db")
    client, name = MlflowClient(tracking_uri=url), f"nightlab {source.lab}"
    known = client.get_experiment_by_name(name)
    home = known.experiment_id if known else client.create_experiment(name)
    for run in client.search_runs([home], f"tags.`nightlab.session.session` = '{source.tag}'", max_results=50_000):
        client.delete_run(run.info.run_id)
    ours = {"nightlab.session.session": source.tag}
    parent = client.create_run(home, start_time=_milliseconds(experiments[:1]), run_name=source.tag, tags=ours)
    history: list[Any] = []
    for experiment in experiments:
        at, value = _milliseconds([experiment]), _value(experiment)
        tags = {**ours, "mlflow.parentRunId": parent.info.run_id}
        run = client.create_run(home, start_time=at, run_name=f"#{experiment.number}", tags=tags)
        said = [RunTag(key, str(text)) for key, text in _words(experiment).items()]
        constants = [Param(key, str(v)[:LONGEST]) for key, v in list(experiment.candidate.constants.items())[:100]]
        numbers = [Logged(key, number, at, 0) for key, number in _numbers(source.metric, experiment).items()]
        client.log_batch(run.info.run_id, metrics=numbers, params=constants, tags=said)
        client.set_terminated(run.info.run_id, "FINISHED" if value is not None else "FAILED", at)
        if value is not None:
            history.append(Logged(source.metric.name, value, at, experiment.number))
    for first in range(0, len(history), 1000):  # as many as one call takes
        client.log_batch(parent.info.run_id, metrics=history[first : first + 1000])
    client.set_terminated(parent.info.run_id, end_time=_milliseconds(experiments[-1:]))
    return url, f"mlflow ui --backend-store-uri {url}"


def to_tensorboard(source: Source, experiments: Sequence[Experiment], place: str | None) -> tuple[str, str]:
    """Event files with a step per experiment, as two runs: ``all`` that were measured, and ``kept``."""
    with _needed("tensorboard", "tensorboard"):
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    folder = Path(place) if place else source.folder / "tensorboard"
    for run, chosen in (("all", experiments), ("kept", [e for e in experiments if e.kept])):
        home = folder / f"{source.lab}-{source.tag}-{run}"
        for old in home.glob("events.out.tfevents.*.nightlab"):
            old.unlink()
        writer = EventFileWriter(str(home), filename_suffix=".nightlab")
        for experiment in chosen:
            numbers = _numbers(source.metric, experiment)
            values = [Summary.Value(tag=name, simple_value=number) for name, number in numbers.items()]
            at = experiment.judged_at or experiment.proposed_at
            writer.add_event(Event(wall_time=at, step=experiment.number, summary=Summary(value=values)))
        writer.close()
    return str(folder), f"tensorboard --logdir {folder}"


def to_trackio(source: Source, experiments: Sequence[Experiment], place: str | None) -> tuple[str, str]:
    """A run with a step per experiment, in trackio's own place on this machine, or in the folder ``place``."""
    if place:
        os.environ["TRACKIO_DIR"] = str(Path(place).resolve())
    with _needed("trackio", "trackio"):
        import trackio
    project = f"nightlab-{source.lab}"
    if project in trackio.sqlite_storage.SQLiteStorage.get_projects():
        for run in trackio.Api().runs(project):
            if run.name == source.tag:
                run.delete()
    facts = {"lab": source.lab, "session": source.tag, "metric": source.metric.name, "goal": source.metric.goal}
    quiet = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
    trackio.init(project=project, name=source.tag, config=facts, **quiet)
    for experiment in experiments:
        trackio.log({**_numbers(source.metric, experiment), **_words(experiment)}, step=experiment.number)
    trackio.finish()
    show = f"trackio show --project {project}"
    return place or "trackio's folder", f"TRACKIO_DIR={place} {show}" if place else show


@contextmanager
def _needed(module: str, package: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        if (error.name or "").split(".")[0] != module:
            raise
        raise NightlabError(f"{package} is not installed", f"pip install {package}") from None


def _database(place: str | None, usual: Path) -> str:
    """The URL of a database: as given, or of a file."""
    if place and "://" in place:
        return place
    path = _made(Path(place) if place else usual)
    return f"sqlite:///{path}"


def _made(path: Path) -> Path:
    """The path of a file to write, in a folder that exists now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _value(experiment: Experiment) -> float | None:
    """What it measured, if that is a result of a program that worked."""
    measured, verdict = experiment.measurement, experiment.verdict
    return measured.metric if measured and verdict and verdict.status != "crash" else None


def _numbers(metric: Metric, experiment: Experiment) -> dict[str, float]:
    """An experiment's numbers by name; those that are not known are not there."""
    value, measured, look = _value(experiment), experiment.measurement, experiment.look
    found = {metric.name: value, f"{metric.name}_bar": experiment.bar}
    if look:
        found |= {"confirmed_gain": look.gain.mean, "confirmed_low": look.gain.low, "confirmed_high": look.gain.high}
    if measured:
        found |= {"training_seconds": measured.training_seconds, "peak_memory_mb": measured.peak_memory_mb}
        found |= measured.secondary
    return {name: number for name, number in found.items() if number is not None}


def _words(experiment: Experiment) -> dict[str, str]:
    candidate, verdict = experiment.candidate, experiment.verdict
    said = {
        "status": verdict.status if verdict else "running",
        "reason": verdict.reason if verdict else "",
        "evidence": experiment.level,
        "proposer": candidate.proposer,
        "hypothesis": candidate.hypothesis,
        "changes": "; ".join(candidate.changes),
        "commit": candidate.commit,
        "parent": candidate.parent,
    }
    return {name: one_line(words, LONGEST) for name, words in said.items()}


def _ranges(experiments: Sequence[Experiment]) -> dict[str, tuple[float, float]]:
    """The numeric constants that differ between experiments, each with its extremes."""
    seen: dict[str, set[float]] = {}
    other: set[str] = set()
    for experiment in experiments:
        for name, value in experiment.candidate.constants.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                seen.setdefault(name, set()).add(float(value))
            else:
                other.add(name)
    return {name: (min(all_), max(all_)) for name, all_ in seen.items() if len(all_) > 1 and name not in other}


def _local(at: float | None) -> datetime | None:
    """The machine's own time without a zone, as Optuna keeps it."""
    known = when(at) or (datetime.fromtimestamp(at, UTC) if at is not None else None)
    return known.astimezone().replace(tzinfo=None) if known else None


def _milliseconds(experiments: Sequence[Experiment]) -> int:
    return int(1000 * (experiments[0].judged_at or experiments[0].proposed_at)) if experiments else 0
