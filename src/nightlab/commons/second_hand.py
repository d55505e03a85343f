"""Other labs' measurements of a finding as evidence here, weighted by how far each lab's word held here. Pure.

Each measurement is a Bayes factor for "it gains" against "it does not" (a normal prior on the gain, Jeffreys 1961). A
lab is right with the probability that it earned here, and says anything otherwise (contaminated likelihoods, Huber
1964), so no single lab moves the odds by more than its record allows. Independent labs multiply. Labs that have shown
nothing here have no weight, whatever their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from nightlab.commons.trust import ELSEWHERE, FALSE, PeerVerdict, Trust

PRIOR = 2.0  # standard deviation of a gain under the prior, in standard errors of one comparison
SURE = 0.95  # largest probability that others' measurements give: own measurements alone make more


def bayes_factor(shown: float) -> float:
    """How much more likely a measured gain of ``shown`` standard errors is if the change gains than if it does not."""
    z, ratio = max(0.0, min(shown, FALSE)), PRIOR**2 / (1 + PRIOR**2)
    return math.exp(ratio * z * z / 2) / math.sqrt(1 + PRIOR**2)


def visible(shown: float) -> float:
    """The probability that a claimed gain is one, as far as its size and noise tell."""
    factor = bayes_factor(shown)
    return factor / (1 + factor)


def evidence(statement: PeerVerdict, word: float) -> float:
    """The factor by which a lab's statement changes the odds that a finding holds, if ``word`` of what it says is true.

    Between 1 - ``word`` and 1 / (1 - ``word``).
    """
    factor = 0.0 if statement.verdict == "refuted" else bayes_factor(statement.shown)
    anything = max(factor, 1.0)
    return (word * factor + (1 - word) * anything) / (word + (1 - word) * anything)


def probability(prior: float, statements: Iterable[PeerVerdict], trusted: Mapping[str, Trust]) -> float:
    """The probability that a finding holds: ``prior``, the trust in its author, and what proven labs measured: at
    another budget, with half the weight."""
    odds = prior / (1 - prior)
    for statement in statements:
        known = trusted.get(statement.by)
        if known and known.proven and statement.by != statement.author:
            odds *= evidence(statement, known.value * (ELSEWHERE if statement.elsewhere else 1.0))
    return min(odds / (1 + odds), max(SURE, prior))


def said_of(statements: Iterable[PeerVerdict]) -> dict[str, list[PeerVerdict]]:
    """Each lab's latest statement on each finding, by finding."""
    last = {(each.target, each.by): each for each in sorted(statements, key=lambda each: each.at)}
    found: dict[str, list[PeerVerdict]] = {}
    for (target, _), each in last.items():
        found.setdefault(target, []).append(each)
    return found
