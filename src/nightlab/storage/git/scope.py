"""Which of a lab's files belong to its genome."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

GITS = (".gitattributes", ".gitmodules")
DEEPEST, LONGEST_NAME, LONGEST_PATH = 20, 200, 1000  # folders, and bytes: what can be written below any folder


def is_short(path: str) -> bool:
    """Whether a path is short enough to be written anywhere."""
    parts = path.encode(errors="surrogateescape").split(b"/")
    return len(parts) <= DEEPEST and max(map(len, parts)) <= LONGEST_NAME and sum(map(len, parts)) <= LONGEST_PATH


def in_genome(path: str, genome: tuple[str, ...]) -> bool:
    """Whether a path in the lab matches a glob of the genome: ``*`` matches within a folder, ``**`` across them.

    None whose name is too long, and none by which git is told how to write other files.
    """
    parts = path.split("/")
    return is_short(path) and parts[-1] not in GITS and any(_matches(parts, glob.split("/")) for glob in genome)


def frozen_entries(copy: Path, genome: tuple[str, ...], inside: str = "") -> Iterator[str]:
    """The entries of a lab's copy outside the genome: files, or whole folders without any genome file."""
    for path in sorted((copy / inside).iterdir()):
        name = f"{inside}{path.name}"
        if path.is_symlink():
            continue  # a mount would follow it; evaluator and checks have separate copies anyway
        if path.is_dir():
            below = [p.relative_to(copy).as_posix() for p in path.rglob("*")]
            if any(in_genome(p, genome) for p in below):
                yield from frozen_entries(copy, genome, f"{name}/")
            else:
                yield name
        elif not in_genome(name, genome):
            yield name


def stays_inside(path: str) -> bool:
    """Whether a path relative to the lab stays in the lab, and outside of ``.git``, and is a name that can be shown."""
    parts = PurePosixPath(path).parts
    return (
        path.isprintable()
        and bool(parts)
        and parts[0] != "/"
        and not any(part == ".." or part.lower() == ".git" for part in parts)
    )


def _matches(path: list[str], glob: list[str]) -> bool:
    if not glob or not path:
        return path == glob
    if glob[0] == "**":
        return len(glob) == 1 or any(_matches(path[skipped:], glob[1:]) for skipped in range(len(path)))
    return fnmatchcase(path[0], glob[0]) and _matches(path[1:], glob[1:])
