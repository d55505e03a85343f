"""What a session needs, of the lab and of the machine: each a check that says how to fix it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from difflib import get_close_matches
from typing import Any

from nightlab.core import plugins
from nightlab.core.config import (
    CONTRACT,
    DEVICES,
    STRATEGY,
    ControllerConfig,
    LabConfig,
    PatchesConfig,
    PluginProposerConfig,
    ProgramConfig,
    TunerConfig,
    detect,
    from_files,
)
from nightlab.core.layouts import Problem
from nightlab.core.program.constants import NO_CONSTANT, find_constants
from nightlab.core.regions import regions, unread
from nightlab.core.source import syntax_fault
from nightlab.core.types import NightlabError
from nightlab.engines.local.view import closed_folders
from nightlab.proposers.requirements import needs, uncounted
from nightlab.proposers.schedules import MARK, NONE_MOVES, moving_constants
from nightlab.sandbox.bubblewrap import PROTECTIONS, Sandbox, has_proxy, layered
from nightlab.session.check import Check
from nightlab.session.free import free_words
from nightlab.session.machine_checks import free_disk, local_disk, memory_limit
from nightlab.session.metric_claim import metric_claim
from nightlab.storage.git import Repo, in_genome
from nightlab.storage.ledger import find_ledger, read_redteam, tags

REMEMBERS = "the process that trained answers the evaluator: it can remember what it was asked, and train on"


def inspect(repo: Repo, *, dirty_genome: bool = False) -> tuple[LabConfig, str, list[Check]]:
    """The lab's contract, where it comes from, and everything that a session needs of the lab.

    ``dirty_genome``: uncommitted changes of the genome are what is wanted.
    """
    commit, lab, source = committed_contract(repo)
    files = repo.files(commit)
    checks = [
        _genome_exists(lab, files),
        *_genome_parses(repo, lab, commit, files),
        *_regions(repo, lab, commit, files),
    ]
    sound = all(check.ok or not check.fatal for check in checks)
    checks.append(_unchanged(repo, lab, dirty_genome))
    checks += [*_branch_free(repo), *_submodules(repo, commit)]
    checks.append(local_disk(repo.lab))
    checks.append(free_disk(repo.lab))
    writable = os.access(repo.lab, os.W_OK) and os.access(repo.git_dir, os.W_OK)
    where = repo.lab if not os.access(repo.lab, os.W_OK) else repo.git_dir
    checks.append(Check(f"{where} is writable", writable, "run where the lab and its .git are writable"))
    if lab.prepare:
        checks.append(Check(f"run before each session, with your home and the network: {lab.prepare}", True))
    checks.append(_computed(lab, metric_claim(lab, files, lambda path: repo.read(commit, path))))
    checks += [Check(what, there, hint, fatal=False) for what, there, hint in needs(lab)]
    checks += _warm_start(lab, files)
    if sound:  # of a genome that is missing, or does not parse, no constant is known
        texts = [repo.read(commit, path) or "" for path in files if in_genome(path, lab.genome)]
        checks += [*_tuned(lab, texts), *_population(lab, texts)]
    return lab, source, [*checks, *plugged(lab), *_not_expressed(repo, commit)]


def plugged(lab: LabConfig) -> Iterator[Check]:
    """Each plug-in that the contract names: whether it loads and accepts its keys, and that it is trusted."""
    used: list[tuple[plugins.Kind, str, Mapping[str, Any], str]] = [
        ("rule", lab.judge.rule, lab.judge.options, "judge.options"),
        ("selection", lab.search.strategy, lab.search.options, "search.options"),
    ]
    for n, part in enumerate(lab.proposers):
        own_keys = part.keys if isinstance(part, PluginProposerConfig) else {}
        used.append(("proposer", part.kind, own_keys, f"proposers.{n}"))
    for kind, name, keys, where in used:
        for rival in plugins.rivals(kind, name):
            yield Check(
                f"{rival} is ignored: {rival.ignored}", False, "its package has to name it otherwise", fatal=False
            )
        if not plugins.is_plugin(kind, name) and not keys:
            continue
        try:
            plugins.configure(kind, name, keys, where)
        except NightlabError as error:
            yield Check(str(error), False, error.hint)
        else:
            yield trusted(kind, name)


def trusted(kind: plugins.Kind, name: str) -> Check:
    """What a plug-in that was loaded may do."""
    return Check(f"{plugins.find(kind, name)} is trusted code: it runs in the orchestrator's process", True)


def committed_contract(repo: Repo) -> tuple[str, LabConfig, str]:
    """The commit at HEAD, the contract as it is there, and where that comes from.

    Raises NightlabError when there is none, or a ``lab.toml`` is not committed.
    """
    commit = repo.resolve() or ""
    if repo.untracked("lab.toml"):
        raise NightlabError(
            f"{repo.lab / 'lab.toml'} is not committed", "git add lab.toml && git commit -m 'the contract'"
        )
    repo.fetch_missing(commit)
    return commit, *contract_at(repo, commit)


def contract_at(repo: Repo, commit: str) -> tuple[LabConfig, str]:
    """The contract of the lab as committed, and a sentence that says where it comes from."""
    return from_files(problem_at(repo, commit), str(repo.lab))


def problem_at(repo: Repo, commit: str) -> Problem:
    """The lab's files as committed."""
    return Problem(tuple(repo.files(commit)), lambda path: repo.read(commit, path), repo.lab.name)


