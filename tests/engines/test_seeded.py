"""A program that never seeds draws the same numbers on the same seed, whatever it draws them with."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.processes import PATIENCE

from nightlab.engines.local.layout import WITH_START

pytestmark = pytest.mark.integration

DRAWS = """
import random
import numpy as np
print(random.random(), np.random.rand(), np.random.default_rng().random(), np.random.default_rng(3).random())
"""


def test_random_and_numpy_are_seeded_for_a_program_that_does_not() -> None:
    def drawn(seed: str) -> list[str]:
        env = {**os.environ, "PYTHONPATH": WITH_START, "NIGHTLAB_SEEDED": "1", "NIGHTLAB_SEED": seed}
        done = subprocess.run([sys.executable, "-c", DRAWS], env=env, capture_output=True, text=True, timeout=PATIENCE)
        return done.stdout.split() or [done.stderr]

    one, again, other = drawn("5"), drawn("5"), drawn("6")
    assert len(one) == 4 and one == again
    assert one[3] == other[3], "a seed that the program sets counts as before"
    assert not set(one[:3]) & set(other[:3])
