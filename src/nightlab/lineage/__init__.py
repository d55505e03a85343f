"""The lineage of genomes, kept in git. The only code that speaks git."""

from nightlab.lineage.repo import OutOfScope, PatchConflict, Repo, frozen_entries, in_genome, make_repo

__all__ = ["OutOfScope", "PatchConflict", "Repo", "frozen_entries", "in_genome", "make_repo"]
