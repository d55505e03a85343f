"""Frozen: compiles the genome with its flags, and loads what came of it."""

import ctypes
import re
import shutil
import subprocess
import sys
import tempfile
from array import array
from pathlib import Path

FLAG = re.compile(r"-(O\w*|std=\w+|f(?!plugin|dump|profile)[\w=,.-]+|m[\w=,.-]+|D\w+(=\w+)?|-param=[\w=-]+)")


def compiled():
    """The shared library that the genome makes, as bytes. Ends the program where it makes none."""
    flags = Path("flags.txt").read_text(encoding="utf-8").split()
    if wrong := [flag for flag in flags if not FLAG.fullmatch(flag)]:
        sys.exit(f"flags.txt: {wrong[0][:60]!r} is none of -O, -f, -m, -std, -D, --param")
    compiler = shutil.which("cc")
    if compiler is None:
        sys.exit("there is no C compiler (cc): install gcc or clang, e.g. apt install gcc")
    with tempfile.TemporaryDirectory() as place:
        library = Path(place) / "smooth.so"
        command = [compiler, *flags, "-shared", "-fPIC", "-o", str(library), "smooth.c", "-lm"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"smooth.c does not compile: {done.stderr[:1500]}")
        return library.read_bytes()


def loaded(library):
    """The function in a library: of an array of numbers and a width, an array."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "smooth.so"
        path.write_bytes(library)
        smooth = ctypes.CDLL(str(path)).smooth
    smooth.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_long]
    smooth.restype = None

    def call(numbers, width):
        to = array("d", bytes(8 * len(numbers)))
        smooth(numbers.buffer_info()[0], to.buffer_info()[0], len(numbers), width)
        return to

    return call
