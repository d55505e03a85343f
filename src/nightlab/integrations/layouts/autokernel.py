"""AutoKernel: ``kernel.py`` is measured by ``bench.py`` against ``reference.py``."""

from __future__ import annotations

from nightlab.core.layouts import Problem, Reading, safe_name

SCRIPT, PROGRAM, SECONDS = "bench.py", "kernel.py", 600.0
SCORES = ("throughput_tflops", "speedup_vs_pytorch")


def read(problem: Problem) -> Reading | None:
    """The contract of a kernel's folder."""
    if not all(problem.has(name) for name in (SCRIPT, PROGRAM, "reference.py")):
        return None
    score = next((name for name in SCORES if name in problem.text(SCRIPT)), None)
    if score is None:
        return None
    passes = " --passes=correctness" if "correctness" in problem.text(SCRIPT) else ""
    contract = {
        "name": safe_name(problem.name),
        "genome": [PROGRAM],
        "command": f"python -P -m nightlab_bridge.command --score={score}{passes} {SCRIPT} {PROGRAM}",
        "metric": {"name": score, "goal": "maximise"},
        "budget": {"amount": SECONDS},
    }
    claim = f"the number is a claim: {SCRIPT} imports the kernel and times it in its own process"
    notes = ("bench.py needs the device that the kernel is written for; without it, the baseline says what is missing",)
    return Reading(contract, f"an AutoKernel task: {SCRIPT}, {PROGRAM} and reference.py; {claim}", notes)
