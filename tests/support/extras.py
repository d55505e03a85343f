"""Packages of extras, imported when a test uses them: to collect the tests takes none of their seconds."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import pytest


class LazyModule:
    """A module that is imported when a name of it is asked for; pytest asks for dunders of all that it collects."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(self._name), name)


def extra(name: str, of: str) -> Any:
    """The module ``name``; skips the tests of the file that asks where the extra ``of`` is not installed."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        pytest.skip(f"needs {name} (pip install 'nightlab[{of}]')", allow_module_level=True)
    return LazyModule(name)
