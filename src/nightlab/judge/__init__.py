"""The judge: measurements in, verdict out. Pure functions, no I/O."""

from nightlab.judge.expected_gain import LEVEL, Prospect, prospect
from nightlab.judge.intervals import level_of_look, paired_gain
from nightlab.judge.judge import Contestant, Judge, NeedsTrial, Rule
from nightlab.judge.noise import (
    Noise,
    change_of_noise,
    noisier,
    pairs_needed,
    pooled,
    prior_sigma,
    smallest_effect,
)
from nightlab.judge.rules import e_value, make_rule, without
from nightlab.judge.thresholdout import held_out_check

__all__ = [
    "LEVEL",
    "Contestant",
    "Judge",
    "NeedsTrial",
    "Noise",
    "Prospect",
    "Rule",
    "change_of_noise",
    "e_value",
    "held_out_check",
    "level_of_look",
    "make_rule",
    "noisier",
    "paired_gain",
    "pairs_needed",
    "pooled",
    "prior_sigma",
    "prospect",
    "smallest_effect",
    "without",
]
