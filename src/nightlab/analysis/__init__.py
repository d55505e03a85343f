"""Evaluates sessions: confirmed gains, ablations, reports, charts, rankings."""
