"""The judge: measurements in, verdict out. Pure functions, no I/O."""

from nightlab.judge.interval import paired_gain
from nightlab.judge.rule import Contestant, Greedy, Rule, make_rule

__all__ = ["Contestant", "Greedy", "Rule", "make_rule", "paired_gain"]
