"""The part of a contract that has trials start from the champion's answer, and where that would not be fair."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from nightlab.core.config.units import megabytes
from nightlab.core.config_model import ConfigModel

if TYPE_CHECKING:
    from nightlab.core.config.schema import LabConfig


class WarmStartConfig(ConfigModel):
    """Says that a trial starts from the file that the champion's best trial left."""

    file: str = Field(min_length=1)
    """Its path in the lab's folder, where the program writes it."""
    size: str = "1MB"
    """The most that it may have."""

    @field_validator("file")
    @classmethod
    def _inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or value != path.as_posix() or value == ".":
            raise ValueError("name a file by its path in the lab's folder, such as answer.json")
        return value

    @field_validator("size")
    @classmethod
    def _size(cls, value: str) -> str:
        megabytes(value)
        return value

    @property
    def most(self) -> int:
        """Bytes."""
        return int(megabytes(self.size) * 2**20)


def unfair_start(lab: LabConfig) -> str:
    """Why this lab's trials can't start from an answer; empty if they can."""
    if lab.evaluator is None or lab.evaluator.served or lab.command is None:
        return (
            "it needs a command that leaves an answer, and an evaluator that judges it afterwards (not served): "
            "elsewhere it would carry training from trial to trial, and a trial's training is its budget"
        )
    compares_programs = {
        "population": lab.population is not None,
        "commons": lab.commons is not None,
        "search.pilot": lab.search.pilot is not None,
        'search.strategy = "independent"': lab.search.strategy == "independent",
        f'judge.rule = "{lab.judge.rule}"': lab.judge.rule in ("strict", "replicate"),
        "a metric that is a time": lab.timed,
    }
    found = next((name for name, there in compares_programs.items() if there), "")
    return f"{found} compares programs from nothing, and can't be used with it" if found else ""
