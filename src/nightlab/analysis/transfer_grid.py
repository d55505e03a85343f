"""Transfer in grids: do programs keep their order at other budgets, at other sizes, on other data?

A search decides by a cheap proxy: its own short budget and small model. The grid measures a sample of the session's
programs there and in dearer settings, each on fresh seeds, and correlates their ranks.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from nightlab.analysis.confirm import Confirmer, lineage
from nightlab.core.config_model import ConfigModel
from nightlab.core.toml_lines import located
from nightlab.core.types import Budget, Evidence, Experiment, Measurement, NightlabError, TrialRequest, average
from nightlab.loop.measure import measure
from nightlab.loop.scheduler import Scheduler
from nightlab.session.replicates import TRANSFER_SEED

FEWEST = 4  # programs of which the ranks can be correlated with an interval
PROXY_SEED = TRANSFER_SEED + 500  # not those of the dearer settings: luck that a seed brings to both is no agreement
Scalar = bool | int | float | str


class GridConfig(ConfigModel):
    """A grid's file: every combination of a scale, a value of each constant, and a lab."""

    programs: int = Field(default=8, ge=FEWEST, le=100)
    """Programs that are measured: the baseline, the champion's lineage, others spread over what was measured."""
    seeds: int = Field(default=3, ge=2, le=100)
    scales: tuple[float, ...] = (1.0,)
    """Budgets, as multiples of the session's."""
    constants: dict[str, tuple[Scalar, ...]] = Field(default_factory=dict)
    """Values of a constant, e.g. of depth, set in every program."""
    labs: tuple[str, ...] = (".",)
    """Folders of labs with the same genome and metric on other data; ``.`` is the session's own."""

    @model_validator(mode="after")
    def _a_grid(self) -> GridConfig:
        if bad := [scale for scale in self.scales if not (0.01 <= scale <= 10_000)]:
            raise ValueError(f"scales: {bad[0]:g} is no multiple of a budget between 0.01 and 10000")
        if empty := [name for name, values in self.constants.items() if not values]:
            raise ValueError(f"constants.{empty[0]}: name at least one value")
        if not self.cells():
            raise ValueError("the grid holds only the session's own setting: add a scale, a constant or a lab")
        return self

    def cells(self) -> list[Cell]:
        """The settings, without the session's own."""
        sizes = [tuple(zip(self.constants, values, strict=True)) for values in product(*self.constants.values())]
        every = [Cell(lab, scale, size) for lab, scale, size in product(self.labs, self.scales, sizes)]
        return [cell for cell in every if cell != PROXY]


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting: the lab's folder, the budget as a multiple, and constants set in all programs."""

    lab: str
    scale: float
    constants: tuple[tuple[str, Scalar], ...]

    def words(self, budget: Budget) -> str:
        """As ``transfer`` says it: ``40 s of CPU time, DEPTH = 4``, and the lab where it is another."""
        said = [str(Budget(budget.clock, budget.amount * self.scale))] if self.scale != 1 else []
        said += [f"{name} = {value}" for name, value in self.constants]
        return ", ".join([*said, *([f"in {Path(self.lab).name}"] if self.lab != "." else [])]) or "its own setting"


PROXY = Cell(".", 1.0, ())


@dataclass(frozen=True, slots=True)
class CellResult:
    """What a setting showed: the ``programs`` that ran there and in the proxy, by number, and those that ``failed``.

    ``rank``: Spearman's correlation of their mean metrics here and in the proxy, with its 95 % interval; None where
    fewer than four ran. ``gain``: the champion's over the baseline here; None where one of them failed.
    """

    setting: str
    programs: tuple[int, ...]
    failed: dict[int, str]
    rank: tuple[float, float, float] | None
    gain: Evidence | None


def read_grid(path: Path) -> GridConfig:
    """A grid's file. Raises NightlabError when it can't be read, or naming the key that is wrong."""
    hint = "docs/transfer.md has an example"
    try:
        text = path.read_text(encoding="utf-8")
        return GridConfig.model_validate(tomllib.loads(text))
    except OSError as error:
        raise NightlabError(f"{path}: {error.strerror}", hint) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise NightlabError(f"{path} is no TOML: {error}", hint) from None
    except ValidationError as error:
        raise NightlabError(located(error, GridConfig, text, str(path)), hint) from None


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> tuple[float, float, float] | None:
    """Spearman's rank correlation of two sequences, with its 95 % interval (Bonett and Wright 2000).

    None for fewer than four values, and where one of them is constant: then there is no order to compare.
    """
    from scipy.stats import spearmanr

    if len(one) < FEWEST or len(set(one)) == 1 or len(set(other)) == 1:
        return None
    r = float(spearmanr(one, other).statistic)
    bounded = min(max(r, -1 + 1e-9), 1 - 1e-9)
    half = 1.96 * math.sqrt((1 + bounded**2 / 2) / (len(one) - 3))
    return r, math.tanh(math.atanh(bounded) - half), math.tanh(math.atanh(bounded) + half)


