"""What several tests share: labs, processes, a bench for one trial, examples of records. No fixtures."""
