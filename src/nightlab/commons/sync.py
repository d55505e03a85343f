"""Exchange with the commons: what is shared and what is received. Nothing is sent unless the user asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from nightlab.commons.exchange import Commons, Received, display_remote
from nightlab.commons.fields import Part
from nightlab.commons.finding import COMMONS_PROPOSER, finding_body, task_of
from nightlab.commons.instants import format_instant
from nightlab.commons.places import author_key, own_author, retire_key
from nightlab.commons.record import Finding, Signed, Threat, Verification, genome_id, revoke
from nightlab.commons.scrub import scrub
from nightlab.core.config import CONTRACT, CommonsConfig, load_contract
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
class SyncResult:
    """The result of one exchange."""

    where: str
    taken: Received = field(default_factory=Received)
    sent: Sequence[dict[str, Any]] = ()
    """The verification and threat records that were added to this user's chain."""
    pushed: bool = False
    foreign: int = 0
    """Records under this user's name that this copy did not have: from another machine, or from before a backup."""


def own_records(commons: Commons) -> list[Signed]:
    """This user's own records."""
    return [entry.signed for entry in commons.chain(own_author())]


def findings_to_share(
    session: Session,
    commons: Commons,
    numbers: Sequence[int],
    *,
    failed: bool,
    portable: Sequence[str],
    licences: Sequence[str] = (),
) -> list[tuple[int, Body]]:
    """The findings to share: of the given experiments, or of all kept ones (with ``failed``, all judged ones), without
    those already shared. For all, it includes adopted findings that these build on, unless shared already, because
    the genomes could not be rebuilt without them. Raises NightlabError for an experiment that can't be shared.
    """
    task, ledger = task_of(session), session.ledger
    chosen = [ledger.experiment(number) for number in numbers]
    if not numbers:
        judged = ledger.experiments(status=None if failed else "keep")
        own = [e for e in judged if e.verdict and e.number and e.candidate.proposer not in (COMMONS_PROPOSER, ABLATION)]
        chosen = _with_ancestors(session, commons, own)
    records = [signed.record for signed in own_records(commons)]
    known = {(r.task.id, r.parent, r.genome) for r in records if isinstance(r, Finding)}
    found: list[tuple[int, Body]] = []
    for experiment in chosen:
        candidate = experiment.candidate
        name = task.id, *(genome_id(session.genome(commit)) for commit in (candidate.parent, candidate.commit))
        if name not in known:
            found.append((experiment.number, finding_body(session, experiment, task, portable, licences)))
    return found


def _with_ancestors(session: Session, commons: Commons, chosen: Sequence[Experiment]) -> list[Experiment]:
    """Experiments with their unshared ancestors, in order of number."""
    there = {entry.made for chain in commons.entries().values() for entry in chain}
    found = {experiment.number: experiment for experiment in chosen}
    for experiment in chosen:
        step = session.ledger.by_commit(experiment.candidate.parent)
        while step and step.number and step.number not in found:
            if genome_id(session.genome(step.candidate.commit)) in there:
                break
            found[step.number] = step
            step = session.ledger.by_commit(step.candidate.parent)
    return [found[number] for number in sorted(found)]


def retraction_body(commons: Commons, target: str, why: str) -> Body:
    """The body of a retraction of this user's finding; ``target`` may be an id prefix. Raises NightlabError."""
    found = [
        signed.id for signed in own_records(commons) if signed.record.kind == "finding" and signed.id.startswith(target)
    ]
    if len(found) != 1 or not target:
        many = "more than one finding" if len(found) > 1 and target else "no finding"
        raise NightlabError(f"{target!r} names {many} of yours", "see their ids: nightlab commons --json")
    return {"kind": "retraction", "at": format_instant(), "target": found[0], "why": one_line(scrub(why))}, None


def revoke_key(commons: Commons, since: str) -> tuple[int, Path]:
    """Revoke this user's key: a new key is made, and its first record says so. Returns the number of records that keep
    their weight, and where the old key is. ``since``: the id prefix of the first record that has none; default: all of
    them keep it. Raises NightlabError where there is no key or no such record.
    """
    key, records = author_key(), own_records(commons)
    if key is None:
        raise NightlabError("you have no key to revoke", "the first nightlab share makes one")
    kept = [signed.record.seq for signed in records if since and signed.id.startswith(since)]
    if since and len(kept) != 1:
        raise NightlabError(f"{since!r} is not the id of one record of yours", "see their ids: nightlab commons --json")
    body = {**revoke(key, kept[0] if since else len(records)), "at": format_instant()}
    away = retire_key()
    commons.publish(author_key(make=True), [(body, None)])
    return body["since"], away


