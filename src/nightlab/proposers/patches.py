"""The patch queue: proposes the ``*.patch`` files of a folder, once each, in order of their names."""

from __future__ import annotations

import os
from pathlib import Path

from nightlab.core.files import NotReadable, read_plain
from nightlab.core.source_bytes import decode_patch
from nightlab.proposers.proposer import Briefing, Proposal, RejectedProposal, Used
from nightlab.storage.git.limits import MAX_PATCH_BYTES

SUFFIX = ".patch"
PREFIX = "hypothesis:"


class PatchQueue:
    """Proposes each patch in ``folder`` once. The folder is read again each turn, so patches can be added at any time.

    ``used``: the names that had their turn, from the ledger.
    """

    name = "patches"

    def __init__(self, folder: Path, used: Used) -> None:
        self.folder, self.used = folder, used
        self._had: set[str] = set()  # names that need not be looked up again
        self._refusals: list[RejectedProposal] = []

    def propose(self, briefing: Briefing) -> Proposal | None:
        for name in sorted(patch_names(self.folder) - self._had):
            if name in self.used:
                self._had.add(name)
                continue
            try:
                text = read_patch(self.folder, name)
            except NotReadable as refusal:
                self._had.add(name)
                self._refusals.append(RejectedProposal(self.name, str(refusal), name))
                continue
            except OSError:
                continue  # e.g. an editor's lock file
            return Proposal(self.name, _hypothesis(text, self.folder / name), patch=text, source=name)
        return None

    def tell(self, proposal: Proposal, refusal: str | None) -> None:
        self.used.add(proposal.source)

    def take_failed(self) -> list[RejectedProposal]:
        """Entries that are no plain files inside the lab, since this was last asked."""
        refusals, self._refusals = self._refusals, []
        return refusals


def patch_names(folder: Path) -> set[str]:
    """The names of the patches in a folder; empty where there is none."""
    try:
        with os.scandir(folder) as entries:
            return {one.name for one in entries if one.name.endswith(SUFFIX) and not one.name.startswith(".")}
    except OSError:
        return set()


def read_patch(folder: Path, name: str) -> str:
    """A patch's text. Raises NotReadable for what is no plain text file inside the lab, OSError as reading does."""
    return decode_patch(read_plain(folder / name, MAX_PATCH_BYTES, folder.parent))


def _hypothesis(text: str, path: Path) -> str:
    for line in text.splitlines():
        if line.lower().startswith(PREFIX):
            return line[len(PREFIX) :].strip()
        if line.startswith(("diff ", "--- ")):
            break
    return path.stem.lstrip("0123456789-_ ").replace("-", " ")
