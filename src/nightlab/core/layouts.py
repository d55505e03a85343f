"""Known layouts of folders without a ``lab.toml``, each read by a plug-in into a contract.

A reader is a function ``read(problem)`` that returns a ``Reading``, or None for a folder that is not of its system. It
reads texts only: it imports and runs nothing of the folder. docs/foreign.md has a table of the readers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from nightlab.core import plugins
from nightlab.core.regions import EVOLVE_BLOCK, unread
from nightlab.core.types import NightlabError


@dataclass(frozen=True)
class Problem:
    """A folder: the paths of its files, and how to read one. ``sealed``: apart from the evaluator, where possible."""

    files: tuple[str, ...]
    read: Callable[[str], str | None]
    name: str = ""
    sealed: bool = True
    texts: dict[str, str] = field(default_factory=dict)

    def text(self, path: str) -> str:
        """A file's text; empty if there is none."""
        if path not in self.texts:
            self.texts[path] = self.read(path) or ""
        return self.texts[path]

    def has(self, path: str) -> bool:
        return path in self.names

    def match(self, glob: str) -> list[str]:
        """The files that match a glob, sorted; ``*`` does not cross folders."""
        depth = glob.count("/")
        return sorted(path for path in self.files if path.count("/") == depth and fnmatchcase(path, glob))

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(self.files)

    def only(self, candidates: Iterable[str], what: str) -> str | None:
        """The one file that can be meant; None without any. Raises NightlabError when there are several."""
        found = sorted(set(candidates))
        if len(found) > 1:
            raise NightlabError(
                f"{self.name or 'the folder'} has {len(found)} files that could be {what}: {', '.join(found)}",
                "remove or rename all but one, or write a lab.toml whose `genome` names the one that may change",
            )
        return found[0] if found else None


@dataclass(frozen=True)
class Reading:
    """What a reader made of a folder.

    ``source``: the system and the files that were read, as text. ``notes``: a sentence for each thing that the contract
    can't express. ``strategy``: what ``program.md`` should tell proposers. ``extra``: files, text by path, that the
    problem needs besides its own. Only ``nightlab open``, which copies the folder, writes these two.
    """

    contract: Mapping[str, Any]
    source: str
    notes: tuple[str, ...] = ()
    strategy: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)


def read_layout(problem: Problem) -> Reading | None:
    """The first reading of a known layout; None for an unknown one. Raises NightlabError for one that is unclear."""
    for plugin in plugins.discover("layout"):
        if plugin.ignored:
            continue
        try:
            found = plugins.load_plugin(plugin)(problem)
        except NightlabError:
            raise
        except Exception as error:
            if plugin.built_in:
                raise
            raise NightlabError(f"{plugin} failed: {type(error).__name__}: {error}", "see its package") from error
        if found is not None:
            return _with_unread_markers(problem, found)
    return None


def _with_unread_markers(problem: Problem, found: Reading) -> Reading:
    files = (path for path in found.contract.get("genome", ()) if problem.has(path))
    notes = filter(None, (unread(path, problem.text(path), EVOLVE_BLOCK) for path in files))
    return replace(found, notes=(*found.notes, *notes))


def safe_name(words: str) -> str:
    """A lab's name made of any words."""
    return re.sub(r"[^\w.-]+", "-", words).strip("-.") or "lab"
