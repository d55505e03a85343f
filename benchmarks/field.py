"""Beside the field, with the same proposals: python benchmarks/field.py [--sessions 5] [--evaluations 30]

Problems in OpenEvolve's layout (field_problems.py) are run by the commands of OpenEvolve and of ShinkaEvolve, installed
from PyPI into a temporary environment (``--python PYTHON``: one that has them), and by ``nightlab open`` and ``nightlab
run`` on the same unchanged folder; ShinkaEvolve's has the same evaluator with the arguments that it calls one with. The
model is a script on this machine that all ask through the same protocol: it moves one to three of the numbers of the
program that it is shown, by steps from 0.002 to 0.2. Sessions take turns. Printed are the best scores after equally
many evaluations, computed again from the best programs by the problem's evaluator, and what an experiment takes beyond
the evaluation: the time from one question to the next, less that of an evaluation alone.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import random
import re
import runpy
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from field_problems import PROBLEMS
from machine import heading, quietly, table

from nightlab.core.events import TrialFinished
from nightlab.session.create import SHIPPED
from nightlab.session.session import open_session

REPEATS = 2  # of nightlab's: a second trial of the baseline, and one of the first winner, before it knows of no noise
LINE = re.compile(r"^NUMBERS = (\[.*\])$", re.MULTILINE)
OWN = """
[judge]
confirm = 0

[[proposers]]
kind = "model"
model = "script"
base_url = "{url}"
"""
CONFIG = """\
max_iterations: {evaluations}
checkpoint_interval: 100000
random_seed: {seed}
diff_based_evolution: false
llm:
  api_base: {url}
  api_key: none
  models: [{{name: script, weight: 1.0}}]
evaluator:
  cascade_evaluation: false
  parallel_evaluations: 1
"""
SHINKA = """

if __name__ == "__main__":  # as ShinkaEvolve calls an evaluator
    import argparse, json, pathlib

    parser = argparse.ArgumentParser()
    parser.add_argument("--program_path")
    parser.add_argument("--results_dir", type=pathlib.Path)
    args = parser.parse_args()
    (args.results_dir / "metrics.json").write_text(json.dumps(evaluate(args.program_path)))
    (args.results_dir / "correct.json").write_text('{"correct": true, "error": null}')
