"""What people watch: one reader that follows a ledger, and the terminal and the browser that show what it sees."""
