"""The labs of `everyday_labs.py`: each a function that makes one in a folder of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

CONTRACT = """\
name = "lab"
genome = ["train.py"]
command = "{command}"
{more}
[metric]
name = "loss"
[budget]
amount = 20
[judge]
upkeep = 0
confirm = 0
{tables}
"""
PRINTS = 'print(f"METRIC loss={(A - 1) ** 2:g}")\n'


@dataclass
class Made:
    """A lab, and the environment that its user has."""

    folder: Path
    environ: dict[str, str]


Files = Mapping[str, str | bytes]
Make = Callable[[Path, dict[str, str]], Made]


@dataclass(frozen=True)
class Lab:
    """``value``: the baseline's right one; ``needs``: a program that has to be installed."""

    family: str
    name: str
    make: Make
    value: str = "9"
    needs: str = ""
    options: tuple[str, ...] = ()


def git(folder: Path, *args: str) -> str:
    who = ("-c", "user.name=me", "-c", "user.email=me@here", "-c", "protocol.file.allow=always")
    return subprocess.run(["git", *who, *args], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def write(folder: Path, files: Files) -> None:
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)


def contract(command: str = "python train.py", more: str = "", tables: str = "") -> str:
    return CONTRACT.format(command=command, more=more, tables=tables)


def lab_in(folder: Path, train: str | bytes = "", files: Files | None = None, **parts: str) -> Path:
    """A lab whose program runs ``train`` and prints its metric; bytes are the whole program."""
    whole = train if isinstance(train, bytes) else f"A = 4.0\n{train}{PRINTS}"
    write(folder, {"lab.toml": contract(**parts), "train.py": whole, **(files or {})})
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "lab")
    return folder


def plain(train: str | bytes = "", files: Files | None = None, **parts: str) -> Make:
    """A lab that is only files; ``{place}`` in its contract is the folder that it lies in."""

    def make(place: Path, environ: dict[str, str]) -> Made:
        named = {name: text.replace("{place}", str(place)) for name, text in parts.items()}
        return Made(lab_in(place / "lab", train, files, **named), environ)

    return make


def prints(text: str) -> Make:
    """A program that prints this, with ``{loss}`` for its metric."""
    return plain(f"import sys\nA = 4.0\nloss = (A - 1) ** 2\nsys.stdout.write(f{text!r})\n".encode())


def with_home(made: Make, files: Files) -> Make:
    """The same with files in the user's home."""

    def make(place: Path, environ: dict[str, str]) -> Made:
        write(place / "home", files)
        return made(place, environ)

    return make


def under(made: Make, **environ: str) -> Make:
    """The same with further variables."""
    return lambda place, had: made(place, {**had, **environ})


def beside(files: Files, train: str, **parts: str) -> Make:
    """Files that git ignores, written into the lab after it was committed."""

    def make(place: Path, environ: dict[str, str]) -> Made:
        ignored = {".gitignore": "".join(f"{path.split('/')[0]}\n" for path in files)}
        made = plain(train, ignored, **parts)(place, environ)
        write(made.folder, files)
        return made

    return make


# -- git, folders ----------------------------------------------------------------------------------


def many(count: int, folders: bool) -> Make:
    return plain(files={(f"f{n % 100}/{n}" if folders else f"{n}.txt"): f"{n}\n" for n in range(count)})


def large_repository(kind: str, place: Path, environ: dict[str, str]) -> Made:
    """A lab in a subfolder of a repository of 2,000 other files, which was cloned in this way."""
    source = place / "source"
    write(source, {f"other/{n}.bin": bytes([n % 256]) * 999 for n in range(2000)})
    lab_in(source / "labs" / "one")
    shutil.rmtree(source / "labs" / "one" / ".git")
    git(source, "init", "-q", "-b", "main")
    git(source, "config", "uploadpack.allowFilter", "true")
    git(source, "add", "-A")
    git(source, "commit", "-q", "-m", "all")
    if kind == "worktree":
        git(source, "worktree", "add", "-q", "-b", "mine", str(place / "clone"))
    else:
        options = {"shallow": ["--depth", "1"], "partial": ["--filter=blob:none"], "sparse": ["--sparse"]}[kind]
        options = ["--filter=blob:none", *options] if kind == "sparse" else options
        git(place, "clone", "-q", *options, f"file://{source}", "clone")
    if kind == "sparse":
        git(place / "clone", "sparse-checkout", "set", "labs/one")
    return Made(place / "clone" / "labs" / "one", environ)


