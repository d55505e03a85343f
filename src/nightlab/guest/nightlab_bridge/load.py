"""Runs Python files by their path: as modules, and as scripts."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def load_module(path: str | Path, name: str) -> Any:
    """A Python file, imported as ``name``. Raises ImportError for another file, and what the program raises."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python program")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_script(script: str, *arguments: str) -> None:
    """Run a Python file as a program of this process. Raises RuntimeError when it exits with another status than 0."""
    import runpy

    sys.argv = [script, *arguments]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code not in (None, 0):
            raise RuntimeError(f"{script} exited with status {end.code!r}") from None
