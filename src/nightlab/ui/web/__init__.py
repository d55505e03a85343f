"""The window: a session as a live page in a browser. It reads, and leaves orders and notes; nothing else."""
