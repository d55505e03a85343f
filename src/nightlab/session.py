"""A session: one tagged run of experiments in one lab on one platform, and where its state lives.

State is kept in ``.nightlab/<tag>/`` inside the lab, a folder that git ignores by itself: the ledger,
``results.tsv``, ``progress.png`` and the trials' logs. The champion is the head of ``nightlab/<tag>``.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nightlab import __version__
from nightlab.genome import code_lines, syntax_fault
from nightlab.judge import Judge, make_rule
from nightlab.lab import STRATEGY, BudgetPart, Lab, Patches, Program, from_files
from nightlab.ledger import (
    LEDGER,
    Ledger,
    find_session,
    make_state_folder,
    state_folder,
    tags,
)
from nightlab.lineage import Repo, in_genome
from nightlab.propose.needs import needs
from nightlab.records import Candidate, Experiment, Metric, NightlabError, Platform
from nightlab.sandbox.bubblewrap import PROTECTIONS, Bare, Sandbox
from nightlab.sandbox.find import find_sandbox
from nightlab.trial.box import Box
from nightlab.trial.cgroup import delegated, make_room
from nightlab.trial.layout import GUEST
from nightlab.trial.machine import this_platform

FREE_MB = 200  # below this much disk a session does not start: a full disk loses the run in flight
NETWORK_MOUNTS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "9p", "fuse.sshfs", "fuse.rclone", "lustre"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a session needs, whether it is there, and what to do if not."""

    what: str
    ok: bool
    mend: str = ""
    fatal: bool = True


class Busy(NightlabError):
    """Another process runs the session ``tag``."""

    def __init__(self, tag: str, holder: str) -> None:
        super().__init__(
            f"session {tag} is already running, as process {holder or 'unknown'}",
            "look at it with nightlab log, stop it with Ctrl-C, or start another with --tag NAME",
        )
        self.tag = tag