class TransferGrid:
    """The trials of a grid. ``open_lab`` gives the scheduler of the latest session of another lab's folder.

    Raises NightlabError for a constant that a program lacks, and a lab that does not compare.
    """

    def __init__(self, config: GridConfig, scheduler: Scheduler, open_lab: Callable[[str], Scheduler]) -> None:
        self.session, self.own = scheduler.session, Confirmer(scheduler)
        self.cells = config.cells()
        self.confirmers = {
            lab: self.own if lab == "." else Confirmer(open_lab(lab)) for lab in dict.fromkeys((".", *config.labs))
        }
        for lab, confirmer in self.confirmers.items():
            _require_comparable(self.own, confirmer, lab)
        self.chosen = choose_programs(self.own, config.programs)
        self.asked = {cell: self._requests(cell, config.seeds) for cell in (PROXY, *self.cells)}

    def plan(self) -> str:
        """The cost in words: trials, how many of them were measured before, and the hours that the rest will take."""
        whole, left, seconds = 0, 0, 0.0
        for cell, programs in self.asked.items():
            confirmer = self.confirmers[cell.lab]
            ran = [m for _, m in confirmer.ledger.trials(0, "search") if m and m.measured]
            trained, wall = (average([getattr(m, f"{what}_seconds") for m in ran]) for what in ("training", "wall"))
            have = {(t.seed, t.commit, t.budget) for t, m in confirmer.ledger.trials() if m and m.measured}
            for ask in (ask for asked in programs.values() for ask in asked):
                known = (ask.seed, ask.commit, ask.budget) in have
                whole, left = whole + 1, left + (not known)
                if not known:
                    seconds += (wall + (cell.scale - 1) * trained) / len(confirmer.scheduler.slots)
        before = f", {whole - left} of them measured before" if left < whole else ""
        words = f"{len(self.chosen)} programs in {len(self.asked)} settings: {whole} trials{before}"
        return f"{words}; about {seconds / 3600:.2g} h to go" if left else words

    def run(self, said: Callable[[str], object] = lambda words: None) -> list[CellResult]:
        """Measure what was not measured, the proxy first; ``said`` is told of each setting in words.

        Raises NightlabError when the baseline can't be measured or a lab ignores its budget, RunInterrupted when the
        user stops; the same call goes on from there.
        """
        proxy, failed = self._measured(PROXY)
        if 0 in failed:
            raise NightlabError(f"the baseline can't be measured: {failed[0]}", "look at its log: nightlab show 0")
        found = []
        for cell in self.cells:
            found.append(self._result(cell, proxy))
            said(result_words(found[-1]))
        return found

    def _requests(self, cell: Cell, seeds: int) -> dict[int, list[TrialRequest]]:
        """The trials of a setting, by program."""
        confirmer, usual = self.confirmers[cell.lab], self.confirmers[cell.lab].session.budget.record()
        budget = Budget(usual.clock, usual.amount * cell.scale)
        first = PROXY_SEED if cell == PROXY else TRANSFER_SEED
        asked = {}
        for experiment in self.chosen:
            commit, number = self.own.with_constants(experiment, dict(cell.constants)), experiment.number
            if cell.lab != ".":  # there it is a variant of that lab's baseline
                repo, base, genome = confirmer.session.repo, confirmer.session.base, self.session.genome(commit)
                made = repo.commit_files(base, genome, f"#{number} of {self.session.tag}")
                commit, number = confirmer.keep_variant(f"grid-{repo.tree(made)[:12]}", made), 0
            trials = range(first, first + seeds)
            asked[experiment.number] = [TrialRequest(number, "transfer", seed, budget, commit) for seed in trials]
        return asked

    def _measured(self, cell: Cell) -> tuple[dict[int, list[Measurement]], dict[int, str]]:
        """What each program measured in a setting, and why others could not be measured."""
        scheduler, asked, failed = self.confirmers[cell.lab].scheduler, self.asked[cell], dict[int, str]()
        with scheduler.on_duty():
            scheduler.adopt_running()
            scheduler.drain()  # record the trials of an earlier run; they are judged when the search continues
            with suppress(NightlabError):  # one program's failure, which is named below
                measure(scheduler, [ask for same_seed in zip(*asked.values(), strict=True) for ask in same_seed])
            found = {}
            for number, trials in asked.items():
                try:
                    found[number] = measure(scheduler, trials)
                except NightlabError as error:
                    failed[number] = str(error)
        return found, failed

    def _result(self, cell: Cell, proxy: Mapping[int, list[Measurement]]) -> CellResult:
        runs, failed = self._measured(cell)
        setting, gains = cell.words(self.session.budget.record()), dict[int, Evidence]()
        if 0 in runs:
            self.confirmers[cell.lab].require_scaled(runs[0], cell.scale)
            for experiment in self.chosen:
                if experiment.number and experiment.number in runs:
                    gain = self.own.gain(runs[0], runs[experiment.number], 0.95)
                    seeds = tuple(ask.seed for ask in self.asked[cell][experiment.number])
                    claim = self.session.metric_claim
                    gains[experiment.number] = Evidence("transferred", 0, seeds, gain, None, setting, claim)
                    self.own.show(experiment, gains[experiment.number])
        both = tuple(number for number in proxy if number in runs)
        rank = rank_correlation([_mean(proxy[n]) for n in both], [_mean(runs[n]) for n in both])
        return CellResult(setting, both, failed, rank, gains.get(self.session.champion().number))


