"""The terminal: live screen, the log as a table, one experiment, the closing summary."""
