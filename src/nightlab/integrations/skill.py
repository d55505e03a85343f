"""Installs the skill that teaches agents to work in a lab (https://agentskills.io)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nightlab.core.types import NightlabError

NAME = "SKILL.md"
SOURCE = Path(__file__).with_name(NAME)


def usual(lab: Path) -> list[Path]:
    """Where agents look for skills: Claude Code in the first folder, Codex and others in the second."""
    return [lab / home / "skills" / "nightlab" for home in (".claude", ".agents")]


def install(folders: Iterable[Path], *, force: bool = False) -> list[tuple[Path, bool]]:
    """Write the skill into each folder; returns the paths, and whether each is new.

    Raises NightlabError and writes nothing if a different skill is there, unless ``force``.
    """
    text, paths = SOURCE.read_text(encoding="utf-8"), [folder.expanduser() / NAME for folder in folders]
    there = {path: path.exists() and path.read_text(errors="replace", encoding="utf-8") == text for path in paths}
    for path, same in there.items():
        if path.exists() and not same and not force:
            raise NightlabError(f"{path} already exists and is different", "replace it: nightlab skill --force")
    for path, same in there.items():
        if not same:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return [(path, not same) for path, same in there.items()]
