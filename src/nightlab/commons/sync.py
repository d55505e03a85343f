"""What leaves this machine for the commons, and what comes: nothing goes unless the user says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from nightlab.commons.exchange import Commons, ReceivedRecord, shown_remote
from nightlab.commons.finding import TRANSPLANT, finding, instant, task_of
from nightlab.commons.places import author, author_key
from nightlab.commons.record import Finding, Part, Signed, Threat, Verification, genome_id
from nightlab.commons.scrub import scrubbed
from nightlab.core.config import CONTRACT, CommonsConfig, load
from nightlab.core.events import FindingVerified
from nightlab.core.text import one_line
from nightlab.core.types import Experiment, NightlabError
from nightlab.session.replicates import ABLATION
from nightlab.session.session import Session
from nightlab.storage.git import Unreachable
from nightlab.storage.ledger import find_ledger, tags

PORTABLE: tuple[str, ...] = get_args(Part)
Body = tuple[dict[str, Any], bytes | None]


@dataclass(slots=True)
class Synced:
    """What one exchange did."""

    where: str
    taken: ReceivedRecord = field(default_factory=ReceivedRecord)
    said: Sequence[dict[str, Any]] = ()
    """The records with which this user answers for others' findings, that were added to their own."""
    given: bool = False


def mine(commons: Commons) -> list[Signed]:
    """The records of this user's own."""
    return [entry.signed for entry in commons.entries().get(author(), [])]


def to_share(
    session: Session, commons: Commons, numbers: Sequence[int], *, failed: bool, portable: Sequence[str]
) -> list[tuple[int, Body]]:
    """The findings that would be shared: of these experiments, or of all kept ones, ``failed`` ones too, less those
    that are shared. Of all, with what came from others and was kept, where one of these stands on it and nobody shared
    that genome: else nobody else could make it. Raises NightlabError for one that can't be.
    """
    task, ledger = task_of(session), session.ledger
    chosen = [ledger.experiment(number) for number in numbers]
    if not numbers:
        judged = ledger.experiments(status=None if failed else "keep")
        own = [e for e in judged if e.verdict and e.number and e.candidate.proposer not in (TRANSPLANT, ABLATION)]
        chosen = _with_ways(session, commons, own)
    records = [signed.record for signed in mine(commons)]
    known = {(r.task.id, r.parent, r.genome) for r in records if isinstance(r, Finding)}
    found: list[tuple[int, Body]] = []
    for experiment in chosen:
        candidate = experiment.candidate
        name = task.id, *(genome_id(session.genome(commit)) for commit in (candidate.parent, candidate.commit))
        if name not in known:
            found.append((experiment.number, finding(session, experiment, task, portable)))
    return found


def _with_ways(session: Session, commons: Commons, chosen: Sequence[Experiment]) -> list[Experiment]:
    """Experiments, with those on which they stand as far as these are nobody's finding, in their order."""
    records = (entry.signed.record for chain in commons.entries().values() for entry in chain)
    there = {record.genome for record in records if isinstance(record, Finding)}
    found = {experiment.number: experiment for experiment in chosen}
    for experiment in chosen:
        step = session.ledger.by_commit(experiment.candidate.parent)
        while step and step.number and step.number not in found:
            if genome_id(session.genome(step.candidate.commit)) in there:
                break
            found[step.number] = step
            step = session.ledger.by_commit(step.candidate.parent)
    return [found[number] for number in sorted(found)]


def retraction(commons: Commons, target: str, why: str) -> Body:
    """The body that takes a finding of one's own back; its id may be cut. Raises NightlabError for any other."""
    found = [signed.id for signed in mine(commons) if signed.record.kind == "finding" and signed.id.startswith(target)]
    if len(found) != 1 or not target:
        many = "more than one finding" if len(found) > 1 and target else "no finding"
        raise NightlabError(f"{target!r} names {many} of yours", "see their ids: nightlab commons --json")
    return {"kind": "retraction", "at": instant(), "target": found[0], "why": one_line(scrubbed(why))}, None


