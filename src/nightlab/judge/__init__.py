"""The judge: measurements in, verdict out. Pure functions, no I/O."""

from nightlab.judge.holdout import Look, look
from nightlab.judge.interval import level_of_look, paired_gain
from nightlab.judge.keep import e_value, make_rule, without
from nightlab.judge.noise import (
    Noise,
    change_of_noise,
    noisier,
    pairs_needed,
    pooled,
    prior_sigma,
    smallest_effect,
)
from nightlab.judge.rule import Again, Contestant, Judge, Rule

__all__ = [
    "Again",
    "Contestant",
    "Judge",
    "Look",
    "Noise",
    "Rule",
    "change_of_noise",
    "e_value",
    "level_of_look",
    "look",
    "make_rule",
    "noisier",
    "paired_gain",
    "pairs_needed",
    "pooled",
    "prior_sigma",
    "smallest_effect",
    "without",
]
