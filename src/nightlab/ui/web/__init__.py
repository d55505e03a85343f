"""A session as a live page in a browser. It reads, and accepts orders and notes; nothing else."""
