"""The sealed box around one process, and how its tree is ended: for trials, and for proposers that are programs."""
