"""The lineage of genomes, kept in git. Only this package runs git."""

from nightlab.storage.git.limits import OutOfScope, PatchConflict
from nightlab.storage.git.new_repo import clone, make_repo
from nightlab.storage.git.record_chains import Chains, Link, Unreachable
from nightlab.storage.git.repo import Repo
from nightlab.storage.git.scope import frozen_entries, in_genome

__all__ = [
    "Chains",
    "Link",
    "OutOfScope",
    "PatchConflict",
    "Repo",
    "Unreachable",
    "clone",
    "frozen_entries",
    "in_genome",
    "make_repo",
]
