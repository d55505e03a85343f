"""Frozen: five stages of correctness for each kernel, and the time of the whole block, the quickest of some.

nightlab runs it as the evaluator, in a separate process, which calls two of the genome's, one after the other.
By hand: python bench.py
"""

import secrets
import sys
import time

import model
import numpy as np

try:
    import nightlab_guest
except ImportError:
    nightlab_guest = None

CALLS, CLOSE = 8, {"f": 2e-5, "d": 1e-12}  # timed calls of each process; tolerances, of the largest value
KINDS = {"f": np.float32, "d": np.float64}
SIZES = (model.TOKENS, model.WIDTH, model.HIDDEN)
KERNELS = [name for name in model.NAMES if name != "block"]
# Not from the seed of the trial, which the genome knows too: it could work the answers out beforehand.
draw = np.random.default_rng(secrets.randbits(128))


class Wrong(Exception):
    """A kernel's answer is not what it has to be."""


def drawn(name, sizes, scale=1.0):
    return [scale * draw.standard_normal(shape) for shape in model.SHAPES[name][0](*sizes)]


def edges(name):
    """Arrays with what breaks kernels: zeros, large and small values, rows that are masked in part or whole."""
    sizes = (6, 5, 7)
    for scale in (0.0, 1e-20, 1e3):
        yield sizes, drawn(name, sizes, scale)
    if name == "softmax":
        (masked,) = drawn(name, sizes, 80.0)
        masked[0, :] = masked[1, 3:] = -np.inf
        masked[2, :] = 1e4
        yield sizes, [masked]


def check(call, name, stage, kind, sizes, arrays):
    """Compare one answer with NumPy's. Returns its bytes."""
    sent = model.packed(name, sizes, arrays, KINDS[kind])
    found = np.array(call(sent, kind, model.SHAPES[name][1](*sizes)), dtype=float)
    with np.errstate(all="ignore"):
        wanted = model.answered(sent.astype(float), model.Truth()).ravel()
    largest = max(np.abs(a[np.isfinite(a)]).max(initial=0) for a in arrays)
    room = CLOSE[kind] * max(1e-30, np.abs(wanted).max(), 1e-3 * largest)
    off = np.abs(found - wanted).max() if np.isfinite(found).all() else np.inf
    if not off <= room:
        what = f"{'single' if kind == 'f' else 'double'} precision, sizes {sizes}"
        raise Wrong(f"stage {stage}: {name}, {what}, is off by {off:.3g}; at most {room:.3g} is allowed")
    return found.tobytes()


def stages(call, repeated):
    """Five stages for each kernel, in an order that is drawn; ``repeated`` calls have to have the same answers."""
    todo = [("1, smoke", name, "f", (4, 8, 16), drawn(name, (4, 8, 16))) for name in KERNELS]
    for sizes in ((1, 1, 1), (3, 5, 7), (64, 128, 33), (17, 1, 130)):
        todo += [("2, shapes", name, "f", sizes, drawn(name, sizes)) for name in KERNELS]
    for sizes in ((5, 6, 9), (32, 64, 48)):
        todo += [("3, dtypes", name, "d", sizes, drawn(name, sizes)) for name in KERNELS]
    todo += [("4, edge values", name, kind, *edge) for name in KERNELS for kind in "fd" for edge in edges(name)]
    for index in draw.permutation(len(todo)):
        stage, name, kind, sizes, arrays = todo[index]
        check(call, name, stage, kind, sizes, arrays)
    for index in draw.permutation(len(repeated)):
        name, sizes, arrays, answers = repeated[index]
        answers.add(check(call, name, "5, determinism", "f", sizes, arrays))
        if len(answers) > 1:
            raise Wrong(f"stage 5, determinism: {name} answers the same call in two ways")


def timed(call):
    """The milliseconds of the block, each time with other numbers, each answer checked."""
    for _ in range(CALLS):
        arrays = [array / max(array.shape) ** 0.5 for array in drawn("block", SIZES)]
        sent = model.packed("block", SIZES, arrays, KINDS["f"])
        begun = time.perf_counter()
        found = call(sent, "f", SIZES[:2])
        yield (time.perf_counter() - begun) * 1000
        wanted = model.answered(sent.astype(float), model.Truth()).ravel()
        if not np.abs(np.array(found, dtype=float) - wanted).max() <= 1e-3 * np.abs(wanted).max():
            raise Wrong("the block's answer is wrong")


class Profile:
    """The operations of the block, each a separate call, and the seconds that each operation takes."""

    def __init__(self, call):
        self.call, self.seconds = call, dict.fromkeys(KERNELS, 0.0)

    def __getattr__(self, name):
        def operation(*arrays):
            (m, k), n = arrays[0].shape, arrays[-1].shape[1]
            sent = model.packed(name, (m, k, n), arrays, KINDS["f"])
            begun = time.perf_counter()
            found = self.call(sent, "f", (m, n))
            self.seconds[name] += time.perf_counter() - begun
            return np.array(found, dtype=float).reshape(m, n)

        return operation

    def __str__(self):
        whole = sum(self.seconds.values())
        shares = sorted(self.seconds.items(), key=lambda pair: -pair[1])
        return ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in shares)


def peak():
    """This machine's floating-point operations in a second, by NumPy's product on one core or more."""
    a, best = np.ones((512, 512), np.float32), 0.0
    for _ in range(3):
        begun = time.perf_counter()
        a @ a
        best = max(best, 2 * 512**3 / (time.perf_counter() - begun))
    return best


def served(process):
    """The kernels in a process: one call, sent when the one before was answered."""
    link = nightlab_guest.Served(process=process)
    return lambda sent, kind, shape: next(link.map([sent], kind, (shape[0] * shape[1],)))


def by_hand():
    import build

    kernels = {kind: build.Kernels(build.compiled(kind)) for kind in build.REALS}
    return lambda sent, kind, shape: model.answered(sent, kernels[kind]).ravel()


def main():
    repeated = [(name, (9, 33, 65), drawn(name, (9, 33, 65)), set()) for name in KERNELS for _ in range(2)]
    try:
        found = []
        for process in (0, 1):
            call = served(process) if nightlab_guest else by_hand()
            stages(call, repeated)
            found += timed(call)
        model.block(profile := Profile(call), *drawn("block", SIZES, 0.1))
    except Exception as error:
        print(f"no metric: {error}")
        sys.exit(4)
    milliseconds = min(found)  # others on the machine only slow a call down, and every answer is checked
    print(f"FEEDBACK of the operations' time, each called by itself: {profile}")
    print(f"METRIC roofline={100 * model.FLOPS / (milliseconds / 1000) / peak():.2f}%")
    print(f"METRIC milliseconds={milliseconds:.4f}")


if __name__ == "__main__":
    main()
