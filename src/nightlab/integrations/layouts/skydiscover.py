"""SkyDiscover's container form: ``evaluator/evaluate.sh``, ``evaluator/Dockerfile``, ``initial_program.*``."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import Any

from nightlab.core.layouts import Problem, Reading
from nightlab.core.regions import EVOLVE_BLOCK, regions
from nightlab.integrations.layouts import openevolve
from nightlab.integrations.layouts.bridged import requirements
from nightlab.integrations.layouts.harbor import installs

SCRIPT, EVALUATOR, IMAGE = "evaluator/evaluate.sh", "evaluator/evaluator.py", "evaluator/Dockerfile"


def read(problem: Problem) -> Reading | None:
    """The contract of a problem's folder. Raises NightlabError for one without a program, or with two.

    Where the script only starts an evaluator with ``evaluate``, it is read as OpenEvolve's; else the script runs.
    """
    if not problem.has(SCRIPT) or openevolve.evaluates(problem, openevolve.EVALUATOR):
        return None
    system = "a SkyDiscover problem with a container"
    found = openevolve.reading(problem, EVALUATOR, system) if _only_starts(problem) else _script(problem, system)
    notes = [
        f"no container is made: {SCRIPT} is for the image's /benchmark, and is asked for train, not for test",
        *installs(problem, IMAGE),
        *requirements(problem, "evaluator/requirements.txt"),
    ]
    return replace(found, notes=(*notes, *found.notes))


def _only_starts(problem: Problem) -> bool:
    """Whether the script only starts an evaluator, which can be called, and knows no path of the image."""
    lines = [line.strip() for line in problem.text(SCRIPT).splitlines()]
    does = [line for line in lines if line and not re.match(r'#|set |\w+="?\$', line)]
    starts = len(does) == 1 and re.match(r"(exec )?python3? (/benchmark/)?evaluator\.py ", does[0])
    return bool(starts) and openevolve.evaluates(problem, EVALUATOR) and "/benchmark" not in problem.text(EVALUATOR)


def _script(problem: Problem, system: str) -> Reading:
    program = openevolve.program_of(problem)
    config, notes = openevolve.configuration(problem)
    seconds = openevolve.timeout_of(config)
    call = ["python", "-P", "-m", "nightlab_bridge.skydiscover", f"--timeout={seconds:g}", program]
    contract: dict[str, Any] = {"genome": [program], "command": shlex.join(call), "budget": {"amount": seconds + 30}}
    if regions(problem.text(program), EVOLVE_BLOCK):
        contract["between"] = list(EVOLVE_BLOCK)
    contract |= openevolve.rest(problem, config)
    source = f"{system}: {SCRIPT} and {program}; the number is a claim: {SCRIPT} runs the program in its own sandbox"
    return Reading(contract, source, tuple(notes), openevolve.strategy(problem, config))