SETTINGS = """\
[core]
    hooksPath = {home}/hooks
    excludesFile = {home}/ignore
[commit]
    gpgSign = true
[diff]
    noprefix = true
    context = 0
[log]
    showSignature = true
"""


def settings(place: Path, environ: dict[str, str]) -> Made:
    made = plain()(place, environ)
    home = place / "home"
    write(home, {"hooks/pre-commit": "#!/bin/sh\nexit 1\n", "ignore": "*.py\n*.txt\n"})
    (home / "hooks" / "pre-commit").chmod(0o755)
    write(home, {".gitconfig": SETTINGS.format(home=home)})
    return made


def branch_in_the_way(place: Path, environ: dict[str, str]) -> Made:
    made = plain()(place, environ)
    git(made.folder, "branch", "nightlab")
    return made


def submodule(used: bool, place: Path, environ: dict[str, str]) -> Made:
    lab_in(place / "library", files={"vendored.py": "VALUE = 4\n"})
    made = plain("import sys\nsys.path.append('library')\nimport vendored\n" if used else "")(place, environ)
    git(made.folder, "submodule", "--quiet", "add", f"file://{place / 'library'}", "library")
    git(made.folder, "commit", "-q", "-m", "a submodule")
    return made


def odd_path(place: Path, environ: dict[str, str]) -> Made:
    return Made(lab_in(place / "my labs (ä) 'x'" / "ein Versuch"), environ)


# -- environments ----------------------------------------------------------------------------------

MODULE = "import only_there\nassert only_there.VALUE == 4\n"


def environment(prefix: Path, conda: bool = False) -> None:
    """An environment that has a module ``only_there``; ``conda``: with files of its own, and no ``pyvenv.cfg``."""
    venv.create(prefix, symlinks=True, with_pip=False)
    [packages] = prefix.glob("lib/python3*/site-packages")
    write(packages, {"only_there.py": "VALUE = 4\n"})
    if conda:
        (prefix / "pyvenv.cfg").unlink()
        base = Path(sys.base_prefix)
        for name in ("python", "python3", f"python3.{sys.version_info.minor}"):
            (prefix / "bin" / name).unlink(missing_ok=True)
        binary = Path(sys.executable).resolve()
        shutil.copy(binary, prefix / "bin" / binary.name)
        (prefix / "bin" / "python").symlink_to(binary.name)
        for library in base.glob("lib/libpython3*.so*"):
            shutil.copy(library, prefix / "lib", follow_symlinks=False)
        which = f"python3.{sys.version_info.minor}"
        standard = next(base / lib / which for lib in ("lib", "lib64") if (base / lib / which / "os.py").exists())
        skipped = shutil.ignore_patterns("site-packages", "test", "__pycache__", "dist-packages")
        shutil.copytree(standard, prefix / "lib" / which, dirs_exist_ok=True, ignore=skipped, symlinks=False)


def own_environment(command: str, place: Path, environ: dict[str, str]) -> Made:
    made = plain(MODULE, {".gitignore": ".venv\n"}, command=command)(place, environ)
    environment(made.folder / ".venv")
    return made


def active(conda: bool, place: Path, environ: dict[str, str]) -> Made:
    made = plain(MODULE)(place, environ)
    environment(place / "env", conda)
    names = {"CONDA_PREFIX": str(place / "env"), "CONDA_DEFAULT_ENV": "mine"} if conda else {}
    names = names or {"VIRTUAL_ENV": str(place / "env")}
    return Made(made.folder, {**environ, **names})


