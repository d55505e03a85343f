"""hillclimb: ``problem.yaml`` with a verifier, or with ``run`` and ``score``."""

from __future__ import annotations

import ast
import posixpath
import re
import shlex
from typing import Any

from nightlab.core.layouts import Problem, Reading, safe_name
from nightlab.core.text import METRIC_NAME
from nightlab.core.types import NightlabError
from nightlab.integrations.layouts.bridged import imported
from nightlab.integrations.layouts.sealing import reached
from nightlab.integrations.layouts.yaml_text import number, table, unread
from nightlab.session.metric_claim import executes

SPEC, SECONDS = "problem.yaml", 600.0
READ = {"metric", "higher_is_better", "problem_id", "description", "verifier", "score", "run", "time_limit_s"}
READ |= {"private", "holdout", "holdout_inputs", "contract", "baseline", "baseline_files", "requirements"}
READ |= {"unit_tests", "data_dir", "allow_internet_during_solution", "unit_tests.root", "unit_tests.command"}
FLOOR = '"""The genome: at first it hands in the problem\'s own floor."""\n\nimport shutil\n\n'
NAMED = ("HILLCLIMB_SOLUTION", "solution.py")
PYTHON = r'"?\$\{?HILLCLIMB_PYTHON\}?"?'
STEPS = rf'{PYTHON} "?\$\{{?HILLCLIMB_SOLUTION\}}?"?\n{PYTHON} "?problem/([\w./-]+\.py)"?'  # of a usual verifier
PYTHONS = ("{python}", "python", "python3")
TOLD = ("chart_baselines", "output_artifacts", "plot", "baseline_files")


def read(problem: Problem) -> Reading | None:
    """The contract of a problem's folder. Raises NightlabError for one without a first solution or a verifier."""
    spec, fault = table(problem.text(SPEC)) if problem.has(SPEC) else ({}, "")
    if fault and re.search(r"^higher_is_better:", problem.text(SPEC), re.M):
        raise NightlabError(f"{problem.name}: {SPEC} can't be read: {fault}", "correct that line")
    if fault or not ("metric" in spec and isinstance(spec.get("higher_is_better"), bool)):
        return None
    program, extra = _program(problem, spec)
    metric = re.sub(r"[^\w.µ/-]+", "_", str(spec["metric"])).strip("_")
    if not re.fullmatch(METRIC_NAME, metric):
        metric = "score"
    seconds = number(spec.get("time_limit_s")) or SECONDS
    call = ["python", "-P", "-m", "nightlab_bridge.hillclimb", f"--name={metric}", f"--timeout={seconds:g}"]
    if data := spec.get("data_dir"):
        call.append(f"--data={data}")
    notes: list[str] = []
    contract: dict[str, Any] = {"genome": [program], "budget": {"amount": seconds + 30}}
    verifier, score = _words(spec.get("verifier") or "verifier.sh"), _words(spec.get("score"))
    _require(problem, score or verifier, "scorer" if score else "verifier")
    apart = score or _scorer(problem, verifier)
    why = _obstacle(problem, apart, program)
    if apart and not why:
        contract |= _two_steps(spec, call, apart, program, seconds)
        sealed = "sealed: what the program leaves is scored in a separate sandbox"
    elif score:
        contract["command"] = shlex.join([*call, "--unsealed", *_run(spec), "--score", shlex.join(score), program])
        sealed = f"the number is a claim: the scorer and the program share a sandbox ({why})"
    else:
        contract["command"] = shlex.join([*call, f"--verifier={shlex.join(verifier)}", program])
        sealed = f"the number is a claim: {shlex.join(verifier)} runs the program in its own sandbox"
    if private := _words(spec.get("private")):
        sealed += f"; not secret: the program can read {', '.join(private)}, which is private in hillclimb"
    goal = "maximise" if spec["higher_is_better"] else "minimise"
    contract |= {
        "name": safe_name(str(spec.get("problem_id") or problem.name)),
        "metric": {"name": metric, "goal": goal},
    }
    contract |= _checks(spec, program)
    notes += _notes(problem, spec, "evaluator" in contract and contract["evaluator"].get("held_out", False))
    told = [problem.text(str(spec.get(key) or f"{key}.md")) for key in ("description", "contract")]
    source = f"a hillclimb problem: {SPEC} and {program}; {sealed}"
    told_all = "" if problem.has("program.md") else "\n\n".join(filter(None, told))
    return Reading(contract, source, tuple(notes), told_all, extra)


def _scorer(problem: Problem, verifier: list[str]) -> list[str]:
    """The scorer that a verifier's script starts, if all else that it does is to run the solution before."""
    lines = [line.partition("#")[0].strip() for line in problem.text(verifier[0]).splitlines()]
    does = [line for line in lines if line and not re.match(r"set -|rm -f \S*\$HILLCLIMB_RESULT", line)]
    return [found[1]] if (found := re.fullmatch(STEPS, "\n".join(does))) else []


