"""The judge: measurements in, verdict out. Pure functions, no I/O."""

from nightlab.judge.expected_gain import LEVEL, GainRate, gain_rate
from nightlab.judge.fixed_seed import FIXED_SEED, fixes_seed, varying, with_unseen_luck
from nightlab.judge.intervals import paired_gain, repeated_check_level
from nightlab.judge.judge import Contestant, Judge, NeedsTrial, Rule
from nightlab.judge.noise import (
    Noise,
    change_of_noise,
    is_noisier,
    pairs_needed,
    pooled,
    prior_sigma,
    smallest_effect,
)
from nightlab.judge.plugged import PluggedRule
from nightlab.judge.rules import e_value, judge_ablation, make_rule
from nightlab.judge.thresholdout import held_out_check

__all__ = [
    "FIXED_SEED",
    "LEVEL",
    "Contestant",
    "GainRate",
    "Judge",
    "NeedsTrial",
    "Noise",
    "PluggedRule",
    "Rule",
    "change_of_noise",
    "e_value",
    "fixes_seed",
    "gain_rate",
    "held_out_check",
    "is_noisier",
    "judge_ablation",
    "make_rule",
    "paired_gain",
    "pairs_needed",
    "pooled",
    "prior_sigma",
    "repeated_check_level",
    "smallest_effect",
    "varying",
    "with_unseen_luck",
]
