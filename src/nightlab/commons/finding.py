"""Turns an experiment into a finding that can be shared, and describes the task and platform it was measured on."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from nightlab.commons.canonical import digest
from nightlab.commons.capability import DTYPES, GeneHost, TrialResources
from nightlab.commons.genes import NoGene, check_genes, genes_in
from nightlab.commons.instants import format_instant
from nightlab.commons.record import LARGEST_PATCH, MOST_STEPS, Finding, PlatformRecord, Task, genome_id, task_id
from nightlab.commons.scrub import find_private, scrub
from nightlab.core.config import CONTRACT, megabytes
from nightlab.core.source import parsed
from nightlab.core.source_bytes import encode_patch
from nightlab.core.text import one_line
from nightlab.core.types import TOLD, Candidate, Experiment, NightlabError
from nightlab.judge import Contestant
from nightlab.session.preflight import free_to_change
from nightlab.session.replicates import contestant
from nightlab.session.session import Session
from nightlab.session.warm_starts import had_start
from nightlab.storage.checkouts import blob_id
from nightlab.storage.git import in_genome

ENDS = 64 * 1024  # bytes at either end of a data file that go into its fingerprint
SHA1 = "0" * 40  # an id of the hash function that the commons' repository uses
MOST_RUNS = 200  # runs in a record
COMMONS_PROPOSER = "transplant"  # name of the proposer of other labs' findings, as in ledgers


def task_of(session: Session) -> Task:
    """What a session measures, in a form that other labs can compare with theirs."""
    lab, budget, metric = session.lab, session.budget.record(), session.metric
    frozen = [
        path
        for path in session.repo.files(session.base)
        if not in_genome(path, lab.genome) and not free_to_change(lab, path) and path not in (CONTRACT, ".gitignore")
    ]
    contents = session.repo.contents(session.base, frozen)
    contract = {
        "genome": list(lab.genome),
        "command": lab.command,
        "prepare": lab.prepare,
        "evaluator": lab.evaluator.model_dump(include={"command", "served", "held_out"}) if lab.evaluator else None,
        "checks": [check.command for check in lab.checks],
        "environment": list(lab.environment),
        "bounds": [str(lab.metric.lowest), str(lab.metric.highest)],
    }
    files = {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
    facts = {
        "frozen_sha256": digest({"contract": contract, "files": files}),
        "data_sha256": _data(session.repo.lab, [*lab.data.open, *lab.data.sealed]),
        "budget": {"clock": budget.clock, "amount": budget.amount},
        "metric": {"name": metric.name, "goal": metric.goal, "unit": metric.unit},
    }
    return Task.model_validate({"id": task_id(facts), **facts})


def platform_of(session: Session) -> PlatformRecord:
    """The session's platform as published: without the number of accelerators and the system's version."""
    here = session.platform
    return PlatformRecord(
        device=here.device,  # type: ignore[arg-type]
        accelerator=one_line(here.accelerator.split(" x ", 1)[-1], 120),
        processor=one_line(here.processor, 120),
        cores=here.cores,
        system=here.system.split()[0],
        python=here.python,
    )


def trial_resources(session: Session, libraries: Sequence[str]) -> TrialResources:
    """The resources of a trial in this session, with the installed versions of these libraries."""
    there = {name: _version(name) for name in libraries}
    memory = psutil.virtual_memory().total / 2**20
    known = {name: version for name, version in there.items() if version is not None}
    licences = frozenset(session.lab.commons.licences if session.lab.commons else ())
    return TrialResources(session.device, memory, None, known, gene_host(session), licences)


def gene_host(session: Session) -> GeneHost | None:
    """What the lab offers to genes; None if the contract does not say."""
    part = session.lab.gene
    if part is None:
        return None
    return GeneHost(frozenset(part.functions), int(megabytes(part.memory) * 2**20), part.fuel, part.domain)


def gene_mismatch(session: Session, finding: Finding, on: str, commit: str) -> str:
    """Why the genes that a finding's patch makes on the commit ``on`` can't run here; empty if they can.

    Raises Rejected where their requirements differ from those in the finding's record.
    """
    host = gene_host(session)
    if host is None:
        return ""
    genome = session.genome(commit)
    ground = None if genome_id(genome) == finding.genome else session.genome(on)
    fit = check_genes(finding.requires.genes, genome, ground, host)
    return "; ".join(fit.reasons) if fit.level == "not" else ""


def finding_body(
    session: Session, experiment: Experiment, task: Task, portable: Sequence[str], licences: Sequence[str] = ()
) -> tuple[dict[str, Any], bytes]:
    """The body of an experiment's finding, and its patch.

    Raises NightlabError when it can't be shared: no verdict, patch empty or too large, or private data in the patch.
    """
    number, candidate, verdict = experiment.number, experiment.candidate, experiment.verdict
    if verdict is None or not number:
        raise NightlabError(
            f"experiment {number} can't be shared: it {'is the baseline' if not number else 'has no verdict yet'}",
            "see what there is: nightlab log",
        )
    parent = session.ledger.by_commit(candidate.parent)
    _require_measured(session, number, [one for one in (experiment, parent) if one])
    patch = encode_patch(session.repo.patch(candidate.parent, candidate.commit))
    _require_shareable(number, patch)
    genome = session.genome(candidate.commit)
    measured = experiment.measurement
    body = {
        "kind": "finding",
        "at": format_instant(experiment.judged_at),
        "task": task.model_dump(),
        "portable": list(portable),
        "platform": platform_of(session).model_dump(),
        "parent": genome_id(session.genome(candidate.parent)),
        "genome": genome_id(genome),
        "patch": {"git": blob_id(patch, SHA1), "sha256": hashlib.sha256(patch).hexdigest(), "bytes": len(patch)},
        "hypothesis": one_line(scrub(candidate.hypothesis)),
        "changes": [one_line(scrub(change)) for change in candidate.changes[:20]],
        "status": verdict.status,
        "reason": one_line(verdict.reason, 120),
        "runs": runs_of(contestant_for(session, experiment)),
        "against": runs_of(contestant_for(session, parent)) if parent else [],
        "requires": {
            "devices": [session.device],
            "memory_mb": measured.peak_memory_mb if measured else 0.0,
            "gpu_memory_mb": measured.peak_gpu_memory_mb if measured else 0.0,
            "dtypes": [dtype for dtype in DTYPES if any(re.search(rf"\b{dtype}\b", text) for text in genome.values())],
            "libraries": libraries_of(session, candidate.commit),
            **_genes(genome),
            **({"licences": list(licences)} if licences else {}),
        },
        **({"metric_claim": one_line(session.metric_claim, 120)} if session.metric_claim else {}),
        **origins(candidate),
    }
    return body, patch


def _require_measured(session: Session, number: int, chain: Sequence[Experiment]) -> None:
    """Raise NightlabError where an experiment of these was not measured here, or not from nothing."""
    for one in chain:
        if any(m.detail.startswith(TOLD) for _, m in session.ledger.trials(one.number) if m):
            raise NightlabError(
                f"experiment {number} is no finding: the number of experiment {one.number} was {TOLD}",
                "share an experiment that was measured in the sandbox",
            )
        if start := had_start(session.ledger, one.number):
            raise NightlabError(
                f"experiment {number} is no finding: experiment {one.number} {start.words}, which no other lab has",
                "share an experiment of a session without warm_start",
            )


def _require_shareable(number: int, patch: bytes) -> None:
    """Raise NightlabError for a patch that is empty, too large, no text, or tells what is private."""
    if not 0 < len(patch) <= LARGEST_PATCH:
        raise NightlabError(
            f"the patch of experiment {number} has {len(patch):,} bytes; the limit for sharing is {LARGEST_PATCH:,}",
            "share another",
        )
    try:
        text = patch.decode()
    except UnicodeDecodeError:
        raise NightlabError(
            f"experiment {number} can't be shared: its patch is not UTF-8 text, as findings are",
            "convert the genome to UTF-8 before a session whose findings are to be shared",
        ) from None
    if found := find_private(text):
        raise NightlabError(
            f"the patch of experiment {number} is not shared: {'; '.join(found[:5])}",
            f"see it with: nightlab diff {number}; share a change without these lines",
        )


def _genes(genome: Mapping[str, str]) -> dict[str, Any]:
    """The requirements of a genome's genes for a record; empty if there are none or one is invalid."""
    try:
        found = {path: gene.needs.model_dump() for path, gene in genes_in(genome).items()}
    except NoGene:
        found = {}
    return {"genes": found} if found else {}


