"""The judge: measurements in, verdict out. Pure functions, no I/O."""

from nightlab.judge.common_luck import seeds_of_candidate, share_of_seeds
from nightlab.judge.counts import always_valid_gain, counts_of
from nightlab.judge.expected_gain import LEVEL, GainRate, gain_rate
from nightlab.judge.fixed_seed import FIXED_SEED, fixes_seed, varying, with_unseen_luck
from nightlab.judge.intervals import exact_gain, paired_gain, repeated_check_level, with_stated_errors
from nightlab.judge.judge import Contestant, Judge, NeedsTrial, Rule, measured_loss
from nightlab.judge.noise import (
    Noise,
    change_of_noise,
    in_sigmas,
    is_noisier,
    pairs_needed,
    pooled,
    prior_sigma,
    same_on_every_seed,
    smallest_effect,
)
from nightlab.judge.plugged import PluggedRule
from nightlab.judge.rules import e_value, judge_ablation, make_rule
from nightlab.judge.scale import find_scale, no_ratio, share_of
from nightlab.judge.thresholdout import held_out_check
from nightlab.judge.words import times_words

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
    "always_valid_gain",
    "change_of_noise",
    "counts_of",
    "e_value",
    "exact_gain",
    "find_scale",
    "fixes_seed",
    "gain_rate",
    "held_out_check",
    "in_sigmas",
    "is_noisier",
    "judge_ablation",
    "make_rule",
    "measured_loss",
    "no_ratio",
    "paired_gain",
    "pairs_needed",
    "pooled",
    "prior_sigma",
    "repeated_check_level",
    "same_on_every_seed",
    "seeds_of_candidate",
    "share_of",
    "share_of_seeds",
    "smallest_effect",
    "times_words",
    "varying",
    "with_stated_errors",
    "with_unseen_luck",
]
