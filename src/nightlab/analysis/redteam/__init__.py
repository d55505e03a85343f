"""Attacks on a lab's own metric, run before a night: which of them would be kept, and what stops it."""
