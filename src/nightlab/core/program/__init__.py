"""What can be said of a genome's programs without running them; cheap to import, for a process of its own does it."""
