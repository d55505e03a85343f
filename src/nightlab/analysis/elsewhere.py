"""What a confirmation measured beside its metric: the same metric on other data, such as text that was never public."""

from __future__ import annotations

from nightlab.core.types import Experiment, PairedGain
from nightlab.judge import paired_gain
from nightlab.session.session import Session


def gains_elsewhere(session: Session, champion: Experiment) -> list[tuple[str, PairedGain]]:
    """The champion's gains over the baseline in secondary numbers named after the metric, ``val_bpb_private``.

    Paired on the fresh seeds of the confirmation. Empty where the evaluator prints none.
    """
    budget = session.budget.record()
    sides = [
        {
            t.seed: m.secondary
            for t, m in session.ledger.trials(number, "confirm")
            if m and m.measured and t.budget == budget
        }
        for number in (0, champion.number)
    ]
    seeds = sorted(sides[0].keys() & sides[1].keys())
    names = {name for seed in seeds for name in sides[1][seed] if name.startswith(f"{session.metric.name}_")}
    found: list[tuple[str, PairedGain]] = []
    for name in sorted(names):
        pairs = [(sides[0][seed][name], sides[1][seed][name]) for seed in seeds if all(name in s[seed] for s in sides)]
        if len(pairs) > 1:
            before, after = zip(*pairs, strict=True)
            found.append((name, paired_gain(session.metric, before, after)))
    return found
