"""Studies: which of several strategies gains more, by whole sessions of equally many experiments or equal hours.

Each arm is a strategy: a program.md, proposers, a keep rule, a selection, or two of them, with a switch from one to the
other where the first finds no more. In each round every arm has one session, in an order that
is turned round each time, so that a machine that drifts favours none. The score of a session is the gain of its
champion over its baseline, confirmed on fresh seeds; 0 where it kept nothing.
"""

from __future__ import annotations

import math
import re
import statistics
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from nightlab.analysis.confirm import lineage
from nightlab.core.config_model import ConfigModel
from nightlab.core.observer import Observer
from nightlab.core.text import one_line
from nightlab.core.toml_lines import located
from nightlab.core.types import Experiment, Metric, NightlabError
from nightlab.engines.platform import differences
from nightlab.judge import Noise, paired_gain, pairs_needed
from nightlab.session.session import STUDY, Session, open_session
from nightlab.storage.ledger import LEDGER, Ledger

LEAST = 3  # rounds before an interval may end a study
GAIN = Metric("gain", "maximise")  # of a session: a larger one is better
INDEPENDENT = "independent"  # the built-in arm: the best of independent tries


class StrategyConfig(ConfigModel):
    """What a strategy changes of the lab's contract; the rest is as there.

    ``program``: the file that proposers are told in place of ``program.md``; ``read_study`` puts its text here.
    """

    proposers: list[str | dict[str, Any]] | None = None
    judge: str | None = None
    search: str | None = None
    program: str | None = None
    shares: Literal["fixed", "earned"] | None = None

    @field_validator("program")
    @classmethod
    def _text(cls, name: str | None, info: ValidationInfo) -> str | None:
        return name if name is None or info.context is None else (info.context / name).read_text(encoding="utf-8")

    def given(self) -> dict[str, Any]:
        """As ``Lab.session`` takes it."""
        parts = self.model_dump(include={*StrategyConfig.model_fields}, exclude_none=True)
        return {"selection" if name == "search" else name: value for name, value in parts.items()}


class ArmConfig(StrategyConfig):
    """A strategy, and ``then`` another one, from the time on when ``plateau`` experiments in a row kept nothing."""

    plateau: int | None = Field(default=None, gt=0)
    then: StrategyConfig | None = None

    @model_validator(mode="after")
    def _switches(self) -> ArmConfig:
        if (self.plateau is None) != (self.then is None):
            raise ValueError("a switch needs both: plateau = N, and then = { … }")
        return self


class StudyConfig(ConfigModel):
    """A study's file. A session ends after ``experiments``, or the one by which its trials took the ``hours``.

    ``rounds``: sessions of each arm, at most.
    """

    name: str = Field(pattern=r"^\w[\w-]*$", max_length=40)
    rounds: int = Field(default=5, ge=2, le=1000)
    experiments: int | None = Field(default=None, gt=0)
    hours: float | None = Field(default=None, gt=0)
    confirm: int = Field(default=4, ge=2)
    """Pairs of fresh seeds on which each session's gain is measured."""
    error: float = Field(default=0.05, gt=0, lt=0.5)
    """The chance that equal arms are called different, over all pairs of arms and all looks."""
    best_of_n: bool = True
    """Whether there is an arm of independent tries: what every strategy has to beat."""
    arms: dict[str, ArmConfig]

    @model_validator(mode="after")
    def _comparable(self) -> StudyConfig:
        if odd := [name for name in self.arms if not re.fullmatch(r"\w[\w-]*", name)]:
            raise ValueError(f"{odd[0]!r} is no name for an arm: use letters, digits, '-' and '_'")
        if self.experiments is None and self.hours is None:
            raise ValueError("name when a session ends: experiments, hours, or both")
        if len(self.arms) + self.best_of_n < 2:
            raise ValueError("a study needs two arms at least")
        if self.best_of_n and INDEPENDENT in self.arms:
            raise ValueError(f"{INDEPENDENT} is the name of the built-in arm: best_of_n = false leaves that out")
        return self

    def all_arms(self) -> dict[str, ArmConfig]:
        """The arms by name, the built-in one last."""
        return {**self.arms, **({INDEPENDENT: ArmConfig(search=INDEPENDENT)} if self.best_of_n else {})}

    def schedule(self) -> Iterator[tuple[int, str]]:
        """The sessions in order, as round (from 1) and arm."""
        names = list(self.all_arms())
        for turn in range(1, self.rounds + 1):
            yield from ((turn, name) for name in (names if turn % 2 else reversed(names)))

    def looks(self) -> list[int]:
        """After how many rounds the arms are compared: few times, since each makes the intervals wider."""
        found = [min(LEAST, self.rounds)]
        while found[-1] < self.rounds:
            found.append(min(math.ceil(found[-1] * 1.5), self.rounds))
        return found

    def over(self, session: Any) -> bool:
        """Whether a session has all the experiments, or all the hours of trials, that the study gives it."""
        with closing(Ledger(session.folder / LEDGER, read_only=True)) as ledger:
            judged, seconds = [one.number for one in ledger.experiments() if one.verdict], _trial_seconds(ledger)
        if self.experiments is not None and len(judged) > self.experiments:  # beside the baseline
            return True
        return self.hours is not None and sum(seconds[number] for number in judged) >= 3600 * self.hours

    def tag(self, turn: int, arm: str) -> str:
        """The tag of the session of an arm in a round."""
        return f"{STUDY}{self.name}.{arm}.{turn}"


