"""The digest of a remote: commits that say which authors' chains grew, so that a sync does not list all authors.

Each digest commit has as its parents the digest before and the new heads, and names their authors: one ref brings all
that is new. Each lab that pushes maintains it. It is never trusted: chains are checked as always, one that does not
continue the known digest is not followed, and at each sync some authors are listed by lot. Others can ignore it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from nightlab.storage.git.command import reading_git, run_git
from nightlab.storage.git.record_chains import AUTHOR, INCOMING, WHO, Chains, Change, Unreachable

DIGEST, TIP = "refs/nightlab-digest", "heads"  # at a remote
KNOWN, CURRENT, MISSING = "refs/digest", "refs/incoming-digest", "refs/undigested"  # here
LISTED = 100  # authors at a remote up to which all are listed
LOT = 2  # first digits of the authors that are listed by lot
AHEAD = 2000  # digest commits that are read at once; one that is further ahead is not followed
TOGETHER = 100  # heads in one digest commit
LARGEST = 64 * 1024  # bytes of a digest commit
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(slots=True)
class Listing:
    """What a remote has. ``heads``: its refs, by author, of all authors or of those with these ``names``, which end in
    an asterisk. ``named``: the heads that its digest, ``tip``, names since the one that is known here.
    """

    heads: dict[str, str]
    names: Sequence[str] | None = None
    named: dict[str, str] = field(default_factory=dict)
    tip: str = ""


class HeadDigest:
    """The digest of one remote, and what is known of it here, under ``key``."""

    def __init__(self, chains: Chains, remote: str, key: str) -> None:
        self.chains, self.remote, self.key = chains, remote, key

    def list_some(self, own: str) -> Listing | None:
        """What the digest names, and the refs of some authors and of ``own``. None: all are to be listed."""
        if not (known := self._known):
            return None
        first = [f"{random.randrange(16**LOT):0{LOT}x}", *filter(None, [own])]
        try:
            heads, tip = self._fetch(first, known)
        except Unreachable:
            return None  # or git rejects something there: then each author by itself
        named = self._since(known, tip)
        return None if named is None else Listing(heads, [f"{each}*" for each in first], named, tip)

    def after_all(self, accepted: Mapping[str, str]) -> list[Change]:
        """The changes after all authors of a remote were listed: its digest is followed from here on, and with the next
        push names those accepted heads that it lacks. There is none where the authors are few."""
        if len(accepted) < LISTED:
            return []
        try:
            _, tip = self._fetch([], self._known)
        except Unreachable:
            tip = ""
        if tip and self._read([tip], None) is None:
            tip = ""
        lacks = self.chains.new_commits(list(accepted.values()), [tip] if tip else [])
        return [self._follow(tip), *self._to_name({a: head for a, head in accepted.items() if lacks[head][1]})]

    def after_some(self, there: Listing, lacking: Mapping[str, str]) -> list[Change]:
        """The changes after what a digest named was taken; ``lacking``: heads that it is to name with the next push."""
        done = [author for author, head in self._missing.items() if there.named.get(author) == head]
        return [
            self._follow(there.tip), *(Change(self._missing_at, author, None) for author in done),
            *self._to_name(lacking),
        ]  # fmt: skip

    def pushes(self, author: str, head: str) -> tuple[str | None, str, str]:
        """For a push of an author's chain: its head at the remote, a digest to push with it, and the one to replace.

        The digest is empty where the remote needs none. Raises Unreachable.
        """
        try:
            heads, current = self._fetch([author], self._known)
        except Unreachable:
            return self.chains.remote_heads(self.remote).get(author), "", ""
        missing, known = self._missing, self._known
        if not (known or missing) or (heads.get(author) == head and not missing):
            return heads.get(author), "", ""
        on = current if current and self._since(known, current) is not None else known
        return heads.get(author), self._add(on, {**missing, author: head}), current

    def after_push(self, author: str, head: str, digest: str) -> list[Change]:
        """The changes after a push with this digest; empty: another was faster, and it is named with the next push."""
        if not digest:
            return self._to_name({author: head}) if self._known else []
        return [self._follow(digest), *(Change(self._missing_at, each, None) for each in self._missing)]

    # -- internal ----------------------------------------------------------------------------------

    @property
    def _known(self) -> str:
        """The digest up to which all is here; empty if there is none."""
        return self.chains.heads(KNOWN, [self.key]).get(self.key, "")

    def _follow(self, tip: str) -> Change:
        return Change(KNOWN, self.key, tip or None)

    @property
    def _missing_at(self) -> str:
        return f"{MISSING}/{self.key}"

    @property
    def _missing(self) -> dict[str, str]:
        """The heads that the digest is to name with the next push."""
        return self.chains.heads(self._missing_at)

    def _to_name(self, heads: Mapping[str, str]) -> list[Change]:
        return [Change(self._missing_at, author, head) for author, head in heads.items()]

    def _fetch(self, first: Sequence[str], known: str) -> tuple[dict[str, str], str]:
        """The chains of authors whose names begin so, and the digest: their heads, and its. Raises Unreachable."""
        here = f"{CURRENT}/{self.key}"
        left = [Change(INCOMING, author, None) for author in self.chains.heads(INCOMING)]  # by a killed sync
        self.chains.change(Change(here, TIP, None), *left)
        heads = self.chains.fetch_by_names(self.remote, first, (f"{DIGEST}/*", f"{here}/*"), known)
        return heads, self.chains.heads(here).get(TIP, "")

    def _since(self, known: str, tip: str) -> dict[str, str] | None:
        """The heads that a digest names after the ``known`` one (empty: from its start), by author; None if it does not
        continue that one."""
        if not tip:
            return None
        walk = ("rev-list", "--first-parent", f"--max-count={AHEAD}", tip)
        commits = run_git(self.chains.folder, *walk, check=False).stdout.decode().split()
        if known not in commits:
            return None
        new = commits[: commits.index(known)]
        return self._read(new, known) if new else {}

    def _read(self, commits: Sequence[str], on: str | None) -> dict[str, str] | None:
        """The heads that these digest commits name, which are given latest first; None if they don't have the form of
        ones that continue each other, and ``on`` (None: any)."""
        request = "".join(f"{commit}\n" for commit in commits).encode()
        about = run_git(self.chains.folder, "cat-file", "--batch-check", stdin=request).stdout.decode().splitlines()
        sizes, found = [int(line.split()[-1]) for line in about], list[dict[str, str]]()
        if max(sizes, default=0) > LARGEST:
            return None
        with reading_git(self.chains.folder, "cat-file", "--batch", "--buffer", stdin=request) as following:
            for size, before in zip(sizes, [*commits[1:], on], strict=True):
                following(0)  # the header line, known already
                heads = _heads(following(size + 1)[:-1].decode(errors="replace"), before)
                if heads is None:
                    return None
                found.append(heads)
        return {author: head for heads in reversed(found) for author, head in heads.items()}

    def _add(self, on: str, heads: Mapping[str, str]) -> str:
        """A digest that continues ``on`` (empty: a first one) and names these heads; returns its commit."""
        tree, rest = run_git(self.chains.folder, "mktree").stdout.decode().strip(), iter(sorted(heads.items()))
        while some := list(islice(rest, TOGETHER)):
            parents = "".join(f"parent {one}\n" for one in (on, *(head for _, head in some)) if one)
            names = "".join(f"{author} {head}\n" for author, head in some)
            raw = f"tree {tree}\n{parents}author {WHO}\ncommitter {WHO}\n\n{names}".encode()
            made = run_git(self.chains.folder, "hash-object", "-w", "-t", "commit", "--stdin", stdin=raw)
            on = made.stdout.decode().strip()
        return on


def _heads(raw: str, before: str | None) -> dict[str, str] | None:
    """The heads that a digest commit names; None if it does not have the form of one that follows ``before``."""
    about, _, names = raw.partition("\n\n")
    pairs = [line.split(" ") for line in names.splitlines()]
    if not all(len(pair) == 2 and AUTHOR.fullmatch(pair[0]) and COMMIT.fullmatch(pair[1]) for pair in pairs):
        return None
    parents, heads = re.findall(r"^parent ([0-9a-f]{40})$", about, re.MULTILINE), [head for _, head in pairs]
    follows = [before, *heads] if before else [*parents[: len(parents) - len(heads)], *heads]
    return {one[0]: one[1] for one in pairs} if pairs and parents == follows else None
