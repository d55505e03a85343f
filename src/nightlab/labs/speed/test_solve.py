"""Frozen: what must stay true however fast the genome gets."""

import random
import unittest
from math import dist

from solve import close_pairs


class ClosePairs(unittest.TestCase):
    def test_agrees_with_the_definition(self):
        draw = random.Random(7)
        for size in (0, 1, 2, 50, 200):
            points = [(draw.uniform(-1, 1), draw.uniform(-1, 1)) for _ in range(size)]
            for radius in (0.0, 0.05, 0.3, 5.0):
                pairs = sum(dist(a, b) < radius for i, a in enumerate(points) for b in points[i + 1 :])
                self.assertEqual(close_pairs(points, radius), pairs)

    def test_points_that_coincide(self):
        self.assertEqual(close_pairs([(0.5, 0.5)] * 10, 0.1), 45)

    def test_leaves_its_input_alone(self):
        points = [(0.9, 0.1), (0.1, 0.9), (0.5, 0.5)]
        close_pairs(points, 0.7)
        self.assertEqual(points, [(0.9, 0.1), (0.1, 0.9), (0.5, 0.5)])


if __name__ == "__main__":
    unittest.main()
