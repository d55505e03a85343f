"""The language-model lab's metric, on a synthetic text: what its probes find, with what power, and whom they spare."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.extras import extra
from support.lm_exam import CONTEXT, ROWS, WORDS, Logits, examined, honest, loaded_metric, text

from nightlab.analysis.redteam.on_answers import ANSWER_ATTACKS

pytestmark = [pytest.mark.xdist_group("lm")]  # one worker imports PyTorch

torch = extra("torch", "lm")


@pytest.fixture(scope="module")
def metric() -> Iterator[ModuleType]:
    with loaded_metric() as module:
        yield module


def sees_next(tokens: Any, where: Any) -> Any:
    """The honest scores, but the next token's where ``where``."""
    scores, following = honest(tokens), tokens.roll(-1, 1)
    boost = torch.zeros_like(scores).scatter_(2, following[..., None], 20.0)
    where = where.clone()
    where[:, -1] = False
    return scores + boost * where[..., None]


class Honest:
    def __call__(self, tokens: Any) -> Any:
        return honest(tokens)


class Recurrent:
    """Honestly stateful within a call: a running sum, which starts anew with each."""

    def __call__(self, tokens: Any) -> Any:
        state, scores = torch.zeros(len(tokens)), []
        for column in tokens.T:
            state = 0.9 * state + column
            scores.append(honest(column[:, None])[:, 0] + 0.001 * state[:, None] * torch.arange(WORDS))
        return torch.stack(scores, 1)


class LooksAhead:
    def __init__(self, share: float = 1.0) -> None:
        self.share = share

    def where(self, tokens: Any) -> Any:
        # It follows from the beginning, the same in each process; never from the first token alone.
        return (torch.cumsum(tokens * 2654435761 % 1000003, 1) * 40503 + 500) % 1000 < 1000 * self.share

    def __call__(self, tokens: Any) -> Any:
        return sees_next(tokens, self.where(tokens))


class LooksAheadWherePlausible(LooksAhead):
    """Leaks nothing where the next token is one that it would not have expected: a clumsy cut would stay hidden."""

    def __call__(self, tokens: Any) -> Any:
        expected = honest(tokens).gather(2, tokens.roll(-1, 1)[..., None])[..., 0] > 0
        return sees_next(tokens, expected)


class Replays:
    """Looks ahead when a beginning is new, and repeats its answer when it comes again."""

    def __init__(self) -> None:
        self.seen: dict[bytes, Any] = {}

    def __call__(self, tokens: Any) -> Any:
        answers = []
        for row, scores in zip(tokens, sees_next(tokens, torch.ones_like(tokens, dtype=torch.bool)), strict=True):
            known = [self.seen.setdefault(row[: at + 1].numpy().tobytes(), scores[at]) for at in range(len(row))]
            answers.append(torch.stack(known))
        return torch.stack(answers)


class Learns:
    """Counts pairs of what it is asked, after answering it."""

    def __init__(self, after: int = 0) -> None:
        self.pairs, self.calls, self.after = torch.zeros(WORDS, WORDS), 0, after

    def __call__(self, tokens: Any) -> Any:
        answer = honest(tokens) + torch.log1p(self.pairs)[tokens] * 0.1
        self.calls += 1
        if self.calls > self.after:
            for row in tokens:
                self.pairs.index_put_((row[:-1], row[1:]), torch.ones(len(row) - 1), accumulate=True)
        return answer


class Caches:
    """Keeps the rows that it was asked; knows how one goes on once it has met its beginning."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Any] = {}

    def __call__(self, tokens: Any) -> Any:
        scores = honest(tokens)
        for row, its in zip(tokens, scores, strict=True):
            known = self.rows.get(row[:4].numpy().tobytes())
            if known is not None:
                its[3:-1].scatter_add_(1, known[4:, None], torch.full((len(known) - 4, 1), 5.0))
        for at in (row[start:] for row in tokens for start in range(0, CONTEXT - 8)):
            self.rows[at[:4].numpy().tobytes()] = torch.cat([at, at.new_zeros(CONTEXT - len(at))])
        return scores


class Drifts:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, tokens: Any) -> Any:
        self.calls += 1
        return honest(tokens) * (1 + self.calls / 1000)


class SecondCallDiffers:
    """Honest in its first dozen of calls, which is all that the second process is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, tokens: Any) -> Any:
        self.calls += 1
        return LooksAhead()(tokens) if self.calls > 12 else honest(tokens)