@dataclass(frozen=True, slots=True)
class StudySession:
    """What one session of an arm brought: the confirmed ``gain``, in ``hours`` of trials and ``money`` (US dollars).

    ``curve``: hours of trials, and the champion's gain by then as the search saw it; ``found``: what the champion
    changed, as names of constants, or hypotheses.
    """

    turn: int
    arm: str
    gain: float
    hours: float
    money: float
    tag: str
    curve: tuple[tuple[float, float], ...] = ()
    found: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much more ``better`` gains than ``other``, on average over the rounds, with its interval.

    ``needed``: rounds that show a difference of this size four times in five, given its spread; 0 where there is none.
    """

    better: str
    other: str
    mean: float
    low: float
    high: float
    rounds: int
    needed: int = 0

    @property
    def words(self) -> str:
        """Whether it is shown."""
        return "shown" if self.shown else f"not shown{f', needs about {self.needed} rounds' * bool(self.needed)}"

    @property
    def shown(self) -> bool:
        return self.low > 0


def read_study(path: Path) -> StudyConfig:
    """A study's file. Raises NightlabError when it can't be read, or naming the key that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
        return StudyConfig.model_validate(tomllib.loads(text), context=path.parent)
    except OSError as error:
        raise NightlabError(f"{error.filename}: {error.strerror}", "docs/studies.md has an example") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise NightlabError(f"{path} is no TOML: {error}", "docs/studies.md has an example") from None
    except ValidationError as error:
        said = located(error, StudyConfig, text, str(path))
        raise NightlabError(said, "docs/studies.md says what each key means") from None


def compare(study: StudyConfig, results: Sequence[StudySession]) -> list[Comparison]:
    """Each pair of arms, the better one first, as of the latest look that all arms' rounds have reached.

    Student's t intervals of the paired differences. The study's error is divided by the pairs of arms and by the looks
    at them (Bonferroni), so that it holds whenever the study stops: half of it is the last look's.
    """
    names, looks = list(study.all_arms()), study.looks()
    gains: dict[str, dict[int, float]] = {name: {} for name in names}
    for result in results:
        gains[result.arm][result.turn] = result.gain
    reached = [look for look in looks if all(look in rounds for rounds in gains.values())]
    if not reached:
        return []
    error, found = study.error / math.comb(len(names), 2), list[Comparison]()
    last = 1 - error / (2 if len(looks) > 1 else 1)
    level = last if reached == looks else 1 - error / 2 / (len(looks) - 1)
    rounds = {name: [gains[name][turn] for turn in range(1, reached[-1] + 1)] for name in names}
    for pair in combinations(names, 2):
        better, other = sorted(pair, key=lambda name: sum(rounds[name]), reverse=True)
        more, less = rounds[better], rounds[other]
        gain = paired_gain(GAIN, less, more, level)
        spread = Noise(statistics.stdev(a - b for a, b in zip(more, less, strict=True)) / math.sqrt(2), gain.pairs - 1)
        needed = pairs_needed(spread, gain.mean, last) if gain.mean > 0 else 0
        found.append(Comparison(better, other, gain.mean, gain.low, gain.high, gain.pairs, needed))
    return found


def decided(study: StudyConfig, comparisons: Sequence[Comparison]) -> str:
    """The arm that is shown to gain more than every other; empty while there is none."""
    for name in study.all_arms():
        rivals = [one for one in comparisons if name in (one.better, one.other)]
        if rivals and all(one.better == name and one.shown for one in rivals):
            return name
    return ""


