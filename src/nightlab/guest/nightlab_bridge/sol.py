"""SOL-ExecBench: a program's outputs are compared with the reference's on each workload, and both are timed in turn.

``python -P -m nightlab_bridge.sol [--entry NAME] [--destination] DEFINITION PROGRAM``; ``workload.jsonl`` lies beside
the definition.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import statistics
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nightlab_bridge.kernels import copied, report_speedup, timed
from nightlab_bridge.load import load_module
from nightlab_bridge.runner import Said, arguments

INTEGERS = 128  # random integers are below
CHECKS = 2  # of fresh inputs, for each workload
OPERATORS = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Name, ast.Load, ast.Constant)


def main() -> None:
    parser = arguments(600)
    parser.add_argument("--entry", default="run", help="the program's function")
    parser.add_argument("--destination", action="store_true", help="it writes into outputs that it is given last")
    options = parser.parse_args()

    def function(path: Path, said: Said) -> Any:
        said(options.evaluator)
        place = Path(options.evaluator)
        problem = json.loads(place.read_text(encoding="utf-8"))
        lines = place.with_name("workload.jsonl").read_text(encoding="utf-8").splitlines()
        reference = types.ModuleType("reference")
        exec(compile(problem["reference"], "the reference in definition.json", "exec"), reference.__dict__)
        program = getattr(load_module(path, "program"), options.entry)
        found = [
            measure(problem, workload, reference, program, options.destination)
            for workload in map(json.loads, filter(str.strip, lines))
            if readable(workload)
        ]
        wrong = next((each["wrong"] for each in found if each["wrong"]), "")
        names = [f"instance/{number}" for number in range(len(found))]
        speeds = {name: each["speedup"] for name, each in zip(names, found, strict=True)}
        return {"wrong": wrong, "speedup": statistics.geometric_mean(speeds.values()), **speeds}

    report_speedup(options, function)


def readable(workload: Mapping[str, Any]) -> bool:
    """Whether the inputs can be made here: none is in a file of another data set."""
    return all(given.get("type") != "safetensors" for given in workload["inputs"].values())


def axes(problem: Mapping[str, Any], workload: Mapping[str, Any]) -> dict[str, int]:
    """The size of each axis. Raises ValueError for an expression that is more than arithmetic."""
    sizes = dict(workload["axes"])
    sizes |= {name: axis["value"] for name, axis in problem["axes"].items() if axis["type"] == "const"}
    for name, axis in problem["axes"].items():
        if axis["type"] == "expr":
            tree = ast.parse(axis["expression"], mode="eval")
            if not all(isinstance(node, OPERATORS) for node in ast.walk(tree)):
                raise ValueError(f"the axis {name} is no arithmetic: {axis['expression']}")
            sizes[name] = int(eval(compile(tree, "an axis", "eval"), {"__builtins__": {}}, dict(sizes)))
    return sizes


def measure(
    problem: Mapping[str, Any], workload: Mapping[str, Any], reference: Any, program: Callable[..., Any], into: bool
) -> dict[str, Any]:
    """Whether the outputs agree for fresh inputs, and the median ratio of the reference's time to the program's."""
    torch: Any = importlib.import_module("torch")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sizes = axes(problem, workload)
    torch.manual_seed(int.from_bytes(os.urandom(4), "little"))

    def called(given: list[Any]) -> Any:
        if not into:
            return program(*given)
        outputs = [_empty(torch, spec, sizes, device) for spec in problem["outputs"].values()]
        program(*given, *outputs)
        return outputs

    wrong = ""
    with torch.no_grad():
        for _ in range(CHECKS):
            given = inputs(torch, problem, workload, sizes, reference, device)
            expected, got = (_outputs(problem, f(copied(given))) for f in (lambda g: reference.run(*g), called))
            wrong = wrong or difference(torch, expected, got, workload)
        pairs = timed(reference.run, lambda *g: called(list(g)), given, device) if not wrong else [(1.0, 1.0)]
    return {"wrong": wrong, "speedup": statistics.median(a / b for a, b in pairs)}


def inputs(torch: Any, problem: Any, workload: Any, sizes: dict[str, int], reference: Any, device: str) -> list[Any]:
    """Fresh inputs in the definition's order."""
    described = workload["inputs"]
    scalars = {name: given["value"] for name, given in described.items() if given["type"] == "scalar"}
    if any(given["type"] == "custom" for given in described.values()):
        made = getattr(reference, problem["custom_inputs_entrypoint"])({**sizes, **scalars}, torch.device(device))
        return [made[name] for name in problem["inputs"]]
    specs = problem["inputs"].items()
    return [scalars[name] if name in scalars else _random(torch, spec, sizes, device) for name, spec in specs]


def _shape(spec: Mapping[str, Any], sizes: Mapping[str, int]) -> list[int]:
    return [sizes[axis] for axis in spec["shape"] or ()]


def _empty(torch: Any, spec: Mapping[str, Any], sizes: Mapping[str, int], device: str) -> Any:
    return torch.empty(_shape(spec, sizes), dtype=getattr(torch, spec["dtype"]), device=device)


def _random(torch: Any, spec: Mapping[str, Any], sizes: Mapping[str, int], device: str) -> Any:
    shape, dtype = _shape(spec, sizes), getattr(torch, spec["dtype"])
    if dtype.is_floating_point:
        return torch.randn(shape, device=device).to(dtype)
    return torch.randint(0, 2 if dtype is torch.bool else INTEGERS, shape, device=device).to(dtype)


def _outputs(problem: Mapping[str, Any], answer: Any) -> list[Any]:
    if isinstance(answer, dict):
        return [answer.get(name) for name in problem["outputs"]]
    return list(answer) if isinstance(answer, tuple | list) else [answer]


def difference(torch: Any, expected: list[Any], got: list[Any], workload: Mapping[str, Any]) -> str:
    """How outputs differ from the reference's, as text; empty if they agree as the workload asks."""
    bounds = workload.get("correctness") or workload.get("tolerance") or {}
    least, cap = bounds.get("required_matched_ratio", 1.0), bounds.get("max_error_cap")
    if len(got) != len(expected):
        return f"{len(got)} outputs instead of {len(expected)}"
    for wanted, found in zip(expected, got, strict=True):
        if not isinstance(wanted, torch.Tensor):
            wanted, found = torch.tensor(wanted), torch.tensor(found)
        if not isinstance(found, torch.Tensor) or found.shape != wanted.shape or found.dtype != wanted.dtype:
            shape = f"{tuple(wanted.shape)}, {wanted.dtype}"
            return f"{getattr(found, 'shape', type(found).__name__)} instead of a tensor of {shape}"
        wanted, found = wanted.float(), found.float()
        gap = (wanted - found).abs()
        allowed = bounds.get("max_atol", 1e-2) + bounds.get("max_rtol", 1e-2) * wanted.abs()
        near = (gap <= allowed) | (wanted == found)
        share = float(near.float().mean()) if near.numel() else 1.0
        if share < least or (cap is not None and near.numel() and not float(gap.max()) <= cap):
            return f"{1 - share:.2%} of the values are too far off, by up to {float(gap.max()):.3g}"
    return ""


if __name__ == "__main__":
    main()
