"""A command (or an agent speaking the Agent Client Protocol) as a proposer: it edits a copy of the lab, then exits.

It works in an export of the parent genome, without git, ledger or the user's home, in the same sandbox as a trial,
except that it has the network, or a proxy to the endpoints in the contract, to reach its model. A process with network
access could send out everything it can read, so it can read only the lab. The result is what it left in the genome's
files, never what it prints or its exit status alone: several agents exit with 0 after a failure.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from nightlab.core.config import STRATEGY, AgentConfig, ProgramConfig, megabytes
from nightlab.core.text import one_line
from nightlab.proposers.briefing import render_briefing
from nightlab.proposers.counted import caps_of, check_key, counted_usage, sum_usage, traffic_failure
from nightlab.proposers.edited_files import BRIEFING, HYPOTHESIS, TURN, USAGE, edited_files, lost_edits
from nightlab.proposers.finished import ASKED, UnfinishedTurn, finished_turn, is_cut, is_regular
from nightlab.proposers.program_words import ProgramWords, told_usage, words_of_agent, words_of_command
from nightlab.proposers.proposer import Briefing, NoProposal, Proposal, ProposerWorkspace
from nightlab.sandbox.bubblewrap import MOST_MOUNTS, SandboxSpec, has_proxy, interpreter, search_path
from nightlab.sandbox.process_guard import ProcessResult, ProcessSpec, read_result, start_guard
from nightlab.sandbox.proxied import INNER_PROXY, proxied, stand_in
from nightlab.sandbox.traffic import TrafficCaps
from nightlab.storage import checkouts
from nightlab.storage.git import frozen_entries, in_genome
from nightlab.storage.git.exports import export

PASSED = ("LANG", "LC_ALL", "TZ", "PATH")
ACP_TURN = Path(__file__).with_name("acp_turn.py")
MOST_OUTPUT = 16 * 2**20  # bytes that it may print
TASK = f"""\
# One proposal

You are a researcher. Improve the program in this folder: change its genome, and nothing else, in one way that you
have a reason to believe in. You need not run it: nightlab measures each proposal under a fixed budget, keeps it or
not, and tells you in your next turn. Questions are not answered, so ask none.

- Edit the genome's files in place. All other files are frozen; whatever else you leave here is thrown away.
- When all edits are made, end with a last message whose last line is `{ASKED}`. It says that your turn is finished:
  without it your edits are thrown away.
- This page is also in `{BRIEFING}`.
"""
CONTINUE = """\
Your last message was cut at its limit of tokens. The folder is as you left it, your edits included. Go on from there
in small steps, and end as the page below asks. What you don't finish now is lost.

