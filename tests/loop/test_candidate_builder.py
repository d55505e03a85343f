"""From proposals to candidates: what is refused before any trial."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.labs import CONTRACT, TinyLab

from nightlab.loop.candidate_builder import CandidateBuilder
from nightlab.proposers import Proposal
from nightlab.storage.git import OutOfScope

GENOME = "N = 26\n# BEGIN\nA = 4.0\n# END\nB = 8\n"
BETWEEN = 'genome = ["genome.py"]\nbetween = ["BEGIN", "END"]'


def test_a_change_outside_the_markers_is_out_of_scope_whoever_proposes_it(make_lab: Callable[..., TinyLab]) -> None:
    contract = CONTRACT.format(proposer="patches").replace('genome = ["genome.py"]', BETWEEN)
    lab = make_lab(GENOME, contract=contract)
    session = lab.session()
    build, repo = CandidateBuilder(session), session.repo
    session.ledger.propose(build.baseline())

    def candidate(old: str, new: str, *, patch: bool) -> object:
        files = {"genome.py": GENOME.replace(old, new)}
        if patch:
            text = repo.diff(session.base, repo.commit_files(session.base, files, "x"))
            return build.realise(Proposal("patches", "an idea", patch=text), session.base)
        return build.realise(Proposal("agent", "an edit", files), session.base)

    for patch in (True, False):
        with pytest.raises(OutOfScope, match=r"'N = 26'.* only lines between BEGIN and END may change"):
            candidate("N = 26", "N = 1", patch=patch)
        assert candidate("A = 4.0", "A = 3.0", patch=patch)
    session.close()
