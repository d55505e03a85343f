"""Hill climbing: every proposal is based on the champion."""

from __future__ import annotations

from nightlab.core.types import Experiment


class Climb:
    """The original's strategy. A proposal overtaken by a new champion is made again on that one."""

    memory = 0

    def ask(self) -> Experiment | None:
        return None

    def tell(self, experiment: Experiment) -> None:
        """Does nothing: the champion is all that it needs."""
