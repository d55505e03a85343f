"""Runs git with fixed settings, whatever the user has set: one hardened command, or a stream of its output."""

from __future__ import annotations

import math
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

from nightlab.core.types import NightlabError

# What an automatic command must not do: run hooks or monitors, start a background gc, sign, or change bytes on its way.
# The user's own settings stay in force for what they know best: filters (git-lfs), credentials, safe directories.
# What formats output is avoided instead: plumbing commands ignore the settings of diff, log and status.
SETTINGS = {
    "apply.ignoreWhitespace": "no",
    "apply.whitespace": "nowarn",
    "commit.gpgSign": "false",
    "core.excludesFile": "/dev/null",
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.quotePath": "false",
    "core.safecrlf": "false",
    "core.splitIndex": "false",
    "diff.suppressBlankEmpty": "false",
    "fetch.prune": "false",
    "fetch.pruneTags": "false",
    "gc.auto": "0",
    "grep.column": "false",
    "grep.fullName": "false",
    "grep.lineNumber": "false",
    "grep.patternType": "default",
    "i18n.commitEncoding": "utf-8",
    "i18n.logOutputEncoding": "utf-8",
    "maintenance.auto": "false",
    "push.followTags": "false",
    "push.gpgSign": "false",
    "push.recurseSubmodules": "no",
    "rerere.enabled": "false",
    "submodule.recurse": "false",
}
LOOK = 0.1  # seconds between two looks at whether the user wants to stop
HARDENED = tuple(word for key, value in SETTINGS.items() for word in ("-c", f"{key}={value}"))
AUTHOR = {
    "GIT_AUTHOR_NAME": "nightlab",
    "GIT_AUTHOR_EMAIL": "nightlab@localhost",
    "GIT_COMMITTER_NAME": "nightlab",
    "GIT_COMMITTER_EMAIL": "nightlab@localhost",
}


def run_git(
    where: Path,
    *args: str,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    check: bool = True,
    timeout: float | None = None,
    tick: Callable[[], object] = lambda: None,
    **more: Any,
) -> subprocess.CompletedProcess[bytes]:
    """Run one hardened git command in a folder. With ``check``, raises NightlabError when it fails.

    ``timeout``: seconds, after which it is ended and TimeoutExpired raised. ``tick`` is called while it takes its time;
    what that raises ends it too.
    """
    command, until = ["git", *HARDENED, *args], time.monotonic() + (math.inf if timeout is None else timeout)
    with (
        _file_of(stdin) as given,
        subprocess.Popen(
            command, cwd=where, stdin=given, stdout=PIPE, stderr=PIPE, env=_env(env or {}), **more
        ) as process,
    ):
        try:
            while (found := _output(process)) is None:
                tick()
                if time.monotonic() > until:
                    raise subprocess.TimeoutExpired(command, timeout or 0.0)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(command, process.returncode, *found)
    if check and done.returncode:
        message = done.stderr.decode(errors="replace").strip().splitlines()
        raise failed(where, args[0], message[-1] if message else f"exit status {done.returncode}")
    return done


def _output(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes] | None:
    """What a process wrote, once it has ended; None while it runs."""
    try:
        return process.communicate(timeout=LOOK)
    except subprocess.TimeoutExpired:
        return None


@contextmanager
def _file_of(stdin: bytes) -> Iterator[Any]:
    """A file with what a command reads: after a timeout ``communicate`` would not go on writing to a pipe."""
    if not stdin:
        yield DEVNULL
        return
    with tempfile.TemporaryFile() as request:
        request.write(stdin)
        request.seek(0)
        yield request


@contextmanager
def reading_git(where: Path, *args: str, stdin: bytes) -> Iterator[Callable[[int], bytes]]:
    """Stream the output of a git command that is too large for memory.

    Yields a function of a size: it returns that many bytes (0: the next line), and raises NightlabError at the end.
    """
    with _file_of(stdin) as request:  # a pipe could block: git may wait until its output is read
        process = subprocess.Popen(
            ["git", *HARDENED, *args], cwd=where, env=_env({}), stdin=request, stdout=PIPE, stderr=DEVNULL
        )
    assert process.stdout is not None
    out = process.stdout

    def following(size: int) -> bytes:
        found = out.read(size) if size else out.readline()
        if len(found) < max(size, 1):
            raise failed(where, args[0], "the output ended early")
        return found

    try:
        yield following
    finally:
        process.kill()
        process.wait()
        out.close()


def _env(more: Mapping[str, str]) -> dict[bytes, bytes]:
    own = {key: value for key, value in os.environb.items() if not key.startswith(b"GIT_")}
    new = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", **more}
    return own | {os.fsencode(key): os.fsencode(value) for key, value in new.items()}


def failed(where: Path, command: str, why: str) -> NightlabError:
    hint = "free disk space, or repair the repository (git fsck)"
    if "promisor" in why or "could not fetch" in why:
        hint = "the clone is partial: connect to its remote, or fetch the lab's files first (git checkout HEAD -- .)"
    return NightlabError(f"git {command} failed in {where}: {why}", hint)
