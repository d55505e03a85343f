"""One candidate, one run: the box, the supervisor, and what was measured. The only code that starts a candidate."""

from nightlab.trial.box import Box, run_prepare

__all__ = ["Box", "run_prepare"]
