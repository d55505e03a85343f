"""KernelBench's and robust-kbench's problems: the reference's answers and its time are the measure."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.bench import Bench
from support.labs import TinyLab
from support.layouts import opened, problem

from nightlab.core.config import detect
from nightlab.core.types import NightlabError
from nightlab.engines.local.layout import detect_sandbox
from nightlab.session.create import written

REFERENCE = """\
import torch
class Model(torch.nn.Module):
    def __init__(self, n):
        super(Model, self).__init__()
        self.layer = torch.nn.Linear(n, n)
    def forward(self, x): return torch.relu(self.layer(x))
def get_inputs(): return [torch.rand(4, 8)]
def get_init_inputs(): return [8]
"""
ROBUST = """\
import torch
def forward_fn(x): return x + x
class Model(torch.nn.Module):
    def forward(self, x, fn=forward_fn): return fn(x)
def get_inputs(n: int = 4): return [torch.rand(n)]
def get_init_inputs(): return []
"""


def test_a_problem_gets_its_reference_as_the_first_program() -> None:
    lab, reading = opened({"19_ReLU.py": REFERENCE})
    assert lab.genome == ("model_new.py",) and lab.evaluator is None and lab.metric.name == "speedup"
    first = reading.extra["model_new.py"]
    assert (
        "class ModelNew(torch" in first and "super(ModelNew, self)" in first and "Model(" not in first.split("New(")[0]
    )
    assert "can't be measured across processes" in reading.source


def test_a_program_that_is_there_is_the_genome() -> None:
    lab, reading = opened({"ref.py": REFERENCE, "fast.py": REFERENCE.replace("Model", "ModelNew")})
    assert lab.genome == ("fast.py",) and not reading.extra
    with pytest.raises(NightlabError, match="has 2 problems of KernelBench"):
        detect(problem({"1_a.py": REFERENCE, "2_b.py": REFERENCE}))


def test_a_function_of_robust_kbench() -> None:
    lab, reading = opened({"func_forward.py": ROBUST, "1_x.py": REFERENCE, "config_forward.json": "{}"})
    assert lab.command and "--forward --config=config_forward.json func_forward.py" in lab.command
    assert reading.extra["model_new.py"].endswith("def forward_fn(x): return x + x\n")


@pytest.mark.parametrize(
    ("reference", "change", "good"),
    [
        (REFERENCE, ("torch.relu", "torch.nn.functional.relu"), True),
        pytest.param(REFERENCE, ("torch.relu", "torch.tanh"), False, marks=pytest.mark.machine),
        pytest.param(ROBUST, ("x + x", "2 * x"), True, marks=pytest.mark.machine),
        pytest.param(ROBUST, ("x + x", "x.add_(x)[:1]"), False, marks=pytest.mark.machine),
    ],
)
def test_answers_are_compared_with_weights_that_are_seeded_alike(
    make_lab: Callable[..., TinyLab], reference: str, change: tuple[str, str], good: bool
) -> None:
    name = "func_forward.py" if reference == ROBUST else "ref.py"
    lab, reading = opened({name: reference})
    program = reading.extra["model_new.py"].replace(*change)
    bench = Bench(make_lab(files={name: reference, "model_new.py": program}), written(lab, reading), detect_sandbox())
    got = bench.run()
    assert (got.metric is not None and got.metric > 0) == good, got.detail
    assert good or "answer is wrong" in got.detail