"""


class AnyCommand:
    """Runs a contract's command once per turn; ``lane`` counts those of one name that run at the same time."""

    def __init__(self, part: ProgramConfig, workspace: ProposerWorkspace, lane: int = 0) -> None:
        self.name, self.part, self.workspace = part.called, part, workspace
        self.folder = workspace.folder / (f"{self.name}~{lane + 1}" if lane else self.name)
        self._guard: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def propose(self, briefing: Briefing) -> Proposal:
        folder = self.folder
        checkouts.remove_tree(folder)
        folder.mkdir(parents=True)
        commit = briefing.start.candidate.commit
        ids = export(self.workspace.repo, commit, work := folder / "work")
        if STRATEGY in ids and briefing.program and not in_genome(STRATEGY, self.workspace.lab.genome):
            (work / STRATEGY).unlink()  # the strategy that holds, in place of the committed one
            (work / STRATEGY).write_text(briefing.program, encoding="utf-8")
            ids[STRATEGY] = checkouts.file_id(work / STRATEGY, ids[STRATEGY].split()[-1]) or ""
        try:
            return self._turn(briefing, folder, work, ids)
        finally:
            (folder / "proxy").unlink(missing_ok=True)
            for name in ("work", "home", "tmp"):
                checkouts.remove_tree(folder / name)

    def _turn(self, briefing: Briefing, folder: Path, work: Path, ids: Mapping[str, str]) -> Proposal:
        """Run the command, and once more in the same copy if its answer was cut, in what is left of ``wall``."""
        page, usage, genome = render_briefing(briefing, TASK, self.part.briefing), dict[str, Any](), briefing.genome
        for last in (False, True):
            for name in (HYPOTHESIS, TURN, USAGE) if last else ():
                (work / name).unlink(missing_ok=True)
            caps = caps_of(self.part, briefing.left, usage)
            kept = self._run(folder, work, CONTINUE + page if last else page, usage.get("seconds", 0.0), caps)
            usage = sum_usage(usage, {**counted_usage(told_usage(work), kept.traffic), "seconds": kept.seconds})
            files: dict[str, str] = {}
            words = self._words(folder, work)
            try:
                own = words.stop not in ("", "end_turn") and not is_cut(kept.traffic.stop)
                stop = words.stop if own else kept.traffic.stop
                if failure := self._failure(kept, words):
                    files = _edited_anyway(work, ids, self.workspace.lab.genome, genome)
                    if kept.status and is_cut(stop) and not kept.traffic.ended:
                        finished_turn("", stop)  # why it failed: its answer was cut
                    raise failure
                files = edited_files(work, ids, self.workspace.lab.genome, genome)
                if not files and words.stop in ("", "end_turn") and not is_cut(stop):
                    raise NoProposal(f"it edited nothing; last line of output: {words.last_line}")
                said = words.with_hypothesis(work, files)
                finished = finished_turn(said, stop)
                return Proposal(self.name, finished.hypothesis, files, usage=usage)
            except (NoProposal, UnfinishedTurn) as fault:
                if isinstance(fault, UnfinishedTurn) and fault.cut and not last and usage["seconds"] < self.part.wall:
                    continue
                failure = fault if isinstance(fault, NoProposal) else NoProposal(str(fault))
                if words.key_refused and (kept.status or not files) and _unseen(kept):
                    failure = NoProposal(f"{failure}{check_key(self._variables)}", final=True)
                at = kept.traffic.fault or _ended_with(kept, str(failure)) or self._silent(kept, usage, files)
                because = f"; {at}" if at and at not in str(failure) else ""
                raise failure.with_usage(usage, _asked(kept.refused), f"{because}{lost_edits(genome, files)}") from None
        raise AssertionError

    def _words(self, folder: Path, work: Path) -> ProgramWords:
        agent = isinstance(self.part, AgentConfig)
        return words_of_agent(work) if agent else words_of_command(folder / "output.log")

    def stop(self) -> None:
        self._stopped = True  # the process may not have started yet
        if self._guard and self._guard.stdin:
            self._guard.stdin.close()

    def _run(self, folder: Path, work: Path, page: str, had: float, caps: TrafficCaps) -> ProcessResult:
        """Run the command and wait until its whole process tree has ended. It ``had`` some seconds of its turn."""
        (folder / "proxy").unlink(missing_ok=True)
        for name in ("home", "tmp"):
            checkouts.remove_tree(folder / name)
            (folder / name).mkdir()
        lab, disk = self.workspace.lab, int(megabytes(self.workspace.lab.resources.disk))
        # Mounting thousands of files is refused: beyond these, a change is found afterwards.
        frozen = tuple(islice(frozen_entries(work, lab.genome), MOST_MOUNTS))
        for page_at in (folder / "briefing.md", work / BRIEFING):
            page_at.write_text(page, encoding="utf-8")
        files = (*self.part.files, str(ACP_TURN), str(INNER_PROXY))
        proxy_socket = folder / "proxy" if self._proxied() else None
        sandbox_spec = SandboxSpec(
            work,
            True,
            frozen,
            folder / "home",
            folder / "tmp",
            files,
            disk,
            "cpu",
            network=proxy_socket is None,
            proxy_socket=proxy_socket,
        )
        env = self._environment()
        argv = self._command(env["PATH"], work)
        if proxy_socket:
            argv = proxied(argv, self.part.endpoints, self.part.gateway)
        start = self.workspace.sandbox.start(sandbox_spec)
        spec = ProcessSpec(
            argv=[*start.prefix, *argv],
            cwd=start.cwd,
            env={**env, **start.env},
            stdin=str(folder / "briefing.md"),
            output=str(folder / "output.log"),
            folder=str(folder),
            wall=self.part.wall - had,
            idle=self.part.idle,
            most_output=MOST_OUTPUT,
            most_disk=disk * 2**20,
            proxy_socket=str(proxy_socket or ""),
            endpoints=list(self.part.endpoints),
            gateways=list(self.part.gateway.values()),
            keys={stand_in(name): os.environ[name] for name in self.part.keys},
            caps=caps,
        )
        with start_guard(spec) as self._guard:
            if self._stopped:
                self.stop()
            return read_result(self._guard)

    def _proxied(self) -> bool:
        """Whether the proxy is its only way to the network. Raises NoProposal if its contract needs one in vain."""
        sandbox = self.workspace.sandbox
        if has_proxy(sandbox):
            return True
        if self.part.gateway:
            raise NoProposal(f"its gateway needs a sandbox with a proxy (bubblewrap); this one is {sandbox.name}")
        if self.part.endpoints and "network" not in sandbox.missing:
            raise NoProposal(
                f"{sandbox.name} can't restrict it to its endpoints; remove them to allow any network",
                final=True,
            )
        return False

    def _silent(self, kept: ProcessResult, usage: Mapping[str, Any], files: Mapping[str, str]) -> str:
        """A hint for a program that ended by itself and sent nothing to the proxy; empty where there is no proxy.

        One that names no endpoints may need none: it is told if it failed with nothing done.
        """
        ended = kept.end in ("exited", "wall", "idle")
        failed = not files and bool(kept.status or kept.end != "exited")
        wants = self.part.restricted or failed
        if not has_proxy(self.workspace.sandbox) or not (ended and wants) or usage.get("bytes_sent") or kept.refused:
            return ""
        return "it sent nothing to the proxy in HTTPS_PROXY, its only way to the network"

    def _command(self, search: str, work: Path) -> list[str]:
        """The command line: the command itself, or for an agent the protocol client, which starts the agent."""
        argv = shlex.split(self.part.command)
        if os.sep in argv[0] and not (work / argv[0]).exists():
            raise NoProposal(f"{argv[0]} is not in the lab", final=True)
        if os.sep not in argv[0] and shutil.which(argv[0], path=search) is None:
            raise NoProposal(f"{argv[0]} is not installed, or not on the PATH", final=True)
        if not isinstance(self.part, AgentConfig):
            return argv
        if importlib.util.find_spec("acp") is None:
            raise NoProposal("its library is not installed: pip install 'nightlab[agents]'", final=True)
        return [interpreter(), "-P", str(ACP_TURN), *argv]

    @property
    def _variables(self) -> tuple[str, ...]:
        """The variables that the contract names: its key may be in any of them."""
        return (*self.part.keys, *self.part.environment)

    def _environment(self) -> dict[str, str]:
        """Its environment: a few basic variables, and those that the contract names."""
        for name in self._variables:
            if name not in os.environ:
                raise NoProposal(f"the variable {name}, listed for it in lab.toml, is not set", final=True)
        env = {name: os.environ[name] for name in (*PASSED, *self.part.environment) if name in os.environ}
        env |= {name: stand_in(name) for name in self.part.keys}
        path = search_path(env.get("PATH", os.defpath))
        return {"LANG": "C.UTF-8", "TERM": "dumb", **env, "PATH": path, "NIGHTLAB_BRIEFING": BRIEFING}

    def _failure(self, kept: ProcessResult, words: ProgramWords) -> NoProposal | None:
        """Why a turn failed; None if it may count, as far as its process and its traffic say."""
        if failure := traffic_failure(kept.traffic, self._variables):
            return failure
        fault = self._fault(kept, words)
        return NoProposal(fault, final=words.login or _not_there(kept)) if fault else None

    def _fault(self, kept: ProcessResult, words: ProgramWords) -> str:
        faults = {
            "wall": f"it took longer than {self.part.wall:g} s",
            "idle": f"it neither printed nor changed anything for {self.part.idle:g} s",
            "output": f"it printed more than {MOST_OUTPUT >> 20} MB",
            "disk": f"it wrote more than {self.workspace.lab.resources.disk}",
            "stopped": "it was stopped",
            "unstartable": f"it could not be started: {kept.detail}",
        }
        if kept.end in ("wall", "idle"):
            return f"{faults[kept.end]}; last line of output: {words.last_line}"
        if kept.end != "exited":
            return faults[kept.end]
        if words.login:
            return f"it needs a login: {words.stop}; pass it a key by naming its variable in environment"
        if kept.status:
            return f"it failed with exit status {kept.status}; last line of output: {words.last_line}"
        return "" if kept.tree_ended else "it left processes that could not be ended"


