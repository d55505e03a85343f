"""The tuner: numeric changes of the genome's constants, around the champion's values.

Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) chooses values from the history. One or two constants
move at a time and the others keep the champion's values, because a session has few experiments and a genome many
constants. The tuner has no state besides the ledger. Use it for numeric settings; it cannot change code.
"""

from __future__ import annotations

import math
import random
import warnings
from typing import Any

from nightlab.core.program.constants import NO_CONSTANT, Constant, change_constants, changes, rounded
from nightlab.core.types import Experiment
from nightlab.proposers.proposer import Briefing, Proposal
from nightlab.proposers.spaces import find_spaces

ATTEMPTS = 30
NUDGE = 0.05  # share of a float's range below which a move would be lost in seed noise
ONE = 0.6  # share of moves that move one constant; the others move two
WARM_UP = 12  # random experiments before the estimator is used
# Experiments passed to the estimator: TPE uses at most 25 as good ones (Optuna's default), and weights the others by
# age.
BEST, LAST = 25, 200


class Tuner:
    """Proposes new values for one or two of the genome's constants."""

    name = "tuner"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.refused = 0
        self.nothing = ""  # why there is nothing to propose

    def propose(self, briefing: Briefing) -> Proposal | None:
        self.nothing = ""
        if found := find_spaces(briefing.genome, briefing):
            return self._move(briefing, *found)
        self.nothing = f"{self.name}: {NO_CONSTANT}"
        return None

    def tell(self, proposal: Proposal, refusal: str | None) -> None:
        """Only counts rejections, so that a rejected proposal is not repeated; all else comes from the ledger."""
        self.refused += refusal is not None

    def _move(
        self,
        briefing: Briefing,
        path: str,
        text: str,
        constants: dict[str, Constant],
        spaces: dict[str, Any],
    ) -> Proposal | None:
        import optuna

        turn = briefing.history[-1].number + 1
        draw = random.Random(f"{self.seed}/{turn}/{self.refused}" if self.refused else f"{self.seed}/{turn}")
        current = {name: constants[name].value for name in spaces}
        history = _telling(briefing)
        tried = [_point(experiment, spaces, current) for experiment in history]
        study = _study(briefing, spaces, history, tried)
        for _ in range(ATTEMPTS):
            free = _choose(spaces, history, draw)
            fixed = {name: value for name, value in current.items() if name not in free}
            study.sampler = optuna.samplers.PartialFixedSampler(
                fixed,
                optuna.samplers.TPESampler(n_startup_trials=WARM_UP, seed=draw.getrandbits(32), n_ei_candidates=24),
            )
            params = study.ask({name: spaces[name] for name in sorted(free)}).params
            asked = {name: rounded(value) for name, value in params.items()}
            after = {name: asked[name] for name in free if _far(spaces[name], current[name], asked[name])}
            point = {**current, **after}
            if after and point not in tried:
                words = changes({name: current[name] for name in after}, after)
                return Proposal(
                    self.name,
                    f"tune {', '.join(words)}",
                    {path: change_constants(text, briefing.device, after)},
                )
        return None


def _study(briefing: Briefing, spaces: dict[str, Any], history: list[Experiment], tried: list[dict[str, Any]]) -> Any:
    """An Optuna study with the results of these experiments, as far as their points lie in the search spaces."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    worst, past = _worst(briefing), []
    for experiment, point in zip(history, tried, strict=True):
        value = _value(experiment, worst)
        inside = {n: point[n] for n in point if spaces[n]._contains(spaces[n].to_internal_repr(point[n]))}
        if value is not None and inside:
            known = {name: spaces[name] for name in inside}
            past.append(optuna.trial.create_trial(params=inside, distributions=known, value=value))
    study = optuna.create_study(direction="minimize" if briefing.metric.goal == "minimise" else "maximize")
    study.add_trials(past)
    return study


def _telling(briefing: Briefing) -> list[Experiment]:
    """The best and the most recent experiments, in order."""
    minimise = briefing.metric.goal == "minimise"
    measured = [(e.measurement.metric, e.number) for e in briefing.history if e.measurement]
    known = sorted(((value, number) for value, number in measured if value is not None), reverse=not minimise)
    best = {number for _, number in known[:BEST]}
    since = max(len(briefing.history) - LAST, 0)
    return [e for place, e in enumerate(briefing.history) if place >= since or e.number in best]


def _choose(spaces: dict[str, Any], history: Any, draw: random.Random) -> set[str]:
    """One or two constants to move: preferably those with the fewest failed moves, ties broken at random."""
    moved = dict.fromkeys(spaces, 0)
    for experiment in history:
        if not experiment.kept:  # a move that led to a keep does not count against its constant
            for change in experiment.candidate.changes:
                name = change.split(" ", 1)[0]
                if name in moved:
                    moved[name] += 1
    order = sorted(moved, key=lambda name: (moved[name], draw.random()))
    count = 1 if draw.random() < ONE or len(order) == 1 else 2
    pick: set[str] = set()
    while len(pick) < count:
        pick.add(order[min(int(draw.expovariate(0.5)), len(order) - 1)])
    return pick


def _far(space: Any, old: Any, new: Any) -> bool:
    """Whether a move is large enough to show: 5 % of a float's range, or any step of other types."""
    if old == new or not isinstance(new, float):
        return bool(old != new)
    if space.log and old > 0:
        return bool(abs(math.log(new / old)) >= NUDGE * math.log(space.high / space.low))
    return bool(abs(new - old) >= NUDGE * (space.high - space.low))


def _point(experiment: Experiment, spaces: dict[str, Any], current: dict[str, Any]) -> dict[str, Any]:
    constants = experiment.candidate.constants
    return {name: constants.get(name, current[name]) for name in spaces}


def _value(experiment: Experiment, worst: float | None) -> float | None:
    """The value passed to the estimator: the metric, or for a crash the worst so far; None if it was skipped."""
    if experiment.verdict is None or experiment.measurement is None or experiment.verdict.reason == "skipped":
        return None
    return experiment.measurement.metric if experiment.measurement.measured else worst


def _worst(briefing: Briefing) -> float | None:
    measured = [e.measurement.metric for e in briefing.history if e.measurement and e.measurement.measured]
    numbers = [value for value in measured if value is not None]
    if not numbers:
        return None
    return max(numbers) if briefing.metric.goal == "minimise" else min(numbers)
