"""Frozen: compiles the kernels for single and for double precision, and loads what came of them."""

import ctypes
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

FLAG = re.compile(r"-(O\w*|std=\w+|f(?!plugin|dump|profile)[\w=,.-]+|m[\w=,.-]+|D\w+(=\w+)?|-param=[\w=-]+)")
REALS = {"f": "float", "d": "double"}


def compiled(real):
    """The shared library of one precision, as bytes. Ends the program where the kernels make none."""
    flags = Path("flags.txt").read_text(encoding="utf-8").split()
    if wrong := [flag for flag in flags if not FLAG.fullmatch(flag)]:
        sys.exit(f"flags.txt: {wrong[0][:60]!r} is none of -O, -f, -m, -std, -D, --param")
    compiler = shutil.which("cc")
    if compiler is None:
        sys.exit("there is no C compiler (cc): install gcc or clang, e.g. apt install gcc")
    with tempfile.TemporaryDirectory() as place:
        library = Path(place) / "kernels.so"
        command = [compiler, *flags, f"-DREAL={REALS[real]}", "-shared", "-fPIC", "-o", str(library)]
        command += ["kernels.c", "-lm"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"kernels.c does not compile: {done.stderr[:1500]}")
        return library.read_bytes()


class Kernels:
    """The operations in a library, on arrays of its precision."""

    def __init__(self, library):
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "kernels.so"
            path.write_bytes(library)
            self.library = ctypes.CDLL(str(path))

    def call(self, name, out, arrays, sizes):
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*arrays, out)]
        getattr(self.library, name)(*pointers, *map(ctypes.c_long, sizes))
        return out

    def matmul(self, a, b):
        out = np.empty((a.shape[0], b.shape[1]), a.dtype)
        return self.call("matmul", out, (np.ascontiguousarray(a), np.ascontiguousarray(b)), (*a.shape, b.shape[1]))

    def softmax(self, a):
        return self.call("softmax", np.empty_like(a), (a,), a.shape)

    def rmsnorm(self, a, w):
        return self.call("rmsnorm", np.empty_like(a), (a, w), a.shape)

    def gelu(self, a):
        return self.call("gelu", np.empty_like(a), (a,), (a.size,))
