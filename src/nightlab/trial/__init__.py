"""One candidate, one run: the box, the supervisor, and what was measured. The only code that starts a candidate."""
