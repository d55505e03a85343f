"""Claims of a remote, measured again here by lot: what holds is confirmed, the rest refuted, nothing adopted."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.commons_examples import task
from support.commons_users import BETTER, MORE, User
from support.labs import GENOME, TinyLab

from nightlab.analysis.commons_audit import CommonsAudit
from nightlab.commons.membership import whole_copy
from nightlab.core.observer import Observer
from nightlab.loop.scheduler import Scheduler


def test_a_sample_is_measured_again_and_nothing_is_adopted(
    make_lab: Callable[..., TinyLab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "--template=", remote], check=True)

    def user(name: str) -> User:
        return User(name, make_lab(name=name, more=MORE.format(remote=remote)), tmp_path / f"home-{name}", monkeypatch)

    one, two = user("one"), user("two")
    session: Any = one.run(BETTER)
    (true,) = one.share(session)
    lie = one.claim(session, GENOME.replace("B = 8", "B = 9"), 0.1)
    one.claim(session, BETTER, 0.1, task=task())
    one.sync()
    session = two.run()
    with whole_copy(str(remote)) as there:
        check = CommonsAudit(Scheduler(session, Observer()), there)
        found = {row.target: row for row in check.replay(9)}
    assert {name: row.verdict for name, row in found.items()} == {true: "confirmed", lie: "refuted"}
    assert found[true].measured == pytest.approx(8.0) and "claimed 8" in found[true].detail
    assert sum(check.unfit.values()) == 1 and "its frozen files or contract differ" in next(iter(check.unfit))
    assert session.champion().number == 0 and len(session.ledger.experiments()) == 1
