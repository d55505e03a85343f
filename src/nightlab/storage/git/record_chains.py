"""Chains of commits, one per author, that are exchanged between bare repositories and never checked out.

A commit's id follows from its files, its message and its predecessor, so a chain has the same ids in every repository,
and a reader can verify that it contains nothing else.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path
from typing import NamedTuple

from nightlab.core.text import one_line
from nightlab.core.types import NightlabError
from nightlab.storage.git.command import reading_git, run_git

PLACE, INCOMING, SEEN = "refs/nightlab", "refs/incoming", "refs/seen"
NONE = "0" * 40  # expected old value of a ref that must not exist
AUTHOR = re.compile(r"[0-9a-f]{64}")
PATIENCE = 120.0  # seconds until a remote counts as unreachable
STALE = 2 * PATIENCE  # seconds after which a lock is certainly abandoned
LARGEST_PACK = 256 * 2**20  # bytes that one fetch may write
MOST = 10_000  # authors per remote
ATTEMPTS = 100  # fetches of ever smaller groups, to single out the authors that git rejects
BATCH = 10_000  # commits per git process
LOOSE = 500  # refs in separate files, from which on they are packed into one file
SMALL = 1024  # largest commit or tree object of a valid chain, in bytes
WHO = "nightlab <nightlab@localhost> 946684800 +0000"  # fixed identity and time; the record itself has the real ones
REACH = {"GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh"}  # a remote may come from an untrusted lab.toml
CALM = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance")
CHECKED = ("-c", "transfer.fsckObjects=true", "-c", "protocol.version=2")


class Unreachable(NightlabError):
    """A remote that does not answer, or refuses access."""


@dataclass(frozen=True, slots=True)
class Link:
    """One commit of a chain: its files by name; none if it does not have the one valid form."""

    commit: str
    before: str | None
    message: str
    files: Mapping[str, bytes]
    large: str = ""
    """For a file above its size limit: a message with both sizes."""


class _Object(NamedTuple):
    """Git's description of an object, before it is read."""

    name: str
    kind: str
    size: int


@dataclass(frozen=True, slots=True)
class Change:
    """Updates an author's ref: the new commit, or None to delete it. ``on``: the required current value, if set."""

    place: str
    author: str
    commit: str | None
    on: str | None = None

    @property
    def line(self) -> str:
        what = f"update {{}} {self.commit}" if self.commit else "delete {}"
        return f"{what.format(f'{self.place}/{self.author}')} {self.on or ''}".rstrip()


