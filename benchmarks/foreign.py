"""The score of an opened problem beside its own system's: python benchmarks/foreign.py

Folders of eight systems are opened unchanged by ``nightlab open``, and their first programs scored here and by the
systems themselves (foreign_peers.py), which are installed from PyPI and cloned from GitHub into a temporary folder
(``--keep FOLDER``: one that stays, so that a second run needs no network). What can't be had is a row that says so.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from foreign_peers import PEERS, Peer
from machine import heading, table

from nightlab.session.session import open_session

LIMIT = 300  # seconds that a command may take


class Failed(Exception):
    """A command failed; the message is what it said last."""


def output(*command: object, cwd: Path, **environment: str) -> str:
    """What a command prints. Raises Failed."""
    words, environ = [str(word) for word in command], {**os.environ, **environment}
    try:
        done = subprocess.run(words, cwd=cwd, env=environ, capture_output=True, text=True, timeout=LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(str(error)) from None
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip() and "  hint:" not in line]
        raise Failed(lines[-1].strip()[:200] if lines else f"{words[0]} exited with status {done.returncode}")
    return done.stdout


def installed(peer: Peer, place: Path) -> Path:
    """A Python that has the peer's packages, with NumPy and SciPy as they are here. Raises Failed."""
    if not (peer.packages or peer.without):
        return Path(sys.executable)
    python, done = place / "bin" / "python", place / "installed"
    if not done.exists():
        venv.create(place, with_pip=True, clear=True)
        alike = [f"{name}=={version(name)}" for name in ("numpy", "scipy")]
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        output(*pip, *peer.packages, *alike, cwd=place)
        if peer.without:
            output(*pip, "--no-deps", "--ignore-requires-python", *peer.without, cwd=place)
        done.touch()
    return python


def cloned(peer: Peer, place: Path) -> Path:
    """A work tree with the folders of the peer's repository that are wanted. Raises Failed."""
    name, _, commit = peer.repository.partition("@")
    if not (done := place.with_name("cloned")).exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        output("git", "init", "--quiet", cwd=place)
        output("git", "remote", "add", "origin", f"https://github.com/{name}", cwd=place)
        output("git", "sparse-checkout", "set", *filter(None, [*peer.folders.values(), peer.package]), cwd=place)
        output("git", "fetch", "--quiet", "--depth=1", "--filter=blob:none", "origin", commit, cwd=place)
        output("git", "checkout", "--quiet", commit, cwd=place)
        done.touch()
    return place


def put(source: str | dict[str, str], root: Path, folder: Path) -> None:
    """Make a problem's folder: a copy of one, or of files."""
    if isinstance(source, str):
        shutil.copytree(root / source, folder, ignore=shutil.ignore_patterns("__pycache__"))
        return
    folder.mkdir(parents=True)
    for file, text in source.items():
        (folder / file).write_text(text)


def here(folder: Path, place: Path) -> tuple[float, str]:
    """The baseline's score where the folder is opened, and whether it is sealed. Raises Failed."""
    output(sys.executable, "-m", "nightlab", "open", folder, place / "lab", cwd=place)
    output(sys.executable, "-m", "nightlab", "run", "-n", 1, cwd=place / "lab")
    with closing(open_session(place / "lab")) as session:
        measured = session.ledger.experiment(0).measurement
        assert measured is not None and measured.metric is not None
        return measured.metric, "a claim" if session.metric_claim else "sealed"


def compared(ours: float, theirs: float) -> str:
    if ours == theirs:
        return "yes"
    return "to 12 digits" if math.isclose(ours, theirs, rel_tol=1e-12, abs_tol=1e-12) else "no"


def row(peer: Peer, name: str, root: Path, python: Path) -> list[object]:
    """One folder's row of the table."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        last = name.rpartition("/")[2]
        for side in ("there", "here"):
            put(peer.folders[name], root, place / side / last)  # type: ignore[arg-type]
        (place / "script.py").write_text(peer.script)
        begun = time.perf_counter()
        try:
            said = output(
                python, place / "script.py", cwd=place / "there" / last, PYTHONPATH=str((root / peer.package).parent)
            )
            theirs, between = float(said.split()[-1]), time.perf_counter()
            ours, sealed = here(place / "here" / last, place)
        except Failed as error:
            return [peer.name, name, "", "", "", f"not compared: {error}", f"{time.perf_counter() - begun:.1f}"]
        seconds = f"{between - begun:.1f} + {time.perf_counter() - between:.1f}"
    return [peer.name, name, repr(theirs), repr(ours), sealed, compared(ours, theirs), seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [peer.name for peer in PEERS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="SYSTEM", help=", ".join(names))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="of environments and repositories")
    args = parser.parse_args()
    heading("what the first program of an opened problem scores")
    rows: list[list[object]] = []
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        place = (args.keep or Path(temporary)).absolute()
        for peer in (peer for peer in PEERS if peer.name in args.only):
            try:
                if missing := [program for program in peer.needs if shutil.which(program) is None]:
                    raise Failed(f"needs {', '.join(missing)}")
                python = installed(peer, place / peer.name / "environment")
                packages = next(python.parents[1].glob("lib/python*/site-packages"), place)
                root = cloned(peer, place / peer.name / "repository") if peer.repository else packages
            except Failed as error:
                rows.append([peer.name, f"{len(peer.folders)} folders", "", "", "", f"not compared: {error}", ""])
                continue
            for name in peer.folders:
                rows.append(row(peer, name, root, python))
                print(*rows[-1], sep="  ", file=sys.stderr, flush=True)  # which takes minutes
    table(("system", "folder", "there", "here", "here it is", "the same?", "seconds, there + here"), rows)
    same = [cells[0] for cells in rows if cells[5] == "yes"]
    seconds = time.perf_counter() - begun
    print(f"{len(same)} of {len(rows)} rows the same, of {len(set(same))} systems; {seconds:.0f} s in all.")


if __name__ == "__main__":
    main()
