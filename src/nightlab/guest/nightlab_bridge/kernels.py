"""KernelBench and robust-kbench: a program's answers are compared with the reference's, and both are timed in turn.

``python -P -m nightlab_bridge.kernels [--forward] [--config JSON] REFERENCE PROGRAM``
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nightlab_bridge.load import load_module
from nightlab_bridge.report import report, require_score
from nightlab_bridge.runner import Said, Unmeasured, arguments, finish, run

CHECKS, WARM, PAIRS = 5, 3, 20  # of fresh inputs; calls of each before the time is taken; timed pairs
SPENT = 60.0  # seconds after which no further pair is begun
TOLERANCES = {"float32": 1e-4, "float64": 1e-4, "float16": 1e-2, "bfloat16": 1e-2}  # both absolute and relative


def main() -> None:
    parser = arguments(600)
    parser.add_argument("--forward", action="store_true", help="the program has forward_fn, else ModelNew")
    parser.add_argument("--config", default="", help="a JSON file with the shapes of the inputs")
    options = parser.parse_args()

    def function(path: Path, said: Said) -> Any:
        said(options.evaluator)
        reference, program = load_module(options.evaluator, "reference"), load_module(path, "program")
        found = [measure(reference, program, options.forward, *each) for each in shapes(options.config)]
        wrong = next((each["wrong"] for each in found if each["wrong"]), "")
        times = {name: statistics.mean(each[name] for each in found) for name in ("seconds", "reference_seconds")}
        return {"wrong": wrong, "speedup": statistics.geometric_mean(e["speedup"] for e in found), **times}

    report_speedup(options, function)


def report_speedup(options: argparse.Namespace, function: Callable[[Path, Said], Any]) -> None:
    """Report what a function measured of a program: its ``speedup``, and other numbers, unless it is ``wrong``."""
    try:
        metrics = run(options.program, function, sealed=False, timeout=options.timeout)
        if wrong := metrics.pop("wrong"):
            raise Unmeasured(f"the program's answer is wrong: {wrong}")
        report("speedup", require_score(metrics.pop("speedup"), "speedup"), metrics)
    except Unmeasured as error:
        finish(error)


def shapes(config: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Arguments of ``get_inputs`` and ``get_init_inputs``, for each of the problem's shapes."""
    if not config:
        return [({}, {})]
    found = json.loads(Path(config).read_text(encoding="utf-8"))
    pairs: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for kind in ("single", "multi"):
        keys = [found.get(f"{kind}_{part}_configs") or [{}] for part in ("input", "init", "shared")]
        for inputs, init, shared in zip(*keys, strict=False):
            if ({**inputs, **shared}, {**init, **shared}) not in pairs:
                pairs.append(({**inputs, **shared}, {**init, **shared}))
    return pairs[:1] + [pair for pair in pairs[1:] if pair != ({}, {})]


def measure(reference: Any, program: Any, forward: bool, inputs: Any, init: Any) -> dict[str, Any]:
    """Whether the answers agree for fresh inputs, and the median ratio of the reference's time to the program's."""
    torch: Any = importlib.import_module("torch")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    seed = int.from_bytes(os.urandom(3), "little")
    parts = _seeded(seed, lambda: reference.get_init_inputs(**init), device)
    model = _seeded(seed, lambda: reference.Model(*parts), device)
    new: Any
    if forward:
        new = functools.partial(model, fn=program.forward_fn)
    else:
        new = _seeded(seed, lambda: program.ModelNew(*parts), device)
    wrong = ""
    with torch.no_grad():
        for number in range(CHECKS):
            given = _seeded(seed + number, lambda: reference.get_inputs(**inputs), device)
            expected = model(*copied(given))
            wrong = wrong or difference(expected, new(*copied(given)))
        pairs = timed(model, new, given, device) if not wrong else [(1.0, 1.0)]
    times = {
        "reference_seconds": statistics.median(a for a, _ in pairs),
        "seconds": statistics.median(b for _, b in pairs),
    }
    return {"wrong": wrong, "speedup": statistics.median(a / b for a, b in pairs), **times}


def _seeded(seed: int, make: Any, device: str) -> Any:
    """What a function makes after all generators were seeded, on the device."""
    torch: Any = importlib.import_module("torch")
    torch.manual_seed(seed)
    made = make()
    if isinstance(made, torch.nn.Module):
        return made.to(device)
    return [part.to(device) if isinstance(part, torch.Tensor) else part for part in made]


def copied(given: list[Any]) -> list[Any]:
    return [part.clone() if hasattr(part, "clone") else part for part in given]


def difference(expected: Any, got: Any) -> str:
    """How an answer differs from the reference's, as text; empty if it does not."""
    import torch

    if isinstance(expected, tuple | list):
        if not isinstance(got, tuple | list) or len(got) != len(expected):
            return f"{type(got).__name__} instead of {len(expected)} values"
        return next(filter(None, map(difference, expected, got)), "")
    if not isinstance(got, torch.Tensor):
        return f"{type(got).__name__} instead of a tensor"
    if got.shape != expected.shape:
        return f"shape {tuple(got.shape)} instead of {tuple(expected.shape)}"
    tolerance = TOLERANCES.get(str(expected.dtype).removeprefix("torch."), 0.0)
    if torch.allclose(expected.double(), got.double(), rtol=tolerance, atol=tolerance, equal_nan=True):
        return ""
    gap = float((expected.double() - got.double()).abs().max())
    return f"it differs by up to {gap:.3g}, more than {tolerance:g}"


def timed(old: Any, new: Any, given: list[Any], device: str) -> list[tuple[float, float]]:
    """Seconds of both, in turn: the one that goes first changes each time."""
    pairs, begun = [], time.perf_counter()
    for number in range(WARM + PAIRS):
        order = (old, new) if number % 2 else (new, old)
        taken = {id(each): _seconds(each, copied(given), device) for each in order}
        if number >= WARM:
            pairs.append((taken[id(old)], taken[id(new)]))
        if pairs and time.perf_counter() - begun > SPENT:
            break
    return pairs


def _seconds(function: Any, given: list[Any], device: str) -> float:
    torch: Any = importlib.import_module("torch")
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    begun = time.perf_counter()
    function(*given)
    wait()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