def _obstacle(problem: Problem, score: list[str], program: str) -> str:
    """Why the scorer has to share the program's sandbox, as text; empty if it only reads what the program left."""
    if not problem.sealed:
        return "as you asked"
    if not score:
        return ""
    words = score[1:] if score[0] in PYTHONS else score
    if not words or not (words[0].endswith(".py") and problem.has(words[0])):
        return f"{shlex.join(score)} does not start with a Python file of the folder"
    if handed := next((word for word in words if "{" in word or word.endswith((*NAMED, program))), ""):
        return f"{shlex.join(score)} names {handed}"
    own = {"solution", posixpath.basename(program).removesuffix(".py")}
    for path, nodes in reached(problem, [word for word in words if word.endswith(".py") and problem.has(word)]):
        if not nodes:
            return f"{path} can't be parsed"
        for node in nodes:
            if executes(node):
                return f"{path}, line {node.lineno}, may execute or unpickle what the program left"  # type: ignore[attr-defined]
            if own & set(imported(node)) or (isinstance(node, ast.Constant) and str(node.value).endswith(NAMED)):
                return f"{path}, line {node.lineno}, names the solution"  # type: ignore[attr-defined]
    return ""


def _two_steps(spec: dict[str, Any], call: list[str], score: list[str], program: str, seconds: float) -> dict[str, Any]:
    held_out = bool(spec.get("score")) and spec.get("holdout") is True and not spec.get("holdout_inputs")
    evaluator: dict[str, Any] = {"command": shlex.join([*call, "--score", shlex.join(score), f"--apart={program}"])}
    if held_out:
        evaluator["held_out"] = True
    return {
        "command": shlex.join([*call, *_run(spec), program]),
        "evaluator": evaluator,
        "budget": {"amount": seconds, "evaluation": SECONDS},
    }


def _run(spec: dict[str, Any]) -> list[str]:
    return [f"--run={shlex.join(_words(spec['run']))}"] if spec.get("run") else ["--run="]


def _program(problem: Problem, spec: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """The first solution, and its text if it has to be written: one that hands in the problem's own files."""
    for path in ("solution.py", spec.get("baseline"), "baseline.py"):
        if isinstance(path, str) and problem.has(path):
            return path, {}
    given = spec.get("baseline_files")
    files = {str(name): str(source) for name, source in given.items()} if isinstance(given, dict) else {}
    if files and all(problem.has(source) for source in files.values()):
        copies = "".join(f"shutil.copyfile({f'problem/{source}'!r}, {name!r})\n" for name, source in files.items())
        return "solution.py", {"solution.py": FLOOR + copies}
    raise NightlabError(
        f"{problem.name} is a hillclimb problem ({SPEC}) without a first solution: no solution.py, no baseline.py",
        "add a solution.py from which the search starts",
    )


def _require(problem: Problem, words: list[str], what: str) -> None:
    if not any(problem.has(word) for word in words):
        raise NightlabError(
            f"{problem.name} is a hillclimb problem ({SPEC}) whose {what} is not there: {shlex.join(words)}",
            f"add it, or name another as `{'score' if what == 'scorer' else 'verifier'}`",
        )


def _words(value: Any) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list) else [str(value)] if value else []


def _checks(spec: dict[str, Any], program: str) -> dict[str, Any]:
    tests = spec.get("unit_tests")
    if not isinstance(tests, dict) or not isinstance(tests.get("command"), list):
        return {}
    places = {"{python}": "python", "{tests}": str(tests.get("root", "tests")), "{solution}": program}
    return {"checks": [{"command": shlex.join(places.get(str(word), str(word)) for word in tests["command"])}]}


def _notes(problem: Problem, spec: dict[str, Any], held_out: bool) -> list[str]:
    notes = list(unread({key: value for key, value in spec.items() if key not in TOLD}, READ, (), SPEC))
    if private := _words(spec.get("private")):
        notes.append(
            f"private: {', '.join(private)} is no secret while it is in the lab's folder: move it elsewhere, let the "
            "scorer read it there, and name that folder in data.sealed"
        )
    if spec.get("holdout") and not held_out:
        notes.append("holdout is not read: the program would have to run again on inputs that the search does not have")
    if (wanted := spec.get("requirements")) and problem.has(str(wanted)):
        notes.append(f"{wanted}: install what is missing where nightlab is installed")
    if spec.get("allow_internet_during_solution"):
        notes.append("allow_internet_during_solution is not read: a trial has no network")
    if problem.has("params.json"):
        notes.append("params.json is not read: constants in the program are tuned")
    return notes
