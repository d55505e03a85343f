"""One check of what a session needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import get_close_matches

from nightlab.core.config import LabConfig
from nightlab.core.types import Measurement, NightlabError


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


def unmeasured(lab: LabConfig, found: Measurement) -> list[Check]:
    """Limits and objectives of a contract that a measured trial did not measure: no candidate could be kept."""
    checks = []
    for table, names in (("limits", lab.limits), ("objectives", lab.objectives)):
        for name in names:
            if not math.isnan(found.quantities.get(name, math.nan)):
                continue
            close = get_close_matches(name, found.quantities, 2)
            known = f"is {' or '.join(close)} meant? " if close else ""
            hint = f"{known}Print METRIC {name}=…, or fix `{table}` in lab.toml"
            why = ", and every candidate would be over it" if table == "limits" else ""
            checks.append(Check(f"{table}.{name} is not measured{why}", False, hint, fatal=table == "limits"))
    return checks