PROJECT = """\
[project]
name = "mine"
version = "1.0"
requires-python = ">=3.11"
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
"""
MINE = "from mine import VALUE\nassert VALUE == 4\n"


def runner(kind: str, place: Path, environ: dict[str, str]) -> Made:
    """A project that uv or poetry manages, its environment made by that program, without its own package in it."""
    project = PROJECT.partition("[build")[0] + ("[tool.poetry]\npackage-mode = false\n" if kind == "poetry" else "")
    files = {"pyproject.toml": project, ".gitignore": ".venv\n*.lock\n"}
    made = plain(MODULE, files, command=f"{kind} run {'python ' if kind == 'poetry' else ''}train.py")(place, environ)
    sync = ["uv", "sync", "--offline", "--python", sys.executable] if kind == "uv" else ["poetry", "install", "-q"]
    subprocess.run(sync, cwd=made.folder, env=environ, check=True, stdout=subprocess.DEVNULL)
    found = [*made.folder.glob(".venv"), *place.glob("home/.cache/pypoetry/virtualenvs/*")]
    [packages] = next(prefix for prefix in found if prefix.is_dir()).glob("lib/python3*/site-packages")
    write(packages, {"only_there.py": "VALUE = 4\n"})
    return made


def in_place(elsewhere: bool, place: Path, environ: dict[str, str]) -> Made:
    """A package installed with `pip install -e`: the lab's own, or one in another folder."""
    package = {"pyproject.toml": PROJECT, "src/mine/__init__.py": "VALUE = 4\n"}
    made = plain(MINE, {".gitignore": ".venv\n*.egg-info\n", **({} if elsewhere else package)})(place, environ)
    project = place / "other" if elsewhere else made.folder
    write(project, package)
    venv.create(made.folder / ".venv", symlinks=True, with_pip=False)
    [packages] = made.folder.glob(".venv/lib/python3*/site-packages")
    url = f'{{"url": "file://{project}", "dir_info": {{"editable": true}}}}'
    about = {"METADATA": "Name: mine\nVersion: 1.0\n", "direct_url.json": url}
    write(packages / "mine-1.0.dist-info", about)
    write(packages, {"__editable__.mine.pth": f"{project / 'src'}\n"})
    return made


def library_path(place: Path, environ: dict[str, str]) -> Made:
    """A shared library in a folder that only LD_LIBRARY_PATH names."""
    source = Path(next(Path("/usr/lib").rglob("libz.so.1")))
    (place / "modules").mkdir()
    shutil.copy(source, place / "modules" / "libmine.so.1")
    made = plain("import ctypes\nctypes.CDLL('libmine.so.1')\n")(place, environ)
    return Made(made.folder, {**environ, "LD_LIBRARY_PATH": str(place / "modules")})


# -- data ------------------------------------------------------------------------------------------


def link_out(named: bool, place: Path, environ: dict[str, str]) -> Made:
    write(place / "set", {"x": "4"})
    tables = f'[data]\nopen = ["{place / "set"}"]' if named else ""
    made = plain("assert open('data/x').read() == '4'\n", tables=tables)(place, environ)
    (made.folder / "data").symlink_to(place / "set")
    git(made.folder, "add", "-A")
    git(made.folder, "commit", "-q", "-m", "a link")
    return made


def lfs(installed: bool, place: Path, environ: dict[str, str]) -> Made:
    made = plain("assert len(open('big.bin').read()) == 5\n")(place, environ)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5\n".format("0" * 64)
    write(made.folder, {"big.bin": "12345" if installed else pointer})
    if installed:
        subprocess.run(["git", "lfs", "install", "--skip-repo"], env=environ, check=True, capture_output=True)
        for args in (["lfs", "track", "*.bin"], ["add", "-A"], ["commit", "-q", "-m", "big"]):
            who = {"GIT_AUTHOR_NAME": "me", "GIT_AUTHOR_EMAIL": "me@here"}
            who |= {name.replace("AUTHOR", "COMMITTER"): value for name, value in who.items()}
            subprocess.run(["git", *args], cwd=made.folder, env={**environ, **who}, check=True, capture_output=True)
    else:
        git(made.folder, "add", "-A")
        git(made.folder, "commit", "-q", "-m", "a pointer")
    return made


