"""Sessions end with a confirmed gain: short ones of some labs by default, the documented ones in the machine tier."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.labs import TinyLab

from nightlab.session.create import SHIPPED
from nightlab.storage.ledger import Ledger

CHEATS = ("tampered", "over budget", "over limit")
NEEDS = {"control": "mujoco", "molecule": "rdkit"}


def reasons(lab: Path) -> list[str]:
    """Why each experiment of its one session was kept or not."""
    [folder] = (lab / ".nightlab").glob("*/ledger.db")
    ledger = Ledger(folder, read_only=True)
    found = [experiment.verdict.reason for experiment in ledger.experiments() if experiment.verdict]
    ledger.close()
    return found


@pytest.mark.parametrize(
    ("lab", "experiments", "change"),
    [
        ("abtest", 5, None),
        ("distances", 1, None),
        ("molecule", 1, None),
        ("packing", 1, ("lab.toml", "amount = 10 ", "amount = 2 ")),
        ("playbook", 5, None),
        ("sql", 1, None),
        ("trading", 3, ("prepare.py", "SystemRandom()", "Random(1)")),
    ],
)
def test_a_short_session_confirms_a_gain(
    nightlab: Any, tmp_path: Path, lab: str, experiments: int, change: tuple[str, str, str] | None
) -> None:
    """The fewest experiments with a gain, of the packing's training a fifth: 3 to 7 s of CPU time each.

    The prompt lab's is in ``test_prompt.py``, beside the endpoint that it needs.
    """
    if lab in NEEDS:
        pytest.importorskip(NEEDS[lab], reason=f"needs the extra {lab}")
    assert nightlab("new", lab, cwd=tmp_path).code == 0
    folder = TinyLab(tmp_path / lab)
    if change:
        file, text, other = change
        before = (folder.folder / file).read_text()
        assert text in before
        (folder.folder / file).write_text(before.replace(text, other))
        folder.commit()
    done = nightlab("run", "-n", str(experiments), cwd=folder)
    assert done.code == 0 and "\nconfirmed: " in done.out, done.out
    assert not {*CHEATS} & {*reasons(folder.folder)}, done.out


@pytest.mark.machine
@pytest.mark.parametrize(
    ("lab", "experiments"),
    [
        ("abtest", 20),
        ("compiler", 8),
        ("control", 12),
        ("distances", 8),
        ("heilbronn", 8),
        ("kernel", 4),
        ("molecule", 20),
        ("overlap", 8),
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
    assert not {*CHEATS} & {*reasons(tmp_path / lab)}, "an honest idea is called a cheat"


@contextmanager
def endpoint(lab: str) -> Iterator[None]:
    """The stand-in for a model that the prompt lab asks."""
    model = subprocess.Popen([sys.executable, SHIPPED / "prompt" / "stand_in.py"]) if lab == "prompt" else None
    try:
        yield
    finally:
        if model:
            model.kill()
            model.wait()


@pytest.mark.machine
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("lab", ["kernel", "prompt", "speed", "wasm"])
def test_none_of_the_ideas_is_called_a_cheat(nightlab: Any, tmp_path: Path, lab: str) -> None:
    """All of them, in order, without a tuner."""
    assert nightlab("new", lab, cwd=tmp_path).code == 0
    folder = TinyLab(tmp_path / lab)
    contract = folder.folder / "lab.toml"
    text = re.sub(r'\[\[proposers\]\]\nkind = "tuner"\n(share = .*\n)?', "", contract.read_text())
    contract.write_text(text + "\n[judge]\nconfirm = 0\n")
    folder.commit()
    ideas = len(list((folder.folder / "ideas").glob("*.patch")))
    with endpoint(lab):
        done = nightlab("run", "-n", str(ideas), cwd=folder)
    found = reasons(folder.folder)
    assert done.code == 0 and len(found) == ideas + 1, done.out
    assert not {*CHEATS} & {*found}, done.out
