"""A session as a table: one flat row per experiment, for pandas and Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightlab.core.types import FIRST_DAY, Experiment, NightlabError
from nightlab.storage.ledger import LEDGER, Ledger, find_ledger

if TYPE_CHECKING:
    import pandas

TIMES = ("proposed_at", "judged_at")
WHOLE = "Int64"  # pandas' whole numbers that may be missing
COLUMNS = {
    "number": WHOLE,
    "status": "string",
    "reason": "string",
    "detail": "string",
    "metric": "Float64",
    "bar": "Float64",
    "evidence": "string",
    "gain": "Float64",
    "gain_low": "Float64",
    "gain_high": "Float64",
    "held_out_gain": "Float64",
    "proposer": "string",
    "hypothesis": "string",
    "changes": "string",
    "commit": "string",
    "parent": "string",
    "lines": WHOLE,
    "runs": WHOLE,
    "training_seconds": "Float64",
    "startup_seconds": "Float64",
    "evaluation_seconds": "Float64",
    "wall_seconds": "Float64",
    "peak_memory_mb": "Float64",
    "peak_gpu_memory_mb": "Float64",
    "cost_usd": "Float64",
}


def session_frame(path: str | Path, tag: str | None = None) -> pandas.DataFrame:
    """A session's experiments as a pandas frame, one row each: ``nightlab.load("my-lab")``.

    ``path``: a lab's folder, of whose sessions the latest is taken if there is no ``tag``; a session's folder, or its
    ``ledger.db``. Besides the columns of ``COLUMNS`` there are ``proposed_at`` and ``judged_at`` (UTC), and for each
    name that occurs ``secondary.NAME``, ``claim.NAME`` and ``constant.NAME``. ``gain`` is the last that was shown over
    the baseline on fresh seeds, with its interval. ``frame.attrs`` says which session, metric and goal.

    Raises NightlabError where there is no session, or pandas is missing.
    """
    try:
        import pandas
    except ImportError:
        raise NightlabError("pandas is not installed", "pip install 'nightlab[data]'") from None
    ledger = ledger_at(Path(path), tag)
    frame = pandas.DataFrame(list(flat_rows(ledger)))
    for name in (*COLUMNS, *TIMES):
        if name not in frame:
            frame[name] = None
    frame = frame.astype(COLUMNS)
    for name in TIMES:
        frame[name] = pandas.to_datetime(frame[name], utc=True)
    extra = [name for name in frame if name not in COLUMNS and name not in TIMES]
    for name in extra:  # of one name there may be numbers here and words there: a column has one type
        numbers = pandas.to_numeric(frame[name], errors="coerce")
        all_numbers = numbers.notna().sum() == frame[name].notna().sum()
        frame[name] = numbers.astype("Float64") if all_numbers else frame[name].map(str, "ignore").astype("string")
    metric, session = ledger.metric, ledger.session()
    told = {"session": session.tag if session else "", "metric": metric.name, "goal": metric.goal, "unit": metric.unit}
    frame.attrs = {**told, "imported": ledger.imported}
    ordered: pandas.DataFrame = frame[[*COLUMNS, *TIMES, *sorted(extra)]]
    return ordered


def ledger_at(path: Path, tag: str | None) -> Ledger:
    """The ledger of a lab's session, in a session's folder, or in a file, for reading."""
    if path.is_file():
        return Ledger(path, read_only=True)
    if tag is None and (path / LEDGER).is_file():
        return Ledger(path / LEDGER, read_only=True)
    return find_ledger(path, tag)


def flat_rows(ledger: Ledger) -> Iterator[dict[str, Any]]:
    """Each experiment, flat."""
    for experiment in ledger.experiments():
        yield flat(experiment)


def flat(experiment: Experiment) -> dict[str, Any]:
    """One experiment's facts by column; what is not known is None or not there."""
    facts, candidate, measured = experiment.to_dict(), experiment.candidate, experiment.measurement
    look = experiment.look
    row = {name: facts.get(name) for name in COLUMNS}
    row |= {name: getattr(measured, name) for name in COLUMNS if measured and name in measured.__slots__}
    row |= {
        "evidence": experiment.level or None,
        "gain": look.gain.mean if look else None,
        "gain_low": look.gain.low if look else None,
        "gain_high": look.gain.high if look else None,
        "held_out_gain": look.held_out.mean if look and look.held_out else None,
        "changes": "; ".join(candidate.changes),
        "lines": candidate.lines,
        "cost_usd": candidate.usage.get("cost_usd"),
        "proposed_at": when(experiment.proposed_at),
        "judged_at": when(experiment.judged_at),
    }
    if measured:
        row |= {f"secondary.{name}": value for name, value in measured.secondary.items()}
        row |= {f"claim.{name}": value for name, value in measured.claims.items()}
    return row | {f"constant.{name}": value for name, value in candidate.constants.items()}


def when(at: float | None) -> datetime | None:
    """A time of the ledger in UTC, where it is one."""
    return datetime.fromtimestamp(at, UTC) if at is not None and at > FIRST_DAY else None
