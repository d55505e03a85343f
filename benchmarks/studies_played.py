"""Sessions of the studies' toy labs without processes, for studies.py: judge, rules and proposers are the product's."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from keep_rules_session import UPKEEP, Session
from keep_rules_worlds import Genome
from studies_lab import GENOMES, MIXED, Forgetful, loss

from nightlab.core.program.constants import find_constants
from nightlab.core.types import Candidate, Experiment, Measurement, Metric, Verdict
from nightlab.judge import Judge, make_rule
from nightlab.proposers import Briefing
from nightlab.proposers.tuner import Tuner

LOSS = Metric("loss")


class Mixed:
    """The lab ``mixed`` as a world of benchmarks/keep_rules.py."""

    metric, small, baseline = LOSS, 1e-9, Genome(0, len(MIXED) / 2)

    def __init__(self, number: str, sigma: float) -> None:
        self.number, self.sigma, self.order = number, sigma, random.Random(number).sample(MIXED, len(MIXED))

    def propose(self, number: int, champion: Genome) -> Genome:
        assert champion.true is not None
        return Genome(number, champion.true - self.order[number - 1].startswith("IDEA"))

    def measure(self, genome: Genome, seed: int) -> float:
        assert genome.true is not None
        luck = random.Random(f"{self.number}/{genome.number}/{genome.true}/{seed}")
        return genome.true + luck.gauss(0, self.sigma)


def rule_gain(rule: str, study: int | str, turn: int, experiments: int, sigma: float) -> float:
    """What a session's champion truly gains on ``mixed`` under a keep rule."""
    session = Session(Mixed(f"{study}/{turn}", sigma), Judge(LOSS, {}, make_rule(rule)), None, 10**6)
    session._try(Mixed.baseline)
    for idea in range(1, experiments + 1):
        assert session.champion
        session._try(session.world.propose(idea, session.champion.genome))
        if idea % UPKEEP == 0:
            session._upkeep()
    assert session.champion and session.champion.genome.true is not None and Mixed.baseline.true is not None
    return Mixed.baseline.true - session.champion.genome.true


def order_gain(arm: str, study: int, turn: int, experiments: int, sigma: float) -> float:
    """As ``rule_gain``, with nightlab's rule; each arm has an order of the ideas."""
    return rule_gain("shrunk", f"{study}/{arm}", turn, experiments, sigma)


def history_gain(arm: str, study: int, turn: int, experiments: int, sigma: float) -> float:
    """What a session's champion truly gains on ``settings`` by the tuner; what measured better is kept."""
    where, luck, text = Path(f"{study}"), random.Random(f"{arm}/{study}/{turn}"), GENOMES["settings"]
    proposer: Any = Tuner(turn) if arm == "with" else Forgetful(None, SimpleNamespace(name="tuner", seed=turn))  # type: ignore
    history, champion, words = list[Experiment](), 0, ""

    def values(text: str) -> dict[str, Any]:
        return {name: one.value for name, one in find_constants(text, "cpu").items()}

    texts = [text]
    for number in range(experiments + 1):
        metric = loss(values(texts[-1]), where) + luck.gauss(0, sigma)
        changes = tuple(words.removeprefix("tune ").split(", ")) if number else ()
        made = Candidate(f"{number}", "", "", "tuner", words, constants=values(texts[-1]), changes=changes)
        better = not number or metric < (history[champion].bar or 0.0)
        verdict = Verdict("keep", "improved", bar=metric) if better else Verdict("discard", "regressed")
        one = Experiment(number, made, 0.0, measurement=Measurement("measured", metric), verdict=verdict)
        history.append(replace(one, bar=verdict.bar))
        champion = number if better else champion
        genome = {"genome.py": texts[champion]}
        told = Briefing(LOSS, "cpu", genome, history[champion], history, history[champion])
        proposal = proposer.propose(told)
        words = proposal.hypothesis
        texts.append(proposal.files["genome.py"])
    return loss(values(text), where) - loss(values(texts[champion]), where)


GAINS = {"rule": rule_gain, "orders": order_gain, "history": history_gain}