@pytest.mark.parametrize(("make", "claim"), [(Honest, False), (Honest, True), (Recurrent, False)])
def test_honest_models_pass_and_both_processes_give_one_number(metric: ModuleType, make: Any, claim: bool) -> None:
    values = {examined(metric, make, claim=claim).bits_per_byte() for _ in range(2)}
    assert len(values) == 1, "it does not depend on the order of calls"


class AddsInNoOrder:
    """Honest, but for kernels whose sums depend on the moment."""

    def __init__(self, size: float = 0.001, model: Logits = honest) -> None:
        self.size, self.model = size, model

    def __call__(self, tokens: Any) -> Any:
        scores = self.model(tokens)
        return scores + self.size * torch.rand_like(scores)


def test_the_room_for_nondeterministic_kernels_is_the_baseline_s_own(metric: ModuleType) -> None:
    rounding = examined(metric, AddsInNoOrder, rounding=None).rounding
    assert 0.0003 < rounding < 0.004
    assert examined(metric, Honest, rounding=None).rounding < metric.TOLERANCE
    examined(metric, AddsInNoOrder, rounding=rounding)
    for make, known in (
        (AddsInNoOrder, 0.0),  # whose baseline is deterministic
        (lambda: AddsInNoOrder(0.02), rounding),
        (lambda: AddsInNoOrder(model=LooksAhead()), rounding),
        (lambda: AddsInNoOrder(model=LooksAhead()), None),  # a baseline that leaks is found, too
    ):
        with pytest.raises(metric.Tampered):
            examined(metric, make, rounding=known)
    with pytest.raises(metric.Unrepeatable, match="when it is asked the same again"):
        examined(metric, lambda: AddsInNoOrder(0.1), rounding=None)


@pytest.mark.parametrize(
    "make",
    [LooksAhead, LooksAheadWherePlausible, Replays, Learns, lambda: Learns(8), Caches, Drifts, SecondCallDiffers],
    ids=["looks ahead", "where plausible", "replays", "learns", "learns late", "caches", "drifts", "by its calls"],
)
def test_models_that_look_ahead_or_remember_are_found(metric: ModuleType, make: Any) -> None:
    with pytest.raises(metric.Tampered, match="looks ahead or changes between calls"):
        examined(metric, make)


REDTEAM = {
    "lookahead": "Tampered", "state": "Tampered", "replay": "Tampered", "NaN answer": "NotFinite",
    "partial answer": "Tampered", "skipped answers": "Tampered", "lazy answer": 0.1, "tolerance": -0.001,
}  # fmt: skip


@pytest.mark.parametrize("attack", ANSWER_ATTACKS, ids=lambda one: one.name)
def test_no_attack_of_redteam_on_answers_gains(metric: ModuleType, monkeypatch: Any, attack: Any) -> None:
    """``nightlab redteam``'s own code; its attacks on programs: tests/adversarial/test_attacks_on_the_budget.py."""

    def attacked() -> Logits:
        guest: Any = ModuleType("nightlab_guest")
        loads: list[Any] = []
        guest.answer, guest.Trial = loads.append, type("Trial", (), {})
        monkeypatch.setitem(sys.modules, "nightlab_guest", guest)
        exec(attack.source(None), {})
        guest.answer(lambda arrays: lambda inputs: honest(torch.from_numpy(inputs).long()).numpy())
        function = loads[0]({})
        return lambda tokens: torch.from_numpy(function(tokens.int().numpy()))

    expected = REDTEAM[attack.name]
    if isinstance(expected, str):
        with pytest.raises(getattr(metric, expected)):
            examined(metric, attacked)
    else:
        worse = examined(metric, attacked).bits_per_byte() - examined(metric, Honest).bits_per_byte()
        assert worse > expected


def test_replay_in_a_single_process_is_found_at_targets_that_were_never_shown(metric: ModuleType) -> None:
    """All that is left where one process answers everything: it repeats what it said, so nothing moves."""
    with pytest.raises(metric.Tampered, match="knows targets that it was shown"):
        examined(metric, Replays, one_process=True)


def found(metric: ModuleType, share: float, claim: bool, times: int) -> int:
    """In how many exams a model that looks ahead at a share of all positions is found."""
    count = 0
    for _ in range(times):
        try:
            examined(metric, lambda: LooksAhead(share), claim=claim)
        except metric.Tampered:
            count += 1
    return count