def sync(lab: Path, commons: Commons, remote: str | None, bundle: Path | None) -> list[Synced]:
    """Exchange records with the lab's remote, or another, or a bundle. What is not brought there now waits here.

    Raises NightlabError when there is nobody to exchange with, and Unreachable when it does not answer.
    """
    part = _contract(lab)
    said = _answer(lab, commons) if part and part.verifications else []
    done = []
    if bundle:
        taken = commons.take(str(bundle.resolve())) if bundle.exists() else ReceivedRecord()
        if commons.chains.heads():
            commons.chains.pack(bundle)
        done.append(Synced(str(bundle), taken, said, author() in commons.chains.heads()))
    where = remote or ("" if bundle or part is None else part.remote)
    if where:
        where = _resolved(lab, where)
        done.append(_with_remote(commons, where, () if bundle else said))
    if not done:
        hint = 'name one: nightlab sync REMOTE; or in lab.toml: [commons] and remote = "..."; or --bundle FILE'
        raise NightlabError("there is no remote to exchange with", hint)
    return done


def _with_remote(commons: Commons, remote: str, said: Sequence[dict[str, Any]]) -> Synced:
    try:
        taken = commons.take(remote)
        given = commons.give(remote, author())
    except Unreachable as error:
        shown = shown_remote(remote)
        raise Unreachable(
            f"{shown}: {shown_remote(str(error))}; nothing is lost, what you shared waits in {commons.folder}",
            f"when it is there again: nightlab sync; a new bare folder is made with: git init --bare {shown}",
        ) from None
    return Synced(shown_remote(remote), taken, said, given)


def _contract(lab: Path) -> CommonsConfig | None:
    return load(lab)[0].commons if (lab / CONTRACT).exists() else None


def _resolved(lab: Path, remote: str) -> str:
    """A folder's name as seen from the lab, anything else as it is."""
    path = lab / Path(remote).expanduser()
    return str(path.resolve()) if path.exists() else remote


def _answer(lab: Path, commons: Commons) -> list[dict[str, Any]]:
    """Add what was measured here of others' findings to this user's chain. Returns the bodies of these records."""
    records = [signed.record for signed in mine(commons)]
    said = {(r.target, r.at, r.parent) for r in records if isinstance(r, Verification)}
    warned = {r.target for r in records if isinstance(r, Threat)}
    bodies: list[Body] = []
    for event in _measured(lab):
        at = instant(event.at)
        if (event.target, at, event.parent) not in said:
            bodies.append((_verification(event, at), None))
        if event.reason == "tampered" and event.target not in warned:
            warned.add(event.target)
            bodies.append((_threat(event, at), None))
    if bodies:
        commons.publish(author_key(make=True), bodies)
    return [body for body, _ in bodies]


def _measured(lab: Path) -> Iterator[FindingVerified]:
    for tag in reversed(tags(lab)):
        ledger = find_ledger(lab, tag)
        try:
            yield from ledger.events(FindingVerified)
        finally:
            ledger.close()


def _verification(event: FindingVerified, at: str) -> dict[str, Any]:
    """What others are told: that a finding does not hold, only where it was measured on its own ground."""
    verdict = "inconclusive" if event.verdict == "refuted" and event.elsewhere else event.verdict
    kept = ("target", "task", "platform", "parent", "adopted", "runs", "against", "sigma")
    facts = {name: getattr(event, name) for name in kept}
    return {"kind": "verification", "at": at, "verdict": verdict, "detail": one_line(scrubbed(event.detail)), **facts}


def _threat(event: FindingVerified, at: str) -> dict[str, Any]:
    facts = {"target": event.target, "category": "tampering", "evidence_sha256": None}
    return {"kind": "threat", "at": at, "detail": one_line(scrubbed(event.detail)), **facts}