def _not_expressed(repo: Repo, commit: str) -> Iterator[Check]:
    """What of a known layout its contract does not express, a note for each."""
    problem = problem_at(repo, commit)
    if not problem.has(CONTRACT) and (found := detect(problem)):
        told = "proposers read program.md, which is missing: nightlab open makes it of this problem's own text"
        for note in (*found[1].notes, *([told] if found[1].strategy else [])):
            yield Check(
                note, False, "nightlab init writes the contract into lab.toml, where you can edit it", fatal=False
            )


def free_to_change(lab: LabConfig, path: str) -> bool:
    """Files outside the genome that a human may edit while a session runs: the strategy and the ideas."""
    folders = [part.folder for part in lab.proposers if isinstance(part, PatchesConfig)]
    folders += [part.patches for part in lab.proposers if isinstance(part, ControllerConfig) and part.patches]
    return path in (STRATEGY, "README.md") or any(path.startswith(f"{folder}/") for folder in folders)


def changed_since(repo: Repo, commit: str, before: LabConfig, now: LabConfig, *, whole: bool = False) -> list[str]:
    """Lab files whose committed content differs between ``commit`` and HEAD, without those that are free to change.

    The contract is not among them if the one there, ``now``, measures as the one ``before``, unless ``whole``.
    """
    head = repo.resolve() or ""
    if repo.tree(head) == repo.tree(commit):
        return []
    changed = [path for path in repo.changed(commit, head) if not free_to_change(before, path)]
    if CONTRACT in changed and not whole and now.measures_as(before):
        changed.remove(CONTRACT)
    return changed


def check_lab(repo: Repo, sandbox: Sandbox, allow: Iterable[str]) -> tuple[LabConfig, str, list[Check]]:
    """As ``inspect``, with everything that a session needs of this machine."""
    lab, source, checks = inspect(repo)
    checks += sealed(sandbox, {*lab.sandbox.allow_missing, *allow})
    checks += crowded(sandbox, lab, repo.files(repo.resolve() or ""))
    checks += [*held(sandbox, lab), *answered(lab), *shown(repo), memory_limit(), attacked(repo, lab)]
    return lab, source, checks


def crowded(sandbox: Sandbox, lab: LabConfig, files: Iterable[str]) -> list[Check]:
    """The genome's folders in which a program can't create files, because too many frozen ones lie there."""
    if not layered(sandbox):
        return []
    own = {path for path in files if in_genome(path, lab.genome)}
    where = closed_folders(own, set(files) - own)
    hint = "write into a folder that holds few files, or $TMPDIR; or move the frozen files into a folder of theirs"
    words = "a program can't create files in {}: too many frozen files lie beside the genome"
    names = {".": "the lab's own folder"}
    return [Check(words.format(names.get(path, path)), False, hint, fatal=False) for path in where]


def protections(names: str | Iterable[str]) -> set[str]:
    """The protections that are named, also several in one text; ``all`` names each. Raises NightlabError."""
    given = {name for words in ([names] if isinstance(names, str) else names) for name in words.split()}
    given = {name for words in given for name in words.split(",") if name}
    if unknown := given - {*PROTECTIONS, "all"}:
        raise NightlabError(
            f"there is no protection {', '.join(sorted(unknown))}", f"there are {', '.join(PROTECTIONS)}, all"
        )
    return set(PROTECTIONS) if "all" in given else given


def sealed(sandbox: Sandbox, allowed: Iterable[str]) -> list[Check]:
    """Each protection of the sandbox as a check; one that may be missing is no obstacle."""
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


