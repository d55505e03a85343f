"""A lab's contract as it is found: the text of its ``lab.toml``, or what is inferred where there is none."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nightlab.core.config.schema import LabConfig
from nightlab.core.config_model import faults
from nightlab.core.files import NotReadable, read_plain
from nightlab.core.foreign import recognise
from nightlab.core.layouts import Problem, Reading, read_layout
from nightlab.core.source_bytes import BOM, decode_source, undecodable
from nightlab.core.toml_lines import located
from nightlab.core.types import NightlabError

CONTRACT = "lab.toml"
STRATEGY = "program.md"
LARGEST = 4_000_000  # bytes of a file that says what a lab is


def parse(text: str, where: str = CONTRACT) -> LabConfig:
    """The contract in the text of a ``lab.toml``.

    Raises NightlabError naming the line or the key that is wrong.
    """
    if found := undecodable(text):
        raise NightlabError(f"{where}, line {found[0]}: {found[1]} is not UTF-8", "save the file as UTF-8")
    try:
        return LabConfig.model_validate(tomllib.loads(text.removeprefix(BOM)))
    except tomllib.TOMLDecodeError as error:
        raise NightlabError(f"{where} is not valid TOML: {error}", "fix that line") from None
    except ValidationError as error:
        raise NightlabError(
            located(error, LabConfig, text, where),
            "fix that; docs/lab.md has all keys, nightlab init --show an example",
        ) from None


def amended(lab: LabConfig, changes: Mapping[str, Any]) -> LabConfig:
    """The contract with other values for some keys; those of a table are put over what the table has.

    Raises NightlabError naming the key that is wrong.
    """
    values = lab.model_dump(exclude_unset=True)
    for key, value in changes.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, Mapping) else value
    try:
        return LabConfig.model_validate(values)
    except ValidationError as error:
        words = "; ".join(said for _, said in faults(error.errors(), LabConfig))
        raise NightlabError(words, "the keys are those of lab.toml: docs/lab.md") from None


def detect(problem: Problem) -> tuple[LabConfig, Reading] | None:
    """The contract that a known layout implies, and its reading; None for an unknown one.

    Raises NightlabError for a layout that is unclear, or that can't be a contract.
    """
    reading = read_layout(problem)
    if reading is None:
        return None
    try:
        return LabConfig.model_validate(reading.contract), reading
    except ValidationError as error:
        words = "; ".join(said for _, said in faults(error.errors(), LabConfig))
        raise NightlabError(f"{reading.source}: {words}", "write a lab.toml: nightlab init --show") from None


def to_toml(lab: LabConfig) -> str:
    """The contract as the text of a ``lab.toml``: what was stated, not the defaults."""
    import tomlkit

    return tomlkit.dumps(lab.model_dump(mode="json", exclude_unset=True, exclude_none=True))


def load_contract(folder: Path) -> tuple[LabConfig, str]:
    """The contract of the working copy in ``folder``, and a sentence that says where it comes from.

    Raises NightlabError when there is neither a ``lab.toml`` nor a known layout.
    """
    return from_files(problem_in(folder), str(folder))


def problem_in(folder: Path, *, sealed: bool = True) -> Problem:
    """The files of the working copy in ``folder``, hidden ones and those of tools left out."""
    files = tuple(sorted(path.relative_to(folder).as_posix() for path in _files(folder)))

    def read(path: str) -> str | None:
        try:
            return decode_source(read_plain(folder / path, LARGEST, folder))
        except FileNotFoundError:
            return None
        except NotReadable:
            if path == CONTRACT:
                raise
            return None

    return Problem(files, read, folder.resolve().name, sealed)


def from_files(problem: Problem, where: str) -> tuple[LabConfig, str]:
    """As ``load_contract``, for any set of files, such as those of a commit."""
    if problem.has(CONTRACT):
        return parse(problem.text(CONTRACT)), f"its {CONTRACT}"
    if found := detect(problem):
        lab, reading = found
        if reading.extra:
            raise NightlabError(
                f"{where} has {reading.source}, and no file that may change",
                f"make a lab with one of it: nightlab open {where}",
            )
        return lab, reading.source
    if foreign := recognise(problem):
        raise NightlabError(f"{where} has no {CONTRACT} and looks like {foreign}", foreign.hint)
    raise NightlabError(
        f"{where} has no {CONTRACT} and no layout that nightlab knows",
        f"write one: nightlab init (it asks nothing, and you edit {CONTRACT}), or start from: nightlab new NAME",
    )


SKIPPED = {".git", ".nightlab", ".venv", "venv", "node_modules", "__pycache__"}
MOST_FILES = 20_000


def _files(folder: Path) -> Iterator[Path]:
    count, rest = 0, [folder]
    while rest and count < MOST_FILES:
        try:
            entries = sorted(rest.pop().iterdir())
        except OSError:
            continue
        for path in entries:
            if path.is_dir() and not path.is_symlink():
                rest += [path] if path.name not in SKIPPED else []
            elif path.is_file():
                count += 1
                yield path