HUB = "import os, pathlib\nhub = pathlib.Path.home() / '.cache/huggingface/hub/datasets--x'\n"
LOCKS = (
    HUB + "import fcntl\nlock = hub.with_name(hub.name + '.lock').open('w')\nfcntl.flock(lock, fcntl.LOCK_EX)\n"
    "(pathlib.Path.home() / '.cache/torch/kernels').mkdir(parents=True)\nassert (hub / 'x').read_text() == '4'\n"
)
OPEN_HUB = '[data]\nopen = ["~/.cache/huggingface/hub/datasets--x"]'
WORKERS = (
    "from multiprocessing import shared_memory, get_context\n"
    "block = shared_memory.SharedMemory(create=True, size=2**24)\nblock.buf[0] = 4\n"
    "with get_context('fork').Pool(2) as pool:\n    assert sum(pool.map(abs, [-2, -2])) == block.buf[0]\n"
    "block.close()\nblock.unlink()\n"
)
SERVER = """\
import socket, threading, http.server, urllib.request
server = http.server.ThreadingHTTPServer(("localhost", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
assert urllib.request.urlopen(f"http://localhost:{server.server_port}/train.py").status == 200
"""
RENDEZVOUS = """\
import socket
name = socket.gethostbyname(socket.gethostname())
with socket.create_server((name, 0)) as listening, socket.create_connection((name, listening.getsockname()[1])):
    pass
"""
SIX = "import socket\nsocket.create_server(('::1', 0), family=socket.AF_INET6).close()\n"
LATIN = "# -*- coding: latin-1 -*-\nNAME = 'Grün'\nA = 4.0\nassert len(NAME) == 4\n" + PRINTS
PREPARE = "import os\nos.makedirs('data', exist_ok=True)\nopen('data/x', 'w').write('4')\n"
READS = "assert open('data/x').read() == '4'\n"
JUDGED = '[evaluator]\ncommand = "python evaluate.py"'


