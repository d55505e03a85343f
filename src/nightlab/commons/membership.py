"""Joining a commons and leaving it, and checking one that others publish."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nightlab.commons.capability import Compatibility, compare_tasks
from nightlab.commons.copy_log import Rejection
from nightlab.commons.entry import Entry
from nightlab.commons.exchange import Commons, Received, display_remote
from nightlab.commons.finding import task_of
from nightlab.commons.instants import parse_instant
from nightlab.commons.record import Finding, MetricRecord, Revocation, Verification, gain
from nightlab.commons.sync import resolved
from nightlab.commons.trust import EPOCH, compare
from nightlab.core.config import CONTRACT, load_contract
from nightlab.core.files import replace_text
from nightlab.core.types import NightlabError
from nightlab.session.session import open_session
from nightlab.storage.ledger import tags

SECTION = "commons"
LATEST = 200  # findings of which the task is compared when a commons is joined


def join(lab: Path, commons: Commons, remote: str) -> Received:
    """Receive a remote's records, then make it the lab's commons: ``[commons]`` in its ``lab.toml``.

    Raises NightlabError when there is no ``lab.toml``, when the lab is in another commons, or when the remote does not
    answer; the lab is unchanged then.
    """
    contract, text = _contract(lab)
    there = contract.get(SECTION, {}).get("remote", "")
    if there and there != remote:
        raise NightlabError(f"this lab is in the commons {display_remote(there)}", "first: nightlab leave")
    taken = commons.pull(resolved(lab, remote))
    if not there:
        part = contract.setdefault(SECTION, {})
        part["remote"] = remote
        part.setdefault("verifications", True)
        _write(lab, contract, text)
    return taken


def other_tasks(lab: Path, commons: Commons, remote: str) -> Counter[str]:
    """Where none of the latest findings at a remote is of the lab's task: how many differ, by what does. Empty where
    one is, or where there is none. Before the lab's first session its metric alone is compared.
    """
    findings = [entry.signed.record for entry in commons.latest(resolved(lab, remote), "finding", LATEST)]
    compared = _compared(lab)
    found = Counter[str]()
    for finding in findings:
        assert isinstance(finding, Finding)
        fit = compared(finding)
        if fit.level != "not":
            return Counter()
        found["; ".join(fit.reasons)] += 1
    return found


def _compared(lab: Path) -> Callable[[Finding], Compatibility]:
    """How a finding's task compares with the lab's."""
    if tags(lab):
        with closing(open_session(lab)) as session:
            task = task_of(session)
        return lambda finding: compare_tasks(finding, task)
    part = load_contract(lab)[0].metric
    metric = MetricRecord(name=part.name, goal=part.goal, unit=part.unit)
    return lambda finding: compare_tasks(finding, finding.task.model_copy(update={"id": "", "metric": metric}))


def leave(lab: Path) -> str:
    """Remove ``[commons]`` from the lab's ``lab.toml``; returns its remote. What was shared stays where it is."""
    contract, text = _contract(lab)
    if SECTION not in contract:
        raise NightlabError("this lab is in no commons", "to join one: nightlab join REMOTE")
    remote = str(contract[SECTION].get("remote", ""))
    del contract[SECTION]
    _write(lab, contract, text)
    return remote


def know(lab: Path, commons: Commons, names: Sequence[str]) -> list[str]:
    """Add authors to ``commons.known`` of the lab's ``lab.toml``; returns those who were not in it.

    A name may be shortened where only one author in the copy of the commons begins so. Raises NightlabError for a name
    that no author, or more than one, has, and where the lab is in no commons.
    """
    contract, text = _contract(lab)
    if SECTION not in contract:
        raise NightlabError("this lab is in no commons", "to join one: nightlab join REMOTE")
    found, there = list[str](), commons.entries()
    for name in names:
        same = [author for author in there if author.startswith(name.lower())]
        if len(same) != 1:
            fault = "no author's name begins" if not same else f"the names of {len(same)} authors begin"
            raise NightlabError(f"{fault} with {name!r}", "see the authors: nightlab commons; new ones: nightlab sync")
        found += same
    known = list(map(str, contract[SECTION].get("known", [])))
    added = [name for name in dict.fromkeys(found) if name not in known]
    if added:
        contract[SECTION]["known"] = [*known, *added]
        _write(lab, contract, text)
    return added


def _contract(lab: Path) -> tuple[Any, str]:
    import tomlkit

    path = lab / CONTRACT
    if not path.exists():
        raise NightlabError(f"{path} does not exist", "make one: nightlab init")
    load_contract(lab)  # a fault in it is named before anything is changed
    text = path.read_text(encoding="utf-8")
    return tomlkit.parse(text), text


def _write(lab: Path, contract: Any, before: str) -> None:
    """Write the changed contract; the one from before is restored if it is not valid."""
    import tomlkit

    replace_text(lab / CONTRACT, tomlkit.dumps(contract))
    try:
        load_contract(lab)
    except NightlabError:
        replace_text(lab / CONTRACT, before)
        raise


# -- audit -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Audit:
    """What a remote holds: records by kind, what was refused, and records that contradict their own numbers."""

    authors: int = 0
    records: Counter[str] = field(default_factory=Counter)
    refused: list[Rejection] = field(default_factory=list)
    contradictions: list[tuple[str, str, str]] = field(default_factory=list)
    """Author, record and what is wrong."""

    @property
    def sound(self) -> bool:
        return not self.refused and not self.contradictions


@contextmanager
def whole_copy(remote: str) -> Iterator[Commons]:
    """All of a remote, read anew, apart from the user's copy. Raises Unreachable."""
    with tempfile.TemporaryDirectory(prefix="nightlab-audit-") as folder:
        commons = Commons(Path(folder) / "commons")
        while commons.pull(remote).waiting:
            pass
        yield commons


def audit(commons: Commons) -> Audit:
    """Check all that was read of a remote: form, signatures, chains, patches and whether each verdict follows from its
    numbers. No trial is run."""
    chains = commons.entries()
    entries = {entry.id: entry for chain in chains.values() for entry in chain}
    wrong = [(one.author, one.id, why) for one in entries.values() for why in contradictions(one, entries)]
    kinds = Counter[str](entry.kind for entry in entries.values())
    return Audit(len(chains), kinds, commons.rejections(), wrong)


def contradictions(entry: Entry, entries: Mapping[str, Entry]) -> Iterator[str]:
    """What in a record contradicts its own numbers, or the finding that it is about."""
    record = entry.signed.record
    if isinstance(record, Finding | Revocation) or record.target not in entries:
        return
    about = entries[record.target].signed.record
    if not isinstance(about, Finding):
        yield f"a {record.kind} of a {about.kind}"
    elif record.kind == "retraction" and about.author != entry.author:
        yield "a retraction of another author's finding"
    elif isinstance(record, Verification):
        yield from _verdict(record, about.task.metric)
        if parse_instant(record.at) < parse_instant(about.at) - EPOCH:
            yield f"dated {record.at}, before the finding ({about.at}): their clocks disagree"


def _verdict(record: Verification, metric: MetricRecord) -> Iterator[str]:
    mine = gain(metric, record.runs, record.against)
    trials = [len(record.runs), len(record.against)]
    if record.verdict == "confirmed" and compare(mine, mine, record.sigma, trials) != "confirmed":
        yield f"confirmed, with a gain of {mine:.6g} at a noise of {record.sigma:.6g}"