class Chains:
    """The chains in the bare repository ``folder``, which is created if missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if shutil.which("git") is None:
            raise NightlabError("git is not installed", "install git 2.30 or newer, e.g. apt install git")
        if not (folder / "HEAD").exists():
            folder.mkdir(parents=True, exist_ok=True)
            run_git(folder, "init", "-q", "--bare", "--template=", "-b", "main", ".", env={"GIT_DEFAULT_HASH": "sha1"})

    def heads(self, place: str = PLACE, authors: Iterable[str] | None = None) -> dict[str, str]:
        """The last commit of each author's chain, by author; of all authors or of these."""
        which = [f"{place}/"] if authors is None else [f"{place}/{author}" for author in authors]
        if not which:
            return {}
        out = run_git(self.folder, "for-each-ref", "--format=%(refname) %(objectname)", *which).stdout.decode()
        pairs = (line.split() for line in out.splitlines())
        return {ref.removeprefix(f"{place}/"): commit for ref, commit in pairs}

    def add(self, files: Mapping[str, bytes], message: str, before: str | None) -> str:
        """Create a commit with these files; returns its id. It joins a chain only through ``change``."""
        listed = []
        for name, content in sorted(files.items()):
            blob = run_git(self.folder, "hash-object", "-w", "--stdin", stdin=content).stdout.decode().strip()
            listed.append(f"100644 blob {blob}\t{name}\0")
        tree = run_git(self.folder, "mktree", "-z", stdin="".join(listed).encode()).stdout.decode().strip()
        raw = _commit(tree, before, message)
        made = run_git(self.folder, "hash-object", "-w", "-t", "commit", "--stdin", stdin=raw)
        return made.stdout.decode().strip()

    def change(self, *changes: Change) -> None:
        """Update refs in one transaction. Raises NightlabError, and changes nothing, if a required value differs."""
        request = "".join(f"{change.line}\n" for change in changes)
        if request:
            run_git(self.folder, "update-ref", "--stdin", stdin=request.encode())

    def new_commits(
        self, heads: Sequence[str], had: Iterable[str], most: int = sys.maxsize
    ) -> dict[str, tuple[str | None, list[str]]]:
        """The new commits of each chain, by head: the known commit it continues from, if any, and the first ``most``
        commits after that, oldest first. ``had``: the known commits. A head that is known or no commit has none.
        """
        request = "".join([*(f"{head}\n" for head in heads), *(f"^{commit}\n" for commit in had)]).encode()
        order = ("--parents", "--topo-order", "--reverse")  # parents first
        output = run_git(self.folder, "rev-list", *order, "--stdin", stdin=request).stdout.decode() if heads else ""
        before, depth, first = dict[str, str | None](), dict[str, int](), dict[str, str]()
        for line in output.splitlines():
            commit, *parents = line.split()
            before[commit] = parent = parents[0] if parents else None
            depth[commit] = depth[parent] + 1 if parent in depth else 0
            # Keeps the cost of each head bounded where an untrusted long chain has many heads.
            first[commit] = commit if parent not in first or depth[commit] < most else first[parent]
        found = {}
        for head in heads:
            at, chain = first.get(head), list[str]()
            while at in before:
                chain.append(at)
                at = before[at]
            found[head] = at, chain[::-1]
        return found

    def read(self, commits: Sequence[str], limits: Mapping[str, int]) -> Iterator[Link]:
        """Read commits. One with a file above its limit, or of another name, gives a link without files."""
        files = {f":{name}": name for name in limits}
        sizes = {"": SMALL, "^{tree}": SMALL, **{what: limits[name] for what, name in files.items()}}
        for start in range(0, len(commits), BATCH):
            some = commits[start : start + BATCH]
            names = [(commit, what) for commit in some for what in sizes]
            request = "".join(f"{commit}{what}\n" for commit, what in names).encode()
            output = run_git(self.folder, "cat-file", "--batch-check", stdin=request).stdout.decode().splitlines()
            about = [
                _Object(line[0], line[1], int(line[2])) if line[-1].isdigit() else None
                for line in map(str.split, output)
            ]
            few = "".join(
                f"{each.name}\n" for each, most in zip(about, cycle(sizes.values())) if each and each.size <= most
            )
            with reading_git(self.folder, "cat-file", "--batch", "--buffer", stdin=few.encode()) as following:
                objects = iter(about)
                for commit in some:
                    found, large = dict[str, tuple[_Object, bytes]](), ""
                    for (what, most), each in zip(sizes.items(), objects, strict=False):
                        if each and each.size <= most:
                            following(0)  # the header line, known already
                            found[what] = each, following(each.size + 1)[:-1]
                        elif each and what in files:
                            large = f"{files[what]} has {each.size:,} bytes, at most {most:,} are read"
                    yield Link(commit, None, "", {}, large) if large else _link(commit, found)

    # -- remotes ---------------------------------------------------------------------------------

    def remote_heads(self, remote: str) -> dict[str, str]:
        """The last commit of each author's chain at a remote. Raises Unreachable when it does not answer."""
        out = self._run_remote("ls-remote", "--refs", "--", remote, f"{PLACE}/*").decode(errors="replace")
        pairs = [line.split("\t", 1) for line in out.splitlines() if "\t" in line]
        named = ((ref.removeprefix(f"{PLACE}/"), commit) for commit, ref in pairs)
        return dict([(author, commit) for author, commit in named if AUTHOR.fullmatch(author)][:MOST])

    def fetch(self, remote: str, authors: Sequence[str]) -> dict[str, str]:
        """Fetch the chains of these authors into the refs for incoming ones.

        A chain that git rejects does not block the others: returns the reasons, by author. Raises Unreachable.
        """
        refused: dict[str, str] = {}
        groups = [random.sample(authors, len(authors))] if authors else []
        for attempt in count():
            if not groups:
                return refused
            group = groups.pop()
            try:
                self._fetch(remote, group)
            except Unreachable as error:
                self.remote_heads(remote)  # raises Unreachable if the remote itself is the problem
                half = len(group) // 2 if attempt < ATTEMPTS else 0
                groups += [group[:half], group[half:]] if half else []
                refused |= {} if half else dict.fromkeys(group, str(error))
        return refused

    def _fetch(self, remote: str, authors: Sequence[str]) -> None:
        pairs = "".join(f"+{PLACE}/{author}:{INCOMING}/{author}\n" for author in authors)
        self._run_remote(*CHECKED, "fetch", *CALM, "--stdin", "--", remote, stdin=pairs.encode())

    def fetch_by_names(self, remote: str, first: Sequence[str], also: tuple[str, str], had: str = "") -> dict[str, str]:
        """Fetch the chains of the authors whose names begin so into the refs for incoming ones, without listing others,
        and the refs of a pattern into others. Returns the heads, by author. ``had``: a commit that says what is here.

        Raises Unreachable, also where git rejects anything of it.
        """
        pairs = [*((f"{PLACE}/{name}*", f"{INCOMING}/{name}*") for name in first), also]
        request = "".join(f"+{there}:{here}\n" for there, here in pairs).encode()
        tip = (f"--negotiation-tip={had}",) if had else ()
        self._run_remote(*CHECKED, "fetch", *CALM, *tip, "--stdin", "--", remote, stdin=request)
        heads = self.heads(INCOMING, [f"{name}*" for name in first])
        return dict([each for each in heads.items() if AUTHOR.fullmatch(each[0])][:MOST])

    def push(self, remote: str, author: str, also: tuple[str, str, str] | None = None) -> bool:
        """Push an author's chain to a remote whose copy must be a prefix of it. Raises Unreachable.

        ``also``: a commit, the ref for it, and the commit there now (empty: none). Returns whether that succeeded too:
        not if the ref has changed meanwhile.
        """
        chain, more = f"{PLACE}/{author}", list[str]()
        if also:
            commit, place, now = also
            more = [f"--force-with-lease={place}:{now}", f"{commit}:{place}"]
        args = ("push", "--porcelain", "--no-verify", *more[:1], "--", remote, f"{chain}:{chain}", *more[1:])
        out = self._run_remote(*args, enough=lambda out: _pushed(out, chain))
        return bool(also) and _pushed(out, str(also and also[1]))

    def pack(self, path: Path) -> None:
        """Write all chains into a bundle file, which can be read like a remote. The file is replaced atomically."""
        request = "".join(f"{PLACE}/{author}\n" for author in self.heads()).encode()
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            run_git(self.folder, "bundle", "create", "--quiet", str(draft.resolve()), "--stdin", stdin=request)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def pack_part(self, parts: Mapping[str, tuple[str | None, str]]) -> bytes:
        """A bundle of part of each of these chains: what follows a commit (None: from its start), up to another one."""
        had = [before for before, _ in parts.values() if before]
        ends = [f"{end} {PLACE}/{author}" for author, (_, end) in parts.items()]
        header = ["# v2 git bundle", *(f"-{commit}" for commit in had), *ends, "\n"]
        revisions = [*(end for _, end in parts.values()), *(f"^{commit}" for commit in had), ""]
        packed = run_git(
            self.folder, "pack-objects", "--quiet", "--revs", "--stdout", stdin="\n".join(revisions).encode()
        )
        return "\n".join(header).encode() + packed.stdout

    def remove_stale_locks(self) -> None:
        """Remove locks left behind by a killed git process; no git command here runs longer than ``STALE``."""
        for lock in [self.folder / "packed-refs.lock", *(self.folder / "refs").rglob("*.lock")]:
            with contextlib.suppress(OSError):
                if time.time() - lock.stat().st_mtime > STALE:
                    lock.unlink()

    def pack_loose(self) -> None:
        """Pack loose objects, and refs, if there are many."""
        if sum(1 for place in (PLACE, SEEN) for _ in (self.folder / place).rglob("*")) > LOOSE:
            run_git(self.folder, "pack-refs", "--all", check=False)
        run_git(self.folder, "-c", "gc.auto=6700", "-c", "gc.autoDetach=false", "gc", "--auto", "--quiet", check=False)

    def _run_remote(self, *args: str, stdin: bytes = b"", enough: Callable[[bytes], bool] = lambda out: False) -> bytes:
        """Run a command that contacts a remote, with limits on its time and on the size of written files.

        ``enough``: whether the output of one that fails is what was wanted nevertheless.
        """
        try:
            done = run_git(
                self.folder, *args, stdin=stdin, env=REACH, check=False, timeout=PATIENCE, preexec_fn=_bound_files
            )
        except subprocess.TimeoutExpired:
            raise Unreachable(f"the remote did not answer within {PATIENCE:.0f} s", "try again later") from None
        if done.returncode and not enough(done.stdout):
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            message = next((line for line in lines if line.startswith(("fatal:", "error:", " ! "))), "")
            message = message or (lines[-1] if lines else f"git exited with status {done.returncode}")
            raise Unreachable(f"the remote can't be used: {one_line(message)}", "fix the remote, or try again later")
        return done.stdout


