"""GEPA's problems: a text that an evaluator scores on examples."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from nightlab_bridge.gepa import evaluate, log
from support.bench import Bench
from support.labs import TinyLab
from support.layouts import opened, problem

from nightlab.core.config import detect
from nightlab.core.types import NightlabError
from nightlab.engines.local.layout import detect_sandbox
from nightlab.session.create import written

MAIN = '''\
import gepa.optimize_anything as oa
from gepa.optimize_anything import EngineConfig, GEPAConfig, SideInfo, optimize_anything
SEED = """Count the words."""
GOAL = "Longer is better."
def evaluate(candidate: str, example) -> tuple[float, SideInfo]:
    ctx = oa.get_log_context()
    oa.set_log_context(ctx)
    oa.log("words:", 3, end="!\\n")
    return len(candidate.split()) * example, {"cost": example, "feedback": f"example {example} is short"}
def main():
    try:
        optimize_anything(seed_candidate=SEED, evaluator=evaluate, dataset=[9], valset=[1, 2, 3], test_set=[10],
                          objective=GOAL, config=GEPAConfig(engine=EngineConfig(run_dir="x")))
    except Exception:
        pass
if __name__ == "__main__":
    main()
'''


def test_a_text_that_is_only_read_is_sealed() -> None:
    lab, reading = opened({"main.py": MAIN})
    assert lab.genome == ("candidate.txt",) and reading.extra == {"candidate.txt": "Count the words."}
    assert lab.command is None and lab.evaluator and lab.evaluator.held_out and "sealed" in reading.source
    assert reading.strategy == "Longer is better." and "config is not read" in reading.notes[0]


CODE = "from gepa.utils import code_execution as c\nc.execute_code('', timeout=1)\n"


def test_a_text_that_may_be_run_makes_a_claim() -> None:
    lab, reading = opened({"main.py": MAIN, "run.py": "def execute(code): exec(code)\n"})
    assert lab.evaluator is None and "claim: run.py may run the candidate's text" in reading.source
    assert any("test_set is not read" in note for note in reading.notes)
    for runs in (
        "run = exec\n",
        "from os import system as tell\n",
        "import yaml\nyaml.unsafe_load('')\n",
        "print 1\n",
        CODE,
    ):
        assert opened({"main.py": MAIN, "run.py": runs})[0].evaluator is None, runs
    for words in (
        "import re\nre.compile('a')\n",
        "from re import compile\ncompile('a')\n",
        "import platform\nplatform.system()\n",
    ):
        assert opened({"main.py": MAIN, "words.py": words})[0].evaluator, words
    program = MAIN.replace("Count the words.", "def f(): return 1")
    lab, reading = opened({"main.py": program})
    assert lab.genome == ("candidate.py",) and "sealed" in reading.source


def test_components_files_and_models() -> None:
    parts = MAIN.replace("seed_candidate=SEED", "seed_candidate={'ask': SEED, 'end': open('end.txt').read().strip()}")
    lab, reading = opened({"main.py": "import litellm\n" + parts, "end.txt": "Stop.\n"})
    assert reading.extra == {"candidate/ask.txt": "Count the words.", "candidate/end.txt": "Stop."}
    assert any("litellm is imported: a trial has no network" in note for note in reading.notes)
    made = MAIN.replace('SEED = """Count the words."""', "SEED = make()")
    with pytest.raises(NightlabError, match="can't be read without running it"):
        detect(problem({"main.py": made}))
    lab, reading = opened({"main.py": made, "candidate.txt": "Mine."})
    assert lab.genome == ("candidate.txt",) and not reading.extra


def test_the_validation_examples_decide_and_the_test_set_only_reports(make_lab: Callable[..., TinyLab]) -> None:
    lab, reading = opened({"main.py": MAIN})
    bench = Bench(make_lab(files={"main.py": MAIN, **reading.extra}), written(lab, reading), detect_sandbox())
    got = bench.run(purpose="confirm")
    assert (got.metric, got.held_out) == (6.0, 30.0), got.detail
    assert got.secondary == {"cost": 2.0, "instance/0": 3.0, "instance/1": 6.0, "instance/2": 9.0}
    assert got.said.startswith("example 0: {'cost': 1, 'feedback': 'example 1 is short'}\nexample 0: words: 3!\n")


def test_what_an_evaluator_logs_is_told_and_numbers_beside_the_scores_are_their_means() -> None:
    def scored(candidate: str, example: int) -> object:
        log("seen", example)
        beside = {"tokens": example, "scores": {"style": example / 4}, "flag": True, "lost": float("nan")}
        return (0.5, {**beside, "rare": 7}) if example == 2 else (example, beside)

    found = evaluate({"evaluator": scored}, "x", [1, 2])
    assert found["metrics"] == {"tokens": 1.5, "style": 0.375, "rare": 7.0} and found["score"] == 0.75
    assert found["said"]["example 1"].endswith("\nseen 2") and "seen 1" not in found["said"]["example 1"]

    def alone(candidate: str) -> float:
        log(candidate, "is short")
        return 1.0

    assert evaluate({"evaluator": alone}, "x", None)["said"] == {"feedback": "x is short"}
