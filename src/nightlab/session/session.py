"""A session: one tagged run of experiments in one lab on one platform, and where its state lives.

State is kept in ``.nightlab/<tag>/`` inside the lab, a folder that git ignores by itself: the ledger,
``results.tsv``, ``progress.png`` and the trials' logs. The champion is the head of ``nightlab/<tag>``.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from nightlab import __version__
from nightlab.core.config import FOLLOWED, BudgetConfig, LabConfig
from nightlab.core.events import ContractChanged, SessionStarted
from nightlab.core.source import code_lines
from nightlab.core.types import BASELINE, Candidate, Experiment, Metric, NightlabError, Platform
from nightlab.engines.local.cgroup import make_room
from nightlab.engines.local.engine import LocalEngine
from nightlab.engines.local.layout import detect_sandbox
from nightlab.engines.platform import this_platform
from nightlab.judge import Judge, make_rule
from nightlab.sandbox.bubblewrap import NoSandbox, Sandbox
from nightlab.session import seeds
from nightlab.session.check import require
from nightlab.session.metric_claim import metric_claim
from nightlab.session.preflight import changed_since, contract_at, sealed
from nightlab.storage.git import Repo, in_genome
from nightlab.storage.ledger import LEDGER, Ledger, find_session, lock_session, make_state_folder, state_folder, tags

STUDY = "study."  # how tags of a study's sessions begin


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
        self._lock = lock_session(self.folder, tag) if writer else None
        self.ledger = Ledger(self.folder / LEDGER, read_only=not writer)
        facts = self.ledger.session()
        if facts is None:
            raise NightlabError(f"session {tag} never began", f"remove {self.folder} and run again")
        self.facts = facts
        if self._lock is not None and self.imported:
            self.ledger.close()
            os.close(self._lock)
            raise NightlabError(
                f"session {tag} is imported ({self.imported}): nothing can run in it",
                "look at it: nightlab log, plot, report; to measure something, start another: nightlab run --tag NEW",
            )
        taken = self.ledger.latest(ContractChanged)
        self.lab = LabConfig.recorded(facts.lab, taken.parts if taken else None)
        self.metric: Metric = self.lab.metric.record()
        self.platform = Platform(**facts.platform)
        self.device = self.platform.device
        self.budget = BudgetConfig(**facts.budget)
        self.base = facts.base
        self.program: str | None = None  # what proposers are told in place of program.md
        self.branch = f"nightlab/{tag}"
        self.sandbox: Sandbox = detect_sandbox() if writer else NoSandbox()
        if writer and not elsewhere:
            allowed = {*facts.allowed, *self.lab.sandbox.allow_missing, *allow}
            require(sealed(self.sandbox, allowed))
        cgroups = make_room() if writer else None
        self.local_engine = LocalEngine(
            repo, self.lab, self.budget, self.device, self.folder / "trials", self.sandbox, cgroups
        )

    @classmethod
    def create(
        cls,
        repo: Repo,
        tag: str,
        *,
        device: str | None = None,
        allow: Iterable[str] = (),
        elsewhere: Platform | None = None,
        secret: str = "",
    ) -> Session:
        """Start a session on what is committed at HEAD, and open it for writing.

        ``elsewhere``: what it runs on. ``secret``: another session's, whose trials run on the same seeds.
        """
        if not repo.valid_branch(f"nightlab/{tag}") or not re.fullmatch(r"\w[\w.+-]*", tag):
            raise NightlabError(f"{tag!r} can't be a tag", "use letters, digits, '-', '.' and '_'")
        if repo.branch_head(f"nightlab/{tag}"):
            raise NightlabError(
                f"the branch nightlab/{tag} exists, but there is no session {tag} here",
                f"choose another tag (--tag NAME), or give the old branch another name: "
                f"git branch -m nightlab/{tag} old/{tag}",
            )
        if other := repo.branch_in_the_way(tag):
            raise NightlabError(
                f"git can't have the branch nightlab/{tag} beside the branch {other}",
                f"give that one another name: git branch -m {other} my-{other}",
            )
        repo.release_abandoned()
        folder = make_state_folder(repo.lab) / tag
        folder.mkdir(exist_ok=True)
        held = lock_session(folder, tag)
        base = repo.resolve() or ""
        lab, source = contract_at(repo, base)
        platform = elsewhere or this_platform(device)
        draft = folder / f"{LEDGER}.new"
        draft.unlink(missing_ok=True)
        ledger = Ledger(draft)
        ledger.append(
            SessionStarted(
                tag=tag,
                base=base,
                lab=lab.model_dump(mode="json", exclude_unset=True),
                source=source,
                budget=lab.budget.on(platform.device).model_dump(),
                platform=asdict(platform),
                version=__version__,
                allowed=tuple(sorted(allow)),
                secret=secret or seeds.fresh_secret(),
                claim=metric_claim(lab, repo.files(base), lambda path: repo.read(base, path)),
            )
        )
        ledger.close()
        # The ledger appears whole or not at all: a session that is there has its facts.
        os.replace(draft, folder / LEDGER)
        os.close(held)
        return cls(repo, tag, writer=True, elsewhere=elsewhere is not None)

    @property
    def imported(self) -> str:
        """Of an imported session: by what, and from which file, in words; else empty."""
        source = self.facts.imported
        return f"{source['file']}, as {source['by']} reported it, sha256 {source['sha256'][:12]}" if source else ""

    @cached_property
    def metric_claim(self) -> str:
        """Why the metric is only the candidate's claim, in words; empty if a separate process computes it."""
        if self.facts.claim is not None or self.imported:  # what was imported is not called measured anyway
            return self.facts.claim or ""
        return metric_claim(self.lab, self.repo.files(self.base), lambda path: self.repo.read(self.base, path))

    @cached_property
    def judge(self) -> Judge:
        """The contract's judge, made when it is needed: a session can be read where its rule is not installed."""
        part = self.lab.judge
        return Judge(self.metric, self.lab.limits, make_rule(part.rule, part.alpha, part.seeds, part.options))

    def close(self) -> None:
        self.ledger.close()
        if self._lock is not None:
            self.repo.release_pending()
            self.local_engine.close()
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

        Raises NightlabError when another program moved the branch: then there would be two champions.
        """
        champion = self.ledger.champion()
        head = self.repo.branch_head(self.branch)
        if champion is None or head == champion.candidate.commit:
            return True
        if head is not None and self.ledger.by_commit(head) is None:
            raise NightlabError(
                f"there are two champions: the ledger says {champion.candidate.commit[:7]} "
                f"(experiment {champion.number}), but another program moved {self.branch} to {head[:7]}",
                f"keep that commit under another name, then run again: git branch -m {self.branch} mine/{self.tag}",
            )
        return self.repo.move_branch(self.branch, champion.candidate.commit)

    @property
    def results(self) -> Path:
        return self.folder / "results.tsv"

    def changed_since(self, contract: LabConfig) -> list[str]:
        """Lab files whose committed content differs between the session's start and HEAD, without the contract if
        the one there, ``contract``, differs only in what no measurement depends on."""
        whole = self.tag.startswith(STUDY)  # a study compares sessions, so the whole contract is to be the same
        return changed_since(self.repo, self.base, self.lab, contract, whole=whole)

    def follow_contract(self, now: LabConfig) -> list[str]:
        """Take over what the committed contract says of parts that no measurement depends on, and record it.

        Returns the names of the parts that have changed.
        """
        changed = [part for part in FOLLOWED if getattr(now, part) != getattr(self.lab, part)]
        if changed:
            parts = now.model_dump(mode="json", exclude_unset=True, include=set(FOLLOWED))
            self.ledger.append(ContractChanged(parts, self.ledger.next_number()))
            self.lab = LabConfig.recorded(self.facts.lab, parts)
        return changed

    def baseline_candidate(self) -> Candidate:
        return Candidate(
            commit=self.base,
            parent=self.base,
            tree=self.repo.tree(self.base),
            proposer=BASELINE,
            hypothesis="baseline",
            lines=self.lines(self.base),
        )


# -- finding one ------------------------------------------------------------------------------


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
