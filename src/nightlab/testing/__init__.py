"""Checks for authors of plug-ins: each runs a protocol's contract on an object.

They raise AssertionError with a sentence that says what is wrong, so a test needs one line::

    from nightlab.testing import check_proposer

    def test_my_proposer() -> None:
        check_proposer(MyProposer(MyProposer.Config(), context()))
"""

from nightlab.testing.checks import check_engine, check_proposer, check_rule
from nightlab.testing.examples import BUDGET, METRIC, briefing, context, contract, measured

__all__ = [
    "BUDGET",
    "METRIC",
    "briefing",
    "check_engine",
    "check_proposer",
    "check_rule",
    "context",
    "contract",
    "measured",
]
