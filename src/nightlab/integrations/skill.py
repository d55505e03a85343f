"""The skill that teaches an agent to work in a lab (https://agentskills.io): a Markdown file, put where they look."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nightlab.core.types import NightlabError

NAME = "SKILL.md"
SOURCE = Path(__file__).with_name(NAME)


def usual(lab: Path) -> list[Path]:
    """Where agents look for a project's skills: Claude Code in the first; Codex and others in the second."""
    return [lab / home / "skills" / "nightlab" for home in (".claude", ".agents")]


def install(folders: Iterable[Path], *, force: bool = False) -> list[tuple[Path, bool]]:
    """Write the skill into each folder; returns where, and whether it was not there before.

    Raises NightlabError, and writes nothing, when a different one is there, unless ``force``.
    """
    text, paths = SOURCE.read_text(), [folder.expanduser() / NAME for folder in folders]
    there = {path: path.exists() and path.read_text(errors="replace") == text for path in paths}
    for path, same in there.items():
        if path.exists() and not same and not force:
            raise NightlabError(f"{path} is there already, and is different", "replace it: nightlab skill --force")
    for path, same in there.items():
        if not same:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return [(path, not same) for path, same in there.items()]
