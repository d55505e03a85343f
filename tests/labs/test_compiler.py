"""The compiler lab: what is fast and wrong has no metric, and no flag reaches past the compiler."""

from __future__ import annotations

import shutil
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.shipped import by_hand, lab_module, trials_of

from nightlab.session.create import SHIPPED

SMOOTH = (SHIPPED / "compiler" / "smooth.c").read_text()
with_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smooth.c").write_text(SMOOTH)
    (tmp_path / "flags.txt").write_text("-O1\n")
    return lab_module("compiler", "build")


@pytest.fixture(scope="module")
def evaluator() -> Any:
    return lab_module("compiler", "bench")


@pytest.mark.parametrize(
    "flag",
    [
        "-fplugin=./evil.so",
        "-o/tmp/x",
        "@more",
        "-include",
        "/etc/passwd",
        "-Bhere",
        "-wrapper",
        "-fdump-tree-all",
        "-Wl,-x",
    ],
)
def test_a_flag_that_does_more_than_compile_is_refused(build: Any, tmp_path: Path, flag: str) -> None:
    (tmp_path / "flags.txt").write_text(f"-O2 -march=native {flag}\n")
    with pytest.raises(SystemExit, match="is none of -O"):
        build.compiled()


def test_a_machine_without_a_compiler_says_what_to_do(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"no C compiler \(cc\): install gcc"):
        build.compiled()


@with_compiler
@pytest.mark.integration
def test_what_does_not_compile_is_quoted(build: Any, tmp_path: Path) -> None:
    (tmp_path / "smooth.c").write_text("void smooth(")
    with pytest.raises(SystemExit, match=r"(?s)does not compile: .*error"):
        build.compiled()


@with_compiler
@pytest.mark.integration
def test_the_genome_as_shipped_agrees_with_the_truth(build: Any, evaluator: Any) -> None:
    smooth = build.loaded(build.compiled())
    for size, width, missing in evaluator.OTHERS:
        numbers = evaluator.series(size, missing)
        assert evaluator.agree(np.frombuffer(smooth(array("d", numbers.tobytes()), width)), numbers, width)


@pytest.mark.parametrize("wrong", [np.nan, 0.0, 1.0 + 1e-6])
def test_one_wrong_value_in_a_series_is_a_wrong_answer(evaluator: Any, wrong: float) -> None:
    numbers = np.ones(50)
    found = evaluator.truth(numbers, 5)
    assert evaluator.agree(found, numbers, 5)
    found[20] = wrong
    assert not evaluator.agree(found, numbers, 5)
    assert not evaluator.agree(np.zeros(3), np.full(3, np.nan), 5), "the mean of nothing is no number"


LIES = """
#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void speak(void) { printf("METRIC milliseconds=0.0001\\n"); fflush(stdout); }
"""


@with_compiler
@pytest.mark.integration
def test_a_gain_is_measured_lies_are_not_heard_and_lost_values_are_no_metric(tmp_path: Path) -> None:
    run = trials_of("compiler", tmp_path)
    lost, quick, lies = run("01-fast-math"), run("05-running-sum"), run({"smooth.c": SMOOTH + LIES})
    assert (lost.outcome, lost.metric) == ("crashed", None) and "a wrong answer for" in lost.detail
    assert quick.outcome == lies.outcome == "measured", f"{quick.detail} {lies.detail}"
    assert quick.metric and lies.metric and lies.metric > 1 and quick.metric < lies.metric
    assert by_hand("compiler", "bench.py", tmp_path).startswith("METRIC milliseconds=")
