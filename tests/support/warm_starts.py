"""A lab whose trials start from the champion's answer: a number, to which a program adds a step."""

from __future__ import annotations

from typing import Any

from support.labs import TinyLab

GENOME = """\
STEP = 1


def improve(value):
    return value + STEP
"""
SEARCH = """\
import json, time
import nightlab_guest
from genome import improve

start = nightlab_guest.trial().warm_start
value = json.load(open(start)) if start else 0
if start:
    try:
        open(start, "w")
    except OSError:
        pass
    else:
        raise SystemExit("the start can be written")
time.sleep(0)
json.dump(improve(value), open("answer.json", "w"))
"""
JUDGE = """\
import json, os

answer = json.load(open(os.path.join(os.environ["NIGHTLAB_ARTEFACTS"], "answer.json")))
print(f"METRIC height={answer}")
"""
CONTRACT = """\
name = "tiny"
genome = ["genome.py"]
command = "python search.py"

[metric]
name = "height"
goal = "maximise"

[evaluator]
command = "python judge.py"

[warm_start]
file = "answer.json"

[budget]
amount = 20
startup = 20
evaluation = 20

[judge]
rule = "greedy"
upkeep = 0
confirm = 0

[sandbox]
allow_missing = ["files", "network", "processes", "privileges"]

[[proposers]]
kind = "patches"
"""


def warm_lab(make_lab: Any, search: str = SEARCH, contract: str = CONTRACT) -> TinyLab:
    lab: TinyLab = make_lab(GENOME, contract=contract, files={"search.py": search, "judge.py": JUDGE})
    return lab


def step(size: str) -> str:
    return GENOME.replace("STEP = 1", f"STEP = {size}")
