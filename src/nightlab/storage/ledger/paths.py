"""Where a lab keeps its sessions: ``.nightlab/<tag>/``, a folder that git ignores by itself."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from nightlab.core.text import one_line
from nightlab.core.types import NightlabError
from nightlab.storage.ledger.ledger import Ledger

HOME = ".nightlab"
CHOICE_LOCK = "beginning"  # held while a session is chosen or made
LEDGER = "ledger.db"
LONGEST_NOTE = 4000  # characters
MOST_NOTES = 1_000_000
NOTES = "notes.txt"  # beside it, for a session that runs may have one writer only
ORDERS = "orders.txt"  # likewise
LONGEST = 65536  # bytes of orders that are read at once


def state_folder(lab: Path) -> Path:
    return lab / HOME


def make_state_folder(lab: Path) -> Path:
    """The state folder, made if need be, ignored without the user's ``.gitignore`` being touched."""
    home = state_folder(lab)
    try:
        home.mkdir(exist_ok=True)
        ignore = home / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise _unwritable(home, error) from error
    return home


def _unwritable(folder: Path, error: OSError) -> NightlabError:
    hint = "run where the lab's folder is writable, e.g. in your clone"
    return NightlabError(f"{folder} can't be written: {error.strerror or error}", hint)


@contextmanager
def session_lock(lab: Path) -> Iterator[None]:
    """While the block runs, other processes wait to choose or make a session of this lab."""
    home = make_state_folder(lab)
    try:
        handle = os.open(home / CHOICE_LOCK, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise _unwritable(home, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def tags(lab: Path) -> list[str]:
    """The tags of the lab's sessions, the latest used first."""
    ledgers = sorted(
        state_folder(lab).glob(f"*/{LEDGER}"),
        key=_written_at,
        reverse=True,
    )
    return [path.parent.name for path in ledgers]


def _written_at(ledger: Path) -> int:
    """When a session was last written to. A reader makes an empty WAL file, which is no writing."""
    wal = ledger.with_name(f"{LEDGER}-wal")
    return max(p.stat().st_mtime_ns for p in (ledger, wal) if p == ledger or (p.exists() and p.stat().st_size))


def find_session(lab: Path, tag: str | None) -> str:
    """``tag``, or the lab's latest session. Raises NightlabError when there is none."""
    known = tags(lab)
    if not known:
        raise NightlabError(f"{lab.resolve()} has no session yet", "start one: nightlab run")
    if tag is not None and tag not in known:
        raise NightlabError(f"there is no session {tag} in {lab.resolve()}", f"its sessions are: {', '.join(known)}")
    return tag or known[0]


def find_ledger(lab: Path, tag: str | None) -> Ledger:
    """The ledger of a session, for reading."""
    return Ledger(state_folder(lab) / find_session(lab, tag) / LEDGER, read_only=True)


def require_own(ledger: Ledger, tag: str) -> None:
    """Raise NightlabError for an imported session: nothing runs in it, so orders have no effect."""
    if ledger.imported:
        raise NightlabError(f"session {tag} is imported: nothing runs in it", "name another: --tag TAG")


def add_note(folder: Path, words: str) -> None:
    """Write down what the human has to say to the proposers of the session in ``folder``, as one line.

    Raises NightlabError for an imported session.
    """
    with closing(Ledger(folder / LEDGER, read_only=True)) as ledger:
        require_own(ledger, folder.name)
    with (folder / NOTES).open("a", encoding="utf-8") as notes:
        notes.write(one_line(words, LONGEST_NOTE) + "\n")


def read_notes(folder: Path) -> list[str]:
    """What the human has said, oldest first: the last ``MOST_NOTES`` bytes of it."""
    try:
        with (folder / NOTES).open("rb") as notes:
            start = max(os.fstat(notes.fileno()).st_size - MOST_NOTES, 0)
            notes.seek(start)
            lines = notes.read(MOST_NOTES).decode(errors="replace").split("\n")
    except OSError:
        return []
    return [line for line in lines[start > 0 :] if line.strip()]


def write_order(folder: Path, order: str) -> None:
    """Leave an order for the process that runs the session in ``folder``, now or next, as one line in one write."""
    handle = os.open(folder / ORDERS, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    try:
        os.write(handle, f"{order}\n".encode())
    finally:
        os.close(handle)


def read_orders(folder: Path, since: int) -> list[tuple[int, str]]:
    """The whole lines after the first ``since`` bytes of the orders, oldest first, each with the place of its end."""
    try:
        if (folder / ORDERS).stat().st_size <= since:
            return []
        with (folder / ORDERS).open("rb") as orders:
            orders.seek(since)
            lines = orders.read(LONGEST).split(b"\n")[:-1]
    except OSError:
        return []
    found = []
    for line in lines:
        since += len(line) + 1
        found.append((since, line.decode(errors="replace")))
    return found
