"""The journal of a session, and the only code that writes its state."""

from nightlab.ledger.journal import Ledger
from nightlab.ledger.places import (
    LEDGER,
    add_note,
    alone,
    find_ledger,
    find_session,
    give_order,
    make_state_folder,
    read_notes,
    read_orders,
    require_own,
    state_folder,
    tags,
)
from nightlab.ledger.results import append_result, mend_results, result_rows, write_results
from nightlab.ledger.sources import Sources
from nightlab.ledger.tries import Try, done_with, hand_in, handed_in, waits
from nightlab.ledger.writer import Busy, lock_session, runs_now

__all__ = [
    "LEDGER",
    "Busy",
    "Ledger",
    "Sources",
    "Try",
    "add_note",
    "alone",
    "append_result",
    "done_with",
    "find_ledger",
    "find_session",
    "give_order",
    "hand_in",
    "handed_in",
    "lock_session",
    "make_state_folder",
    "mend_results",
    "read_notes",
    "read_orders",
    "require_own",
    "result_rows",
    "runs_now",
    "state_folder",
    "tags",
    "waits",
    "write_results",
]