def run_study(
    study: StudyConfig,
    lab: Any,
    said: Callable[[StudySession], object] = lambda one: None,
    watch: Callable[[], Sequence[Observer]] = tuple,
    **how: Any,
) -> list[StudySession]:
    """Run a study's sessions in a ``nightlab.Lab`` until one arm is shown to be the best, or its rounds are over.

    Sessions that have ended are not run again: a study that was interrupted goes on with the same call. ``said`` is
    told of each, ``watch`` makes the callbacks of one; ``how`` goes to ``Lab.session``. Raises NightlabError as
    ``Lab.session`` and ``Session.run`` do, when a session was stopped, and when one does not compare with the first.
    """
    results: list[StudySession] = []
    arms, first = study.all_arms(), dict[str, Any]()
    for turn, name in study.schedule():
        tag = study.tag(turn, name)
        gain = _run_arm(study, lab, tag, arms[name], watch, {"seed": turn, **how})
        with closing(open_session(lab.path, tag)) as ended:
            first = first or _setting(ended)
            _require_comparable(study, first, ended)
            results.append(_result(ended, turn, name, gain))
        said(results[-1])
        if decided(study, compare(study, results)):
            break
    return results


def _run_arm(
    study: StudyConfig,
    lab: Any,
    tag: str,
    arm: ArmConfig,
    watch: Callable[[], Sequence[Observer]],
    how: Mapping[str, Any],
) -> float:
    """Run one session of an arm, or what is left of it, and return its confirmed gain."""

    def end(session: Any, experiment: Experiment) -> None:
        if study.over(session):
            session.stop()

    for strategy, stall in ((arm, arm.plateau), *([(arm.then, None)] if arm.then else [])):
        with lab.session(tag, **strategy.given(), **how) as session:
            if stall is not None and reached_plateau(session.experiments(), stall):
                continue
            if not study.over(session):
                told = [*watch(), end] if study.hours else watch()
                ran = session.run(experiments=study.experiments, stall=stall, confirm=0, callbacks=told)
                if ran.stopped and not study.over(session):
                    raise NightlabError(f"the study was stopped in {tag}", "the same command goes on from there")
            if stall is None or study.over(session):
                evidence = session.confirm(seeds=study.confirm, callbacks=watch())
                return evidence.gain.mean if evidence else 0.0
    raise AssertionError


def reached_plateau(experiments: Sequence[Experiment], length: int) -> bool:
    """Whether at some time this number of experiments in a row kept nothing. What came later does not count."""
    longest = now = 0
    for one in experiments:
        now = 0 if one.kept or one.verdict is None else now + 1
        longest = max(longest, now)
    return longest >= length


def _result(ended: Session, turn: int, name: str, gain: float) -> StudySession:
    """What a session brought, from its ledger."""
    seconds = _trial_seconds(ended.ledger)
    hours, curve = 0.0, [(0.0, 0.0)]
    for experiment in ended.ledger.experiments():
        hours += seconds[experiment.number] / 3600
        if experiment.kept and experiment.number and experiment.value is not None:
            curve.append((hours, ended.metric.gain(ended.ledger.experiment(0).value or 0.0, experiment.value)))
    curve.append((hours, curve[-1][1]))
    parts = {part for e in lineage(ended) for part in e.candidate.theme or (one_line(e.candidate.hypothesis, 60),)}
    money = ended.ledger.spent().money
    return StudySession(turn, name, gain, hours, money, ended.tag, tuple(curve), tuple(sorted(parts)))


def _trial_seconds(ledger: Ledger) -> defaultdict[int, float]:
    """Seconds of trials by experiment, without those of confirming."""
    seconds: defaultdict[int, float] = defaultdict(float)
    for trial, one in ledger.trials():
        if one and trial.purpose != "confirm":
            seconds[trial.experiment] += one.wall_seconds
    return seconds


def _setting(session: Session) -> dict[str, Any]:
    """What has to be the same in all sessions of a study, by its name."""
    genome = session.genome(session.base)
    return {"metric": session.metric, "budget": session.facts.budget, "baseline": genome, "machine": session.platform}


def _require_comparable(study: StudyConfig, first: Mapping[str, Any], ended: Session) -> None:
    now = _setting(ended)
    odd = differences(first["machine"], now["machine"])
    odd += [f"it has another {what}" for what in ("metric", "budget", "baseline") if now[what] != first[what]]
    if odd:
        raise NightlabError(
            f"{ended.tag} does not compare with the first session of the study: {odd[0]}",
            f"go on where the study began, or give it another name than {study.name}",
        )
