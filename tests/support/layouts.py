"""Folders of other systems, read as contracts."""

from __future__ import annotations

from typing import Any

from nightlab.core.config import LabConfig, detect, parse
from nightlab.core.layouts import Problem, Reading
from nightlab.session.create import written


def problem(files: dict[str, str], **more: Any) -> Problem:
    return Problem(tuple(files), files.get, "problem", **more)


def opened(files: dict[str, str], **more: Any) -> tuple[LabConfig, Reading]:
    found = detect(problem(files, **more))
    assert found
    assert parse(written(*found)) == found[0], "the contract as text is the same contract"
    return found
