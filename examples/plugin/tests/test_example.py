from nightlab_example.proposer import Step
from nightlab_example.rule import Margin

from nightlab.testing import check_proposer, check_rule, context


def test_the_proposer_steps_up_and_down() -> None:
    up, down = check_proposer(Step(Step.Config(factor=4), context(name="step")))
    assert "RATE = 0.4" in up.files["genome.py"] and "RATE = 0.025" in down.files["genome.py"]


def test_the_rule_judges_like_a_rule() -> None:
    check_rule(Margin(Margin.Config(), None))
