"""What was shown at other budgets travels, and says where a finding is worth a trial."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commons_examples import finding, task, transfer
from support.commons_users import BETTER, MORE, User
from support.labs import TinyLab

from nightlab.commons.capability import compare_tasks
from nightlab.commons.peer_store import PeerStore
from nightlab.commons.places import author_key
from nightlab.commons.record import Finding, Task
from nightlab.commons.second_hand import probability
from nightlab.commons.transfers import transfers_to_share
from nightlab.commons.trust import PeerVerdict, Trust
from nightlab.core.events import EvidenceShown
from nightlab.core.types import Evidence, PairedGain


@pytest.mark.parametrize(
    ("here", "shown", "level", "reason"),
    [
        (80.0, [], "not", "its budget differs"),
        (80.0, [(80.0, 0.5)], "compatible", "it gained 1 at this budget (95 %: 0.5 to 1.5)"),
        (80.0, [(80.0, -0.5)], "not", "its budget differs"),
        (80.0, [(80.0, -2.0)], "not", "it gained -1.5 at this budget (95 %: -2 to -1), not only at its own"),
        (40.0, [(80.0, 0.5)], "partly", "its budget differs; it held at a smaller and at a larger one"),
        (10.0, [(80.0, 0.5)], "not", "its budget differs"),
    ],
)
def test_where_it_held_decides_at_another_budget(
    here: float, shown: list[tuple[float, float]], level: str, reason: str
) -> None:
    ours = Task.model_validate(task(budget={"clock": "wall", "amount": here}))
    fit = compare_tasks(finding(), ours, [transfer(amount, low) for amount, low in shown])
    assert fit.level == level and reason in fit.reasons[0]


def test_what_a_small_lab_confirmed_counts_half_at_a_large_one() -> None:
    trusted = {"small": Trust(good=4.0, held=3.0)}
    same, other = (
        probability(0.5, [PeerVerdict("f", "a", "confirmed", 0.0, elsewhere, "small", shown=5.0)], trusted)
        for elsewhere in (False, True)
    )
    assert same > other > 0.5


def test_a_transfer_travels_with_its_finding(
    make_lab: Callable[..., TinyLab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "--template=", remote], check=True)
    one, two = (
        User(name, make_lab(name=name, more=MORE.format(remote=remote)), tmp_path / f"home-{name}", monkeypatch)
        for name in ("one", "two")
    )
    contract = two.lab.folder / "lab.toml"
    two.lab.commit(lab_toml=contract.read_text().replace("amount = 20", "amount = 40"))
    session = one.run(BETTER)
    (shared,) = one.share(session)
    gain = PairedGain(8.0, 7.0, 9.0, 0.95, 3)
    session.ledger.append(EvidenceShown(1, Evidence("transferred", 0, (1, 2, 3), gain, None, "DEPTH = 4")))
    (body,) = [body for _, body in transfers_to_share(session, one.commons)]
    assert (body[0]["target"], body[0]["budget"], body[0]["setting"]) == (shared, None, "DEPTH = 4")
    budget = {"clock": "wall", "amount": 40.0}
    one.commons.publish(author_key(make=True), [body, ({**body[0], "budget": budget, "setting": "40 s"}, None)])
    assert transfers_to_share(session, one.commons) == [], "it is said once"
    one.sync()
    two.sync()
    session = two.run()
    peers = PeerStore(session, two.commons)
    record = peers.entries[shared].signed.record
    assert isinstance(record, Finding) and record.portable == [] and session.budget.record().amount == 40
    assert session.ledger.experiment(1).kept, "at another budget than its own"
    assert peers.fit(peers.entries[shared], record).reasons == ("it gained 8 at this budget (95 %: 7 to 9)",)
    assert not peers.declined(), "nor is it called another task's"
