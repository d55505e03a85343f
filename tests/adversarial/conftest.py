"""One arena for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.arena import Arena, open_arena


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    yield from open_arena(tmp_path_factory)


@pytest.fixture(scope="module")
def cpu_arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """The same lab on a CPU clock."""
    yield from open_arena(tmp_path_factory, clock="cpu", amount=0.5)


@pytest.fixture(scope="module")
def long_arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """The same lab with more time than an attack on something else takes on a busy machine."""
    yield from open_arena(tmp_path_factory, amount=30)


@pytest.fixture(scope="module")
def checked_arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """The same lab with a check that must succeed before a keep."""
    yield from open_arena(tmp_path_factory, more='[[checks]]\ncommand = "python check.py"\n')
