"""The Python environment that a lab's command runs in: the lab's ``.venv``, an active one, or nightlab's own.

Found on this machine, and shown to trials read-only at its own path.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nightlab.sandbox.bubblewrap import SYSTEM

RUNNERS = ("uv", "poetry", "pdm", "hatch", "rye", "pipenv")  # whose ``run`` starts a program in the lab's environment
PLAIN = {"--no-sync", "--frozen", "--locked", "--offline", "--quiet", "-q", "--no-project", "--active"}  # take no value
MAPPING = re.compile(r"^MAPPING[^=\n]*= (\{.*\})$", re.MULTILINE)  # of setuptools' editable installs
PATIENCE = 20.0  # seconds for poetry to say where its environment is


@dataclass(frozen=True, slots=True)
class Environment:
    """``prefix``: its folder; None: nightlab's own. ``own``: folders of the lab that its editable installs name."""

    prefix: Path | None
    readable: tuple[Path, ...]
    """What trials have to see of the machine beyond the system's folders."""
    own: tuple[str, ...] = ()
    """The lab's folders with packages that are installed in place: a trial imports its own copy of them."""
    elsewhere: tuple[str, ...] = ()
    """Names of packages that are installed in place outside the lab."""

    @property
    def path(self) -> list[str]:
        """What comes first on the PATH."""
        return [str(self.prefix / "bin")] if self.prefix else []

    def argv(self, command: Sequence[str]) -> list[str]:
        """A command without a runner that would look for the environment, or change it, and has no network for that."""
        words = list(command)
        if self.prefix and words and (inner := _inside(words)):
            words = inner
        if self.prefix and words and words[0].startswith(f"{self.prefix.name}/"):
            words[0] = str(self.prefix / words[0].partition("/")[2])
        return words


def find_environment(lab: Path, top: Path, command: str, environ: Mapping[str, str] = os.environ) -> Environment:
    """The environment of the lab in folder ``lab`` of the repository ``top``."""
    prefix = next((path for path in _candidates(lab, top, command, environ) if _is_other(path)), None)
    base = prefix or Path(sys.prefix)
    readable = [path for path in _libraries(environ, lab) if path.is_dir()]
    if prefix:
        readable += [prefix, *_interpreters(prefix)]
    own, elsewhere = [], []
    for name, root in _in_place(base):
        if root.is_relative_to(lab):
            own.append(root.relative_to(lab).as_posix())
        elif name != "nightlab":
            elsewhere.append(f"{name} ({root})")
    seen = [path for path in dict.fromkeys(readable) if not any(path.is_relative_to(system) for system in SYSTEM)]
    return Environment(prefix, tuple(seen), tuple(sorted(set(own))), tuple(sorted(set(elsewhere))))


def _candidates(lab: Path, top: Path, command: str, environ: Mapping[str, str]) -> Iterator[Path]:
    yield from (lab / ".venv", top / ".venv")
    if command.split()[:2] == ["poetry", "run"] and shutil.which("poetry"):
        try:
            said = subprocess.run(
                ["poetry", "env", "info", "--path"],
                cwd=lab,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            said = None
        if said and said.stdout.strip():
            yield Path(said.stdout.strip())
    if environ.get("VIRTUAL_ENV"):
        yield Path(environ["VIRTUAL_ENV"])
    elif environ.get("CONDA_PREFIX") and environ.get("CONDA_DEFAULT_ENV") != "base":
        yield Path(environ["CONDA_PREFIX"])  # the base environment is active in every shell, wanted or not


def _is_other(prefix: Path) -> bool:
    """Whether there is an environment, and not the one that nightlab runs in, which trials use anyway."""
    return (prefix / "bin" / "python").exists() and prefix.resolve() != Path(sys.prefix).resolve()


def _interpreters(prefix: Path) -> list[Path]:
    """The installation that a virtual environment's Python belongs to, by every link on the way there."""
    found, at = [], prefix / "bin" / "python"
    while at.is_symlink():
        at = at.parent / at.readlink()
        if at.parent.name == "bin":
            found.append(at.parent.parent)
    real = (prefix / "bin" / "python").resolve()
    return [path for path in (*found, real.parent.parent) if path.is_dir() and path != Path("/")]


def _libraries(environ: Mapping[str, str], lab: Path) -> list[Path]:
    """The folders of LD_LIBRARY_PATH, as modules set it, without any that holds the lab or the home."""
    folders = [Path(entry) for entry in environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if entry.startswith("/")]
    private = [lab, Path.home()]
    return [folder for folder in folders if not any(path.is_relative_to(folder) for path in private)]


def _in_place(prefix: Path) -> Iterator[tuple[str, Path]]:
    """Each package that is installed in place, and the folder that it is imported from.

    By ``pip install -e``, or by a line of a ``.pth`` file, as ``setup.py develop`` and ``conda develop`` write it.
    """
    for packages in sorted(prefix.glob("lib/python3*/site-packages")):
        projects = []
        for about in sorted(packages.glob("*.dist-info/direct_url.json")):
            try:
                told = json.loads(about.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if told.get("dir_info", {}).get("editable") and told.get("url", "").startswith("file://"):
                root = Path(unquote(urlsplit(told["url"]).path))
                name = about.parent.name.partition("-")[0]
                projects.append(root)
                yield from ((name, folder) for folder in _roots(packages, root))
        for name, folder in _named(packages):
            if not any(folder.is_relative_to(root) for root in projects) and not _is_ours(folder):
                yield name, folder


def _is_ours(folder: Path) -> bool:
    return (folder / "nightlab").is_dir() or (folder / "nightlab_guest.py").exists()


def _named(packages: Path) -> Iterator[tuple[str, Path]]:
    """The folders that the ``.pth`` files of a ``site-packages`` name, each with the file's name."""
    for file in sorted(packages.glob("*.pth")):
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        yield from ((file.stem, Path(line)) for line in lines if line[:1] == "/" and Path(line).is_dir())


def _roots(packages: Path, project: Path) -> list[Path]:
    """From which folders of a project the editable install imports, as its files in site-packages say."""
    named = [folder for _, folder in _named(packages)]
    for file in sorted(packages.glob("__editable__*.py")):
        if found := MAPPING.search(file.read_text(encoding="utf-8", errors="replace")):
            named += [Path(path).parent for path in ast.literal_eval(found[1]).values()]
    return sorted({_sources(path) for path in named if path.is_relative_to(project)}) or [project]


def _sources(root: Path) -> Path:
    """The folder that a root is made of: setuptools' strict editable installs are folders of links to each file."""
    for link in root.rglob("*.py") if "__editable__" in root.name else ():
        inside, real = link.relative_to(root).parts, link.resolve()
        if real.parts[-len(inside) :] == inside and real != link:
            return real.parents[len(inside) - 1]
    return root


def _inside(words: list[str]) -> list[str]:
    """What a runner would start; empty where this is none, or its options say more."""
    runner, *rest = words
    if runner not in RUNNERS or rest[:1] != ["run"]:
        return []
    rest = rest[1:]
    while rest and rest[0] in PLAIN:
        rest = rest[1:]
    if rest[:1] == ["--"]:
        rest = rest[1:]
    if rest and (rest[0] == "-m" or rest[0].endswith(".py")):
        return ["python", *rest]
    return [] if not rest or rest[0].startswith("-") else rest
