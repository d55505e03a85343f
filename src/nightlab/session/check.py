"""One check of what a session needs."""

from __future__ import annotations

from dataclasses import dataclass

from nightlab.core.types import NightlabError


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a session needs, whether it is there, and what to do if not."""

    what: str
    ok: bool
    hint: str = ""
    fatal: bool = True


def require(checks: list[Check]) -> None:
    """Raise NightlabError for the first check that fails and must not."""
    for check in checks:
        if not check.ok and check.fatal:
            raise NightlabError(check.what, check.hint)
