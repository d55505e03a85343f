"""ShinkaEvolve: ``initial.*`` and ``evaluate.py --program_path P --results_dir D``."""

from __future__ import annotations

from nightlab.core.layouts import Problem, Reading, safe_name
from nightlab.core.types import NightlabError
from nightlab.integrations.layouts.bridged import bridged, requirements

EVALUATOR, SECONDS = "evaluate.py", 600.0


def read(problem: Problem) -> Reading | None:
    """The contract of a task's folder. Raises NightlabError for one with several initial programs, or none."""
    text = problem.text(EVALUATOR)
    if not problem.has(EVALUATOR) or not ("program_path" in text and "results_dir" in text):
        return None
    program = problem.only(problem.match("initial.*"), "the initial program")
    if program is None:
        raise NightlabError(
            f"{problem.name} has a Shinka evaluator, {EVALUATOR}, and no initial.* beside it",
            "add the initial program, or write a lab.toml whose `genome` names it",
        )
    options = [f"--timeout={SECONDS:g}"]
    contract, sealed = bridged(problem, "shinka", options, EVALUATOR, program, SECONDS + 30)
    contract |= {"name": safe_name(problem.name), "metric": {"name": "combined_score", "goal": "maximise"}}
    notes = [
        f"{path} is not read: it configures the other system's search, and evaluations on a cluster"
        for path in (*problem.match("run_evo*.py"), *problem.match("shinka*.yaml"))
    ]
    notes += requirements(problem, "requirements.txt")
    if "private" in text:
        notes.append("private metrics are not recorded: only combined_score, public metrics and text_feedback are read")
    return Reading(contract, f"a Shinka task: {EVALUATOR} and {program}; {sealed}", tuple(notes))
