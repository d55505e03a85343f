"""A lab's git repository, used without touching the user's checkout, index or untracked files.

Candidates are committed with plumbing commands in a private index and kept reachable by private refs. A trial gets an
exported copy of a commit without ``.git``: candidate code that rewrites the ``.git`` file of a worktree could make git
run any command.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath

from nightlab.core.files import read_plain
from nightlab.core.source_bytes import changed_lines, decode_patch, decode_source
from nightlab.core.text import one_line
from nightlab.core.types import NightlabError
from nightlab.storage.git import limits, stream
from nightlab.storage.git.command import AUTHOR, failed, run_git
from nightlab.storage.git.limits import OutOfScope, PatchConflict
from nightlab.storage.git.listings import GONE, PLAIN, SUBMODULE, Entry, Listings
from nightlab.storage.git.scope import in_genome, is_short, stays_inside

FULL_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
DIFF = ("--no-ext-diff", "--no-textconv", "--no-renames", "--full-index", "--relative")
PENDING = "refs/nightlab-pending"  # a new commit's ref, until it has one in refs/nightlab
ABANDONED = 24 * 3600  # seconds
REMEMBERED = 64  # answers about commits: an experiment asks the same of its parent and itself many times


class Repo:
    """The repository that contains a lab; ``prefix`` is the lab's folder in it ("" at the top).

    Raises NightlabError when git is not installed, ``lab`` is not in a repository, or nothing is committed yet.
    """

    def __init__(self, lab: Path) -> None:
        self.lab = lab.resolve()
        self._pending: dict[str, str] = {}  # the refs of new commits
        self._heard: tuple[Callable[[], object], int] = (int, 0)  # a tick, and the thread it is for
        self._remembered = lru_cache(REMEMBERED)(self._bytes)
        self._listings = Listings(self._list)
        if not self.lab.is_dir():
            raise NightlabError(f"{lab} is not a folder", "give the lab's folder: -C FOLDER")
        if shutil.which("git") is None:
            raise NightlabError("git is not installed", "install git 2.30 or newer, e.g. apt install git")
        found = self.run("rev-parse", "--show-toplevel", "--absolute-git-dir", "HEAD", check=False)
        top, git_dir = (*os.fsdecode(found.stdout).splitlines(), "", "")[:2]
        if not git_dir:
            message = found.stderr.decode(errors="replace").strip()
            if "dubious ownership" in message:
                refused = re.search(r"repository at '(.+)'", message)
                owned = refused[1] if refused else str(self.lab)
                raise NightlabError(
                    f"git refuses {owned}: it belongs to another user",
                    f"if you trust it: git config --global --add safe.directory {shlex.quote(owned)}",
                )
            raise NightlabError(
                f"{self.lab} is not in a git repository",
                "git init && git add -A && git commit -m 'the lab', or make a fresh lab: nightlab new NAME",
            )
        self.top, self.git_dir = Path(top), Path(git_dir)
        inside = self.lab.relative_to(self.top.resolve())
        self.prefix = "" if inside == Path() else inside.as_posix()
        if found.returncode:
            raise NightlabError(f"the repository {self.top} has no commit yet", "git add -A && git commit -m 'the lab'")

    @contextmanager
    def hearing(self, tick: Callable[[], object]) -> Iterator[None]:
        """While the block runs, ``tick`` is called in this thread while git applies or compares; what it raises ends
        that."""
        before, self._heard = self._heard, (tick, threading.get_ident())
        try:
            yield
        finally:
            self._heard = before

    # -- reading ---------------------------------------------------------------------------------

    def resolve(self, revision: str = "HEAD") -> str | None:
        """The full commit id of ``revision``, or None when there is no such commit."""
        out = self.run("rev-parse", "--verify", "-q", f"{revision}^{{commit}}", check=False)
        return out.stdout.decode().strip() or None

    def tree(self, commit: str) -> str:
        """The id of the lab's tree at ``commit``: equal for equal content."""
        if known := self._listings.trees.get(commit):
            return known
        what = f"{commit}:{self.prefix}" if self.prefix else f"{commit}^{{tree}}"
        return self._of(commit, "rev-parse", what).decode().strip()

    def entries(self, commit: str) -> dict[str, Entry]:
        """The lab's files and submodules at ``commit``."""
        return self._listings.of(commit) if FULL_ID.fullmatch(commit) else self._list(commit)

    def _list(self, commit: str) -> dict[str, Entry]:
        where = ["--", f"{self.prefix}/"] if self.prefix else []
        out = self._of(commit, "ls-tree", "-r", "-z", "--full-tree", commit, *where)
        found = {}
        for line in os.fsdecode(out).split("\0")[:-1]:
            about, path = line.split("\t", 1)
            mode, _, name = about.split()
            found[self._inside(path)] = Entry(mode, name)
        return found

    def fetch_missing(self, commit: str) -> None:
        """In a partial clone, fetch what is missing of the lab's files at once: reading asks for each by itself."""
        if self.run("config", "--get-regexp", r"^(remote\..*\.promisor|extensions\.partialclone)$", check=False).stdout:
            empty = self._text("hash-object", "-t", "tree", "--stdin").strip()
            self.run("diff-tree", "-r", "--numstat", "--no-renames", empty, commit, "--", ".", check=False)

    def files(self, commit: str) -> list[str]:
        """The paths of the lab's files at ``commit``, relative to the lab."""
        return list(self.entries(commit))

    def submodules(self, commit: str) -> list[str]:
        """The paths of the lab's submodules at ``commit``, whose files no commit of the lab holds."""
        return [path for path, entry in self.entries(commit).items() if entry.mode == SUBMODULE]

    def read(self, commit: str, path: str) -> str | None:
        """The text of a lab file at ``commit``, or None when there is none; ``encode_source`` gives its bytes."""
        if (content := self._listings.content(commit, path)) is None:
            try:
                content = self._of(commit, "cat-file", "blob", f"{commit}:{self.outside(path)}")
            except NightlabError:
                return None
            self._listings.note_content(commit, path, content)
        return decode_source(content)

    def contents(self, commit: str, paths: Sequence[str]) -> dict[str, bytes]:
        """The content of existing lab files at ``commit``, by path, read by one git process."""
        request = os.fsencode("".join(f"{commit}:{self.outside(path)}\n" for path in paths))
        raw, at, found = self.run("cat-file", "--batch", stdin=request).stdout, 0, {}
        for path in paths:
            start = raw.index(b"\n", at) + 1
            at = start + int(raw[at:start].split()[-1])
            found[path] = raw[start:at]
            at += 1
        return found

    def text(self, commit: str, globs: Sequence[str]) -> str:
        """All lines of the lab's text files at ``commit`` that match ``globs``, without file names."""
        out = self.run("grep", "-hI", "--no-color", "-e", "", commit, "--", *globs, check=False)
        return out.stdout.decode("utf-8", errors="replace")

    def dirty(self) -> list[str]:
        """Tracked lab files whose working copy differs from HEAD, relative to the lab."""
        shape = ("--no-ext-diff", "--no-relative", "--no-renames", "-O/dev/null")
        return [self._inside(name) for name in self._names("diff", "HEAD", "--name-only", "-z", *shape, "--", ".")]

    def untracked(self, path: str) -> bool:
        """Whether the lab file exists in the working copy but not in HEAD."""
        return (self.lab / path).exists() and self.read("HEAD", path) is None

    def history(self, branch: str) -> dict[str, float]:
        """All commits of a branch, newest first, each with its time (seconds since the epoch)."""
        lines = self._text("rev-list", "--timestamp", branch, "--").splitlines()
        return {commit: float(at) for at, commit in (line.split() for line in lines)}

    def diff(self, old: str, new: str, *, colour: bool = False) -> str:
        """The unified diff between two commits of the lab for people, with paths relative to the lab."""
        paint = "--color=always" if colour else "--color=never"
        return self._shown(paint, old, new).decode("utf-8", errors="replace")

    def patch(self, old: str, new: str) -> str:
        """As ``diff``, exact: ``commit_patch`` makes ``new`` of ``old`` with it, whatever bytes the files hold."""
        return decode_patch(self._shown("--text", old, new))

    def _shown(self, *args: str) -> bytes:
        try:
            shape = ("diff-tree", "-p", *DIFF)
            return self.run(*shape, *args, "--", ".", timeout=limits.PATIENCE, tick=self._tick).stdout
        except subprocess.TimeoutExpired:
            raise failed(self.lab, "diff", f"it needs more than {limits.PATIENCE:g} s") from None

    def changed(self, old: str, new: str) -> list[str]:
        """The lab files that differ between two commits."""
        return list(self.changes(old, new))

    def changes(self, old: str, new: str) -> dict[str, Entry | None]:
        """The lab's files that differ between two commits, as they are in the new one; None for one that is gone."""
        if old == new:
            return {}
        before, after = self.entries(old), self.entries(new)
        return {path: after.get(path) for path in sorted({**before, **after}) if before.get(path) != after.get(path)}

    # -- creating candidates ---------------------------------------------------------------------

    def commit_files(self, parent: str, files: Mapping[str, str], message: str) -> str:
        """Commit ``files`` (text by lab path) on ``parent``; returns the commit id. Raises OutOfScope."""
        for path in files:
            if not stays_inside(path):
                raise OutOfScope(f"{path!r} is not a file of the lab")
        limits.require_few(len(files), sum(map(len, files.values())))
        contents = {path: limits.encoded(text, path) for path, text in files.items()}
        return self._import(parent, contents, message)

    def commit_patch(self, parent: str, patch: str, message: str, reverse: bool = False) -> str:
        """Commit ``patch``, applied three-way, on ``parent``; returns the commit id. ``reverse``: taken back instead.

        Raises PatchConflict when it doesn't apply, OutOfScope when it is too large, or no text.
        """
        content = limits.patch_bytes(patch)
        with self.index(parent) as index:
            where = [f"--directory={self.prefix}"] if self.prefix else []
            args = ("apply", "--cached", "--3way", "--whitespace=nowarn", *where, *["--reverse"] * reverse, "-")
            try:
                done = self.run(*args, stdin=content, env=index, check=False, timeout=limits.PATIENCE, tick=self._tick)
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
        patches = {
            base: self.patch(base, self._commit_working_copy(base, paths))
            for base in (self._text("rev-parse", "HEAD"), *bases)
        }
        return min(patches.items(), key=lambda found: changed_lines(found[1]))

    def _commit_working_copy(self, base: str, paths: list[str]) -> str:
        """The lab files as they are in the working copy, on ``base``; git's filters apply, as for ``git add``."""
        found: dict[str, bytes | str | None] = dict.fromkeys(paths)
        for path in paths:
            if (self.lab / path).exists():
                raw = read_plain(self.lab / path, limits.MAX_GENOME_BYTES, self.lab)
                written = self.run("hash-object", "-w", f"--path={path}", "--stdin", stdin=raw)
                found[path] = written.stdout.decode().strip()
        return self._import(base, found, "the working copy")

    def _import(self, parent: str, files: Mapping[str, bytes | str | None], message: str) -> str:
        """Commit files, as contents, their ids, or None for one that goes, on ``parent``. Raises OutOfScope."""
        there, changes = self.entries(parent), b""
        for path, content in files.items():
            if (mode := there[path].mode if path in there else PLAIN) == SUBMODULE:
                raise OutOfScope(f"{path} is a submodule, not a plain file")
            changes += stream.change(mode, self.outside(path), content)
        told = stream.commit(parent, changes, one_line(message), self.prefix)
        ref = f"{PENDING}/{hashlib.sha1(told, usedforsecurity=False).hexdigest()}"
        command = ("fast-import", "--quiet", "--done", "--force")
        said = self.run(*command, stdin=b"commit %b\n%b" % (ref.encode(), told)).stdout.decode(errors="replace")
        commit, listed = said.split("\n")[:2]
        self._pending[commit] = ref
        self._listings.made(commit, there, files)
        if listed.startswith(stream.TREE):  # else the lab is gone
            self._listings.keep_tree(commit, listed.split()[2])
        return commit

    def check_scope(self, parent: str, candidate: str, genome: tuple[str, ...]) -> list[str]:
        """The lab files that a candidate changes, after a check that all are plain files of the genome.

        Raises OutOfScope naming the first one that isn't, or when the changed files exceed a limit.
        """
        changed, blobs = [], list[str]()
        for mode, blob, name in self._differences(parent, candidate):
            path = self._inside(name)
            if not path.isprintable():
                raise OutOfScope(f"{path!a} is not a name for a file: it holds characters that can't be shown")
            if not is_short(path):
                raise OutOfScope(f"{path[:60]}… is too long a name, or in too many folders")
            outside = bool(self.prefix) and path == name
            if outside or not in_genome(path, genome):
                raise OutOfScope(f"{path} is not part of the genome ({', '.join(genome)})")
            if mode not in (PLAIN, "100755", GONE):
                raise OutOfScope(f"{path} is a link or a submodule, not a plain file")
            changed.append(path)
            blobs += [blob] if mode != GONE else []
        limits.require_few(len(changed), sum(self._sizes(blobs)))
        return changed

    def _sizes(self, blobs: Sequence[str]) -> list[int]:
        """The sizes of contents in bytes, in this order."""
        known = self._listings.sizes
        if all(blob in known for blob in blobs):
            return [known[blob] for blob in blobs]
        asked = "".join(f"{blob}\n" for blob in blobs).encode()
        return [int(size) for size in self.run("cat-file", "--batch-check=%(objectsize)", stdin=asked).stdout.split()]

    # -- refs ------------------------------------------------------------------------------------

    def keep_reachable(self, tag: str, name: str, commit: str) -> None:
        """Point ``refs/nightlab/<tag>/<name>`` at a commit, so that git's gc keeps it."""
        self._release({commit} & self._pending.keys(), f"update refs/nightlab/{tag}/{name} {commit}\n")

    def release_pending(self, *commits: str) -> None:
        """Give up the commits made here that ``keep_reachable`` was not told of, or those of them that are named; until
        then git's gc keeps them too."""
        self._release(set(self._pending).intersection(commits) if commits else set(self._pending))

    def release_abandoned(self) -> None:
        """Give up what sessions that were killed left pending, a day later."""
        shape = "--format=%(creatordate:unix) %(refname)"
        lines = self._text("for-each-ref", shape, f"{PENDING}/").splitlines()
        made = ((float(at), ref) for at, ref in (line.split() for line in lines))
        self._release_refs(ref for at, ref in made if time.time() - at > ABANDONED)

    def _release(self, commits: set[str], besides: str = "") -> None:
        """Delete the pending refs of commits; ``besides``: what else becomes of refs in the same step."""
        self._release_refs((self._pending[commit] for commit in commits), besides)
        for commit in commits:
            del self._pending[commit]

    def _release_refs(self, refs: Iterable[str], besides: str = "") -> None:
        if changes := besides + "".join(f"delete {ref}\n" for ref in refs):
            self.run("update-ref", "--stdin", stdin=changes.encode())

    def branch_in_the_way(self, tag: str) -> str | None:
        """A branch beside which git can't have ``nightlab/<tag>``: ``nightlab``, or one below that name."""
        if self.branch_head("nightlab"):
            return "nightlab"
        below = self._text("for-each-ref", "--format=%(refname:short)", f"refs/heads/nightlab/{tag}/")
        return below.split("\n")[0] or None

    def branch_head(self, branch: str) -> str | None:
        return self.resolve(f"refs/heads/{branch}")

    def move_branch(self, branch: str, commit: str) -> bool:
        """Point ``branch`` at ``commit``. Returns False and moves nothing if the branch is checked out somewhere."""
        if f"branch refs/heads/{branch}\n" in self._text("worktree", "list", "--porcelain") + "\n":
            return False
        self.run("update-ref", f"refs/heads/{branch}", commit)
        return True

    def valid_branch(self, branch: str) -> bool:
        return not self.run("check-ref-format", "--branch", branch, check=False).returncode

    # -- internal --------------------------------------------------------------------------------

    def _tick(self) -> None:
        tick, thread = self._heard
        if thread == threading.get_ident():
            tick()

    def outside(self, path: str) -> str:
        return str(PurePosixPath(self.prefix) / path) if self.prefix else path

    def _inside(self, path: str) -> str:
        return path.removeprefix(f"{self.prefix}/") if self.prefix else path

    def _differences(self, old: str, new: str) -> Iterator[tuple[str, str, str]]:
        """Mode, id and path of each file that differs, as it is in ``new``; GONE is the mode of one that is not.

        Of the whole repository, with paths from its top.
        """
        if not self.prefix:
            for path, entry in self.changes(old, new).items():
                yield entry.mode if entry else GONE, entry.name if entry else "", path
            return
        out = self._of(new, "diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", old, new)
        fields = os.fsdecode(out).split("\0")
        for about, name in zip(fields[0::2], fields[1::2], strict=False):
            _, mode, _, found, _ = about.split()
            yield mode, found, name

    @contextmanager
    def index(self, commit: str = "") -> Iterator[dict[str, str]]:
        """The environment of a private index with the tree of ``commit``; empty without one."""
        with tempfile.TemporaryDirectory(prefix="nightlab-") as folder:
            env = {"GIT_INDEX_FILE": str(Path(folder) / "index"), "GIT_WORK_TREE": str(self.top)}
            if commit:
                self.run("read-tree", "--no-sparse-checkout", commit, env=env)
            yield env

    def above(self, commit: str) -> bytes:
        """The attributes of the folders above the lab, as ``ls-tree`` lists them."""
        above = [str(folder / ".gitattributes") for folder in PurePosixPath(self.prefix).parents]
        return self._of(commit, "ls-tree", "-z", "--full-tree", commit, "--", *above) if self.prefix else b""

    def _commit(self, parent: str, index: dict[str, str], message: str) -> str:
        tree = self.run("write-tree", "--missing-ok", env=index).stdout.decode().strip()
        made = self.run("commit-tree", tree, "-p", parent, stdin=one_line(message).encode(), env=AUTHOR)
        commit = made.stdout.decode().strip()
        self._pending[commit] = f"{PENDING}/{commit}"
        self.run("update-ref", self._pending[commit], commit)
        return commit

    def _of(self, commit: str, *args: str) -> bytes:
        """What a command says of a commit. One named by its full id never changes, so git is asked once."""
        return self._remembered(*args) if FULL_ID.fullmatch(commit) else self._bytes(*args)

    def _names(self, *args: str) -> list[str]:
        """What a command with ``-z`` lists."""
        return [name for name in os.fsdecode(self._bytes(*args)).split("\0") if name]

    def _bytes(self, *args: str) -> bytes:
        return self.run(*args).stdout

    def _text(self, *args: str) -> str:
        return self._bytes(*args).decode("utf-8", errors="replace").strip("\n")

    def run(
        self,
        *args: str,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float | None = None,
        tick: Callable[[], object] = lambda: None,
        umask: int = -1,
    ) -> subprocess.CompletedProcess[bytes]:
        # Commands with a private index take paths from the top of the repository. In a separate group, git does not
        # get the terminal's Ctrl-C, which is for the orchestrator to answer.
        where = self.top if env and "GIT_INDEX_FILE" in env else self.lab
        own = {"umask": umask, "process_group": 0}
        return run_git(where, *args, stdin=stdin, env=env, check=check, timeout=timeout, tick=tick, **own)
