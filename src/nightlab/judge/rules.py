"""The keep rules: when a candidate replaces the champion.

``benchmarks/keep_rules.py`` measures what they cost and find. All of them work on gains, so that they do not depend on
whether the metric is minimised or maximised.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nightlab.core import plugins
from nightlab.core.config import JudgeConfig
from nightlab.core.types import Metric, Verdict, average
from nightlab.judge.judge import Contestant, NeedsTrial, Rule, next_seed, simpler
from nightlab.judge.noise import Noise, clamped
from nightlab.judge.plugged import PluggedRule
from nightlab.judge.scale import no_ratio
from nightlab.judge.words import better, worse


@dataclass(frozen=True, slots=True)
class Greedy:
    """Keep every candidate that measured better, as karpathy/autoresearch does; a tie goes to the simpler program.

    Where effects are as small as the seed noise, it mistakes luck for progress, and then holds later candidates to
    that lucky value.
    """

    baseline_runs: int = 1
    same_seeds: bool = True

    def compare(
        self, metric: Metric, champion: Contestant, candidate: Contestant, noise: Noise
    ) -> Verdict | NeedsTrial:
        value = average(list(candidate.values().values()))
        gain = _gain(metric, champion, value)
        if gain > 0:
            return Verdict("keep", "improved", better(gain, noise), value)
        if gain == 0:
            return _tie(champion, candidate, value)
        return Verdict("discard", "regressed", worse(gain, noise))

    def remeasured(self, bar: float, weight: int, value: float) -> float:
        return bar  # the original never re-measures


@dataclass(frozen=True, slots=True)
class Shrunk:
    """Greedy with an unbiased bar: the champion's value counts without the luck that made it champion.

    A win by less than ``again`` sigma is measured once more on a fresh seed. The winner's bar is then set worse than
    its mean by ``min(most * s, pull * s**2 / gain, gain)``, with s the standard error of the mean: nothing for a big
    win, all of the gain for one that may be pure luck. Stricter rules (k sigma, or three seeds for everything) lost 5
    to 60 % of the gain in simulation, except where the noise is several times the size of most effects: there, three
    seeds for everything find more. A candidate that is simpler, and worse by at most ``tie`` standard errors, is kept
    too, but the bar stays, so that ties can't add up to a loss.

    Every candidate has its own seed: the bar is a mean over seeds, and the effect of a shared seed on all programs
    would bias every comparison.

    Method and constants: the simulation in benchmarks/keep_rules.py.
    """

    baseline_runs: int = 2
    same_seeds: bool = False
    again: float = 1.0
    most: float = 1.0
    pull: float = 4.0
    tie: float = 0.5

    def compare(
        self, metric: Metric, champion: Contestant, candidate: Contestant, noise: Noise
    ) -> Verdict | NeedsTrial:
        values = list(candidate.values().values())
        value = average(values)
        gain = _gain(metric, champion, value)
        error = noise.sigma / math.sqrt(len(values))
        level = -self.tie * error <= gain <= 0
        if len(values) == 1 and 0 < gain < self.again * noise.sigma:
            return NeedsTrial("candidate", next_seed(candidate), f"{better(gain, noise)}: may be luck")
        if len(values) == 1 and level and noise.sigma > 0 and simpler(champion, candidate):
            return NeedsTrial("candidate", next_seed(candidate), "as good and simpler: may be luck")
        if gain > 0:
            luck = min(self.most * error, self.pull * error * (error / gain), gain)
            return Verdict("keep", "improved", better(gain, noise), metric.worsened(value, luck))
        if level:
            assert champion.bar is not None
            return _tie(champion, candidate, champion.bar)
        return Verdict("discard", "regressed", worse(gain, noise))

    def remeasured(self, bar: float, weight: int, value: float) -> float:
        return _mean_with(bar, weight, value)


@dataclass(frozen=True, slots=True)
class Strict:
    """Keep only on anytime-valid evidence: candidate and champion are measured on the same seeds until it suffices.

    The evidence is the e-value of a half-normal mixture over paired gains (Robbins 1970; Howard et al. 2021):
    whenever measuring stops, a candidate that is no better reaches ``1 / alpha`` with probability at most ``alpha``,
    given the noise. Use it when each keep has to be a claim: it costs about twice the trials.
    """

    alpha: float = 0.1
    most_seeds: int = 8
    baseline_runs: int = 1
    same_seeds: bool = True

    def compare(
        self, metric: Metric, champion: Contestant, candidate: Contestant, noise: Noise
    ) -> Verdict | NeedsTrial:
        paired = _paired(metric, champion, candidate)
        if isinstance(paired, NeedsTrial):
            return paired
        gain, seeds = average(paired), len(paired)
        evidence = e_value(paired, noise)
        said = f"{better(gain, noise)} on {seeds} seeds, evidence {evidence:.3g} of the required {1 / self.alpha:g}"
        if evidence >= 1 / self.alpha:
            return Verdict("keep", "improved", said, average(list(candidate.values().values())))
        if gain < 0:
            return Verdict("discard", "regressed", worse(gain, noise))
        if gain == 0 and noise.sigma == 0:
            assert champion.bar is not None
            return _tie(champion, candidate, champion.bar)
        if len(candidate.runs) >= self.most_seeds:
            return Verdict("discard", "inconclusive", said)
        return NeedsTrial("candidate", next_seed(candidate), said)

    def remeasured(self, bar: float, weight: int, value: float) -> float:
        return _mean_with(bar, weight, value)


@dataclass(frozen=True, slots=True)
class Replicate:
    """Measure every candidate on ``seeds`` seeds, the champion on the same ones; the better mean wins.

    Use it only where the noise is larger than most effects.
    """

    seeds: int = 3
    same_seeds: bool = True

    @property
    def baseline_runs(self) -> int:
        return self.seeds

    def compare(
        self, metric: Metric, champion: Contestant, candidate: Contestant, noise: Noise
    ) -> Verdict | NeedsTrial:
        if len(candidate.runs) < self.seeds:
            return NeedsTrial("candidate", next_seed(candidate), f"every candidate is run on {self.seeds} seeds")
        paired = _paired(metric, champion, candidate)
        if isinstance(paired, NeedsTrial):
            return paired
        gain, value = average(paired), average(list(candidate.values().values()))
        if gain > 0:
            return Verdict("keep", "improved", better(gain, noise), value)
        return _tie(champion, candidate, value) if gain == 0 else Verdict("discard", "regressed", worse(gain, noise))

    def remeasured(self, bar: float, weight: int, value: float) -> float:
        return _mean_with(bar, weight, value)


def make_rule(name: str, alpha: float = 0.1, seeds: int = 3, options: Mapping[str, Any] | None = None) -> Rule:
    """The rule that a contract names. ``alpha`` is of ``strict``, ``seeds`` of ``replicate``, ``options`` of plug-ins.

    Raises NightlabError when there is no such rule, or a plug-in can't be loaded.
    """
    context = JudgeConfig(alpha=alpha, seeds=seeds)
    made: Rule = plugins.make("rule", name, options or {}, context, "judge.options")
    return PluggedRule(name, made) if plugins.is_plugin("rule", name) else made


def shrunk(config: object, context: JudgeConfig) -> Rule:
    return Shrunk()


def greedy(config: object, context: JudgeConfig) -> Rule:
    return Greedy()


def strict(config: object, context: JudgeConfig) -> Rule:
    return Strict(context.alpha)


def replicate(config: object, context: JudgeConfig) -> Rule:
    return Replicate(context.seeds)


def judge_ablation(metric: Metric, bar: float, champion: list[float], candidate: list[float], noise: Noise) -> Verdict:
    """Whether a champion without some of its changes is as good, from pairs on fresh seeds; if so, it replaces it.

    At most one standard error worse is good enough, because it is simpler: of the session's noise, or of these pairs
    where they say that it is smaller. The bar stays, so that losses can't add up.
    """
    if noise.scale == "ratio":
        if fault := no_ratio(metric, [*champion, *candidate]):
            return Verdict("discard", "inconclusive", fault)
        champion, candidate = ([math.log(value) for value in side] for side in (champion, candidate))
    gains = [clamped(metric.gain(before, after)) for before, after in zip(champion, candidate, strict=True)]
    gain, error = average(gains), noise.sigma * math.sqrt(2 / len(gains))
    if len(gains) > 1:
        spread = math.hypot(*(each - gain for each in gains)) / math.sqrt(len(gains) - 1)
        error = min(error, spread / math.sqrt(len(gains)))
    if gain >= -error:
        return Verdict("keep", "simpler", f"as good on {len(gains)} fresh seeds, with fewer changes", bar)
    return Verdict("discard", "regressed", worse(gain, noise))


def e_value(gains: list[float], noise: Noise) -> float:
    """The e-value of paired gains for "the candidate is better" against "it is not better"; 1 is no evidence.

    Each gain has variance 2 sigma**2; the mixture over true gains is half-normal with the same variance.
    """
    from scipy.special import ndtr

    total = average(gains) * len(gains)
    if noise.sigma == 0:
        return math.inf if total > 0 else 0.0
    z = total / math.sqrt(2) / noise.sigma / math.sqrt(1 + len(gains))
    return 2 / math.sqrt(1 + len(gains)) * math.exp(min(z * z / 2, 700)) * float(ndtr(z))


def _paired(metric: Metric, champion: Contestant, candidate: Contestant) -> list[float] | NeedsTrial:
    """The candidate's gains on the seeds that both were measured on; or the champion's missing run.

    A seed on which the champion failed gives no pair and is not asked for again.
    """
    before, after = champion.values(), candidate.values()
    for seed in after:
        if seed not in champion.runs:
            return NeedsTrial("champion", seed, "needed for a comparison on the same seed")
    return [clamped(metric.gain(before[seed], after[seed])) for seed in after if seed in before]


def _mean_with(bar: float, weight: int, value: float) -> float:
    """``bar``, the mean of ``weight`` values, updated with one more; a non-finite value changes nothing."""
    return bar + clamped(value - bar) / (weight + 1) if math.isfinite(value) else bar


def _gain(metric: Metric, champion: Contestant, value: float) -> float:
    assert champion.bar is not None
    return clamped(metric.gain(champion.bar, value))


def _tie(champion: Contestant, candidate: Contestant, bar: float) -> Verdict:
    if how := simpler(champion, candidate):
        return Verdict("keep", "simpler", f"as good, {how}", bar)
    return Verdict("discard", "inconclusive", "as good, but no simpler")
