"""A packing that passes through the bridge is restated strictly and tolerantly, as the packing lab does it."""

from __future__ import annotations

import math
import runpy
from typing import Any

import numpy
import pytest
from nightlab_bridge.packing import restated
from nightlab_bridge.values import encode, pack

from nightlab.session.create import SHIPPED

GRID = [(0.1 + 0.2 * (i % 5), 0.1 + 0.2 * (i // 5), 0.1 + 5e-7) for i in range(25)] + [(0.4, 0.4, 0.0414)]
TABLE = numpy.array(GRID)


def answer(value: Any) -> bytes:
    return encode({"value": pack(value)})


@pytest.mark.parametrize(
    "value",
    [
        GRID,
        (TABLE[:, :2], TABLE[:, 2], float(TABLE[:, 2].sum())),
        {"radii": [r for *_, r in GRID], "centers": [[x, y] for x, y, _ in GRID], "n": 26},
    ],
    ids=["rows", "arrays", "dict"],
)
def test_a_packing_is_restated_as_the_shipped_lab_does(value: Any) -> None:
    found = restated([answer(value), answer("a later answer that is none")])
    verify = runpy.run_path(str(SHIPPED / "packing" / "verify.py"))
    assert found["packing/strict"] == math.fsum(r for *_, r in verify["strict"](GRID))
    assert found["packing/tolerant"] == math.fsum(r for *_, r in GRID)
    assert found["packing/violation"] == verify["violation"](GRID) > 4e-7


@pytest.mark.parametrize(
    "data",
    [
        answer([(0.5, 0.5, 0.5), (0.5, 0.5, 0.5)]),
        answer([(0.25, 0.25, 0.25), (0.75, 0.75, math.nan)]),
        answer([(0.25, 0.25, 0.25), (0.75, 0.75, -0.25)]),
        answer([[1, 2, 3]]),
        answer([(10**400, 0, 1), (0, 0, 1)]),
        answer("circles"),
        b'{"value": {"__value__": "array", "of": {"dtype": "f8", "shape": [2, 3], "data": "AAAA"}}}',
        b'{"value": {"__value__": "array", "of": 3}}',
        b'{"value": ' + b"[" * 5000,
        b"",
    ],
    ids=range(10),
)
def test_what_is_no_packing_of_the_unit_square_is_not_restated(data: bytes) -> None:
    assert restated([data]) == {}