class Session:
    """An open session. ``writer`` says whether this process may add to it; only one may.

    Its trials run on this machine, unless they run ``elsewhere``.

    Raises NightlabError for whatever keeps it from opening.
    """

    def __init__(
        self, repo: Repo, tag: str, *, writer: bool = False, allow: Iterable[str] = (), elsewhere: bool = False
    ) -> None:
        self.repo, self.tag = repo, tag
        self.folder = state_folder(repo.lab) / tag
        self._lock = _lock(self.folder, tag) if writer else None
        self.ledger = Ledger(self.folder / LEDGER, read_only=not writer)
        facts = self.ledger.session()
        if facts is None:
            raise NightlabError(f"session {tag} never began", f"remove {self.folder} and run again")
        self.facts: dict[str, Any] = facts
        if writer and self.imported:
            self.close()
            raise NightlabError(
                f"session {tag} is imported ({self.imported}): nothing can run in it",
                "look at it: nightlab log, plot, report; to measure something, start another: nightlab run --tag NEW",
            )
        self.lab = Lab.model_validate(facts["lab"])
        self.metric: Metric = self.lab.metric.record()
        self.platform = Platform(**facts["platform"])
        self.device = self.platform.device
        self.budget = BudgetPart(**facts["budget"])
        self.base: str = facts["base"]
        self.branch = f"nightlab/{tag}"
        self.sandbox: Sandbox = this_sandbox() if writer else Bare()
        if writer and not elsewhere:
            allowed = {*facts["allowed"], *self.lab.sandbox.allow_missing, *allow}
            require(sealed(self.sandbox, allowed))
        cgroups = make_room() if writer else None
        self.box = Box(repo, self.lab, self.budget, self.device, self.folder / "trials", self.sandbox, cgroups)
        judge = self.lab.judge
        self.judge = Judge(self.metric, self.lab.limits, make_rule(judge.rule, judge.alpha, judge.seeds))

    @classmethod
    def create(
        cls,
        repo: Repo,
        tag: str,
        *,
        device: str | None = None,
        allow: Iterable[str] = (),
        elsewhere: Platform | None = None,
    ) -> Session:
        """Start a session on what is committed at HEAD, and open it for writing. ``elsewhere``: what it runs on."""
        if not repo.valid_branch(f"nightlab/{tag}") or not re.fullmatch(r"\w[\w.+-]*", tag):
            raise NightlabError(f"{tag!r} can't be a tag", "use letters, digits, '-', '.' and '_'")
        if repo.branch_head(f"nightlab/{tag}"):
            raise NightlabError(
                f"the branch nightlab/{tag} exists, but there is no session {tag} here",
                f"choose another tag (--tag NAME), or give the old branch another name: "
                f"git branch -m nightlab/{tag} old/{tag}",
            )
        folder = make_state_folder(repo.lab) / tag
        folder.mkdir(exist_ok=True)
        lock = _lock(folder, tag)
        base = repo.resolve() or ""
        lab, source = contract_at(repo, base)
        platform = elsewhere or this_platform(device)
        draft = folder / f"{LEDGER}.new"
        draft.unlink(missing_ok=True)
        ledger = Ledger(draft)
        ledger.open_session(
            {
                "tag": tag,
                "base": base,
                "lab": lab.model_dump(mode="json", exclude_unset=True),
                "source": source,
                "budget": lab.budget.on(platform.device).model_dump(),
                "platform": asdict(platform),
                "version": __version__,
                "allowed": sorted(allow),
            }
        )
        ledger.close()
        # The ledger appears whole or not at all: a session that is there has its facts.
        os.replace(draft, folder / LEDGER)
        os.close(lock)
        return cls(repo, tag, writer=True, elsewhere=elsewhere is not None)

    @property
    def imported(self) -> str:
        """Of somebody else's night: by what, and from which file, in words; else empty."""
        source = self.facts.get("imported")
        return f"{source['file']}, as {source['by']} reported it, sha256 {source['sha256'][:12]}" if source else ""

    def close(self) -> None:
        self.ledger.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # -- what the loop needs ---------------------------------------------------------------------

    def champion(self) -> Experiment:
        """The best genome so far. Raises NightlabError before the baseline has been measured."""
        champion = self.ledger.champion()
        if champion is None:
            raise NightlabError(f"session {self.tag} has no measured baseline yet", "let it run: nightlab run")
        return champion

    def champion_to_be(self) -> Experiment:
        """The champion; the baseline while that is being measured: where it can't be, the session ends."""
        return self.ledger.champion() or self.ledger.experiment(0)

    def genome(self, commit: str) -> dict[str, str]:
        """The genome's text at a commit, by path."""
        paths = [path for path in self.repo.files(commit) if in_genome(path, self.lab.genome)]
        return {path: self.repo.read(commit, path) or "" for path in paths}

    def lines(self, commit: str) -> int:
        """Lines of code of the genome at a commit."""
        return sum(code_lines(path, text) for path, text in self.genome(commit).items())

    def sync(self) -> bool:
        """Make the branch say what the ledger says. False, and nothing moved, while it is checked out.

        Raises NightlabError when somebody else moved the branch: then there would be two champions.
        """
        champion = self.ledger.champion()
        head = self.repo.branch_head(self.branch)
        if champion is None or head == champion.candidate.commit:
            return True
        if head is not None and self.ledger.by_commit(head) is None:
            raise NightlabError(
                f"there are two champions: the ledger says {champion.candidate.commit[:7]} "
                f"(experiment {champion.number}), but somebody moved {self.branch} to {head[:7]}",
                f"keep that commit under another name, then run again: git branch -m {self.branch} mine/{self.tag}",
            )
        return self.repo.move_branch(self.branch, champion.candidate.commit)

    @property
    def results(self) -> Path:
        return self.folder / "results.tsv"

    def changed_since(self) -> list[str]:
        """Lab files whose committed content differs between the session's start and HEAD."""
        head = self.repo.resolve() or ""
        if self.repo.tree(head) == self.repo.tree(self.base):
            return []
        return [f for f in self.repo.changed(self.base, head) if not free_to_change(self.lab, f)]

    def baseline_candidate(self) -> Candidate:
        return Candidate(
            commit=self.base,
            parent=self.base,
            tree=self.repo.tree(self.base),
            proposer="baseline",
            hypothesis="baseline",
            lines=self.lines(self.base),
        )


# -- finding and checking ------------------------------------------------------------------------------


