"""By hand: what share of the block's time each kernel has, and what the block could gain by it at most (Amdahl)."""

import time

import bench
import build
import model
import numpy as np


class Watch:
    """The kernels, with the seconds that each took."""

    def __init__(self, kernels):
        self.kernels, self.seconds = kernels, dict.fromkeys(bench.KERNELS, 0.0)

    def __getattr__(self, name):
        def call(*arrays):
            begun = time.perf_counter()
            found = getattr(self.kernels, name)(*arrays)
            self.seconds[name] += time.perf_counter() - begun
            return found

        return call


watch = Watch(build.Kernels(build.compiled("f")))
for _ in range(20):
    model.block(watch, *[array.astype(np.float32) for array in bench.drawn("block", bench.SIZES, 0.1)])
whole = sum(watch.seconds.values())
print(f"{'kernel':10} {'share':>7} {'at most':>9}")
for name, seconds in sorted(watch.seconds.items(), key=lambda pair: -pair[1]):
    print(f"{name:10} {seconds / whole:7.1%} {whole / max(whole - seconds, 1e-9):8.2f}x")
