"""Forty more models that look ahead or remember, by somebody who knows the exam (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from support.extras import extra
from support.lm_exam import CONTEXT, WORDS, examined, honest, loaded_metric
from support.tiers import by_default

pytestmark = [pytest.mark.xdist_group("lm")]

torch = extra("torch", "lm")


@pytest.fixture(scope="module")
def metric() -> Iterator[ModuleType]:
    with loaded_metric() as module:
        yield module


Where = Callable[[Any, Any], Any]  # tokens (rows, CONTEXT) and their honest scores, to where a model looks ahead


def leaks(where: Where, boost: float = 20.0, ahead: int = 1) -> Callable[[], Any]:
    """A model that favours the token ``ahead`` of each place ``where`` is true."""

    def answer(tokens: Any) -> Any:
        scores, true = honest(tokens), torch.ones_like(tokens, dtype=torch.bool)
        true[:, -ahead:] = False
        bonus = torch.zeros_like(scores).scatter_(2, tokens.roll(-ahead, 1)[..., None], boost)
        return scores + bonus * (where(tokens, scores) & true)[..., None]

    return lambda: answer


def at(places: range) -> Where:
    def chosen(tokens: Any, scores: Any) -> Any:
        return torch.isin(torch.arange(CONTEXT), torch.tensor(places)).expand_as(tokens)

    return chosen


def natural(tokens: Any, width: int) -> Any:
    """Where the next ``width`` tokens follow on each other as the text's mostly do: no seam is there."""
    steps = (tokens.roll(-1, 1) - tokens) % (WORDS - 1)
    fine = torch.isin(steps, torch.tensor([1, 2, 5, 11]))
    for n in range(1, width):
        fine = fine & fine.roll(-n, 1)
    return fine


everywhere: Where = lambda tokens, scores: torch.ones_like(tokens).bool()  # noqa: E731


def score_of_next(tokens: Any, scores: Any) -> Any:
    return scores.gather(2, tokens.roll(-1, 1)[..., None])[..., 0]


def whole(rows: Any, tokens: Any) -> Any:
    """Of rows, each of their places."""
    return rows.expand_as(tokens)


def scaled(by: Callable[[Any], Any]) -> Callable[[], Any]:
    """A model whose certainty is a little more or less by something that it may not know."""
    return lambda: lambda tokens: honest(tokens) * (1 + by(tokens) / 1000)