"""


class Script:
    """The model: a move of the numbers in the program that it is shown. It keeps the times at which it was asked."""

    def __init__(self, seed: int) -> None:
        self.draw, self.asked = random.Random(seed), list[float]()

    def answer(self, told: str) -> str:
        self.asked.append(time.monotonic())
        *earlier, current = re.split("# Current [Pp]rogram\n", told)  # peers show others before it
        if (found := LINE.search(current)) is None:
            raise ValueError(f"no line NUMBERS = [...] in {len(told)} characters")
        numbers = ast.literal_eval(found[1])
        for at in self.draw.sample(range(len(numbers)), self.draw.randint(1, 3)):
            numbers[at] = round(numbers[at] + self.draw.gauss(0, 0.002 * 100 ** self.draw.random()), 5)
        line = f"NUMBERS = {numbers}"
        if earlier:
            body = current.partition("```python\n")[2].partition("\n```")[0].replace(found[0], line)
            said = "<NAME>\nmove\n</NAME>\n<DESCRIPTION>\nOther numbers.\n</DESCRIPTION>\n"
            return f"{said}<CODE>\n```python\n{body}\n```\n</CODE>"
        edit = f"initial_program.py\n<<<<<<< SEARCH\n{found[0]}\n=======\n{line}\n>>>>>>> REPLACE\n"
        return f"{edit}\nHYPOTHESIS: other numbers {self.draw.random():.6f}"


@contextmanager
def served(script: Script) -> Iterator[str]:
    """The address at which a script answers in OpenAI's protocol."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told = "\n".join(message["content"] for message in body["messages"])
            choice = {"index": 0, "finish_reason": "stop"}
            message = {"role": "assistant", "content": script.answer(told)}
            usage = {"prompt_tokens": len(told) // 3, "completion_tokens": 100, "total_tokens": len(told) // 3 + 100}
            kind = {"id": "x", "object": "chat.completion", "created": 0, "model": "script", "usage": usage}
            raw = json.dumps({**kind, "choices": [{**choice, "message": message}]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def problem(name: str, folder: Path, config: str) -> Path:
    folder.mkdir()
    program, evaluator = PROBLEMS[name]
    for file, text in (("initial_program.py", program), ("evaluator.py", evaluator), ("config.yaml", config)):
        (folder / file).write_text(text, encoding="utf-8")
    return folder


def with_openevolve(name: str, place: Path, url: str, evaluations: int, seed: int, python: Path) -> tuple[str, int]:
    """The best program of a session of OpenEvolve's, and the number of evaluations."""
    folder = problem(name, place / "openevolve", CONFIG.format(evaluations=evaluations, seed=seed, url=url))
    files = ("initial_program.py", "evaluator.py", "--config", "config.yaml", "--output", "out")
    quietly(python, "-m", "openevolve.cli", *files, "--iterations", evaluations, cwd=folder)
    return (folder / "out" / "best" / "best_program.py").read_text(), evaluations + 1


def with_shinka(name: str, place: Path, url: str, evaluations: int, seed: int, python: Path) -> tuple[str, int]:
    """The best program of a session of ShinkaEvolve's, and the number of evaluations. Its own choices have no seed."""
    (folder := place / "shinka").mkdir()
    program, evaluator = PROBLEMS[name]
    (folder / "initial.py").write_text(program, encoding="utf-8")
    (folder / "evaluate.py").write_text(evaluator + SHINKA, encoding="utf-8")
    settings = {"llm_models": [f"local/script@{url}"], "patch_types": ["full"], "patch_type_probs": [1.0]}
    settings |= {"embedding_model": None, "max_patch_attempts": 1, "max_patch_resamples": 1}
    chosen = [word for key, value in settings.items() for word in ("--set", f"evo.{key}={json.dumps(value)}")]
    jobs = [word for kind in ("evaluation", "proposal") for word in (f"--max-{kind}-jobs", 1)]
    places = ("--task-dir", folder, "--results_dir", folder / "out", "--num_generations", evaluations + 1)
    environment = ("env", "SHINKA_PRICING_MODE=offline", f"PATH={python.parent}:{os.environ['PATH']}")
    quietly(*environment, python.with_name("shinka_run"), *places, "--no-verbose", *jobs, *chosen, cwd=folder)
    with closing(sqlite3.connect(folder / "out" / "programs.sqlite")) as database:
        rows = database.execute("SELECT code, generation FROM programs ORDER BY combined_score DESC").fetchall()
    return rows[0][0], len({generation for _, generation in rows})  # the first program is on each island


PEERS = {"openevolve": with_openevolve, "shinka-evolve": with_shinka}  # by their names on PyPI


def with_nightlab(name: str, place: Path, url: str, evaluations: int) -> tuple[str, int]:
    """The best program of a session of nightlab's, sealed, and the number of its trials, repeated ones included."""
    source, folder = problem(name, place / "source", ""), place / "lab"
    nightlab = (Path(sys.executable).with_name("nightlab"),)
    quietly(*nightlab, "open", source, folder, cwd=place)
    contract = folder / "lab.toml"
    contract.write_text(contract.read_text() + OWN.format(url=url))
    git = ("git", "-c", "user.name=me", "-c", "user.email=me@here")
    quietly(*git, "commit", "-qam", "the scripted model", cwd=folder)
    quietly(*nightlab, "run", "--tag", "t", "-n", evaluations - REPEATS, cwd=folder)
    with closing(open_session(folder, "t")) as done:
        trials = sum(1 for _ in done.ledger.events(TrialFinished))
    return quietly("git", "show", "nightlab/t:initial_program.py", cwd=folder), trials


def score(name: str, program: str, place: Path) -> tuple[float, float]:
    """A program's score by the problem's own evaluator, and the seconds of an evaluation alone."""
    place.mkdir(exist_ok=True)
    (place / "program.py").write_text(program)
    (place / "evaluator.py").write_text(PROBLEMS[name][1])
    evaluate, seconds, found = runpy.run_path(str(place / "evaluator.py"))["evaluate"], [], math.nan
    for _ in range(5):
        begun = time.perf_counter()
        found = evaluate(str(place / "program.py"))["combined_score"]
        seconds.append(time.perf_counter() - begun)
    if name == "packing":  # once more, in exact arithmetic
        verify, pack = runpy.run_path(str(SHIPPED / "packing" / "verify.py")), runpy.run_path(str(place / "program.py"))
        circles = verify["strict"]([tuple(circle) for circle in pack["pack"]()])
        found = math.fsum(r for _, _, r in circles)
    return found, statistics.median(seconds)


def session(name: str, who: str, seed: int, evaluations: int, python: Path) -> tuple[float, int, float]:
    """The best score, the number of evaluations, and the seconds between two questions beyond one."""
    script = Script(seed)
    with tempfile.TemporaryDirectory() as temporary, served(script) as url:
        place = Path(temporary)
        if who == "nightlab":
            best, count = with_nightlab(name, place, url, evaluations)
        else:
            best, count = PEERS[who](name, place, url, evaluations, seed, python)
        found, alone = score(name, best, place / "score")
    gaps = (script.asked[-1] - script.asked[0]) / (len(script.asked) - 1)
    return found, count, gaps - alone


def installed(place: Path) -> Path | None:
    """A Python with the peers from PyPI, in an environment of this run; None if they can't be installed."""
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    command = (str(python), "-m", "pip", "install", "-q", "--prefer-binary", *PEERS)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode else python


def spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=30)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--python", type=Path, help="a Python that has the peers, in place of a new environment")
    args = parser.parse_args()
    heading(f"{', '.join(args.peers)} and nightlab on the same problems, {args.evaluations} evaluations a session")
    with tempfile.TemporaryDirectory() as temporary:
        python = args.python or installed(Path(temporary) / "venv")
        if python is None:
            sys.exit(f"skipped: {' and '.join(PEERS)} can't be installed from PyPI here")
        who = {"nightlab": "nightlab"}
        for peer in args.peers:
            version = f"import importlib.metadata as m; print(m.version({peer!r}))"
            who[peer] = f"{peer} {quietly(python, '-c', version, cwd=Path()).strip()}"
        rows = []
        for name in args.problems:
            start, alone = score(name, PROBLEMS[name][0], Path(temporary) / "score")
            found: dict[str, list[tuple[float, int, float]]] = {side: [] for side in who}
            for seed in range(args.sessions):
                for side in who:
                    found[side].append(session(name, side, seed, args.evaluations, python))
            for side, results in found.items():
                best, counts, beyond = map(list, zip(*results, strict=True))
                count = f"{min(counts)} to {max(counts)}"
                rows.append(
                    [name, who[side], count, f"{start:.5f}", spread(best, 5), f"{alone:.4f}", spread(beyond, 2)]
                )
    columns = ("problem", "runner", "evaluations", "at first", "best score", "s of an evaluation", "s beyond it")
    table(columns, rows)
    print(f"Median (least to most) of {args.sessions} sessions each, in turn; load {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