def open_session(
    lab: Path, tag: str | None = None, *, writer: bool = False, allow: Iterable[str] = (), elsewhere: bool = False
) -> Session:
    """The session ``tag`` of the lab in folder ``lab``, or its latest.

    Raises NightlabError when there is none.
    """
    return Session(Repo(lab), find_session(lab, tag), writer=writer, allow=allow, elsewhere=elsewhere)


def fresh_tag(repo: Repo, wanted: str | None = None) -> str:
    """Today's tag (``nov21``), numbered when it is taken."""
    base = wanted or time.strftime("%b%d").lower()
    taken = set(tags(repo.lab))
    names = [base, *(f"{base}-{n}" for n in range(2, 1000))]
    return next(n for n in names if n not in taken and repo.branch_head(f"nightlab/{n}") is None)


def contract_at(repo: Repo, commit: str) -> tuple[Lab, str]:
    """The contract of the lab as committed, and a sentence that says where it comes from."""
    return from_files(repo.files(commit), lambda path: repo.read(commit, path), str(repo.lab))


def free_to_change(lab: Lab, path: str) -> bool:
    """Files outside the genome that a human may edit while a session runs: the strategy and the ideas."""
    folders = [part.folder for part in lab.proposers if isinstance(part, Patches)]
    return path in (STRATEGY, "README.md") or any(path.startswith(f"{folder}/") for folder in folders)


def this_sandbox() -> Sandbox:
    """The sandbox that works on this machine, in which a process can read our interpreter and the guest."""
    return find_sandbox({Path(sys.prefix), Path(sys.base_prefix), GUEST})


def sealed(sandbox: Sandbox, allowed: Iterable[str]) -> list[Check]:
    """Each protection of the box as a check; one that may be missing is no obstacle."""
    allowed = set(allowed)
    return [
        Check(
            f"{name}: {what}" if name not in sandbox.missing else f"there is no seal here for {name} ({what})",
            name not in sandbox.missing,
            f"{sandbox.why}; or accept it: --allow-missing {name}, or all",
            fatal=name not in allowed,
        )
        for name, what in PROTECTIONS.items()
    ]


def held(sandbox: Sandbox, lab: Lab) -> list[Check]:
    """The proposers that can't be held to their endpoints here, whatever their contract says."""
    parts = [part for part in lab.proposers if isinstance(part, Program) and part.endpoints and not sandbox.doors]
    why = "reaches the whole network here" if "network" in sandbox.missing else "can't run here"
    mend = "run where bubblewrap works, or remove its endpoints"
    words = f"{{}} {why}: the sandbox ({sandbox.name}) can't hold it to its endpoints"
    return [Check(words.format(f"proposer {part.called}"), False, mend, fatal=False) for part in parts]


def memory_limit() -> Check:
    """Whether the kernel limits a candidate's memory, or we look how much it uses."""
    if delegated():
        return Check("memory is limited by a cgroup", True)
    mend = "systemd-run --user --scope -p Delegate=yes nightlab run"
    return Check("memory is sampled twice a second, not limited by a cgroup", False, mend, fatal=False)


def inspect(repo: Repo, *, dirty_genome: bool = False) -> tuple[Lab, str, list[Check]]:
    """The lab's contract, where it comes from, and everything that a session needs of the lab.

    ``dirty_genome``: uncommitted changes of the genome are what is wanted.
    """
    commit = repo.resolve() or ""
    if repo.untracked("lab.toml"):
        raise NightlabError(
            f"{repo.lab / 'lab.toml'} is not committed", "git add lab.toml && git commit -m 'the contract'"
        )
    lab, source = contract_at(repo, commit)
    files = repo.files(commit)
    checks = [_genome_exists(lab, files), *_genome_parses(repo, lab, commit, files)]
    checks.append(_unchanged(repo, lab, dirty_genome))
    checks.append(_local_disk(repo.lab))
    free = shutil.disk_usage(repo.lab).free / 2**20
    checks.append(Check(f"{free / 1024:.1f} GB of disk are free", free > FREE_MB, "free some disk space"))
    writable = os.access(repo.lab, os.W_OK) and os.access(repo.git_dir, os.W_OK)
    where = repo.lab if not os.access(repo.lab, os.W_OK) else repo.git_dir
    checks.append(Check(f"{where} is writable", writable, "run where the lab and its .git are writable"))
    if lab.prepare:
        checks.append(Check(f"run before each session, with your home and the network: {lab.prepare}", True))
    if lab.evaluator:
        checks.append(Check("the metric is computed by an evaluator of its own process", True))
    else:
        mend = "give lab.toml an [evaluator]; until then a candidate that lies about its metric is believed"
        checks.append(Check("the metric is printed by the candidate's own command", False, mend, fatal=False))
    checks += [Check(what, there, mend, fatal=False) for what, there, mend in needs(lab)]
    return lab, source, checks


