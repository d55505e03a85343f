"""The journal of a session, and the only code that writes its state."""

from nightlab.storage.ledger.ledger import Ledger
from nightlab.storage.ledger.paths import (
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
from nightlab.storage.ledger.results_tsv import append_result, mend_results, result_rows, write_results
from nightlab.storage.ledger.session_lock import Busy, lock_session, runs_now
from nightlab.storage.ledger.submissions import Try, done_with, hand_in, handed_in, waits
from nightlab.storage.ledger.used_sources import Sources

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
