"""Readers of other systems' problem folders: each a function that reads texts and returns a contract."""
