"""Frozen: one block of a transformer by its four operations, and these operations in NumPy, in double precision."""

import math

import numpy as np

TOKENS, WIDTH, HIDDEN = 32, 128, 512
# The arrays of a call, by operation: shapes from the sizes m, k, n; and that of the answer.
SHAPES = {
    "matmul": (lambda m, k, n: ((m, k), (k, n)), lambda m, k, n: (m, n)),
    "softmax": (lambda m, k, n: ((m, n),), lambda m, k, n: (m, n)),
    "rmsnorm": (lambda m, k, n: ((m, n), (1, n)), lambda m, k, n: (m, n)),
    "gelu": (lambda m, k, n: ((m, n),), lambda m, k, n: (m, n)),
    "block": (
        lambda m, k, n: ((m, k), (1, k), (k, 3 * k), (k, k), (1, k), (k, n), (n, k)),
        lambda m, k, n: (m, k),
    ),
}
NAMES = list(SHAPES)
FLOPS = 2 * TOKENS * (4 * WIDTH**2 + 2 * WIDTH * HIDDEN) + 4 * TOKENS**2 * WIDTH  # of the block's products


def block(ops, x, norm, qkv, out, norm_2, up, down):
    """A block of one head, in which a token sees those before it, by the operations ``ops``."""
    q, k, v = np.split(ops.matmul(ops.rmsnorm(x, norm), qkv), 3, axis=1)
    scores = ops.matmul(q, k.T) / x.dtype.type(math.sqrt(x.shape[1]))
    scores[np.triu_indices(len(x), 1)] = -np.inf
    x = x + ops.matmul(ops.matmul(ops.softmax(scores), v), out)
    return x + ops.matmul(ops.gelu(ops.matmul(ops.rmsnorm(x, norm_2), up)), down)


def packed(name, sizes, arrays, kind):
    """A call as one array: the operation, its sizes, and its arrays."""
    return np.concatenate([[NAMES.index(name), *sizes], *[array.ravel() for array in arrays]]).astype(kind)


def answered(call, ops):
    """The answer to a packed call."""
    number, *sizes = (int(x) for x in call[:4])
    arrays, at = [], 4
    for rows, columns in SHAPES[NAMES[number]][0](*sizes):
        arrays.append(np.ascontiguousarray(call[at : at + rows * columns].reshape(rows, columns)))
        at += rows * columns
    name = NAMES[number]
    return block(ops, *arrays) if name == "block" else getattr(ops, name)(*arrays)


class Truth:
    """The operations in NumPy."""

    def matmul(self, a, b):
        return a @ b

    def softmax(self, a):
        most = a.max(axis=1, keepdims=True)
        up = np.where(np.isinf(most), 0.0, np.exp(a - np.where(np.isinf(most), 0.0, most)))
        total = up.sum(axis=1, keepdims=True)
        return up / np.where(total > 0, total, 1.0)

    def rmsnorm(self, a, w):
        return a / np.sqrt((a**2).mean(axis=1, keepdims=True) + 1e-6) * w

    def gelu(self, a):
        return 0.5 * a * (1 + np.vectorize(math.erf)(a / math.sqrt(2)))
