"""What can be said of a genome's programs without running them; cheap to import, for a separate process does it."""