@dataclass(frozen=True, slots=True)
class FindingSource:
    """What a candidate has of others' findings, by their ids.

    As a candidate's source it is ``target[+along]...[&beside]...[-without]...[@on]``.
    """

    target: str
    along: tuple[str, ...] = ()
    """The findings that led to it, whose steps it brought along."""
    beside: tuple[str, ...] = ()
    """Other findings that are tried in the same trial."""
    without: tuple[str, ...] = ()
    """Findings whose steps were taken out of the champion."""
    on: str = ""
    """The commit that it was made on, where that is not the champion."""

    @classmethod
    def of(cls, source: str) -> FindingSource:
        names, _, on = source.partition("@")
        target, *others = re.split("(?=[+&-])", names)
        along, beside, without = (tuple(name[1:] for name in others if name[0] == sign) for sign in "+&-")
        return cls(target, along, beside, without, on)

    def __str__(self) -> str:
        signed = (("+", self.along), ("&", self.beside), ("-", self.without))
        others = [f"{sign}{name}" for sign, names in signed for name in names]
        return "".join([self.target, *others]) + f"@{self.on}" * bool(self.on)

    @property
    def alone(self) -> bool:
        """Whether the finding is tried by itself."""
        return not (self.beside or self.without)

    @property
    def itself(self) -> str:
        """Its source without what it brought along: whether it had its turn is known by this."""
        return str(FindingSource(self.target, on=self.on))

    @property
    def added(self) -> tuple[str, ...]:
        """All findings whose steps it has."""
        return self.target, *self.along, *self.beside