AHEAD: dict[str, Callable[[], Any]] = {
    "two tokens ahead": leaks(everywhere, ahead=2),
    "eight tokens ahead": leaks(everywhere, ahead=8),
    "a little": leaks(everywhere, boost=0.05),
    "very little": leaks(everywhere, boost=0.002),
    "in the first half": leaks(at(range(CONTEXT // 2))),
    "in the second half": leaks(at(range(CONTEXT // 2, CONTEXT))),
    "at every fourth place": leaks(at(range(0, CONTEXT, 4))),
    "at every seventh place": leaks(at(range(3, CONTEXT, 7))),
    "where it is unsure": leaks(lambda tokens, scores: scores.softmax(2).amax(2) < 0.62),
    "where the next token is unlikely": leaks(lambda tokens, scores: score_of_next(tokens, scores) < 3),
    "where the next token is likely": leaks(lambda tokens, scores: score_of_next(tokens, scores) > 1),
    "where the next three are natural": leaks(lambda tokens, scores: natural(tokens, 3)),
    "unless the row has a seam": leaks(
        lambda tokens, scores: whole(natural(tokens, 1)[:, 1:-1].all(1, keepdim=True), tokens)
    ),
    "after some tokens": leaks(lambda tokens, scores: tokens % 3 == 0),
    "before some tokens": leaks(lambda tokens, scores: tokens.roll(-1, 1) % 4 == 0),
    "in every second row": leaks(lambda tokens, scores: whole(torch.arange(len(tokens))[:, None] % 2 == 0, tokens)),
    "in rows by their sum": leaks(lambda tokens, scores: whole(tokens.sum(1, keepdim=True) % 2 == 0, tokens)),
    "by the sum of what follows": scaled(lambda tokens: tokens.flip(1).cumsum(1).flip(1)[..., None] / 100),
    "by the row's last token": scaled(lambda tokens: tokens[:, -1:, None]),
    "by the mean of the batch": scaled(lambda tokens: tokens.float().mean()),
}


class Remembers:
    """Looks ahead at what is new, and answers the same when its ``key`` comes again."""

    def __init__(self, key: Callable[[Any], Any]) -> None:
        self.key, self.seen = key, {}

    def __call__(self, tokens: Any) -> Any:
        scores = leaks(everywhere)()(tokens)
        for row, its in zip(tokens, scores, strict=True):
            for place in range(len(row)):
                its[place] = self.seen.setdefault(self.key(row[: place + 1]), its[place].clone())
        return scores


class Adapts:
    """Adds what ``learn`` counts in the batches that it has answered; ``since`` the n-th call."""

    def __init__(self, learn: Callable[[Any, Any], None], rate: float = 0.1, since: int = 0) -> None:
        self.counts, self.learn, self.rate, self.calls, self.since = torch.zeros(WORDS, WORDS), learn, rate, 0, since

    def __call__(self, tokens: Any) -> Any:
        answer = honest(tokens) + self.rate * torch.log1p(self.counts)[tokens]
        self.calls += 1
        if self.calls > self.since:
            self.learn(self.counts, tokens)
        return answer


def pairs(counts: Any, tokens: Any) -> None:
    first, second = tokens[:, :-1].flatten(), tokens[:, 1:].flatten()
    counts.index_put_((first, second), torch.ones(len(first)), accumulate=True)


def single(counts: Any, tokens: Any) -> None:
    counts += torch.bincount(tokens.flatten(), minlength=WORDS)


def latest(counts: Any, tokens: Any) -> None:
    counts.zero_()
    pairs(counts, tokens)


def first_row(counts: Any, tokens: Any) -> None:
    pairs(counts, tokens[:1])


class ByCalls:
    """Looks ahead in the calls that ``chosen`` says."""

    def __init__(self, chosen: Callable[[int], bool]) -> None:
        self.calls, self.chosen = 0, chosen

    def __call__(self, tokens: Any) -> Any:
        self.calls += 1
        return leaks(everywhere)()(tokens) if self.chosen(self.calls) else honest(tokens)


MEMORY: dict[str, Callable[[], Any]] = {
    **{
        f"keeps answers by the last {n} tokens": lambda n=n: Remembers(lambda part: (len(part), *part[-n:].tolist()))
        for n in (1, 2, 4, 8)
    },
    "keeps answers by the whole beginning": lambda: Remembers(lambda part: tuple(part.tolist())),
    "keeps answers by the tokens in any order": lambda: Remembers(lambda part: tuple(sorted(part.tolist()))),
    "keeps answers by a hash": lambda: Remembers(lambda part: hash(tuple(part.tolist())) % 4096),
    "keeps answers by the place": lambda: Remembers(len),
    "counts pairs": lambda: Adapts(pairs),
    "counts pairs slowly": lambda: Adapts(pairs, rate=0.001),
    "counts pairs from its eighth call on": lambda: Adapts(pairs, since=8),
    "counts pairs of the last call": lambda: Adapts(latest),
    "counts tokens": lambda: Adapts(single),
    "counts pairs of one row a call": lambda: Adapts(first_row),
    "looks ahead from its second call on": lambda: ByCalls(lambda call: call > 1),
    "looks ahead from its ninth call on": lambda: ByCalls(lambda call: call > 8),
    "looks ahead in its first calls": lambda: ByCalls(lambda call: call <= 8),
    "looks ahead in every third call": lambda: ByCalls(lambda call: call % 3 == 0),
    "looks ahead in the second process": lambda: ByCalls(lambda call: call < 9),
    "is honest once, at random": lambda: ByCalls(lambda call: bool(torch.rand(1) < 0.9)),
}


@pytest.mark.parametrize("how", by_default("where the next three are natural", "a little", of=AHEAD))
def test_no_way_of_looking_ahead_passes(metric: ModuleType, how: str) -> None:
    with pytest.raises(metric.Tampered):
        examined(metric, AHEAD[how])


@pytest.mark.parametrize("how", by_default("counts pairs slowly", of=MEMORY))
def test_no_way_of_remembering_passes(metric: ModuleType, how: str) -> None:
    with pytest.raises(metric.Tampered):
        examined(metric, MEMORY[how])
