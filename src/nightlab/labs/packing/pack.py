"""The genome: place 26 circles in the unit square, so that the sum of their radii is large. Writes circles.json."""

import json
import math
import os
import random
import time
from pathlib import Path

N = 26                   # [fixed]
STARTS = 1               # arrangements that are tried [1..400]
JITTER = 0.05            # how far a centre is moved at random, in sides of the square [0.005..0.3 log]

SEED = int(os.environ.get("NIGHTLAB_SEED", "0"))
UNTIL = 0.7 * float(os.environ.get("NIGHTLAB_BUDGET", "10"))


def start():
    """Centres and radii of the best answer so far, where lab.toml has a [warm_start]; else None."""
    path = os.environ.get("NIGHTLAB_WARM_START")
    circles = json.loads(Path(path).read_text()) if path else []
    return ([(x, y) for x, y, _ in circles], [r for _, _, r in circles]) if circles else None


def grid():
    """Centres on a grid of five by five, and one more in a gap."""
    return [(0.1 + 0.2 * (i % 5), 0.1 + 0.2 * (i // 5)) for i in range(N - 1)] + [(0.4, 0.4)]


def arrange(draw, number, centres):
    """Centres of an arrangement: these ones; all but the first are jittered."""
    if number == 0:
        return centres
    return [tuple(min(max(c + draw.gauss(0, JITTER), 0.02), 0.98) for c in centre) for centre in centres]


def radii(centres):
    """For each centre in turn the largest radius that the walls and the circles before it leave."""
    found = []
    for x, y in centres:
        walls = min(x, y, 1 - x, 1 - y)
        others = (math.dist((x, y), other) - r for other, r in zip(centres, found, strict=False))
        found.append(max(min([walls, *others]), 1e-6))
    return found


def improve(centres, radii):
    """Better circles near these: none are looked for yet."""
    return centres, radii


def main():
    draw, best = random.Random(SEED), start()
    first = best[0] if best else grid()
    for number in range(STARTS):
        centres = arrange(draw, number, first)
        circles = improve(centres, radii(centres))
        if best is None or sum(circles[1]) > sum(best[1]):
            best = circles
        if time.process_time() > UNTIL:
            break
    circles = [[float(x), float(y), float(r)] for (x, y), r in zip(*best, strict=True)]
    Path("circles.json").write_text(json.dumps(circles))


if __name__ == "__main__":
    main()