def origins(candidate: Candidate) -> dict[str, Any]:
    """The findings that a candidate's steps came from, and those whose steps it left out, as a record has them."""
    if candidate.proposer != COMMONS_PROPOSER:
        return {"inspired_by": []}
    made = FindingSource.of(candidate.source)
    without = {"without": list(made.without)} if made.without else {}
    return {"inspired_by": list(made.added[:MOST_STEPS]), **without}


def target_of(source: str) -> str:
    """The finding that a candidate's source names first."""
    return FindingSource.of(source).target


def contestant_for(session: Session, experiment: Experiment) -> Contestant:
    return contestant(session.ledger, experiment, same_seeds=session.judge.rule.same_seeds)


def runs_of(measured: Contestant) -> list[dict[str, Any]]:
    """What a record says of these measurements, with the precision that the lab states of them."""
    values = list(measured.values().items())[:MOST_RUNS]
    stated = {seed: error for seed, _ in values if (error := measured.runs[seed].standard_error)}
    return [
        {"seed": seed, "value": value, **({"standard_error": stated[seed]} if seed in stated else {})}
        for seed, value in values
    ]


def libraries_of(session: Session, commit: str) -> dict[str, str]:
    """The libraries that a genome imports, with their installed versions; empty where one is not installed."""
    names = _libraries(session.genome(commit), session.repo.files(commit))
    return {name: _version(name) or "" for name in names}


def _libraries(genome: Mapping[str, str], files: Sequence[str]) -> list[str]:
    """The top-level modules that a genome imports, without the standard library and the lab's own."""
    own = {Path(path).parts[0].removesuffix(".py") for path in files} | {"nightlab_guest"}
    found = {name for path, text in genome.items() for name in _imported(path, text)}
    return sorted(found - own - sys.stdlib_module_names)[:40]


def _imported(path: str, text: str) -> Iterator[str]:
    for node in ast.walk(tree) if (tree := parsed(path, text)) else ():
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@cache
def _version(library: str) -> str | None:
    """The installed version of the library with this import name; None if it is not installed."""
    for name in _installed().get(library, ()):
        return one_line(importlib.metadata.version(name), 120)
    return None


@cache
def _installed() -> Mapping[str, Sequence[str]]:
    return importlib.metadata.packages_distributions()


def _data(lab: Path, folders: Sequence[str]) -> str | None:
    """A fingerprint of data folders: names, sizes, and both ends of each file, because hashing a corpus takes minutes.

    It tells honest labs whether they have the same data; no trust is based on it.
    """
    if not folders:
        return None
    found = {}
    for folder in folders:
        top = lab / Path(folder).expanduser()
        for path in sorted(path for path in top.rglob("*") if path.is_file()):
            found[path.relative_to(top).as_posix()] = _ends(path)
    return digest(found)


def _ends(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        made = hashlib.sha256(f"{size}\0".encode() + file.read(ENDS))
        file.seek(max(size - ENDS, 0))
        made.update(file.read(ENDS))
    return made.hexdigest()
