"""A selection of another package: while it fails, proposals start from the champion."""

from __future__ import annotations

from typing import Any

from nightlab.core.text import one_line
from nightlab.core.types import Experiment


class PluggedSelection:
    """Asks a plug-in. A failure costs its answer alone, and is kept for ``take_faults``."""

    def __init__(self, name: str, selection: Any) -> None:
        self.name, self.selection = name, selection
        self.memory = int(selection.memory)
        self._faults: list[str] = []

    def ask(self) -> Experiment | None:
        try:
            found = self.selection.ask()
        except Exception as error:
            self._failed(f"{type(error).__name__}: {error}")
            return None
        if found is None or isinstance(found, Experiment):
            return found
        self._failed(f"ask returned {type(found).__name__}, not an Experiment or None")
        return None

    def tell(self, experiment: Experiment) -> None:
        try:
            self.selection.tell(experiment)
        except Exception as error:
            self._failed(f"{type(error).__name__}: {error}")

    def take_faults(self) -> list[str]:
        """What failed since this was last asked, each in a sentence."""
        faults, self._faults = self._faults, []
        return faults

    def _failed(self, why: str) -> None:
        self._faults.append(f"the selection {self.name} failed, so the champion is used: {one_line(why)}")
