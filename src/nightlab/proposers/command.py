"""A command (or an agent speaking the Agent Client Protocol) as a proposer: it edits a copy of the lab, then exits.

It works in an export of the parent genome, without git, ledger or the user's home, in the same sandbox as a trial,
except that it has the network, or a proxy to the endpoints in the contract, to reach its model. A process with network
access could send out everything it can read, so it can read only the lab. The result is what it left in the genome's
files, never what it prints or its exit status alone: several agents exit with 0 after a failure.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nightlab.core.config import AgentConfig, ProgramConfig, megabytes
from nightlab.core.text import one_line, plain
from nightlab.proposers.briefing import render_briefing
from nightlab.proposers.proposer import Briefing, NoProposal, Proposal, ProposerWorkspace
from nightlab.sandbox.bubblewrap import PROXY_SOCKET, SandboxSpec, search_path
from nightlab.sandbox.process_guard import ProcessResult, ProcessSpec, read_result, start_guard
from nightlab.storage import checkouts
from nightlab.storage.git import frozen_entries, in_genome
from nightlab.storage.git.repo import MAX_GENOME_BYTES

PASSED = ("LANG", "LC_ALL", "TZ", "PATH")
BRIEFING, HYPOTHESIS, USAGE = "nightlab-briefing.md", "hypothesis.txt", "nightlab-usage.json"
TURN = Path(__file__).with_name("acp_turn.py")
INNER_PROXY = Path(__file__).parent.with_name("sandbox") / "egress_proxy.py"
MOST_OUTPUT, TAIL = 16 * 2**20, 65536  # bytes that it may print, and that are read from the end
MOST_FILES = 50_000
TASK = f"""\
# One proposal

You are a researcher. Improve the program in this folder: change its genome, and nothing else, in one way that you
have a reason to believe in. Then end your turn. You need not run it: nightlab measures each proposal under a fixed
budget, keeps it or not, and tells you in your next turn. Questions are not answered, so ask none.

- Edit the genome's files in place. All other files are frozen; whatever else you leave here is thrown away.
- Write one sentence into `{HYPOTHESIS}`: what you changed, why it should help, and by how much.
- This page is also in `{BRIEFING}`.
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
        work = self.workspace.repo.export(commit, folder / "work")
        ids = self.workspace.repo.ids(commit, work)
        try:
            kept = self._run(folder, work, render_briefing(briefing, TASK, self.part.briefing))
            usage = {**_told(work / USAGE), "seconds": kept.seconds}
            said = _tail(folder / "output.log")
            try:
                if fault := self._fault(kept, said):
                    raise NoProposal(fault)
                files = self._edited(work, ids)
                if not files:
                    raise NoProposal(f"it edited nothing; last line of output: {_last_line(said)}")
            except NoProposal as failure:
                raise NoProposal(_asked(kept.refused) + str(failure), usage) from None
            words = _without_label(one_line(_written(work / HYPOTHESIS))) or _hypothesis(said)
            return Proposal(self.name, words or f"a change by {self.name}", files, usage=usage)
        finally:
            (folder / "proxy").unlink(missing_ok=True)
            for name in ("work", "home", "tmp"):
                checkouts.remove_tree(folder / name)

    def stop(self) -> None:
        self._stopped = True  # the process may not have started yet
        if self._guard and self._guard.stdin:
            self._guard.stdin.close()

    def _run(self, folder: Path, work: Path, page: str) -> ProcessResult:
        """Run the command and wait until its whole process tree has ended."""
        for name in ("home", "tmp"):
            (folder / name).mkdir()
        lab, disk = self.workspace.lab, int(megabytes(self.workspace.lab.resources.disk))
        frozen = tuple(frozen_entries(work, lab.genome))
        for page_at in (folder / "briefing.md", work / BRIEFING):
            page_at.write_text(page, encoding="utf-8")
        files = (*self.part.files, str(TURN), str(INNER_PROXY))
        proxy_socket = folder / "proxy" if self._held() else None
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
        argv = self._command(env["PATH"])
        if proxy_socket:
            argv = [sys.executable, "-P", str(INNER_PROXY), PROXY_SOCKET, ",".join(self.part.endpoints), *argv]
        start = self.workspace.sandbox.start(sandbox_spec)
        spec = ProcessSpec(
            argv=[*start.prefix, *argv],
            cwd=start.cwd,
            env={**env, **start.env},
            stdin=str(folder / "briefing.md"),
            output=str(folder / "output.log"),
            folder=str(folder),
            wall=self.part.wall,
            idle=self.part.idle,
            most_output=MOST_OUTPUT,
            most_disk=disk * 2**20,
            proxy_socket=str(proxy_socket or ""),
            endpoints=list(self.part.endpoints),
        )
        with start_guard(spec) as self._guard:
            if self._stopped:
                self.stop()
            return read_result(self._guard)

    def _held(self) -> bool:
        """Whether its network is restricted to its endpoints. Raises NoProposal where the sandbox can't restrict it."""
        sandbox = self.workspace.sandbox
        if not self.part.endpoints or "network" in sandbox.missing:
            return False
        if not sandbox.has_proxy:
            raise NoProposal(f"{sandbox.name} can't restrict it to its endpoints; remove them to allow any network")
        return True

    def _command(self, search: str) -> list[str]:
        """The command line: the command itself, or for an agent the protocol client, which starts the agent."""
        argv = shlex.split(self.part.command)
        if os.sep not in argv[0] and shutil.which(argv[0], path=search) is None:
            raise NoProposal(f"{argv[0]} is not installed, or not on the PATH")
        if not isinstance(self.part, AgentConfig):
            return argv
        if importlib.util.find_spec("acp") is None:
            raise NoProposal("its library is not installed: pip install 'nightlab[agents]'")
        return [sys.executable, "-P", str(TURN), *argv]

    def _environment(self) -> dict[str, str]:
        """Its environment: a few basic variables, and those that the contract names."""
        for name in self.part.environment:
            if name not in os.environ:
                raise NoProposal(f"the variable {name}, listed for it in lab.toml, is not set")
        env = {name: os.environ[name] for name in (*PASSED, *self.part.environment) if name in os.environ}
        path = search_path(env.get("PATH", os.defpath))
        return {"LANG": "C.UTF-8", "TERM": "dumb", **env, "PATH": path, "NIGHTLAB_BRIEFING": BRIEFING}

    def _fault(self, kept: ProcessResult, said: str) -> str:
        """Why a turn failed, as text; empty if it may count."""
        faults = {
            "wall": f"it took longer than {self.part.wall:g} s",
            "idle": f"it neither printed nor changed anything for {self.part.idle:g} s",
            "output": f"it printed more than {MOST_OUTPUT >> 20} MB",
            "disk": f"it wrote more than {self.workspace.lab.resources.disk}",
            "stopped": "it was stopped",
            "unstartable": f"it could not be started: {kept.detail}",
        }
        if kept.end != "exited":
            return faults[kept.end]
        if kept.status:
            return f"it failed with exit status {kept.status}; last line of output: {_last_line(said)}"
        return "" if kept.tree_ended else "it left processes that could not be ended"

    def _edited(self, work: Path, ids: Mapping[str, str]) -> dict[str, str]:
        """The genome files that it changed or created. Raises NoProposal for changes outside the genome."""
        genome = self.workspace.lab.genome
        frozen = {path: name for path, name in ids.items() if not in_genome(path, genome)}
        if fault := checkouts.find_change(work, frozen, whole=False):
            raise NoProposal(f"out of scope: {fault}; only the genome may change")
        found = _files(work)
        edited: dict[str, str] = {}
        for path, name in ids.items():
            if path not in frozen and path not in found and not name.startswith("link "):
                raise NoProposal(f"it removed {path} or replaced it by something other than a plain file")
        for path in sorted(found):
            if in_genome(path, genome) and (path in ids or not _scratch(path)):
                like = ids.get(path, next(iter(ids.values())).split()[-1])
                if checkouts.file_id(work / path, like) != ids.get(path):
                    edited[path] = _text(work / path, path)
        return edited


