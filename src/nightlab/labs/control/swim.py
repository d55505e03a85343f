"""Frozen: a swimmer in MuJoCo that moves as the genome says, and how far it gets.

The metric is the mean over swims from starts that are drawn anew, with its standard error. nightlab runs this file as
the evaluator, in a separate process. By hand: python swim.py
"""

import math
import random
import statistics
import sys
from array import array

try:
    import gymnasium
except ImportError as error:
    sys.exit(f"no metric: {error}: pip install 'nightlab[control]'")
try:
    import nightlab_guest
except ImportError:
    nightlab_guest = None

SWIMS, STEPS, STEP = 4, 400, 0.04  # seconds of a step
draw = random.SystemRandom()  # not the trial's seed, which the genome knows too


def swim(body, act):
    """Metres forwards in one swim. Raises ValueError where a torque is no number."""
    seen, _ = body.reset(seed=draw.randrange(2**31))
    begun = float(body.unwrapped.data.qpos[0])
    for step in range(STEPS):
        torques = [float(torque) for torque in act(step * STEP, seen.tolist())]
        if len(torques) != 2 or not all(map(math.isfinite, torques)):
            raise ValueError(f"{torques} are no two torques, after {step * STEP:.2f} s")
        seen, *_ = body.step([min(max(torque, -1.0), 1.0) for torque in torques])
    return float(body.unwrapped.data.qpos[0]) - begun


def served():
    """The genome's function in its process: one call, sent when the one before was answered."""
    link = nightlab_guest.Served()
    return lambda time, seen: next(link.map([array("d", [time, *seen])], "d", (2,)))


def by_hand():
    import policy

    return policy.act


def main():
    act, body = served() if nightlab_guest else by_hand(), gymnasium.make("Swimmer-v5")
    try:
        metres = [swim(body, act) for _ in range(SWIMS)]
    except Exception as error:
        print(f"no metric: {error}")
        sys.exit(4)
    print(f"METRIC metres={statistics.fmean(metres):.4f} ± {statistics.stdev(metres) / math.sqrt(SWIMS):.4f}")


if __name__ == "__main__":
    main()
