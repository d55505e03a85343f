"""What is persisted: the ledger (SQLite) and the lineage of genomes (git)."""
