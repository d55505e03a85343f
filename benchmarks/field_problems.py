"""The problems of field.py, in OpenEvolve's layout: a program whose NUMBERS may change, and an evaluator with a score.

``packing``: 26 circles in the unit square (AlphaEvolve, OpenEvolve, ShinkaEvolve publish it); the sum is strict: all
radii are reduced by what makes them hold. ``experts``: experts of a mixture, replicated and placed on devices for the
next step from the loads of the last three, as in the ADRS set's expert placement; the score is mean over largest load.
"""

from __future__ import annotations

PACKING = """\
# EVOLVE-BLOCK-START
NUMBERS = {numbers}
# EVOLVE-BLOCK-END


def pack():
    \"\"\"26 circles as x, y, radius: each as large as walls and others allow, in two rounds.\"\"\"
    centres = list(zip(NUMBERS[0::2], NUMBERS[1::2]))
    walls = [min(x, y, 1 - x, 1 - y) for x, y in centres]
    far = [[((x - u) ** 2 + (y - v) ** 2) ** 0.5 for u, v in centres] for x, y in centres]
    radii = [min([walls[i]] + [far[i][j] / 2 for j in range(26) if j != i]) for i in range(26)]
    for _ in range(2):
        for i in range(26):
            radii[i] = min([walls[i]] + [far[i][j] - radii[j] for j in range(26) if j != i])
    return [[x, y, max(r, 1e-9)] for (x, y), r in zip(centres, radii)]
"""
VERIFY = """\
import importlib.util
import math


def evaluate(program_path):
    spec = importlib.util.spec_from_file_location("program", program_path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    circles = [[float(number) for number in circle] for circle in program.pack()]
    less = max(r - min(x, y, 1 - x, 1 - y) for x, y, r in circles)
    for i, (x, y, r) in enumerate(circles):
        less = max([less, *((r + s - math.dist((x, y), (u, v))) / 2 for u, v, s in circles[:i])])
    less = max(less, 0.0) + 1e-15
    if len(circles) != 26 or min(r for _, _, r in circles) <= less:
        return {"combined_score": 0.0}
    return {"combined_score": math.fsum(r - less for _, _, r in circles)}
"""
EXPERTS = """\
# EVOLVE-BLOCK-START
NUMBERS = {numbers}
# EVOLVE-BLOCK-END


def place(history, devices, slots):
    \"\"\"The experts on each device, from their loads in the last three steps; a copy takes its part of the load.\"\"\"
    newest, older, oldest, spread, start = NUMBERS
    expected = [start + newest * a + older * b + oldest * c for a, b, c in zip(*reversed(history))]
    copies = [1] * len(expected)
    for _ in range(slots - len(expected)):
        copies[max(range(len(expected)), key=lambda e: expected[e] / copies[e] ** spread)] += 1
    parts = sorted(((expected[e] / copies[e], e) for e in range(len(expected)) for _ in range(copies[e])), reverse=True)
    sums, placed = [0.0] * devices, [[] for _ in range(devices)]
    for part, e in parts:
        open_ones = [d for d in range(devices) if len(placed[d]) < slots // devices]
        device = min(open_ones, key=lambda d: sums[d])
        placed[device].append(e)
        sums[device] += part
    return placed
"""
BALANCE = """\
import importlib.util
import random

EXPERTS, DEVICES, SLOTS, STEPS = 48, 8, 64, 24


def loads():
    draw = random.Random(7)
    level = [draw.lognormvariate(0, 1) for _ in range(EXPERTS)]
    made = []
    for _ in range(STEPS + 3):
        level = [0.8 * x + 0.2 * draw.lognormvariate(0, 1) for x in level]
        made.append([x * draw.lognormvariate(0, 0.25) for x in level])
    return made


def evaluate(program_path):
    spec = importlib.util.spec_from_file_location("program", program_path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    made, score = loads(), 0.0
    for step in range(STEPS):
        placed = program.place(made[step : step + 3], DEVICES, SLOTS)
        flat = [e for device in placed for e in device]
        full = all(len(device) == SLOTS // DEVICES for device in placed)
        if set(flat) != set(range(EXPERTS)) or len(placed) != DEVICES or not full:
            return {"combined_score": 0.0}
        sums = [sum(made[step + 3][e] / flat.count(e) for e in device) for device in placed]
        score += sum(sums) / DEVICES / max(sums) / STEPS
    return {"combined_score": score}
"""
GRID = [round(c, 3) for i in range(25) for c in (0.1 + 0.2 * (i % 5), 0.1 + 0.2 * (i // 5))] + [0.4, 0.4]
PROBLEMS = {
    "packing": (PACKING.format(numbers=GRID), VERIFY),
    "experts": (EXPERTS.format(numbers=[1.0, 0.0, 0.0, 0.0, 0.0]), BALANCE),
}
