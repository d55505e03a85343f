"""The genome: count the pairs of points that lie closer together than a radius."""

from math import sqrt


def close_pairs(points, radius):
    """How many pairs of ``points``, a list of (x, y), are less than ``radius`` apart."""
    count = 0
    for i in range(len(points)):
        for j in range(i + 1, len(points)):
            dx = points[i][0] - points[j][0]
            dy = points[i][1] - points[j][1]
            if sqrt(dx * dx + dy * dy) < radius:
                count += 1
    return count
