"""Folders of other systems, read as contracts."""

from __future__ import annotations

from typing import Any

from nightlab.core.config import LabConfig, detect, parse
from nightlab.core.layouts import Problem, Reading
from nightlab.session.create import written
from nightlab.session.metric_claim import metric_claim


def problem(files: dict[str, str], **more: Any) -> Problem:
    return Problem(tuple(files), files.get, "problem", **more)


def opened(files: dict[str, str], **more: Any) -> tuple[LabConfig, Reading]:
    found = detect(problem(files, **more))
    assert found
    lab, reading = found
    assert parse(written(lab, reading)) == lab, "the contract as text is the same contract"
    every = {**files, **reading.extra}
    claim = metric_claim(lab, tuple(every), every.get)
    sealed, unsealed = "; sealed" in reading.source, "a claim" in reading.source
    assert not (claim if sealed else unsealed and not claim), f"check: {claim!r}, open: {reading.source!r}"
    return found
