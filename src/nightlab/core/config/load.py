"""A lab's contract as it is found: the text of its ``lab.toml``, or what is inferred where there is none."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nightlab.core.config.base import fault
from nightlab.core.config.schema import LabConfig
from nightlab.core.files import read_plain
from nightlab.core.types import NightlabError

CONTRACT = "lab.toml"
STRATEGY = "program.md"
LARGEST = 4_000_000  # bytes of a file that says what a lab is


def parse(text: str, where: str = CONTRACT) -> LabConfig:
    """The contract in the text of a ``lab.toml``.

    Raises NightlabError naming the line or the key that is wrong.
    """
    try:
        return LabConfig.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise NightlabError(f"{where} is not valid TOML: {error}", "mend that line") from None
    except ValidationError as error:
        faults = "; ".join(fault(each) for each in error.errors())
        raise NightlabError(f"{where}: {faults}", "mend those keys; nightlab init --show prints an example") from None


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
        faults = "; ".join(fault(each) for each in error.errors())
        raise NightlabError(faults, "the keys are those of lab.toml: docs/lab.md") from None


def detect(files: list[str], read: Any) -> tuple[LabConfig, str] | None:
    """The contract that a known layout implies, with a sentence that says which; None for an unknown one.

    ``files`` are the lab's paths; ``read(path)`` gives a file's text.
    """
    if {"prepare.py", "train.py"} <= set(files):
        return _autoresearch(read), "the layout of autoresearch: prepare.py frozen, train.py the genome"
    for script in (".auto/measure.sh", "autoresearch.sh"):
        if script in files:
            lab = _measured_by_script(script, files, read(script) or "")
            return lab, f"a measure script, {script}, that prints METRIC lines"
    return None


def _autoresearch(read: Any) -> LabConfig:
    frozen = read("prepare.py") or ""
    found = re.search(r"^TIME_BUDGET\s*=\s*(\d+(?:\.\d+)?)", frozen, re.MULTILINE)
    # Its program gives no start signal and keeps its own time; its rule ends a run that takes twice that time, with
    # compiling and evaluation in it. Data and tokenizer are in the cache.
    budget = {"amount": 2 * float(found[1])} if found else {}
    return LabConfig.model_validate(
        {
            "name": "autoresearch",
            "genome": ["train.py"],
            "command": "python train.py",
            "prepare": "python prepare.py",
            "warm": ["torch", "torch._dynamo"],
            "metric": {"name": "val_bpb", "unit": "bits per byte"},
            "budget": budget,
            "data": {"open": ["~/.cache/autoresearch"]},
        }
    )


def _measured_by_script(script: str, files: list[str], text: str) -> LabConfig:
    names = re.findall(r"METRIC\s+([\w.µ]+)=", text)
    folder = script.split("/")[0] if "/" in script else ""
    frozen = {script, STRATEGY, "README.md", "LICENSE"}
    checks = [f for f in (".auto/checks.sh", "autoresearch.checks.sh") if f in files]
    genome = [f for f in files if f not in frozen and not (folder and f.startswith(folder + "/"))]
    return LabConfig.model_validate(
        {
            "name": "measured",
            "genome": [f for f in genome if f not in checks and not f.startswith((".", "test"))] or ["**"],
            "command": f"bash {script}",
            "metric": {"name": names[0] if names else "metric"},
            "checks": [{"command": f"bash {check}"} for check in checks],
        }
    )


def to_toml(lab: LabConfig) -> str:
    """The contract as the text of a ``lab.toml``: what was stated, not the defaults."""
    import tomlkit

    return tomlkit.dumps(lab.model_dump(mode="json", exclude_unset=True, exclude_none=True))


def load_contract(folder: Path) -> tuple[LabConfig, str]:
    """The contract of the working copy in ``folder``, and a sentence that says where it comes from.

    Raises NightlabError when there is neither a ``lab.toml`` nor a known layout.
    """
    return from_files(
        [p.relative_to(folder).as_posix() for p in _some_files(folder)],
        lambda path: _text(folder, path),
        str(folder),
    )


def _text(folder: Path, path: str) -> str | None:
    """A file's text; None where there is none. Raises NightlabError for what is no plain file in the folder."""
    try:
        return read_plain(folder / path, LARGEST, folder).decode(errors="replace")
    except FileNotFoundError:
        return None


def from_files(files: list[str], read: Any, where: str) -> tuple[LabConfig, str]:
    """As ``load_contract``, for any set of files, such as those of a commit."""
    if CONTRACT in files:
        return parse(read(CONTRACT) or ""), f"its {CONTRACT}"
    if found := detect(files, read):
        return found
    raise NightlabError(
        f"{where} has no {CONTRACT} and no layout that nightlab knows",
        f"write one: nightlab init (it asks nothing, and you edit {CONTRACT}), or start from: nightlab new NAME",
    )


def _some_files(folder: Path) -> list[Path]:
    """The few files that decide about the layout: the top of the folder, and ``.auto``."""
    return [p for base in (folder, folder / ".auto") if base.is_dir() for p in base.iterdir() if p.is_file()]