def choose_programs(confirmer: Confirmer, most: int) -> list[Experiment]:
    """The baseline, the champion's lineage, and others spread evenly over the ranks of what the session measured.

    Raises NightlabError when the session measured fewer than four programs.
    """
    ledger = confirmer.ledger
    line = [ledger.experiment(0), *lineage(confirmer.session)]
    if len(line) > most:
        line = [line[round(n * (len(line) - 1) / (most - 1))] for n in range(most)]
    numbers = {one.number for one in line}
    others = [e for e in ledger.experiments() if e.number not in numbers and e.measurement and e.measurement.measured]
    others.sort(key=lambda e: (e.measurement and e.measurement.metric) or 0.0)
    room = min(most - len(line), len(others))
    line += [others[round((n + 0.5) * len(others) / room - 0.5)] for n in range(room)]
    if len(line) < FEWEST:
        raise NightlabError(
            f"the session measured {len(line)} programs, and ranks need {FEWEST}", "go on first: nightlab run"
        )
    return line


def result_words(one: CellResult) -> str:
    """What a setting showed, on one line."""
    if one.rank is None:
        rank = f"no rank correlation: {len(one.programs)} programs ran" if len(one.programs) < FEWEST else "no order"
    else:
        r, low, high = one.rank
        says = "keeps the order" if low > 0 else "may not keep the order"
        rank = f"rank correlation {r:.2f} ({low:.2f} to {high:.2f}) of {len(one.programs)} programs: the proxy {says}"
    gain = one.gain.gain if one.gain else None
    champion = f"champion's gain {gain.mean:.4g} ({gain.low:.4g} to {gain.high:.4g})" if gain else "no gain to compare"
    failed = "".join(f"; #{number} failed: {why}" for number, why in one.failed.items())
    return f"{one.setting}: {rank}; {champion}{failed}"


def _require_comparable(own: Confirmer, other: Confirmer, lab: str) -> None:
    """Raise NightlabError where numbers of another lab's session can't be set beside the session's own."""
    mine, theirs = own.session, other.session
    hint = "name labs with the same genome and metric on other data, each with a session here: nightlab run -n 1"
    if theirs.metric != mine.metric:
        raise NightlabError(f"{lab} measures {theirs.metric.name}, not {mine.metric.name} alike", hint)
    if theirs.genome(theirs.base).keys() != mine.genome(mine.base).keys():
        raise NightlabError(f"{lab} has another genome: its files differ by name", hint)
    if theirs.budget.clock != mine.budget.clock:
        raise NightlabError(f"{lab} has a budget of {theirs.budget}, not of the same clock", hint)
    if not any(m and m.measured for _, m in other.ledger.trials(0, "search")):
        raise NightlabError(f"the session {theirs.tag} of {lab} has no measured baseline", hint)


def _mean(runs: Sequence[Measurement]) -> float:
    return average([run.metric for run in runs if run.metric is not None])