def _asked(refused: list[str]) -> str:
    """The prefix of a failure message that names endpoints the program tried to reach in vain; empty if none."""
    names = ", ".join(one_line(name, 60) for name in refused)
    return f"it tried to reach {names}, not among its endpoints; " if names else ""


def _files(work: Path) -> set[str]:
    """The plain files below a folder, by path, without following links. Raises NoProposal for unreadable folders."""
    found: set[str] = set()
    rest = [work]
    while rest:
        try:
            with os.scandir(rest.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        rest.append(Path(entry.path))
                    elif entry.is_file(follow_symlinks=False):
                        found.add(Path(entry.path).relative_to(work).as_posix())
        except OSError as error:
            raise NoProposal(f"it left an unreadable folder: {error.strerror}") from None
        if len(found) > MOST_FILES:
            raise NoProposal(f"it left more than {MOST_FILES:,} files")
    return found


def _scratch(path: str) -> bool:
    """Whether a new file is temporary (an agent's or ours), although it matches the genome's globs."""
    parts = path.split("/")
    return (
        path in (BRIEFING, HYPOTHESIS, USAGE) or "__pycache__" in parts or any(part.startswith(".") for part in parts)
    )


def _text(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_GENOME_BYTES + 1)
        if len(raw) > MAX_GENOME_BYTES:
            raise NoProposal(f"{name} has more than {MAX_GENOME_BYTES:,} bytes")
        return raw.decode()
    except UnicodeDecodeError:
        raise NoProposal(f"{name} is no longer text in UTF-8") from None


def _tail(path: Path) -> str:
    """The end of its output, sanitised."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - TAIL, 0))
            return plain(file.read(TAIL), TAIL)
    except OSError:
        return ""


def _written(path: Path) -> str:
    """The content of a small file; empty if it does not exist."""
    with contextlib.suppress(OSError):
        if stat.S_ISREG(path.lstat().st_mode):
            with path.open("rb") as file:
                return file.read(4000).decode(errors="replace")
    return ""


def _told(path: Path) -> dict[str, Any]:
    """The usage that it reports for its turn (tokens, cost, model), as far as it is plausible. Self-reported."""
    try:
        said = json.loads(_written(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    found: dict[str, Any] = {}
    for name, value in said.items() if isinstance(said, dict) else ():
        if name in ("agent", "model") and isinstance(value, str):
            found[name] = one_line(value, 80)
        elif name in ("input_tokens", "output_tokens") and isinstance(value, int) and 0 <= value < 1e12:
            found[name] = int(value)
        elif name == "cost_usd" and isinstance(value, int | float) and 0 <= value < 1e9:
            found[name] = float(value)
    return found


def _hypothesis(said: str) -> str:
    """The last line of its output as hypothesis; empty if it is not prose: some agents print JSON."""
    line = _last_line(said)
    return "" if line.startswith(("{", "[")) or line == "nothing" else _without_label(line)


def _without_label(line: str) -> str:
    return re.sub(r"^\W*hypothesis\W*:\W*", "", line, flags=re.IGNORECASE).strip()


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return one_line(lines[-1], 300) if lines else "nothing"
