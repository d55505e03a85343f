"""The patch queue: proposes the ``*.patch`` files of a folder, once each, in order of their names."""

from __future__ import annotations

from pathlib import Path

from nightlab.core.source_bytes import decode_patch
from nightlab.proposers.proposer import Briefing, Proposal, Used

PREFIX = "hypothesis:"


class PatchQueue:
    """Proposes each patch in ``folder`` once. The folder is read again each turn, so patches can be added at any time.

    ``used``: the names that had their turn, from the ledger.
    """

    name = "patches"

    def __init__(self, folder: Path, used: Used) -> None:
        self.folder, self.used = folder, used

    def propose(self, briefing: Briefing) -> Proposal | None:
        for path in sorted(self.folder.glob("*.patch")):
            if path.name not in self.used:
                try:
                    text = decode_patch(path.read_bytes())
                except OSError:
                    continue  # e.g. an editor's lock file
                return Proposal(self.name, _hypothesis(text, path), patch=text, source=path.name)
        return None

    def tell(self, proposal: Proposal, refusal: str | None) -> None:
        self.used.add(proposal.source)


def _hypothesis(text: str, path: Path) -> str:
    for line in text.splitlines():
        if line.lower().startswith(PREFIX):
            return line[len(PREFIX) :].strip()
        if line.startswith(("diff ", "--- ")):
            break
    return path.stem.lstrip("0123456789-_ ").replace("-", " ")