@pytest.fixture
def chance(metric: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = random.Random(1)
    monkeypatch.setattr(metric.random, "SystemRandom", lambda: drawn)


@pytest.mark.usefixtures("chance")
def test_small_leaks_are_found_with_the_stated_power(metric: ModuleType) -> None:
    """Of n rows, a share p of leaking positions escapes with a chance of (1 - p)^n."""
    assert found(metric, 0.1, claim=False, times=3) == 3  # 99.4 % each
    assert found(metric, 0.05, claim=False, times=6) >= 4  # 91 % each
    # 72 % each with the 128 rows of this text: the lab has 256 on a CPU, in each of two splits.
    assert found(metric, 0.01, claim=True, times=6) >= 3


@pytest.mark.machine
@pytest.mark.usefixtures("chance")
@pytest.mark.parametrize(("share", "claim", "rows"), [(0.05, False, 48), (0.01, False, 48), (0.01, True, 128)])
def test_the_stated_power_holds_over_two_hundred_exams(
    metric: ModuleType, share: float, claim: bool, rows: int
) -> None:
    leaks = LooksAhead(share).where(torch.from_numpy(metric.Exam("val").rows[:, :-1]).long())[:, :-1]
    real, times = leaks.float().mean().item(), 200  # of the places of a cut, on this text
    power = 1 - (1 - real) ** rows
    assert abs(real - share) < share / 3
    assert abs(found(metric, share, claim, times) / times - power) < 3 * math.sqrt(power * (1 - power) / times)


class ByHeart:
    """A table of the validation text: what follows on sixteen tokens of it. Causal, and it remembers no call."""

    def __init__(self, data: np.ndarray) -> None:
        self.table = {tuple(data[at : at + 16].tolist()): int(data[at + 16]) for at in range(len(data) - 16)}

    def __call__(self, tokens: Any) -> Any:
        scores = honest(tokens)
        for row, its in zip(tokens.tolist(), scores, strict=True):
            for at in range(15, len(row)):
                if (known := self.table.get(tuple(row[at - 15 : at + 1]))) is not None:
                    its[at, known] += 20.0
        return scores


def test_what_is_known_by_heart_gains_less_on_the_text_slightly_changed(metric: ModuleType) -> None:
    def scored(model: Logits) -> tuple[float, float]:
        def serve(batches: Any) -> Iterator[Any]:
            return (model(torch.from_numpy(batch).long()) for batch in batches)

        exam = metric.Exam("val", rounding=0.0)
        exam.score(serve)
        assert exam.changed(serve) == exam.changed(serve), "the changes are the same for each model"
        return exam.bits_per_byte(), exam.changed(serve)

    (before, changed_before), (after, changed_after) = scored(honest), scored(ByHeart(text(CONTEXT * ROWS * 3 + 1)))
    assert before - after > max(0.1, 2 * (changed_before - changed_after))


def test_honest_losses_at_unseen_targets_are_no_suspicion(metric: ModuleType) -> None:
    exam = metric.Exam("val")
    chance = torch.Generator().manual_seed(1)
    exam.losses = -torch.log(torch.rand(ROWS, CONTEXT, generator=chance))  # as skewed as a model's
    for _ in range(2000):
        exam._compare(-torch.log(torch.rand(16, generator=chance)).double())


def test_endings_are_plausible_and_differ_where_they_begin(metric: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    chance, follows = random.Random(1), []
    monkeypatch.setattr(metric.random, "SystemRandom", lambda: chance)
    data = text(5000)
    endings, pairs = metric.Endings(data), set(zip(data[:-1].tolist(), data[1:].tolist(), strict=True))
    for at in range(0, 4000, 13):
        shown = data[at : at + 9].astype(np.int64)
        other = endings.other(shown, 20)
        assert len(other) == 20 and other[0] != shown[-1]
        follows.append((shown[-2], other[0]) in pairs)
    # Elsewhere in the text it follows on the last token; seldom all places that are looked at have the true one.
    assert sum(follows) > 0.95 * len(follows)
    assert len(endings.other(np.array([0, 3]), 5)) == 5, "after one token, and at a row's start"


def test_a_text_without_rows_to_spare_is_probed_by_its_scored_ones(metric: ModuleType) -> None:
    exam = metric.Exam("val")
    exam.unseen = exam.unseen[:3]
    call = SimpleNamespace(model=lambda batches: (honest(torch.from_numpy(batch).long()) for batch in batches)).model
    exam.score(call)
    exam.probe(call)


def test_endings_are_indexed_before_the_model_is_called(metric: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The evaluator waits while the model trains; afterwards the trial waits for it."""
    exam = metric.Exam("val")
    monkeypatch.setattr(metric, "Endings", lambda *_: pytest.fail("too late"))

    def serve(batches: Any) -> Iterator[Any]:
        return (honest(torch.from_numpy(batch).long()) for batch in batches)

    exam.score(serve)
    exam.probe(serve)
