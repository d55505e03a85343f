"""The contracts of proposers, rules and engines, run on an object."""

from __future__ import annotations

import copy
import math
import time
from typing import Any

from nightlab.core import plugins
from nightlab.core.types import SEED, Measurement, Platform, Trial, Verdict
from nightlab.judge.judge import Contestant, NeedsTrial
from nightlab.judge.noise import Noise
from nightlab.proposers.proposer import Briefing, NoProposal, Proposal
from nightlab.testing import examples

TRIALS = 100  # a rule that asks for more before its verdict never decides
GAIN = 10.0  # sigmas of an effect that every rule must see


def check_proposer(proposer: Any, briefing: Briefing | None = None, turns: int = 3) -> list[Proposal]:
    """Give a proposer ``turns`` turns, accepting and refusing its proposals in turn. Returns what it proposed.

    Raises AssertionError when it lacks a method, returns something that is no proposal, proposes nothing in any turn,
    changes files outside the genome, or changes its briefing. ``briefing``: what it is told; an example if None.
    """
    _speaks(proposer, "proposer")
    assert isinstance(proposer.name, str) and proposer.name, "the proposer's name is an empty text or no text"
    told = briefing or examples.briefing()
    before, made = copy.deepcopy(told), []
    for turn in range(turns):
        try:
            proposal = proposer.propose(told)
        except NoProposal:
            continue
        assert told == before, "propose changed its briefing, which others read too"
        if proposal is not None:
            _is_proposal(proposal, told)
            made.append(proposal)
            if hasattr(proposer, "tell"):
                proposer.tell(proposal, "it was tried before" if turn % 2 else None)
    assert made, f"the proposer proposed nothing in {turns} turns"
    return made


def check_rule(rule: Any) -> None:
    """Let a keep rule judge candidates that are much better, much worse, and equal.

    Raises AssertionError when it lacks a method, never decides, keeps what is worse, discards what is better by
    ten times the noise, returns no finite bar with a keep, or gives two verdicts on the same numbers.
    """
    _speaks(rule, "rule")
    assert isinstance(rule.baseline_runs, int) and rule.baseline_runs >= 1, "baseline_runs is no number from 1"
    assert isinstance(rule.same_seeds, bool), "same_seeds is neither True nor False"
    for sigma in (0.0, 0.01):
        step = GAIN * (sigma or 0.01)
        better, worse = _settle(rule, 1.0 - step, sigma), _settle(rule, 1.0 + step, sigma)
        assert better.status == "keep", f"it discards a candidate that is {GAIN:g} sigma better: {better}"
        assert worse.status == "discard", f"it keeps a candidate that is {GAIN:g} sigma worse: {worse}"
        equal = _settle(rule, 1.0, sigma)
        assert (equal, better) == (_settle(rule, 1.0, sigma), _settle(rule, 1.0 - step, sigma)), (
            "the same numbers have two verdicts: a rule is a pure function"
        )
    bar = rule.remeasured(1.0, 2, 1.3)
    assert isinstance(bar, int | float) and 1.0 <= bar <= 1.3, (
        f"remeasured(1.0, 2, 1.3) is {bar!r}, neither the bar, nor the new value, nor anything between them"
    )


def check_engine(engine: Any, commit: str, seconds: float = 60.0) -> Measurement:
    """Run one trial of ``commit`` on an engine, and begin and stop another. Returns what the first yielded.

    ``seconds``: how long each may take. Raises AssertionError when the engine lacks a method, has no slot, a trial does
    not end, is not measured, or can't be stopped.
    """
    _speaks(engine, "engine")
    assert isinstance(engine.platform, Platform), f"platform is a {type(engine.platform).__name__}, not a Platform"
    slots = engine.slots(1)
    assert len(slots) == 1, f"slots(1) are {len(slots)} slots"
    slot = slots[0]
    assert engine.slot_failure(slot) == "", f"its slot is at fault before the first trial: {engine.slot_failure(slot)}"
    try:
        trial = Trial("check-1", 0, commit, SEED, "search", examples.BUDGET)
        handle = engine.start(trial, slot)
        assert handle.trial == trial and handle.slot == slot, "the handle names another trial, or another slot"
        assert _ended(handle, seconds), f"the trial did not end within {seconds:g} seconds"
        measurement = engine.collect(handle)
        assert isinstance(measurement, Measurement), f"collect returned {type(measurement).__name__}, no Measurement"
        assert measurement.measured, f"the trial was not measured: {measurement.outcome} {measurement.detail}"
        other = engine.start(Trial("check-2", 1, commit, SEED + 1, "search", examples.BUDGET), slot)
        other.stop()
        assert _ended(other, seconds), f"a trial that was stopped did not end within {seconds:g} seconds"
        outcome = engine.collect(other).outcome
        assert outcome in ("interrupted", "lost", "measured"), f"the outcome of a stopped trial is {outcome!r}"
    finally:
        engine.dismiss()
    return measurement


def _speaks(one: Any, kind: plugins.Kind) -> None:
    """Whether an object has what a protocol asks for."""
    assert not isinstance(one, type), f"{one.__name__} is a class: give check_{kind} an object"
    missing = [name for name in plugins.METHODS[kind] + plugins.ATTRIBUTES[kind] if not hasattr(one, name)]
    assert not missing, f"the {kind} {type(one).__name__} has no {', '.join(missing)}"
    no_method = [name for name in plugins.METHODS[kind] if not callable(getattr(one, name))]
    assert not no_method, f"{', '.join(no_method)} of the {kind} {type(one).__name__} can't be called"


def _is_proposal(proposal: Any, told: Briefing) -> None:
    assert isinstance(proposal, Proposal), f"propose returned {type(proposal).__name__}, not a Proposal or None"
    assert proposal.hypothesis.strip(), "a proposal has no hypothesis: say why it should be better"
    assert bool(proposal.files) != bool(proposal.patch), "a proposal has either files or a patch"
    outside = sorted(set(proposal.files) - set(told.genome))
    assert not outside, f"a proposal changes {', '.join(outside)}, outside the genome {', '.join(told.genome)}"
    if proposal.files:
        changed = any(told.genome[path] != text for path, text in proposal.files.items())
        assert changed, "a proposal changes nothing: its files are those of the briefing"


def _settle(rule: Any, value: float, sigma: float) -> Verdict:
    """The rule's verdict on a candidate that measures ``value`` on each seed, against a champion that measures 1."""
    noise = Noise(sigma, 20.0, 20)
    champion = {SEED + n: examples.measured(1.0) for n in range(rule.baseline_runs)}
    candidate = {SEED: examples.measured(value)}
    for _ in range(TRIALS):
        found = rule.compare(
            examples.METRIC, Contestant(dict(champion), 10, bar=1.0), Contestant(dict(candidate), 10), noise
        )
        if isinstance(found, NeedsTrial):
            runs = candidate if found.who == "candidate" else champion
            assert found.seed not in runs, f"it asks for the {found.who}'s trial on seed {found.seed}, which it has"
            runs[found.seed] = examples.measured(value if found.who == "candidate" else 1.0)
            continue
        assert isinstance(found, Verdict), f"compare returned {type(found).__name__}, not a Verdict or NeedsTrial"
        assert found.status in ("keep", "discard"), f"its status is {found.status!r}, neither keep nor discard"
        if found.status == "keep":
            assert found.bar is not None and math.isfinite(found.bar), f"a keep has no finite bar: {found}"
        return found
    raise AssertionError(f"it has no verdict after {TRIALS} trials")


def _ended(handle: Any, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not handle.finished():
        if time.monotonic() >= until:
            return False
        time.sleep(0.02)
    return True
