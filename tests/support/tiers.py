"""Which cases of a parametrized test run by default."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def by_default(*kept: Any, of: Iterable[Any]) -> list[Any]:
    """All cases ``of`` a test: the default tier runs those that are ``kept``, the machine tier the others."""
    return [case if case in kept else pytest.param(case, marks=pytest.mark.machine) for case in of]