def _not_there(kept: ProcessResult) -> bool:
    """Whether the command itself is missing: a shell's exit status for one that it does not find, or can't run."""
    return kept.end == "unstartable" or (kept.end == "exited" and kept.status in (126, 127))


def _unseen(kept: ProcessResult) -> bool:
    """Whether a program ended by itself whose endpoint's answers could not be looked into."""
    counts = kept.traffic.counts
    return kept.end == "exited" and (bool(counts.get("sealed")) or not counts.get("requests"))


def _ended_with(kept: ProcessResult, reason: str) -> str:
    """The finish reason of a program's last answer, in words, where it is not a regular one and not in the reason."""
    stop = kept.traffic.stop if kept.end == "exited" else None
    return "" if not stop or is_regular(stop) or stop in reason else f"its last answer ended with {one_line(stop, 60)}"


def _asked(refused: list[str]) -> str:
    """The prefix of a failure message that names endpoints the program tried to reach in vain; empty if none."""
    names = ", ".join(one_line(name, 60) for name in refused)
    return f"it tried to reach {names}, not among its endpoints; " if names else ""


def _edited_anyway(
    work: Path, ids: Mapping[str, str], genome: tuple[str, ...], before: Mapping[str, str]
) -> dict[str, str]:
    """What a program had edited that failed; nothing if that can't be said."""
    try:
        return edited_files(work, ids, genome, before)
    except NoProposal:
        return {}
