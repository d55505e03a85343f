"""The kernel lab: each of five stages finds what it is there for, and a fast wrong kernel has no metric."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.shipped import lab_module, trials_of

from nightlab.session.create import SHIPPED

LAB = SHIPPED / "kernel"
KERNELS = (LAB / "kernels.c").read_text()
with_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture
def evaluator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(LAB))
    yield lab_module("kernel", "bench")
    for name in ("model", "build"):
        sys.modules.pop(name, None)


def tried(evaluator: Any, **changed: Callable[..., Any]) -> None:
    """The five stages, twice, with NumPy's own operations in the place of kernels, but for those that are changed."""
    ops = evaluator.model.Truth()
    for name, operation in changed.items():
        setattr(ops, name, operation)
    repeated = [(name, (2, 3, 4), evaluator.drawn(name, (2, 3, 4)), set()) for name in evaluator.KERNELS]
    for _ in range(2):
        with np.errstate(all="ignore"):
            evaluator.stages(lambda sent, kind, shape: evaluator.model.answered(sent, ops).ravel(), repeated)


def test_right_kernels_pass(evaluator: Any) -> None:
    tried(evaluator)


def test_the_profile_is_of_the_block_s_operations(evaluator: Any) -> None:
    model, ops = evaluator.model, evaluator.model.Truth()
    ops.gelu = lambda a: (time.sleep(0.05), type(ops).gelu(ops, a))[1]
    arrays = evaluator.drawn("block", (4, 8, 16), 0.1)
    profile = evaluator.Profile(lambda sent, kind, shape: model.answered(sent, ops).ravel())
    assert np.allclose(model.block(profile, *arrays), model.block(model.Truth(), *arrays), atol=1e-4)
    assert str(profile).startswith("gelu ") and str(profile).count("%") == len(evaluator.KERNELS)


def plain_softmax(a: Any) -> Any:
    return np.exp(a) / np.exp(a).sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("name", "made", "says"),
    [
        ("gelu", lambda truth: lambda a: a / (1 + np.exp(-1.702 * a)), "gelu"),
        ("softmax", lambda truth: plain_softmax, "stage 4, edge values: softmax"),
        (
            "matmul",
            lambda truth: lambda a, b: (a.astype(np.float32) @ b).astype(a.dtype),
            "stage [34], .*: matmul, double",
        ),
        (
            "matmul",
            lambda truth: lambda a, b: a @ b if a.shape[1] % 8 == 0 else 0 * (a @ b),
            "stage [2-5], .*: matmul",
        ),
        (
            "rmsnorm",
            lambda truth: lambda a, w: a / np.sqrt((a**2).mean(axis=1, keepdims=True)) * w,
            "stage [2-4], .*: rmsnorm",  # by chance its one number is small
        ),
    ],
)
def test_each_mistake_is_found_and_named(evaluator: Any, name: str, made: Any, says: str) -> None:
    with pytest.raises(evaluator.Wrong, match=says):
        tried(evaluator, **{name: made(evaluator.model.Truth())})


def test_an_answer_that_changes_from_call_to_call_is_found(evaluator: Any) -> None:
    drift = np.random.default_rng(1)
    with pytest.raises(evaluator.Wrong, match="gelu answers the same call in two ways"):
        tried(evaluator, gelu=lambda a: evaluator.model.Truth().gelu(a) * (1 + 1e-13 * drift.random()))


REMEMBERS = """
#include <string.h>
static REAL seen[1 << 16];
static long last;
void matmul(const REAL *a, const REAL *b, REAL *c, long m, long k, long n)
{
    if (m * n != last || m * n > 1 << 16)
        slow(a, b, c, m, k, n);
    if (m * n != last && m * n <= 1 << 16)
        memcpy(seen, c, sizeof(REAL) * m * n);
    memcpy(c, seen, sizeof(REAL) * m * n);
    last = m * n;
}
"""


@with_compiler
@pytest.mark.integration
def test_a_gain_is_measured_and_a_kernel_that_remembers_has_no_metric(tmp_path: Path) -> None:
    run = trials_of("kernel", tmp_path)
    cheat = KERNELS.replace("void matmul(", "static void slow(") + REMEMBERS
    rows, remembers, quick = run("01-rows"), run({"kernels.c": cheat}), run("03-quick-gelu")
    assert rows.outcome == "measured" and rows.secondary.keys() == {"roofline"}, rows.detail
    assert 0 < rows.secondary["roofline"] <= 100
    assert (remembers.outcome, remembers.metric) == ("crashed", None) and "no metric: " in remembers.detail
    assert (quick.outcome, quick.metric) == ("crashed", None) and ": gelu, " in quick.detail