def private(place: Path, environ: dict[str, str]) -> Made:
    """All files of the lab can be read by its owner alone."""
    made = plain(files={"evaluate.py": "print('METRIC loss=9')\n"}, tables=JUDGED)(place, environ)
    for path in [made.folder, *made.folder.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    return made


UMLAUT = {"program.md": "Grün ist die Hoffnung.\n"}

LABS: tuple[Lab, ...] = (
    Lab(
        "metric",
        "progress bar that erases itself, then the number",
        prints("METRIC loss=1\r 100 %\rMETRIC loss={loss}\n"),
    ),
    Lab("metric", "colour, a logger's prefix, CRLF", prints("\x1b[32mINFO:root:METRIC loss = {loss}\x1b[0m\r\n")),
    Lab("metric", "thousands and a unit", prints("METRIC loss=9,000.0 ms\n")),
    Lab("metric", "the last value is nan", prints("METRIC loss={loss}\nMETRIC loss=nan\n")),
    Lab("metric", "prints none", plain(b"A = 4.0\nprint(A)\n")),
    Lab("bytes", "Latin-1 source", plain(LATIN.encode("latin-1"))),
    Lab("bytes", "byte-order mark, CRLF line ends", plain(("\ufeffA = 4.0\n" + PRINTS).replace("\n", "\r\n").encode())),
    Lab("names", "server on localhost", plain(SERVER)),
    Lab("names", "rendezvous by the host's own name", plain(RENDEZVOUS)),
    Lab("names", "IPv6 loopback", plain(SIX)),
    Lab("names", "downloads from the network", plain("import urllib.request as r\nr.urlopen('http://example.org')\n")),
    Lab("files", "3,100 files beside the genome", many(3100, False)),
    Lab("files", "10,000 files in folders", many(10_000, True)),
    Lab("files", "subfolder of a large shallow clone", partial(large_repository, "shallow")),
    Lab("files", "subfolder of a large partial clone", partial(large_repository, "partial")),
    Lab("files", "subfolder of a large sparse clone", partial(large_repository, "sparse")),
    Lab("files", "subfolder of a worktree", partial(large_repository, "worktree")),
    Lab("files", "spaces, quotes and umlauts in its path", odd_path),
    Lab("git", "hooks, signing, global ignores, diff settings", settings),
    Lab("git", "a branch called nightlab", branch_in_the_way),
    Lab("git", "submodule that the program does not use", partial(submodule, False)),
    Lab("git", "submodule that the program imports", partial(submodule, True)),
    Lab("git", "git-lfs, set up", partial(lfs, True), needs="git-lfs"),
    Lab("git", "pointer of git-lfs, not fetched", partial(lfs, False)),
    Lab("environment", ".venv in the lab", partial(own_environment, "python train.py")),
    Lab("environment", ".venv/bin/python train.py", partial(own_environment, ".venv/bin/python train.py")),
    Lab("environment", "uv run", partial(runner, "uv"), needs="uv"),
    Lab("environment", "poetry run", partial(runner, "poetry"), needs="poetry"),
    Lab("environment", "active virtual environment", partial(active, False)),
    Lab("environment", "active conda environment", partial(active, True)),
    Lab("environment", "library that LD_LIBRARY_PATH names", library_path),
    Lab("environment", "own package, installed with -e", partial(in_place, False)),
    Lab("environment", "another folder's package, installed with -e", partial(in_place, True)),
    Lab("environment", "lacks a module", plain("import not_installed_here\n")),
    Lab(
        "data", "ignored folder that data.open names", beside({"data/x": "4"}, READS, tables='[data]\nopen = ["data"]')
    ),
    Lab("data", "ignored folder that nothing names", beside({"data/x": "4"}, READS)),
    Lab(
        "data",
        "prepare makes an ignored folder",
        plain(
            READS,
            {"prepare.py": PREPARE, ".gitignore": "data\n"},
            more='prepare = "python prepare.py"',
            tables='[data]\nopen = ["data"]',
        ),
    ),
    Lab("data", "data.open names a folder that is not there", plain(READS, tables='[data]\nopen = ["{place}/none"]')),
    Lab("data", "committed link out of the lab, named", partial(link_out, True)),
    Lab("data", "committed link out of the lab, not named", partial(link_out, False)),
    Lab(
        "data",
        "lock file beside a cached data set, other caches",
        with_home(plain(LOCKS, tables=OPEN_HUB), {".cache/huggingface/hub/datasets--x/x": "4"}),
    ),
    Lab("data", "appends to a committed log", plain("open('logs/a.log', 'a').write('x')\n", {"logs/a.log": ""})),
    Lab("data", "writes into a committed output folder", plain("open('out/new.txt', 'w')\n", {"out/.gitkeep": ""})),
    Lab("data", "makes an output folder", plain("import os\nos.mkdir('out')\nopen('out/new.txt', 'w').write('x')\n")),
    Lab("data", "workers and shared memory", plain(WORKERS)),
    Lab(
        "evaluator",
        "reads what the program left",
        plain(
            "open('model.txt', 'w').write(str(A))\n",
            {
                "evaluate.py": "import os\nwhere = os.environ['NIGHTLAB_ARTEFACTS']\n"
                "print(f\"METRIC loss={(float(open(where + '/model.txt').read()) - 1) ** 2:g}\")\n"
            },
            tables=JUDGED,
        ),
    ),
    Lab(
        "evaluator",
        "asks a server that it starts on localhost",
        plain(files={"evaluate.py": SERVER + "print('METRIC loss=9')\n"}, tables=JUDGED),
    ),
    Lab("machine", "LC_ALL=C", under(plain("# grün\n", UMLAUT), LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")),
    Lab("machine", "a home that is not there", under(plain(), HOME="/nonexistent/home")),
    Lab("machine", "umask 077, with an evaluator", private),
)
