"""SOL-ExecBench's problems: a definition, its workloads, and a solution or the reference as the first program."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from nightlab_bridge import sol
from support.bench import Bench
from support.labs import TinyLab
from support.layouts import opened, problem

from nightlab.core.config import detect
from nightlab.core.types import NightlabError
from nightlab.engines.local.layout import detect_sandbox
from nightlab.session.create import written

DEFINITION = {
    "name": "scale_rows",
    "description": "Each row by its own factor.",
    "axes": {
        "rows": {"type": "var"},
        "width": {"type": "const", "value": 8},
        "size": {"type": "expr", "expression": "rows * width"},
    },
    "inputs": {
        "x": {"shape": ["rows", "width"], "dtype": "float32"},
        "index": {"shape": ["rows"], "dtype": "int64"},
        "by": {"shape": None, "dtype": "float32"},
    },
    "outputs": {"y": {"shape": ["size"], "dtype": "float32"}},
    "reference": "import torch\n\ndef run(x, index, by):\n    return (x * index[:, None] * by).reshape(-1)\n",
}
INPUTS = {"x": {"type": "random"}, "index": {"type": "random"}, "by": {"type": "scalar", "value": 0.5}}
WORKLOAD = {"uuid": "1", "axes": {"rows": 3}, "inputs": INPUTS}
STORED = {**WORKLOAD, "inputs": {**INPUTS, "x": {"type": "safetensors", "path": "x", "tensor_key": "x"}}}
INTO = "def fast(x, index, by, y):\n    y[:] = (x * (by * index)[:, None]).reshape(-1)\n"


def folder(*workloads: dict[str, Any], **files: str) -> dict[str, str]:
    lines = "\n".join(json.dumps(workload) for workload in workloads or (WORKLOAD,))
    return {"definition.json": json.dumps(DEFINITION), "workload.jsonl": lines, **files}


def solution(entry: str, content: str, **spec: Any) -> str:
    path = entry.partition("::")[0]
    return json.dumps({"spec": {"entry_point": entry, **spec}, "sources": [{"path": path, "content": content}]})


def test_the_reference_is_the_first_program_and_what_is_stored_elsewhere_is_left_out() -> None:
    lab, reading = opened(folder(WORKLOAD, STORED))
    assert lab.genome == ("solution.py",) and DEFINITION["reference"] in reading.extra["solution.py"]
    assert "1 workloads with inputs in safetensors" in " ".join(reading.notes)
    assert "Each row by its own factor" in reading.strategy


def test_a_solution_of_one_python_file_is_the_first_program() -> None:
    lab, reading = opened(folder(**{"solution.json": solution("main.py::fast", INTO)}))
    assert lab.command and "--entry=fast --destination" in lab.command and reading.extra["solution.py"] == INTO
    lab, reading = opened(folder(**{"solution.json": solution("k.cu::fast", "", language="cuda")}))
    assert "solution.json is not read" in " ".join(reading.notes) and "def run" in reading.extra["solution.py"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (folder(STORED), "no workload whose inputs can be made"),
        (folder() | {"definition.json": "{}"}, "has no reference"),
        (folder() | {"workload.jsonl": "\n{"}, "workload.jsonl:2 is no JSON"),
        (folder() | {"definition.json": "[]"}, "is no JSON object"),
    ],
)
def test_a_folder_that_cannot_be_measured_says_why(files: dict[str, str], says: str) -> None:
    with pytest.raises(NightlabError, match=says):
        detect(problem(files))


def test_axes_are_arithmetic_only() -> None:
    assert sol.axes(DEFINITION, WORKLOAD) == {"rows": 3, "width": 8, "size": 24}
    more = {"axes": {"n": {"type": "expr", "expression": "open('x')"}}}
    with pytest.raises(ValueError, match="the axis n is no arithmetic"):
        sol.axes(more, WORKLOAD)


@pytest.mark.parametrize(
    ("got", "bounds", "says"),
    [
        ([1.0, 2.0], {}, ""),
        ([1.0, 2.02], {}, ""),
        ([1.0, 2.1], {}, "50.00% of the values are too far off, by up to 0.1"),
        ([1.0, 2.1], {"max_atol": 0.2}, ""),
        ([1.0, 9.0], {"required_matched_ratio": 0.5}, ""),
        ([1.0, 9.0], {"required_matched_ratio": 0.5, "max_error_cap": 5}, "50.00%"),
        ([1.0, float("nan")], {}, "50.00%"),
        ([1.0], {}, "instead of a tensor of (2,), torch.float32"),
    ],
)
def test_outputs_agree_as_the_workload_asks(got: list[float], bounds: dict[str, float], says: str) -> None:
    torch = pytest.importorskip("torch")
    found = sol.difference(torch, [torch.tensor([1.0, 2.0])], [torch.tensor(got)], {"correctness": bounds})
    assert says in found and bool(found) == bool(says)


@pytest.mark.integration
def test_a_solution_that_writes_into_its_outputs_is_timed(make_lab: Callable[..., TinyLab]) -> None:
    pytest.importorskip("torch")
    files = folder(WORKLOAD, {**WORKLOAD, "axes": {"rows": 50}}, **{"solution.json": solution("m.py::fast", INTO)})
    lab, reading = opened(files)
    bench = Bench(make_lab(files={**files, "solution.py": INTO}), written(lab, reading), detect_sandbox())
    got = bench.run()
    assert got.metric and {"instance/0", "instance/1"} <= got.secondary.keys(), got.detail
