"""Seeds a Python program that does not seed itself: the random module now, numpy and torch once they are imported.

Used where ``lab.toml`` says ``seed = "python"``. Standard library only.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import random
import sys
from types import ModuleType
from typing import Any


def install() -> None:
    """Seed everything with ``NIGHTLAB_SEED``, also what is imported later."""
    seed = int(os.environ["NIGHTLAB_SEED"])
    random.seed(seed)
    for name in ("numpy.random", "torch"):
        if name in sys.modules:
            _seed(sys.modules[name], seed)
    sys.meta_path.insert(0, _Finder(seed))


def _seed(module: Any, seed: int) -> None:
    if module.__name__ == "torch":
        module.manual_seed(seed)
        return
    module.seed(seed % 2**32)
    made = module.default_rng
    children = module.SeedSequence(seed)

    def default_rng(seed: Any = None) -> Any:
        """As numpy's, but without a seed it is the next generator of the trial's seed."""
        return made(children.spawn(1)[0] if seed is None else seed)

    module.default_rng = default_rng


class _Finder(importlib.abc.MetaPathFinder):
    """Finds numpy.random and torch as the others do, and has them seeded after they have run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name not in ("numpy.random", "torch"):
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(name, path, target)) is not None:
                if spec.loader is not None:
                    loader: Any = _Loader(spec.loader, self.seed)
                    spec.loader = loader
                return spec
        return None


class _Loader:
    """A loader that seeds the module it has loaded; all else is the other's."""

    def __init__(self, loader: Any, seed: int) -> None:
        self.loader, self.seed = loader, seed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        module.__loader__ = self.loader
        if spec is not None:
            spec.loader = self.loader
        self.loader.exec_module(module)
        _seed(module, self.seed)
