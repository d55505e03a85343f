"""Chains of commits, one to each author, that travel between repositories and that nobody ever checks out.

What a commit of a chain is called follows from its files, its message and the one before, so a chain has the same
commits wherever it was copied to, and whoever reads one can tell that nothing else is in it.
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path
from typing import NamedTuple

from nightlab.core.text import one_line
from nightlab.core.types import NightlabError
from nightlab.storage.git.repo import reading_git, run_git

PLACE, INCOMING, SEEN = "refs/nightlab", "refs/incoming", "refs/seen"
NONE = "0" * 40  # the commit that a place names for an author of whom nothing is there
AUTHOR = re.compile(r"[0-9a-f]{64}")
PATIENCE = 120.0  # seconds that a remote may take for one answer
STALE = 2 * PATIENCE  # seconds after which nobody holds a lock any more
LARGEST_PACK = 256 * 2**20  # bytes that one fetch may bring
MOST = 10_000  # authors of one remote
ATTEMPTS = 100  # fetches of ever fewer authors, to tell those that git refuses from the others
BATCH = 10_000  # commits that are read by one process
SMALL = 1024  # bytes of a commit or a tree that can be one of ours
WHO = "nightlab <nightlab@localhost> 946684800 +0000"  # for whoever, whenever: the record says it
REACH = {"GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh"}  # a remote may be named by a stranger's lab.toml
CHECKED = ("-c", "transfer.fsckObjects=true", "-c", "protocol.version=2")


class Unreachable(NightlabError):
    """A remote that does not answer, or refuses."""


@dataclass(frozen=True, slots=True)
class Link:
    """One commit of a chain: its files by name, none if it is not of the one form that they have."""

    commit: str
    before: str | None
    message: str
    files: Mapping[str, bytes]
    large: str = ""
    """Of a file that is larger than is read, how large it is."""


class _Object(NamedTuple):
    """What git says of an object before it is read."""

    name: str
    kind: str
    size: int


@dataclass(frozen=True, slots=True)
class Change:
    """What a place is to name for an author: a commit, or none. ``on``: what it names now, if that must hold."""

    place: str
    author: str
    commit: str | None
    on: str | None = None

    @property
    def line(self) -> str:
        what = f"update {{}} {self.commit}" if self.commit else "delete {}"
        return f"{what.format(f'{self.place}/{self.author}')} {self.on or ''}".rstrip()


class Chains:
    """The chains in the bare repository ``folder``, which is made if it is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if shutil.which("git") is None:
            raise NightlabError("git is not installed", "install git 2.30 or newer, e.g. apt install git")
        if not (folder / "HEAD").exists():
            folder.mkdir(parents=True, exist_ok=True)
            run_git(folder, "init", "-q", "--bare", "--template=", "-b", "main", ".")

    def heads(self, place: str = PLACE) -> dict[str, str]:
        """The last commit of each author's chain, by author."""
        out = run_git(self.folder, "for-each-ref", "--format=%(refname) %(objectname)", f"{place}/").stdout.decode()
        pairs = (line.split() for line in out.splitlines())
        return {ref.removeprefix(f"{place}/"): commit for ref, commit in pairs}

    def add(self, files: Mapping[str, bytes], message: str, before: str | None) -> str:
        """Make a commit with these files. It is in no chain until ``move`` puts it there. Returns its id."""
        listed = []
        for name, content in sorted(files.items()):
            blob = run_git(self.folder, "hash-object", "-w", "--stdin", stdin=content).stdout.decode().strip()
            listed.append(f"100644 blob {blob}\t{name}\0")
        tree = run_git(self.folder, "mktree", "-z", stdin="".join(listed).encode()).stdout.decode().strip()
        raw = _commit(tree, before, message)
        made = run_git(self.folder, "hash-object", "-w", "-t", "commit", "--stdin", stdin=raw)
        return made.stdout.decode().strip()

    def change(self, *changes: Change) -> None:
        """Let places name other commits. Raises NightlabError, and changes nothing, when one names another already."""
        asked = "".join(f"{change.line}\n" for change in changes)
        if asked:
            run_git(self.folder, "update-ref", "--stdin", stdin=asked.encode())

    def following(
        self, heads: Sequence[str], had: Iterable[str], most: int = sys.maxsize
    ) -> dict[str, tuple[str | None, list[str]]]:
        """For each head: the commit of what is had that its chain follows on, if any, and the first commits after
        that, oldest first and no more than ``most``. A head that is had itself, or is no commit, has none.
        """
        asked = "".join([*(f"{head}\n" for head in heads), *(f"^{commit}\n" for commit in had)]).encode()
        order = ("--parents", "--topo-order", "--reverse")  # parents come first
        told = run_git(self.folder, "rev-list", *order, "--stdin", stdin=asked).stdout.decode() if heads else ""
        before, depth, first = dict[str, str | None](), dict[str, int](), dict[str, str]()
        for line in told.splitlines():
            commit, *parents = line.split()
            before[commit] = parent = parents[0] if parents else None
            depth[commit] = depth[parent] + 1 if parent in depth else 0
            # Where a strangers' long chain has many heads, none of them costs more than what is asked for.
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
        """What is in commits. A file above its limit, or of another name, makes a link without files."""
        files = {f":{name}": name for name in limits}
        sizes = {"": SMALL, "^{tree}": SMALL, **{what: limits[name] for what, name in files.items()}}
        for start in range(0, len(commits), BATCH):
            some = commits[start : start + BATCH]
            names = [(commit, what) for commit in some for what in sizes]
            asked = "".join(f"{commit}{what}\n" for commit, what in names).encode()
            told = run_git(self.folder, "cat-file", "--batch-check", stdin=asked).stdout.decode().splitlines()
            about = [
                _Object(line[0], line[1], int(line[2])) if line[-1].isdigit() else None for line in map(str.split, told)
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
                            following(0)  # what was said of it already
                            found[what] = each, following(each.size + 1)[:-1]
                        elif each and what in files:
                            large = f"{files[what]} has {each.size:,} bytes, at most {most:,} are read"
                    yield Link(commit, None, "", {}, large) if large else _link(commit, found)

    # -- travelling ------------------------------------------------------------------------------

    def heads_at(self, remote: str) -> dict[str, str]:
        """The last commit of each author's chain at a remote. Raises Unreachable when it does not answer."""
        out = self._talk("ls-remote", "--refs", "--", remote, f"{PLACE}/*").decode(errors="replace")
        pairs = [line.split("\t", 1) for line in out.splitlines() if "\t" in line]
        named = ((ref.removeprefix(f"{PLACE}/"), commit) for commit, ref in pairs)
        return dict([(author, commit) for author, commit in named if AUTHOR.fullmatch(author)][:MOST])

    def fetch(self, remote: str, authors: Sequence[str]) -> dict[str, str]:
        """Bring the chains of these authors into the place of incoming ones.

        One that git refuses keeps no other out: returns why, by author. Raises Unreachable.
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
                self.heads_at(remote)  # if that fails too it is the remote's fault
                half = len(group) // 2 if attempt < ATTEMPTS else 0
                groups += [group[:half], group[half:]] if half else []
                refused |= {} if half else dict.fromkeys(group, str(error))
        return refused

    def _fetch(self, remote: str, authors: Sequence[str]) -> None:
        pairs = "".join(f"+{PLACE}/{author}:{INCOMING}/{author}\n" for author in authors)
        calm = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance")
        self._talk(*CHECKED, "fetch", *calm, "--stdin", "--", remote, stdin=pairs.encode())

    def push(self, remote: str, author: str) -> None:
        """Bring an author's chain to a remote, which must have nothing that this one lacks. Raises Unreachable."""
        self._talk("push", "--quiet", "--no-verify", "--", remote, f"{PLACE}/{author}:{PLACE}/{author}")

    def pack(self, path: Path, news: Mapping[str, str | None] | None = None) -> None:
        """Write all chains into a bundle, which is a remote to read from. It appears whole or not at all.

        ``news``: of these authors only, and no more than what follows on the commit that is had of each.
        """
        authors, had = (self.heads(), []) if news is None else (news, [commit for commit in news.values() if commit])
        asked = "".join([*(f"{PLACE}/{author}\n" for author in authors), *(f"^{commit}\n" for commit in had)]).encode()
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            run_git(self.folder, "bundle", "create", "--quiet", str(draft.resolve()), "--stdin", stdin=asked)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def unlock(self) -> None:
        """Remove the locks that a git left behind which was killed, or lost its power; no git of ours takes so long."""
        for lock in [self.folder / "packed-refs.lock", *(self.folder / "refs").rglob("*.lock")]:
            with contextlib.suppress(OSError):
                if time.time() - lock.stat().st_mtime > STALE:
                    lock.unlink()

    def tidy(self) -> None:
        """Pack loose objects when there are many."""
        run_git(self.folder, "-c", "gc.auto=6700", "-c", "gc.autoDetach=false", "gc", "--auto", "--quiet", check=False)

    def _talk(self, *args: str, stdin: bytes = b"") -> bytes:
        """A command that speaks with a remote: bounded in time and in what it may write."""
        try:
            done = run_git(
                self.folder, *args, stdin=stdin, env=REACH, check=False, timeout=PATIENCE, preexec_fn=_bound_files
            )
        except subprocess.TimeoutExpired:
            raise Unreachable(f"the remote did not answer within {PATIENCE:.0f} s", "try again later") from None
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            said = next((line for line in lines if line.startswith(("fatal:", "error:", " ! "))), "")
            said = said or (lines[-1] if lines else f"git ended with status {done.returncode}")
            raise Unreachable(f"the remote can't be used: {one_line(said)}", "mend the remote, or try again later")
        return done.stdout


def _bound_files() -> None:
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_PACK, LARGEST_PACK))


def _commit(tree: str, before: str | None, message: str) -> bytes:
    parent = f"parent {before}\n" if before else ""
    return f"tree {tree}\n{parent}author {WHO}\ncommitter {WHO}\n\n{message}\n".encode()


def _link(commit: str, found: Mapping[str, tuple[_Object, bytes]]) -> Link:
    """What was read of a commit, if commit and tree are, byte by byte, what its files ask for."""
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
