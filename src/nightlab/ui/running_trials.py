"""The trials under way, as their folders tell: the phase, the slot, and the curve that the candidate claims."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from nightlab.core.types import Trial
from nightlab.engines.local.curve import CURVE, Points, load_curve
from nightlab.ui.progress import training_left
from nightlab.ui.snapshot import ExperimentPoint, TrialSnapshot

BROKEN = (OSError, ValueError, KeyError, TypeError)  # what a file that is being written may look like


class RunningTrials:
    """What runs, read from the folders of trials below ``folder``; a file that did not change is not read again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._curves: dict[str, tuple[int, Points]] = {}  # by trial, with the size that the file had
        self._slots: dict[str, int] = {}

    def of(
        self, trials: Sequence[Trial], known: Mapping[int, ExperimentPoint], now: float
    ) -> tuple[TrialSnapshot, ...]:
        """These trials at a time; ``known`` are experiments by number, for what is tried and why."""
        for gone in (self._curves.keys() | self._slots.keys()) - {trial.id for trial in trials}:
            self._curves.pop(gone, None)
            self._slots.pop(gone, None)
        return tuple(self._status(trial, known.get(trial.experiment), now) for trial in trials)

    def _status(self, trial: Trial, point: ExperimentPoint | None, now: float) -> TrialSnapshot:
        folder, phase, since = self.folder / trial.id, "starting", now
        with suppress(*BROKEN):
            said = json.loads((folder / "phase.json").read_text(encoding="utf-8"))
            phase, since = str(said["phase"]), float(said["at"])
        if trial.id not in self._slots:
            with suppress(*BROKEN):
                self._slots[trial.id] = int(
                    json.loads((folder / "spec.json").read_text(encoding="utf-8"))["slot"]["number"]
                )
        curve = self._curve(trial.id)
        return TrialSnapshot(
            id=trial.id,
            experiment=trial.experiment,
            purpose=trial.purpose,
            seed=trial.seed,
            slot=self._slots.get(trial.id),
            phase=phase,
            since=since,
            budget=trial.budget,
            left=training_left(trial.budget, phase, now - since, curve),
            curve=tuple(curve),
            proposer=point.proposer if point else "",
            hypothesis=point.hypothesis if point else "",
            changes=point.changes if point else (),
        )

    def _curve(self, trial: str) -> Points:
        try:
            size = (self.folder / trial / CURVE).stat().st_size
        except OSError:
            return []
        if self._curves.get(trial, (-1, []))[0] != size:
            self._curves[trial] = size, load_curve(self.folder / trial)
        return self._curves[trial][1]
