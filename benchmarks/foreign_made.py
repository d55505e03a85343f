"""Small problems in the layouts of GEPA and ShinkaEvolve, made for foreign.py."""

from __future__ import annotations

GEPA = """\
import json
import math
import sys

from gepa.optimize_anything import EngineConfig, GEPAConfig, ReflectionConfig, optimize_anything

{task}

def main():
    engine = EngineConfig(max_metric_calls={calls}, run_dir=None)
    config = GEPAConfig(engine=engine, reflection=ReflectionConfig(reflection_lm=lambda prompt: SEED))
    result = optimize_anything(seed_candidate=SEED, evaluator=evaluate, {data}objective="Score more.", config=config)
    with open(sys.argv[1], "w") as file:
        json.dump(result.val_aggregate_scores[0], file)


if __name__ == "__main__":
    main()
"""
RULES = '''\
SEED = """refund: money
broken: repair
late: delivery
password: account"""
SAID = [
    ("the parcel is late again", "delivery"),
    ("I want a refund for the broken lamp", "money"),
    ("my password does not work", "account"),
    ("the screen arrived broken", "repair"),
    ("where is my order", "delivery"),
    ("charged twice, refund please", "money"),
    ("late, and the box is broken", "repair"),
]


def evaluate(candidate, example):
    """1 less a little for each rule before the right one that does not apply; 0 where a wrong one applies first."""
    text, label = example
    rules = [line.split(":") for line in candidate.splitlines() if ":" in line]
    for place, (word, said) in enumerate(rules):
        if word.strip() in text:
            score = 1 - place / (3 * len(rules)) if said.strip() == label else 0.0
            return score, {"feedback": f"{text!r} is taken to be about {said.strip()}"}
    return 0.1, {"feedback": f"no rule applies to {text!r}"}

'''
POINTS = '''\
SEED = "[[0.1, 0.2], [0.9, 0.15], [0.5, 0.8], [0.2, 0.6], [0.7, 0.5]]"


def evaluate(candidate):
    """The least distance of two points of the unit square, over the largest."""
    points = [tuple(map(float, point)) for point in json.loads(candidate)]
    far = [math.dist(one, other) for i, one in enumerate(points) for other in points[:i]]
    return min(far) / max(far), {"least": min(far)}

'''
SHINKA = """\
import argparse
import math

from shinka.core import run_shinka_eval

{task}

def aggregate(answers):
    scores = [score(answer) for answer in answers]
    return {{"combined_score": sum(scores) / len(scores), "public": {{"least": min(scores)}}}}


def valid(answer):
    return (True, None) if score(answer) > 0 else (False, "its score is 0")


def main(program_path, results_dir):
    run_shinka_eval(
        program_path=program_path,
        results_dir=results_dir,
        experiment_fn_name="run",
        num_runs=3,
        get_experiment_kwargs=lambda n: {{"n": 5 + n}},
        aggregate_metrics_fn=aggregate,
        validate_fn=valid,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--program_path", default="initial.py")
    parser.add_argument("--results_dir", default="results")
    given = parser.parse_args()
    main(given.program_path, given.results_dir)
"""
RULER = """\
def score(marks):
    \"\"\"Marks per length of a ruler on which no two distances are equal; 0 for any other.\"\"\"
    far = [b - a for i, a in enumerate(marks) for b in marks[i + 1 :]]
    return len(marks) ** 2 / max(far) if min(far) > 0 and len(set(far)) == len(far) else 0.0

"""
DOUBLING = """\
# EVOLVE-BLOCK-START
def run(n):
    return [2**i - 1 for i in range(n)]
# EVOLVE-BLOCK-END
"""
CIRCLES = """\
def score(circles):
    \"\"\"The sum of radii of circles in the unit square, less the worst violation for each; 0 if that is large.\"\"\"
    less = max(0.0, *(r - min(x, y, 1 - x, 1 - y) for x, y, r in circles))
    for i, (x, y, r) in enumerate(circles):
        less = max(less, *((r + s - math.dist((x, y), (u, v))) / 2 for u, v, s in circles[:i]), 0.0)
    return math.fsum(r - less for _, _, r in circles) if less < 1e-6 else 0.0

"""
RINGS = """\
import math

# EVOLVE-BLOCK-START
def run(n):
    size = 0.5 * math.sin(math.pi / n) / (1 + math.sin(math.pi / n))
    turns = [2 * math.pi * i / n for i in range(n)]
    ring = [(0.5 + (0.5 - size) * math.cos(a), 0.5 + (0.5 - size) * math.sin(a), size) for a in turns]
    return [*ring, (0.5, 0.5, 0.5 - 2 * size)]
# EVOLVE-BLOCK-END
"""
FOLDERS = {
    "gepa": {
        "rules": {"main.py": GEPA.format(task=RULES, calls=7, data="dataset=SAID[:2], valset=SAID, ")},
        "points": {"main.py": GEPA.format(task=POINTS, calls=1, data="")},
    },
    "shinka-evolve": {
        "ruler": {"evaluate.py": SHINKA.format(task=RULER), "initial.py": DOUBLING},
        "circles": {"evaluate.py": SHINKA.format(task=CIRCLES), "initial.py": RINGS},
    },
}