def held(sandbox: Sandbox, lab: LabConfig) -> list[Check]:
    """The proposers that can't be held to their endpoints or to their caps here, whatever their contract says."""
    parts = [
        part for part in lab.proposers if isinstance(part, ProgramConfig) and part.restricted and not has_proxy(sandbox)
    ]
    why = "reaches the whole network here" if "network" in sandbox.missing else "can't run here"
    hint = "run where bubblewrap works, or remove its endpoints"
    words = f"{{}} {why}: the sandbox ({sandbox.name}) can't hold it to its endpoints"
    checks = [Check(words.format(f"proposer {part.called}"), False, hint, fatal=False) for part in parts]
    if lab.evaluator and lab.evaluator.gateway and not has_proxy(sandbox):
        said = f"its evaluator's gateway needs a sandbox with a proxy; this one is {sandbox.name}"
        checks.append(Check(said, False, "run where bubblewrap works"))
    uncapped = uncounted(lab, lab.stop, sandbox)
    return [*checks, *(Check(said, False, "run where bubblewrap works", fatal=False) for said in uncapped)]


def shown(repo: Repo) -> Iterator[Check]:
    """What the baseline of the latest session showed that a trial needs beside its training."""
    if not (known := tags(repo.lab)):
        return
    with contextlib.suppress(NightlabError), closing(find_ledger(repo.lab, known[0])) as ledger:
        if said := free_words(ledger):
            yield Check(f"{said} (session {known[0]})", True)


def attacked(repo: Repo, lab: LabConfig) -> Check:
    """Whether the lab, whose contract is ``lab``, was attacked as it is committed, and withstood."""
    found = read_redteam(repo.lab)
    if found is None:
        return Check("its metric was never attacked", False, "nightlab redteam", fatal=False)
    day = time.strftime("%Y-%m-%d", time.localtime(found.at))
    if found.kept:
        words = f"{len(found.kept)} of {found.attacks} attacks would be kept ({day}): {', '.join(found.kept)}"
        return Check(words, False, "fix the lab as nightlab redteam says, and run it again", fatal=False)
    try:
        changed = changed_since(repo, found.commit, contract_at(repo, found.commit)[0], lab)
    except NightlabError:  # the commit is gone, or its contract is of an older version
        changed = ["the lab"]
    if changed:
        words = f"its metric was last attacked on {day}, before {', '.join(changed[:3])} changed"
        return Check(words, False, "nightlab redteam", fatal=False)
    return Check(f"none of {found.attacks} attacks on its metric would be kept ({day}, nightlab redteam)", True)


def _genome_exists(lab: LabConfig, files: list[str]) -> Check:
    missing = [glob for glob in lab.genome if not any(in_genome(f, (glob,)) for f in files)]
    if missing:
        return Check(
            f"the genome {', '.join(missing)} does not exist in the commit at HEAD",
            False,
            f"commit the file, or fix `genome` in lab.toml{_alike(missing[0], files)}",
        )
    matched = [f for f in files if in_genome(f, lab.genome)]
    shown = ", ".join(matched[:4]) + (f" and {len(matched) - 4} more" if len(matched) > 4 else "")
    return Check(f"genome: {shown}; all else is frozen", True)


def _alike(glob: str, files: list[str]) -> str:
    """Committed files that a glob without a match may mean; empty where none is like it."""
    close = get_close_matches(glob, files, 3)
    return f": is {' or '.join(close)} meant?" if close else ""


def _genome_parses(repo: Repo, lab: LabConfig, commit: str, files: list[str]) -> list[Check]:
    faults = (syntax_fault(path, repo.read(commit, path) or "") for path in files if in_genome(path, lab.genome))
    return [Check(fault, False, "fix that line and commit it") for fault in faults if fault]


def _tuned(lab: LabConfig, genome: list[str]) -> list[Check]:
    """Whether the proposers of the contract that move constants find one."""
    if any(find_constants(text, device) for text in genome for device in DEVICES):
        return []
    idle = [
        part.called
        for part in lab.proposers
        if isinstance(part, TunerConfig) or (isinstance(part, ControllerConfig) and not part.patches)
    ]
    hint = "assign the numbers to upper-case names at the top level of a genome file, or remove the {}"
    return [Check(f"the {it} will propose nothing: {NO_CONSTANT}", False, hint.format(it), fatal=False) for it in idle]


def _population(lab: LabConfig, genome: list[str]) -> list[Check]:
    """Whether a population finds constants that move, where the contract says that training can go on."""
    if lab.population is None:
        return []
    found = (moving_constants(text, device, lab) for text in genome for device in DEVICES)
    names = dict.fromkeys(name for constants in found for name in constants)
    if not names:
        return [Check(f"nightlab pbt can train no population: {NONE_MOVES}", False, MARK, fatal=False)]
    what = f"training goes on from checkpoints of up to {lab.population.checkpoint}"
    return [Check(f"{what}; while it trains may move: {', '.join(names)}", True)]


