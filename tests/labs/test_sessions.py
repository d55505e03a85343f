"""The documented command of each quick lab ends with a confirmed gain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.machine


@pytest.mark.parametrize(
    ("lab", "experiments"),
    [
        ("abtest", 20),
        ("compiler", 8),
        ("control", 12),
        ("kernel", 4),
        ("molecule", 20),
        ("packing", 5),
        ("pde", 10),
        ("playbook", 20),
        ("sql", 10),
        ("trading", 14),
    ],
)
def test_the_documented_command_confirms_a_gain(nightlab: Any, tmp_path: Path, lab: str, experiments: int) -> None:
    for needing, package in {"control": "mujoco", "molecule": "rdkit"}.items():
        if lab == needing:
            pytest.importorskip(package, reason=f"needs the extra {lab}")
    assert nightlab("new", lab, cwd=tmp_path).code == 0
    done = nightlab("run", "-n", str(experiments), cwd=tmp_path / lab)
    assert done.code == 0 and "confirmed: " in done.out, done.out
