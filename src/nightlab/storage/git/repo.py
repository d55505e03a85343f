"""A lab's git repository, used without touching the user's checkout, index or untracked files.

Candidates are committed with plumbing commands in a private index and kept reachable by private refs. A trial gets an
exported copy of a commit without ``.git``: candidate code that rewrites the ``.git`` file of a worktree could make git
run any command.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from subprocess import DEVNULL, PIPE
from typing import Any

from nightlab.core.files import read_plain
from nightlab.core.text import one_line
from nightlab.core.types import NightlabError
from nightlab.storage import checkouts
from nightlab.storage.git import limits
from nightlab.storage.git.limits import OutOfScope, PatchConflict
from nightlab.storage.git.scope import in_genome, stays_inside

FULL_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
REMEMBERED = 64  # answers about commits: an experiment asks the same of its parent and itself many times
# What an automatic command must not do: run hooks or monitors, start a background gc, prompt.
HARDENED = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0")
AUTHOR = {
    "GIT_AUTHOR_NAME": "nightlab",
    "GIT_AUTHOR_EMAIL": "nightlab@localhost",
    "GIT_COMMITTER_NAME": "nightlab",
    "GIT_COMMITTER_EMAIL": "nightlab@localhost",
}


class Repo:
    """The repository that contains a lab; ``prefix`` is the lab's folder in it ("" at the top).

    Raises NightlabError when git is not installed, ``lab`` is not in a repository, or nothing is committed yet.
    """

    def __init__(self, lab: Path) -> None:
        self.lab = lab.resolve()
        self._remembered = lru_cache(REMEMBERED)(self._bytes)
        if not self.lab.is_dir():
            raise NightlabError(f"{lab} is not a folder", "give the lab's folder: -C FOLDER")
        if shutil.which("git") is None:
            raise NightlabError("git is not installed", "install git 2.30 or newer, e.g. apt install git")
        found = self._run("rev-parse", "--show-toplevel", "--absolute-git-dir", check=False)
        if found.returncode:
            message = found.stderr.decode(errors="replace").strip()
            if "dubious ownership" in message:
                raise NightlabError(
                    f"git refuses {self.lab}: it belongs to another user",
                    f"git config --global --add safe.directory {self.lab}",
                )
            raise NightlabError(
                f"{self.lab} is not in a git repository",
                "git init && git add -A && git commit -m 'the lab', or make a fresh lab: nightlab new NAME",
            )
        top, git_dir = found.stdout.decode().splitlines()
        self.top, self.git_dir = Path(top), Path(git_dir)
        inside = self.lab.relative_to(self.top.resolve())
        self.prefix = "" if inside == Path() else inside.as_posix()
        if self._run("rev-parse", "--verify", "-q", "HEAD", check=False).returncode:
            raise NightlabError(f"the repository {self.top} has no commit yet", "git add -A && git commit -m 'the lab'")

    # -- reading ---------------------------------------------------------------------------------

    def resolve(self, revision: str = "HEAD") -> str | None:
        """The full commit id of ``revision``, or None when there is no such commit."""
        out = self._run("rev-parse", "--verify", "-q", f"{revision}^{{commit}}", check=False)
        return out.stdout.decode().strip() or None

    def tree(self, commit: str) -> str:
        """The id of the lab's tree at ``commit``: equal for equal content."""
        what = f"{commit}:{self.prefix}" if self.prefix else f"{commit}^{{tree}}"
        return self._of(commit, "rev-parse", what).decode().strip()

    def files(self, commit: str) -> list[str]:
        """The paths of the lab's files at ``commit``, relative to the lab."""
        where = ["--", f"{self.prefix}/"] if self.prefix else []
        out = self._of(commit, "ls-tree", "-r", "-z", "--name-only", "--full-tree", commit, *where)
        return [self._inside(name) for name in out.decode("utf-8", errors="replace").split("\0") if name]

    def read(self, commit: str, path: str) -> str | None:
        """The text of a lab file at ``commit``, or None when there is none."""
        try:
            content = self._of(commit, "cat-file", "blob", f"{commit}:{self._outside(path)}")
        except NightlabError:
            return None
        return content.decode("utf-8", errors="replace")

    def contents(self, commit: str, paths: Sequence[str]) -> dict[str, bytes]:
        """The content of existing lab files at ``commit``, by path, read by one git process."""
        request = "".join(f"{commit}:{self._outside(path)}\n" for path in paths).encode()
        raw, at, found = self._run("cat-file", "--batch", stdin=request).stdout, 0, {}
        for path in paths:
            start = raw.index(b"\n", at) + 1
            at = start + int(raw[at:start].split()[-1])
            found[path] = raw[start:at]
            at += 1
        return found

    def text(self, commit: str, globs: Sequence[str]) -> str:
        """All lines of the lab's text files at ``commit`` that match ``globs``, without file names."""
        out = self._run("grep", "-hI", "--no-color", "-e", "", commit, "--", *globs, check=False)
        return out.stdout.decode("utf-8", errors="replace")

    def dirty(self) -> list[str]:
        """Tracked lab files whose working copy differs from HEAD, relative to the lab."""
        out = self._text("diff", "HEAD", "--name-only", "-z", "--no-ext-diff", "--", ".")
        return [self._inside(name) for name in out.split("\0") if name]

    def untracked(self, path: str) -> bool:
        """Whether the lab file exists in the working copy but not in HEAD."""
        return (self.lab / path).exists() and self.read("HEAD", path) is None

    def history(self, branch: str) -> dict[str, float]:
        """All commits of a branch, newest first, each with its time (seconds since the epoch)."""
        lines = self._text("log", "--format=%H %ct", branch, "--").splitlines()
        return {commit: float(at) for commit, at in (line.split() for line in lines)}

    def diff(self, old: str, new: str, *, colour: bool = False) -> str:
        """The unified diff between two commits of the lab, with paths relative to the lab."""
        paint = "--color=always" if colour else "--color=never"
        shape = ("--no-ext-diff", "--no-textconv", "--full-index", "--relative", paint)
        try:
            out = self._run("diff", *shape, old, new, "--", ".", timeout=limits.PATIENCE).stdout
        except subprocess.TimeoutExpired:
            raise _failed(self.lab, "diff", f"it needs more than {limits.PATIENCE:g} s") from None
        return out.decode("utf-8", errors="replace")

    def changed(self, old: str, new: str) -> list[str]:
        """The lab files that differ between two commits."""
        out = self._text("diff-tree", "-r", "-z", "--name-only", "--no-renames", "--relative", old, new)
        return [name for name in out.split("\0") if name]

    # -- creating candidates ---------------------------------------------------------------------

    def commit_files(self, parent: str, files: Mapping[str, str], message: str) -> str:
        """Commit ``files`` (text by lab path) on ``parent``; returns the commit id. Raises OutOfScope."""
        for path in files:
            if not stays_inside(path):
                raise OutOfScope(f"{path!r} is not a file of the lab")
        limits.require_few(len(files), sum(map(len, files.values())))
        contents = {path: limits.encoded(text, path) for path, text in files.items()}
        with self._index(parent) as index:
            for path, content in contents.items():
                blob = self._run("hash-object", "-w", "--stdin", stdin=content).stdout.decode().strip()
                entry = f"{self._mode(parent, path)},{blob},{self._outside(path)}"
                self._run("update-index", "--add", "--cacheinfo", entry, env=index)
            return self._commit(parent, index, message)

    def commit_patch(self, parent: str, patch: str, message: str) -> str:
        """Commit ``patch``, applied three-way, on ``parent``; returns the commit id.

        Raises PatchConflict when it doesn't apply, OutOfScope when it is too large, or no text.
        """
        content = limits.patch_bytes(patch)
        with self._index(parent) as index:
            where = [f"--directory={self.prefix}"] if self.prefix else []
            args = ("apply", "--cached", "--3way", "--whitespace=nowarn", *where, "-")
            try:
                done = self._run(*args, stdin=content, env=index, check=False, timeout=limits.PATIENCE)
            except subprocess.TimeoutExpired:
                raise PatchConflict(f"git needs more than {limits.PATIENCE:g} s to apply the patch") from None
            if done.returncode:
                lines = [e for e in done.stderr.decode(errors="replace").splitlines() if "error" in e]
                raise PatchConflict(f"the patch does not apply: {lines[0] if lines else 'conflict'}")
            return self._commit(parent, index, message)

    def working_patch(self, paths: list[str], bases: Sequence[str] = ()) -> tuple[str, str]:
        """The nearest of HEAD and ``bases`` to the lab files in the working copy, and the patch from it to them.

        The user may have checked out a champion's files and edited them. The patch is empty without a difference.
        Raises NightlabError for a file that is no plain text file inside the lab.
        """
        mine = {path: self._working_text(path) for path in paths}
        patches = {
            base: self.diff(base, self.commit_files(base, mine, "the working copy"))
            for base in (self._text("rev-parse", "HEAD"), *bases)
        }
        return min(patches.items(), key=lambda found: _changed_lines(found[1]))

    def _working_text(self, path: str) -> str:
        try:
            return read_plain(self.lab / path, limits.MAX_GENOME_BYTES, self.lab).decode()
        except UnicodeDecodeError as error:
            raise OutOfScope(f"{path} is not text in UTF-8: byte {error.start:,}") from None

    def check_scope(self, parent: str, candidate: str, genome: tuple[str, ...]) -> list[str]:
        """The lab files that a candidate changes, after a check that all are plain files of the genome.

        Raises OutOfScope naming the first one that isn't, or when the changed files exceed a limit.
        """
        raw = self._bytes("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", parent, candidate)
        fields = os.fsdecode(raw).split("\0")
        changed, blobs = [], list[str]()
        for meta, name in zip(fields[0::2], fields[1::2], strict=False):
            mode, path = meta.split()[1], self._inside(name)
            if not path.isprintable():
                raise OutOfScope(f"{path!a} is not a name for a file: it holds characters that can't be shown")
            outside = bool(self.prefix) and path == name
            if outside or not in_genome(path, genome):
                raise OutOfScope(f"{path} is not part of the genome ({', '.join(genome)})")
            if mode not in ("100644", "100755", "000000"):
                raise OutOfScope(f"{path} is a link or a submodule, not a plain file")
            changed.append(path)
            blobs += [meta.split()[3]] if mode != "000000" else []
        about = self._run("cat-file", "--batch-check=%(objectsize)", stdin="".join(f"{b}\n" for b in blobs).encode())
        limits.require_few(len(changed), sum(map(int, about.stdout.split())))
        return changed

    # -- refs ------------------------------------------------------------------------------------

    def keep_reachable(self, tag: str, name: str, commit: str) -> None:
        """Point ``refs/nightlab/<tag>/<name>`` at a commit, so that git's gc keeps it."""
        self._run("update-ref", f"refs/nightlab/{tag}/{name}", commit)

    def branch_head(self, branch: str) -> str | None:
        return self.resolve(f"refs/heads/{branch}")

    def move_branch(self, branch: str, commit: str) -> bool:
        """Point ``branch`` at ``commit``. Returns False and moves nothing if the branch is checked out somewhere."""
        if f"branch refs/heads/{branch}\n" in self._text("worktree", "list", "--porcelain") + "\n":
            return False
        self._run("update-ref", f"refs/heads/{branch}", commit)
        return True

    def valid_branch(self, branch: str) -> bool:
        return not self._run("check-ref-format", "--branch", branch, check=False).returncode

    # -- copies ----------------------------------------------------------------------------------

    def export(self, commit: str, folder: Path, *, onto: str | None = None) -> Path:
        """Write the commit's files into ``folder``, without ``.git``; returns the lab's folder in it.

        ``onto``: the folder already contains an export of that commit, so only the lab's differing files are written.
        """
        folder.mkdir(parents=True, exist_ok=onto is not None)
        changed = [] if onto is None or onto == commit else self.changed(onto, commit)
        for path in changed:
            (folder / self.prefix / path).unlink(missing_ok=True)
        left = [self._outside(path) for path in changed if self.read(commit, path) is not None]
        if onto is None or left:
            what = ["--all"] if onto is None else ["--", *left]
            with self._index(commit) as index:
                self._run("checkout-index", "--force", f"--prefix={folder.resolve()}/", *what, env=index)
        return folder / self.prefix

    def ids(self, commit: str, copy: Path) -> dict[str, str]:
        """The id of each file in a fresh ``export`` of a commit, by path, checked against the commit.

        A file that git converts on export (line endings, large files) gets the id of the converted content.
        Raises NightlabError when the copy does not match the commit.
        """
        found = self._blobs(commit)
        for path, wanted in found.items():
            if checkouts.file_id(copy / path, wanted.split()[-1]) != wanted:
                found[path] = checkouts.blob_id(self._converted(commit, path), wanted)
        if fault := checkouts.find_change(copy, found, whole=True):
            raise NightlabError(f"the copy of {commit[:7]} in {copy} differs from it: {fault}", "check the disk")
        return found

    # -- internal --------------------------------------------------------------------------------

    def _outside(self, path: str) -> str:
        return str(PurePosixPath(self.prefix) / path) if self.prefix else path

    def _inside(self, path: str) -> str:
        return path.removeprefix(f"{self.prefix}/") if self.prefix else path

    def _mode(self, commit: str, path: str) -> str:
        found = self._text("ls-tree", "--full-tree", commit, "--", self._outside(path))
        return found.split()[0] if found else "100644"

    def _blobs(self, commit: str) -> dict[str, str]:
        """The id of each lab file at ``commit``, by path; prefixed with ``link`` for symbolic links."""
        where = ["--", f"{self.prefix}/"] if self.prefix else []
        out = self._of(commit, "ls-tree", "-r", "-z", "--full-tree", commit, *where)
        found = {}
        for entry in os.fsdecode(out).split("\0")[:-1]:
            about, path = entry.split("\t", 1)
            mode, kind, name = about.split()
            if kind == "blob":
                found[self._inside(path)] = f"link {name}" if mode == "120000" else name
        return found

    def _converted(self, commit: str, path: str) -> bytes:
        """A file's content as git writes it into an export."""
        with self._index(commit) as index:
            return self._run("cat-file", "--filters", f"{commit}:{self._outside(path)}", env=index).stdout

    @contextmanager
    def _index(self, commit: str) -> Iterator[dict[str, str]]:
        """The environment of a private index with the tree of ``commit``."""
        with tempfile.TemporaryDirectory(prefix="nightlab-") as folder:
            env = {"GIT_INDEX_FILE": str(Path(folder) / "index"), "GIT_WORK_TREE": str(self.top)}
            self._run("read-tree", commit, env=env)
            yield env

    def _commit(self, parent: str, index: dict[str, str], message: str) -> str:
        tree = self._run("write-tree", env=index).stdout.decode().strip()
        made = self._run("commit-tree", tree, "-p", parent, stdin=one_line(message).encode(), env=AUTHOR)
        return made.stdout.decode().strip()

    def _of(self, commit: str, *args: str) -> bytes:
        """What a command says of a commit. One named by its full id never changes, so git is asked once."""
        return self._remembered(*args) if FULL_ID.fullmatch(commit) else self._bytes(*args)

    def _bytes(self, *args: str) -> bytes:
        return self._run(*args).stdout

    def _text(self, *args: str) -> str:
        return self._bytes(*args).decode("utf-8", errors="replace").strip("\n")

    def _run(
        self,
        *args: str,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        # Commands with a private index take paths from the top of the repository. In a separate group, git does not
        # get the terminal's Ctrl-C, which is for the orchestrator to answer.
        where = self.top if env and "GIT_INDEX_FILE" in env else self.lab
        return run_git(where, *args, stdin=stdin, env=env, check=check, timeout=timeout, process_group=0)


def run_git(
    where: Path,
    *args: str,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    check: bool = True,
    **more: Any,
) -> subprocess.CompletedProcess[bytes]:
    """Run one hardened git command in a folder. With ``check``, raises NightlabError when it fails."""
    done = subprocess.run(
        ["git", *HARDENED, *args], cwd=where, input=stdin, capture_output=True, env=_env(env or {}), check=False, **more
    )
    if check and done.returncode:
        message = done.stderr.decode(errors="replace").strip().splitlines()
        raise _failed(where, args[0], message[-1] if message else f"exit status {done.returncode}")
    return done


@contextmanager
def reading_git(where: Path, *args: str, stdin: bytes) -> Iterator[Callable[[int], bytes]]:
    """Stream the output of a git command that is too large for memory.

    Yields a function of a size: it returns that many bytes (0: the next line), and raises NightlabError at the end.
    """
    with tempfile.TemporaryFile() as request:  # a pipe could block: git may wait until its output is read
        request.write(stdin)
        request.seek(0)
        process = subprocess.Popen(
            ["git", *HARDENED, *args], cwd=where, env=_env({}), stdin=request, stdout=PIPE, stderr=DEVNULL
        )
    assert process.stdout is not None
    out = process.stdout

    def following(size: int) -> bytes:
        found = out.read(size) if size else out.readline()
        if len(found) < max(size, 1):
            raise _failed(where, args[0], "the output ended early")
        return found

    try:
        yield following
    finally:
        process.kill()
        process.wait()
        out.close()


def _env(more: Mapping[str, str]) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return own | {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", **more}


def _failed(where: Path, command: str, why: str) -> NightlabError:
    hint = "free disk space, or repair the repository (git fsck)"
    return NightlabError(f"git {command} failed in {where}: {why}", hint)


def _changed_lines(patch: str) -> int:
    return sum(line.startswith(("+", "-")) for line in patch.splitlines())


def make_repo(folder: Path, message: str) -> None:
    """Make ``folder`` a repository with one commit of all files, by the user's git identity if configured."""
    for args in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", message]):
        env = dict(os.environ)
        if (
            args[0] == "commit"
            and subprocess.run(["git", "var", "GIT_COMMITTER_IDENT"], capture_output=True).returncode
        ):
            env |= AUTHOR
        done = subprocess.run(["git", *args], cwd=folder, capture_output=True, env=env, check=False)
        if done.returncode:
            said = done.stderr.decode("utf-8", errors="replace").strip()
            raise NightlabError(f"git {args[0]} failed in {folder}: {said}", "fix git, then try again")