def _warm_start(lab: LabConfig, files: list[str]) -> list[Check]:
    """Whether a program can leave the answer from which later trials start."""
    if lab.warm_start is None:
        return []
    file, size = lab.warm_start.file, lab.warm_start.size
    if file in files or in_genome(file, lab.genome):
        hint = f"git rm --cached {file}, put it into .gitignore and commit; or name the file that the program writes"
        return [Check(f"warm_start.file {file} is a file of the lab's own, not one that a trial leaves", False, hint)]
    what = f"a trial starts from the champion's {file} (at most {size}): its score is that of program and start"
    return [Check(what, True)]


def _computed(lab: LabConfig, claim: str) -> Check:
    """Whether the metric is computed out of the candidate's reach; ``claim``: why not."""
    if not claim:
        return Check("the metric is computed by an evaluator in a separate process", True)
    hint = "give lab.toml an [evaluator]; until then a candidate that lies about its metric is believed"
    if lab.evaluator:
        hint = (
            "serve it: let the candidate's process answer the evaluator's calls (evaluator.served = true, "
            "docs/sealing.md); until then a candidate that prints its own METRIC and exits is believed"
        )
    return Check(f"the metric is only the candidate's claim: {claim}", False, hint, fatal=False)


def _regions(repo: Repo, lab: LabConfig, commit: str, files: list[str]) -> Iterator[Check]:
    """Where a candidate may change the genome's files, if markers bound that, and markers that don't match."""
    if lab.between is None:
        return
    names = [path for path in files if in_genome(path, lab.genome)]
    texts = {path: repo.read(commit, path) or "" for path in names}
    found = {path: bounds for path, text in texts.items() if (bounds := regions(text, lab.between))}
    for note in filter(None, (unread(path, text, lab.between) for path, text in texts.items())):
        yield Check(note, False, "put it first in a comment, if it is meant as a marker", fatal=False)
    for path, bounds in found.items():
        if bounds.fault:
            yield Check(f"{path}, {bounds.fault}", False, "put each start and end first in a comment, in pairs")
        else:
            count = f"{len(bounds.free)} line{'' if len(bounds.free) == 1 else 's'}"
            yield Check(f"{path}: {count} between markers may change; all others are frozen", True)
    if not found:
        what = f"no genome file has a comment line {lab.between[0]}, so all of the genome may change"
        yield Check(what, False, "put the markers into the file, or remove `between` from lab.toml", fatal=False)


def _unchanged(repo: Repo, lab: LabConfig, dirty_genome: bool) -> Check:
    dirty = [path for path in repo.dirty() if not free_to_change(lab, path)]
    mine = [path for path in dirty if in_genome(path, lab.genome)]
    if mine and not dirty_genome:
        hint = "git commit them, git stash them, or measure them as a candidate: nightlab try"
        return Check(f"the genome has uncommitted changes: {', '.join(mine)}", False, hint)
    frozen = [path for path in dirty if path not in mine]
    if frozen:
        hint = "git commit or git stash them"
        return Check(f"frozen files have uncommitted changes: {', '.join(frozen)}", False, hint)
    return Check("genome and frozen files are committed", True)


def _branch_free(repo: Repo) -> list[Check]:
    if not repo.branch_head("nightlab"):
        return []
    hint = "give it another name: git branch -m nightlab my-nightlab"
    return [Check("a branch is called nightlab, so git can't have nightlab/<tag>, a session's champion", False, hint)]


def _submodules(repo: Repo, commit: str) -> list[Check]:
    """Submodules: their folders are empty in a trial's copy."""
    hint = "commit its files in the lab itself, or name their folder in data.open"
    words = "{} is a git submodule: a trial finds an empty folder there"
    return [Check(words.format(path), False, hint, fatal=False) for path in repo.submodules(commit)]


def answered(lab: LabConfig) -> list[Check]:
    """Who answers a served evaluator: clean processes, or the one that trained."""
    if lab.evaluator is None or not lab.evaluator.served:
        return []
    if lab.evaluator.stand_in:
        what = f"the evaluator calls {lab.evaluator.stand_in} in a process that starts anew whenever it is loaded"
        return [Check(what, True)]
    if clean := lab.evaluator.processes:
        return [Check(f"the evaluator is answered by {clean} clean processes, not by the one that trained", True)]
    hint = "set evaluator.processes = 2 and hand arrays over (docs: Writing a lab)"
    return [Check(f"the seal of the metric is weaker: {REMEMBERS}", False, hint, fatal=False)]
