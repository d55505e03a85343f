"""Sessions end with a confirmed gain: short ones of some labs by default, the documented ones in the machine tier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.labs import TinyLab

NEEDS = {"control": "mujoco", "molecule": "rdkit"}


@pytest.mark.parametrize(
    ("lab", "experiments", "change"),
    [
        ("abtest", 5, ("", "")),
        ("molecule", 2, ("", "")),
        ("packing", 1, ("amount = 10 ", "amount = 2 ")),
        ("playbook", 5, ("", "")),
        ("sql", 2, ("", "")),
    ],
)
def test_a_short_session_confirms_a_gain(
    nightlab: Any, tmp_path: Path, lab: str, experiments: int, change: tuple[str, str]
) -> None:
    """The fewest experiments with a gain, and of the packing's training a fifth: 3 to 8 s of CPU time each."""
    if lab in NEEDS:
        pytest.importorskip(NEEDS[lab], reason=f"needs the extra {lab}")
    assert nightlab("new", lab, cwd=tmp_path).code == 0
    folder = TinyLab(tmp_path / lab)
    contract = folder.folder / "lab.toml"
    contract.write_text(contract.read_text().replace(*change))
    if any(change):
        folder.commit()
    done = nightlab("run", "-n", str(experiments), cwd=folder)
    assert done.code == 0 and "confirmed: " in done.out, done.out


@pytest.mark.machine
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
    if lab in NEEDS:
        pytest.importorskip(NEEDS[lab], reason=f"needs the extra {lab}")
    assert nightlab("new", lab, cwd=tmp_path).code == 0
    done = nightlab("run", "-n", str(experiments), cwd=tmp_path / lab)
    assert done.code == 0 and "confirmed: " in done.out, done.out
