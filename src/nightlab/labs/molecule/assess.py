"""Frozen: reads the genome as a molecule and prints how much it is like a drug, how far it is from the lead, and how
hard it is to make.

QED: Bickerton et al. 2012, doi:10.1038/nchem.1243. Synthesis: Ertl and Schuffenhauer 2009, doi:10.1186/1758-2946-1-8,
as in RDKit's Contrib. The task, to improve a molecule and stay near it: Jin et al. 2018, arXiv:1802.04364.
nightlab runs it as the evaluator. By hand: python assess.py
"""

import re
import sys
from pathlib import Path

try:
    from rdkit import Chem, RDConfig, RDLogger
    from rdkit.Chem import QED, rdFingerprintGenerator
    from rdkit.DataStructs import TanimotoSimilarity
except ImportError as error:
    sys.exit(f"no metric: {error}: pip install 'nightlab[molecule]'")
sys.path.append(str(Path(RDConfig.RDContribDir) / "SA_Score"))
import sascorer

RDLogger.DisableLog("rdApp.*")
LEAD = "COc1ccc(CCN(C)CCCC(C#N)(C(C)C)c2ccc(OC)c(OC)c2)cc1OC"  # verapamil
ELEMENTS, MOST_ATOMS, MOST_BYTES = {"C", "N", "O", "F", "S", "Cl", "Br"}, 60, 2_000
prints = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)


class NoMolecule(Exception):
    """The genome is no molecule that is allowed."""


def read(text):
    """The molecule that a text describes. Raises NoMolecule for anything else."""
    smiles = "".join(line.strip() for line in text.splitlines() if not line.startswith("#"))
    if not re.fullmatch(r"[][A-Za-z0-9()=#@/\\%+-]+", smiles):
        raise NoMolecule("molecule.smi has to be one molecule in SMILES, without a name")
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise NoMolecule(f"{smiles[:80]} is no molecule: a valence, a ring or a bracket is wrong")
    for atom in molecule.GetAtoms():
        if atom.GetSymbol() not in ELEMENTS:
            raise NoMolecule(f"{atom.GetSymbol()} is none of {', '.join(sorted(ELEMENTS))}")
        if atom.GetFormalCharge() or atom.GetIsotope() or atom.GetNumRadicalElectrons():
            raise NoMolecule(f"an atom of {atom.GetSymbol()} has a charge, an isotope or a lone electron")
    if molecule.GetNumAtoms() > MOST_ATOMS:
        raise NoMolecule(f"{molecule.GetNumAtoms()} heavy atoms are more than {MOST_ATOMS}")
    return molecule


def distance(molecule):
    lead = prints.GetFingerprint(Chem.MolFromSmiles(LEAD))
    return 1 - TanimotoSimilarity(lead, prints.GetFingerprint(molecule))


def main():
    try:
        with Path("molecule.smi").open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise NoMolecule(f"molecule.smi has more than {MOST_BYTES:,} bytes")
        molecule = read(raw.decode())
    except (NoMolecule, UnicodeDecodeError) as error:
        print(f"no metric: {error}")
        sys.exit(4)
    said = QED.properties(molecule)
    print(f"FEEDBACK weight {said.MW:.0f}, log P {said.ALOGP:.1f}, polar surface {said.PSA:.0f},")
    print(f"FEEDBACK rotatable bonds {said.ROTB}, acceptors {said.HBA}, donors {said.HBD},")
    print(f"FEEDBACK aromatic rings {said.AROM}, alerts {said.ALERTS}")
    print(f"METRIC distance={distance(molecule):.4f}")
    print(f"METRIC synthesis={sascorer.calculateScore(molecule):.4f}")
    print(f"METRIC qed={QED.qed(molecule):.5f}")


if __name__ == "__main__":
    main()
