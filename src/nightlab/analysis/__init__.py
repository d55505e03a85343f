"""What may be said of a session: confirmed gains, ablations, reports, charts, rankings."""
