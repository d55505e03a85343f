"""KernelBench and robust-kbench: a reference module with ``Model`` and its inputs, and a faster program."""

from __future__ import annotations

import re

from nightlab.core.layouts import Problem, Reading, safe_name
from nightlab.core.types import NightlabError
from nightlab.integrations.layouts.bridged import bridged

SECONDS, PROGRAM = 600.0, "model_new.py"
PARTS = tuple(re.compile(p, re.M) for p in (r"^class Model\(", r"^def get_inputs\(", r"^def get_init_inputs\("))
NEW, FORWARD = re.compile(r"^class ModelNew\(", re.M), re.compile(r"^def forward_fn\(", re.M)
WHY = "a kernel's time can't be measured across processes, to which its arrays would have to be copied"


def read(problem: Problem) -> Reading | None:
    """The contract of a problem's folder. Raises NightlabError for one with several problems."""
    forward = problem.match("func_*.py")
    modules = [path for path in forward if FORWARD.search(problem.text(path))] or problem.match("*.py")
    found = [path for path in modules if all(part.search(problem.text(path)) for part in PARTS)]
    found = [path for path in found if path not in forward or FORWARD.search(problem.text(path))]
    references = [path for path in found if not NEW.search(problem.text(path))]
    if len(references) > 1:
        raise NightlabError(
            f"{problem.name} has {len(references)} problems of KernelBench: {', '.join(references[:3])}, …",
            f"copy one into a folder, with your {PROGRAM} if you have one, and open that",
        )
    if not references:
        return None
    reference, robust = references[0], bool(FORWARD.search(problem.text(references[0])))
    wanted = FORWARD if robust else NEW
    programs = [path for path in problem.match("*.py") if path != reference and wanted.search(problem.text(path))]
    program = problem.only(programs, "the program") or PROGRAM
    extra = {} if program in programs else {program: _first(problem.text(reference), reference, robust)}
    options = [f"--timeout={SECONDS:g}", *(["--forward"] if robust else [])]
    if robust and problem.has("config_forward.json"):
        options.append("--config=config_forward.json")
    why = WHY if problem.sealed else "as you asked"
    contract, sealed = bridged(problem, "kernels", options, reference, program, SECONDS + 30, why=why)
    contract |= {"name": safe_name(problem.name), "metric": {"name": "speedup", "goal": "maximise", "unit": "x"}}
    notes = [
        "the speed is the median of paired, alternating runs of reference and program on this machine; the other "
        "system's own runner times each by itself, on a GPU"
    ]
    if problem.match("*.cu"):
        notes.append("*.cu is not read: a program compiles its own kernels, e.g. with torch's load_inline")
    if robust and problem.has("config_backward.json"):
        notes.append("config_backward.json is not read: only the forward pass is measured")
    system = "robust-kbench" if robust else "KernelBench"
    return Reading(contract, f"a {system} problem: {reference} and {program}; {sealed}", tuple(notes), "", extra)


def _first(text: str, reference: str, robust: bool) -> str:
    """The first program: the reference itself, under the name that a program has."""
    if not robust:
        return f'"""The genome: at first as {reference}."""\n\n' + re.sub(r"\bModel\b", "ModelNew", text)
    return f'"""The genome: forward_fn, at first that of {reference}."""\n\n{text.split("class Model(")[0].rstrip()}\n'
