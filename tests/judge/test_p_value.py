"""The p-value of a gain: Student's t, one-sided, and twice as large with each further look."""

from __future__ import annotations

import pytest

from nightlab import NightlabError
from nightlab.judge.p_value import p_of_gain

GAINS = [0.012, 0.004, 0.009, 0.007, 0.011]


def test_it_is_that_of_the_t_test() -> None:
    # scipy.stats.ttest_1samp(GAINS, margin, alternative="greater").pvalue; scipy.stats takes a second to import
    assert p_of_gain(GAINS) == pytest.approx(0.0019508985077079863)
    assert p_of_gain(GAINS, 0.005) == pytest.approx(0.03309081754316863)
    assert p_of_gain(GAINS, looks=3) == pytest.approx(4 * p_of_gain(GAINS))
    assert p_of_gain([-gain for gain in GAINS], looks=3) == 1.0


def test_without_noise_it_is_known_and_one_pair_is_too_few() -> None:
    assert (p_of_gain([0.1, 0.1]), p_of_gain([0.0, 0.0]), p_of_gain([0.1, 0.1], 0.1)) == (0.0, 1.0, 1.0)
    with pytest.raises(NightlabError, match="two pairs"):
        p_of_gain([0.1])
