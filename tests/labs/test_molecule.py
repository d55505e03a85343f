"""The molecule lab: the genome is data, a change stays near its lead, and what is no molecule has no metric."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from support.extras import extra
from support.shipped import lab_module, trials_of

from nightlab.session.create import SHIPPED

extra("rdkit", "molecule")


@pytest.fixture
def assess(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SHIPPED / "molecule"))
    return lab_module("molecule", "assess")


def test_the_genome_is_its_lead_at_first(assess: Any) -> None:
    genome = (SHIPPED / "molecule" / "molecule.smi").read_text()
    assert assess.distance(assess.read(genome)) == 0
    assert assess.distance(assess.read("c1ccccc1")) > 0.6


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "one molecule in SMILES"),
        ("CCO ethanol", "without a name"),
        ("import os; os.system('x')", "without a name"),
        ("C(C", "no molecule"),
        ("C(C)(C)(C)(C)C", "a valence"),
        ("CB(O)O", "B is none of"),
        ("C[NH3+]", "a charge"),
        ("[13CH4]", "an isotope"),
        ("C[CH2]", "a lone electron"),
        ("CC.CC", "one molecule in SMILES"),
        ("*C", "one molecule in SMILES"),
        ("C" * 61, "61 heavy atoms"),
    ],
)
def test_what_is_no_allowed_molecule_is_refused(assess: Any, text: str, says: str) -> None:
    with pytest.raises(assess.NoMolecule, match=says):
        assess.read(text)


def test_a_change_is_another_molecule_near_the_lead(assess: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate = lab_module("molecule", "mutate")
    lead, seen = assess.read(assess.LEAD), ""
    for seed in range(10):
        smiles, done = mutate.mutated(lead, random.Random(seed), seen)
        assert done and smiles not in seen and 0 < assess.distance(assess.read(smiles)) <= 0.6
        seen += f"{smiles}\n"
    with pytest.raises(Exception, match="no change"):
        mutate.mutated(assess.read("c1ccccc1"), random.Random(1))


@pytest.mark.integration
def test_an_idea_gains_and_boron_has_no_metric(tmp_path: Path) -> None:
    run = trials_of("molecule", tmp_path)
    shorter, boron = run("01-shorter-chain"), run("07-boron")
    assert shorter.metric and shorter.metric > 0.5, shorter  # of verapamil it is 0.42
    assert shorter.secondary["distance"] < 0.6 and shorter.secondary["synthesis"] < 4
    assert (boron.outcome, boron.metric) == ("crashed", None) and "B is none of" in boron.detail