def _pushed(out: bytes, place: str) -> bool:
    """Whether a push says that a ref is at the remote now."""
    rows = [line.split("\t") for line in out.decode(errors="replace").splitlines()]
    return any(len(row) > 1 and row[0] != "!" and row[1].split(":")[-1] == place for row in rows)


def _bound_files() -> None:
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_PACK, LARGEST_PACK))


def _commit(tree: str, before: str | None, message: str) -> bytes:
    parent = f"parent {before}\n" if before else ""
    return f"tree {tree}\n{parent}author {WHO}\ncommitter {WHO}\n\n{message}\n".encode()


def _link(commit: str, found: Mapping[str, tuple[_Object, bytes]]) -> Link:
    """The link for a commit, if the commit and its tree are byte by byte what its files require; else an empty one."""
    files = {what[1:]: blob for what, blob in found.items() if what.startswith(":")}
    if "" in found and "^{tree}" in found and all(about.kind == "blob" for about, _ in files.values()):
        (_, raw), (about_tree, tree) = found[""], found["^{tree}"]
        entries = [
            b"100644 %s\0%s" % (name.encode(), bytes.fromhex(about.name)) for name, (about, _) in sorted(files.items())
        ]
        text = raw.decode(errors="replace")
        parents = re.findall(r"^parent ([0-9a-f]+)$", text.split("\n\n", 1)[0], re.MULTILINE)
        before, message = parents[0] if parents else None, text.split("\n\n", 1)[-1].rstrip("\n")
        if tree == b"".join(entries) and raw == _commit(about_tree.name, before, message):
            return Link(commit, before, message, {name: content for name, (_, content) in files.items()})
    return Link(commit, None, "", {})
