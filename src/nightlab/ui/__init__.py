"""What users watch: one reader that follows a ledger, and the terminal and web views of it."""
