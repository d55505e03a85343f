"""The exam of the language-model lab's metric, on a synthetic text, with models that are functions."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from support.extras import extra

torch = extra("torch", "lm")

METRIC = Path(__file__).resolve().parents[2] / "src" / "nightlab" / "labs" / "lm" / "metric.py"
WORDS, CONTEXT, ROWS = 32, 32, 128


def text(length: int) -> np.ndarray:
    """A chain in which each token mostly follows from the one before: there is something to learn."""
    chance = np.random.default_rng(0)
    steps = chance.choice([1, 2, 5, 11], size=length, p=[0.6, 0.2, 0.1, 0.1])
    return (np.cumsum(steps) % (WORDS - 1) + 1).astype(np.uint16)


@contextmanager
def loaded_metric() -> Iterator[ModuleType]:
    """The module, of a lab whose data are the synthetic text."""
    corpus: Any = ModuleType("corpus")
    data = text(CONTEXT * ROWS * 3 + 1)
    corpus.__dict__.update(BOS=0, DEVICE="cpu", VOCABULARY=WORDS, stop=pytest.fail)
    corpus.token_bytes = lambda: np.array([0] + [2] * (WORDS - 1))
    corpus.tokens_of = lambda split: data
    before, sys.modules["corpus"] = sys.modules.get("corpus"), corpus
    spec = importlib.util.spec_from_file_location("lm_metric", METRIC)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.MAX_CONTEXT, module.EVAL_TOKENS = CONTEXT, CONTEXT * ROWS
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield module
    torch.set_num_threads(threads)
    del sys.modules["corpus"]
    if before:
        sys.modules["corpus"] = before


Logits = Callable[[Any], Any]


def honest(tokens: Any) -> Any:
    """The chain's true chances, roughly."""
    scores = torch.zeros(*tokens.shape, WORDS)
    for step, score in ((1, 4.0), (2, 3.0), (5, 2.0), (11, 2.0)):
        scores.scatter_(2, ((tokens - 1 + step) % (WORDS - 1) + 1)[..., None], score)
    return scores


def examined(
    metric: ModuleType,
    make: Callable[[], Logits],
    *,
    one_process: bool = False,
    claim: bool = False,
    rounding: float | None = 0.0,
) -> Any:
    """The exam after its two parts, answered by two objects, or by the same one; ``rounding`` None: the baseline's."""
    exam = metric.Exam("val", claim, rounding)
    first = make()
    second = first if one_process else make()
    exam.score(lambda batches: (first(torch.from_numpy(batch).long()) for batch in batches))
    exam.probe(lambda batches: (second(torch.from_numpy(batch).long()) for batch in batches))
    return exam
