"""Runs at the start of a trial's Python: seeds it, and if it was started ahead of its trial, first waits for the go.

Python imports a module of this name before it looks at the program it was given, so nothing of a candidate has run
by then, and its program sees an ordinary start. Standard library only, and little of it, as each trial waits for it;
found through ``PYTHONPATH``, and only there.

``NIGHTLAB_WARM``  modules to import, between commas
``NIGHTLAB_GO``    a descriptor: a byte into it says that we are in place, a second one that the imports are made, and
                   a line out of it is the trial's environment as JSON, null for what is not in it
``NIGHTLAB_SEEDED``  set where random, numpy and torch are to be seeded for the program
"""

import os
import sys


def _make_way() -> None:
    """Let the environment's own module of this name, if it has one, run as it would have without us."""
    here = __file__.rpartition("/")[0]
    sys.path[:] = [path for path in sys.path if path != here]
    ours = sys.modules.pop("sitecustomize", None)
    try:
        __import__("sitecustomize")
    except ImportError:
        if ours is not None:
            sys.modules["sitecustomize"] = ours


def _wait_for_the_go() -> None:
    """Import ahead, then take over the trial's environment. Ends the process when no trial comes."""
    import importlib
    import json

    go, said = int(os.environ.pop("NIGHTLAB_GO")), ""
    try:
        os.write(go, b"\n")
        for name in filter(None, os.environ.pop("NIGHTLAB_WARM", "").split(",")):
            try:
                importlib.import_module(name)
            except Exception:
                continue  # the program imports it again, and then it is told
        os.write(go, b"i")
        with os.fdopen(go) as line:
            said = line.readline()
    except OSError:  # the supervisor is gone
        pass
    if not said.endswith("\n"):
        os._exit(0)
    for name, value in json.loads(said).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    importlib.invalidate_caches()  # the genome was written meanwhile


_make_way()
if "NIGHTLAB_GO" in os.environ:
    _wait_for_the_go()
if "NIGHTLAB_SEEDED" in os.environ:
    import nightlab_seed

    nightlab_seed.install()