def sync_commons(lab: Path, commons: Commons, remote: str | None, bundle: Path | None) -> list[SyncResult]:
    """Exchange records with a remote (default: the contract's) or a bundle. What can't be sent waits for the next sync.

    Raises NightlabError when there is no remote or bundle, and Unreachable when it does not answer.
    """
    part = commons_config(lab)
    done = []

    def measured() -> list[dict[str, Any]]:
        return _add_verifications(lab, commons) if part and part.verifications else []

    if bundle:
        taken = commons.pull(str(bundle.resolve())) if bundle.exists() else Received()
        sent = measured()
        if commons.chains.heads():
            commons.chains.pack(bundle)
        done.append(SyncResult(str(bundle), taken, sent, own_author() in commons.chains.heads()))
    where = remote or ("" if bundle or part is None else part.remote)
    if where:
        where = resolved(lab, where)
        done.append(_with_remote(commons, where, measured))
    if not done:
        hint = 'name one: nightlab sync REMOTE; or in lab.toml: [commons] and remote = "..."; or --bundle FILE'
        raise NightlabError("there is no remote to exchange with", hint)
    return done


def _with_remote(commons: Commons, remote: str, measured: Callable[[], list[dict[str, Any]]]) -> SyncResult:
    had, sent = len(own_records(commons)), list[dict[str, Any]]()
    try:
        taken = commons.pull(remote, own_author())  # first, lest this copy, if it is a backup, continue an old chain
        foreign = len(own_records(commons)) - had
        sent = measured()
        pushed = commons.push(remote, own_author())
    except Unreachable as error:
        shown = display_remote(remote)
        raise Unreachable(
            f"{shown}: {display_remote(str(error))}; nothing is lost, what you shared waits in {commons.folder}",
            f"later, run nightlab sync again; to create a bare folder there: git init --bare {shown}",
        ) from None
    return SyncResult(display_remote(remote), taken, sent, pushed, foreign)


def commons_config(lab: Path) -> CommonsConfig | None:
    """The commons of a lab's contract; None where it names none, and outside of a lab."""
    return load_contract(lab)[0].commons if (lab / CONTRACT).exists() else None


def resolved(lab: Path, remote: str) -> str:
    """A folder's path relative to the lab, made absolute; any other remote unchanged."""
    path = lab / Path(remote).expanduser()
    return str(path.resolve()) if path.exists() else remote


def _add_verifications(lab: Path, commons: Commons) -> list[dict[str, Any]]:
    """Add this lab's verifications of findings to the user's chain. Returns the bodies of the new records."""
    records = [signed.record for signed in own_records(commons)]
    sent = {(r.target, r.at, r.parent) for r in records if isinstance(r, Verification)}
    warned = {r.target for r in records if isinstance(r, Threat)}
    bodies: list[Body] = []
    for event, claim in _measured(lab):
        at = format_instant(event.at)
        if (event.target, at, event.parent) not in sent:
            bodies.append((_verification(event, at, claim), None))
        if event.reason == "tampered" and event.alone and event.target not in warned:
            warned.add(event.target)
            bodies.append((_threat(event, at), None))
    if bodies:
        commons.publish(author_key(make=True), bodies)
    return [body for body, _ in bodies]


def _measured(lab: Path) -> Iterator[tuple[FindingVerified, str]]:
    """What a lab measured of others' findings, and why its metric is only a claim, if it is."""
    for tag in reversed(tags(lab)):
        ledger = find_ledger(lab, tag)
        try:
            session = ledger.session()
            claim = (session.claim or "") if session else ""
            yield from ((event, claim) for event in ledger.events(FindingVerified))
        finally:
            ledger.close()


def _verification(event: FindingVerified, at: str, claim: str) -> dict[str, Any]:
    """What others are told: that a finding does not hold, only where it was measured on its own ground."""
    verdict = "inconclusive" if event.verdict == "refuted" and event.elsewhere else event.verdict
    kept = ("target", "task", "platform", "parent", "adopted", "runs", "against", "sigma")
    facts = {name: getattr(event, name) for name in kept}
    facts |= {name: list(found) for name in ("along", "beside", "without") if (found := getattr(event, name))}
    if claim:
        facts["metric_claim"] = one_line(claim, 120)
    return {"kind": "verification", "at": at, "verdict": verdict, "detail": one_line(scrub(event.detail)), **facts}


def _threat(event: FindingVerified, at: str) -> dict[str, Any]:
    facts = {"target": event.target, "category": "tampering", "evidence_sha256": None}
    return {"kind": "threat", "at": at, "detail": one_line(scrub(event.detail)), **facts}
