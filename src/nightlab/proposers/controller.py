"""The controller: samples whole genomes from a policy over constants and patches, trained on what they gained.

Neural architecture search by REINFORCE (Zoph and Le 2017), with the judge's gains over the baseline as rewards. The
policy has no state besides the ledger: each turn trains it anew on the controller's own experiments, in their order.
``benchmarks/controller.py`` shows when it pays.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nightlab.core.program.constants import NO_CONSTANT, Constant, change_constants, changes, rounded
from nightlab.core.types import Candidate
from nightlab.proposers.patch_set import PatchSet
from nightlab.proposers.policy import Choice, Policy
from nightlab.proposers.proposer import Briefing, Proposal, RejectedProposal
from nightlab.proposers.spaces import find_spaces, value_at
from nightlab.storage.git import Repo

LEVELS = 7  # values of a range among which the policy chooses
ATTEMPTS = 200
WARMER = 0.05  # rise of the temperature after each sample that was tried before
SOURCE, AND = "controller: ", " + "  # of an experiment: the patches that it took
PATCH = Choice((False, True), 0)


class Controller:
    """Proposes samples of its policy. ``folder``: where the patches are that it may take; ``repo`` applies them.

    Without patches it changes the constants of the genome that the search asks for. With patches each proposal starts
    from the baseline, so that a patch is taken or not, regardless of what the champion has.
    """

    name = "controller"

    def __init__(self, seed: int = 0, folder: Path | None = None, repo: Repo | None = None) -> None:
        self.seed, self.folder, self.repo = seed, folder, repo
        self.refused = 0
        self.nothing = ""  # why there is nothing to propose
        self._patches: PatchSet | None = None

    def propose(self, briefing: Briefing) -> Proposal | None:
        self.nothing, base, patches = "", briefing.history[0].candidate, self._patch_set(briefing)
        usable = patches.read() if patches else []
        genome = patches.contents(base.commit, briefing.genome) if patches else briefing.genome
        path, text, constants, spaces = find_spaces(genome, briefing) or ("", "", {}, {})
        choices = _choices(spaces, constants, base) | dict.fromkeys(usable, PATCH)
        known = [_taken(experiment.candidate, choices) for experiment in briefing.history]
        policy = self._trained(choices, briefing, known)
        draw = random.Random(f"{self.seed}/{briefing.history[-1].number + 1}/{self.refused}")
        for attempt in range(ATTEMPTS if choices else 0):
            sample = policy.sample(draw, 1 + WARMER * attempt)
            wanted = [name for name in usable if sample[name]]
            commit, taken = patches.together(wanted) if patches else ("", ())
            sample |= {name: int(name in taken) for name in wanted}
            if sample in known:
                continue
            values = {name: choices[name].levels[sample[name]] for name in choices if name in spaces}
            moved = {name: value for name, value in values.items() if value != rounded(constants[name].value)}
            words = changes({name: constants[name].value for name in moved}, moved)
            if patches is None:
                files = {path: change_constants(text, briefing.device, moved)}
                return Proposal(self.name, f"sample {', '.join(words)}", files)
            here = patches.contents(commit, [path] if moved else [])
            files = {path: change_constants(text, briefing.device, moved) for path, text in here.items()}
            said = f"sample {', '.join([*words, *taken])}"
            patch = patches.patch(commit, files, said)
            return Proposal(self.name, said, patch=patch, source=SOURCE + AND.join(taken), on=base.commit)
        self.nothing = f"{self.name}: {f'{ATTEMPTS} samples were all tried before' if choices else NO_CONSTANT}"
        return None

    def tell(self, proposal: Proposal, refusal: str | None) -> None:
        """Only counts refusals, so that a refused proposal is not repeated; all else comes from the ledger."""
        self.refused += refusal is not None

    def take_failed(self) -> list[RejectedProposal]:
        """Patches that can't be used, since this was last asked."""
        unusable = self._patches.take_unusable() if self._patches else {}
        return [RejectedProposal(self.name, why, name) for name, why in unusable.items()]

    def _patch_set(self, briefing: Briefing) -> PatchSet | None:
        if self._patches is None and self.folder and self.repo and briefing.lab:
            base = briefing.history[0].candidate.commit
            self._patches = PatchSet(self.folder, self.repo, base, briefing.lab.genome)
        return self._patches

    def _trained(self, choices: Mapping[str, Choice], briefing: Briefing, known: list[dict[str, int]]) -> Policy:
        """The policy after the controller's own experiments, which are on it; a crash counts as the worst so far."""
        policy, worst, first = Policy(choices), 0.0, briefing.history[0].value
        for experiment, taken in zip(briefing.history, known, strict=True):
            own, verdict = experiment.candidate.proposer == self.name, experiment.verdict
            if first is None or not own or verdict is None or verdict.reason == "skipped":
                continue
            measured = experiment.measurement is not None and experiment.measurement.measured
            if measured and experiment.value is not None:
                reward = briefing.metric.gain(first, experiment.value)
                worst = min(worst, reward)
            else:
                reward = worst
            policy.learn(taken, reward)
        return policy


def _choices(spaces: Mapping[str, Any], constants: Mapping[str, Constant], base: Candidate) -> dict[str, Choice]:
    found = {n: _choice(space, rounded(base.constants.get(n, constants[n].value))) for n, space in spaces.items()}
    return {name: choice for name, choice in found.items() if len(choice.levels) > 1}


def _choice(space: Any, start: Any) -> Choice:
    """What the policy chooses from: a category's values, or about seven of a range; the baseline's is among them."""
    levels = list(space.choices) if hasattr(space, "choices") else _levels(space, isinstance(start, int))
    if start not in levels:
        inside = not hasattr(space, "choices") and space.low <= start <= space.high
        if inside:
            levels.remove(min(levels, key=lambda level: abs(level - start)))
        levels = sorted([*levels, start]) if inside else [*levels, start]
    return Choice(tuple(levels), levels.index(start))


def _levels(space: Any, whole: bool) -> list[Any]:
    """Values of a range, evenly apart, on its logarithms if it says so; all of them if they are few."""
    if whole and space.high - space.low < LEVELS:
        return list(range(space.low, space.high + 1))
    values = [value_at(space, n / (LEVELS - 1)) for n in range(LEVELS)]
    return list(dict.fromkeys(round(value) if whole else rounded(value) for value in values))


def _taken(candidate: Candidate, choices: Mapping[str, Choice]) -> dict[str, int]:
    """What a candidate chose, as far as that is among the choices: the index of the level of each."""
    patches = candidate.source.removeprefix(SOURCE).split(AND) if candidate.source.startswith(SOURCE) else []
    taken = {}
    for name, choice in choices.items():
        value = (name in patches) if choice is PATCH else rounded(candidate.constants.get(name))
        if value in choice.levels:
            taken[name] = choice.levels.index(value)
    return taken