def require_disk(folder: Path) -> None:
    """Raise NightlabError when too little disk is free to record another trial."""
    free = shutil.disk_usage(folder).free / 2**20
    if free < FREE_MB:
        raise NightlabError(
            f"only {free:.0f} MB of disk are free at {folder}, {FREE_MB} MB are needed",
            "free some disk space, then run the same command: it resumes",
        )


def require(checks: list[Check]) -> None:
    """Raise NightlabError for the first check that fails and must not."""
    for check in checks:
        if not check.ok and check.fatal:
            raise NightlabError(check.what, check.mend)


def _genome_exists(lab: Lab, files: list[str]) -> Check:
    missing = [glob for glob in lab.genome if not any(in_genome(f, (glob,)) for f in files)]
    if missing:
        return Check(
            f"the genome {', '.join(missing)} does not exist in the commit at HEAD",
            False,
            "commit the file, or mend `genome` in lab.toml",
        )
    matched = [f for f in files if in_genome(f, lab.genome)]
    shown = ", ".join(matched[:4]) + (f" and {len(matched) - 4} more" if len(matched) > 4 else "")
    return Check(f"genome: {shown}; all else is frozen", True)


def _genome_parses(repo: Repo, lab: Lab, commit: str, files: list[str]) -> list[Check]:
    faults = (syntax_fault(path, repo.read(commit, path) or "") for path in files if in_genome(path, lab.genome))
    return [Check(fault, False, "mend that line and commit it") for fault in faults if fault]


def _unchanged(repo: Repo, lab: Lab, dirty_genome: bool) -> Check:
    dirty = [path for path in repo.dirty() if not free_to_change(lab, path)]
    mine = [path for path in dirty if in_genome(path, lab.genome)]
    if mine and not dirty_genome:
        mend = "git commit them, git stash them, or measure them as a candidate: nightlab try"
        return Check(f"the genome has uncommitted changes: {', '.join(mine)}", False, mend)
    frozen = [path for path in dirty if path not in mine]
    if frozen:
        mend = "git commit or git stash them"
        return Check(f"frozen files have uncommitted changes: {', '.join(frozen)}", False, mend)
    return Check("genome and frozen files are committed", True)


def _local_disk(folder: Path) -> Check:
    kind = _filesystem(folder)
    if kind in NETWORK_MOUNTS:
        return Check(
            f"{folder} is on a network mount ({kind}), where locks and the ledger's journal can fail",
            False,
            f"clone the lab onto a local disk: git clone {folder} ~/{folder.name}",
        )
    return Check("the lab is on a local disk", True)


def _filesystem(folder: Path) -> str:
    """The type of the filesystem that holds ``folder``; empty where /proc/mounts does not exist."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    inside = [m for m in mounts if folder.is_relative_to(m[1].replace("\\040", " "))]
    return max(inside, key=lambda m: len(m[1]))[2] if inside else ""


def _lock(folder: Path, tag: str) -> int:
    """The one writer's lock on a session. Raises Busy when another process holds it."""
    try:
        handle = os.open(folder / "writer", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise NightlabError(
            f"{folder} can't be written: {error.strerror or error}", "mend the folder's permissions"
        ) from error
    if not (_locks(handle, fcntl.LOCK_EX) or _locks(handle, fcntl.LOCK_EX, after=0.1)):  # not for one who only looks
        holder = os.read(handle, 32).decode(errors="replace").strip()
        os.close(handle)
        raise Busy(tag, holder)
    os.ftruncate(handle, 0)
    os.pwrite(handle, str(os.getpid()).encode(), 0)
    return handle


def runs_now(folder: Path) -> bool:
    """Whether some process runs the session in ``folder``."""
    try:
        handle = os.open(folder / "writer", os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _locks(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def _locks(handle: int, how: int, after: float = 0.0) -> bool:
    time.sleep(after)
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
