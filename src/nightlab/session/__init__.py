"""One tagged run of experiments: how it begins, what it needs, what its genomes measured."""
