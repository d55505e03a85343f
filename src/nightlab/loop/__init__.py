"""The experiment loop: propose, run, judge, record, repeat."""
