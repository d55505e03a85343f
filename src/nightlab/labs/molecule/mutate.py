"""Frozen: proposes the champion with one or two random changes. A proposer that knows molecules, and no model.

nightlab starts it in a copy of the lab for each proposal. By hand: python mutate.py
"""

import os
import random
from pathlib import Path

from assess import NoMolecule, distance, read
from rdkit import Chem

GENOME, FURTHEST, TRIES = Path("molecule.smi"), 0.6, 1_000


def add(molecule, draw):
    """A new atom on an atom, or between two that are bound."""
    atom, new = draw.randrange(molecule.GetNumAtoms()), molecule.AddAtom(Chem.Atom(draw.choice("CNOF")))
    if draw.random() < 0.5:
        other = draw.choice(molecule.GetAtomWithIdx(atom).GetNeighbors()).GetIdx()
        molecule.RemoveBond(atom, other)
        molecule.AddBond(new, other, Chem.BondType.SINGLE)
    molecule.AddBond(atom, new, Chem.BondType.SINGLE)
    return "add an atom"


def exchange(molecule, draw):
    molecule.ReplaceAtom(draw.randrange(molecule.GetNumAtoms()), Chem.Atom(draw.choice("CNO")))
    return "exchange an atom"


def remove(molecule, draw):
    """One atom less; its two neighbours are bound to each other."""
    atom = molecule.GetAtomWithIdx(draw.randrange(molecule.GetNumAtoms()))
    near = [other.GetIdx() for other in atom.GetNeighbors()]
    if len(near) == 2 and not molecule.GetBondBetweenAtoms(*near):
        molecule.AddBond(*near, Chem.BondType.SINGLE)
    molecule.RemoveAtom(atom.GetIdx())
    return "remove an atom"


def bond(molecule, draw):
    kinds = [Chem.BondType.SINGLE, Chem.BondType.DOUBLE]
    draw.choice(list(molecule.GetBonds())).SetBondType(draw.choice(kinds))
    return "change a bond"


def ring(molecule, draw):
    first, second = draw.sample(range(molecule.GetNumAtoms()), 2)
    if not molecule.GetBondBetweenAtoms(first, second):
        molecule.AddBond(first, second, Chem.BondType.SINGLE)
    return "close a ring"


CHANGES = add, exchange, remove, remove, bond, ring


def mutated(molecule, draw, tried=""):
    """Another molecule, near enough to the lead, as SMILES, and what was done.

    ``tried``: a text that names those which are not wanted again. Raises NoMolecule after many tries.
    """
    before = Chem.MolToSmiles(molecule)
    for _ in range(TRIES):
        changed = Chem.RWMol(molecule)
        try:
            done = [draw.choice(CHANGES)(changed, draw) for _ in range(draw.choice((1, 2)))]
            Chem.SanitizeMol(changed)
            smiles = Chem.MolToSmiles(changed)
            if smiles != before and smiles not in tried and distance(read(smiles)) <= FURTHEST:
                return smiles, " and ".join(done)
        except (NoMolecule, ValueError, RuntimeError, IndexError):  # RDKit's of a valence that there is not
            continue
    raise NoMolecule(f"no change of {before} is a molecule near the lead, in {TRIES:,} tries")


if __name__ == "__main__":
    told = Path(os.environ.get("NIGHTLAB_BRIEFING", os.devnull)).read_text()  # what was tried, among other things
    smiles, done = mutated(read(GENOME.read_text()), random.SystemRandom(), told)
    GENOME.write_text(smiles + "\n")
    print(f"HYPOTHESIS: {done}: {smiles}")
