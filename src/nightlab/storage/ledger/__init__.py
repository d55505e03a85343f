"""The journal of a session, and the only code that writes its state."""

from nightlab.storage.ledger.ledger import Ledger
from nightlab.storage.ledger.locks import SessionBusy, is_running_now, lock_session
from nightlab.storage.ledger.paths import (
    LEDGER,
    add_note,
    find_ledger,
    find_session,
    make_state_folder,
    read_notes,
    read_orders,
    require_own,
    session_lock,
    state_folder,
    tags,
    write_order,
)
from nightlab.storage.ledger.redteam_record import RedteamRecord, read_redteam, record_redteam
from nightlab.storage.ledger.results_tsv import append_result, repair_results, result_rows, write_results
from nightlab.storage.ledger.submissions import Submission, pending_submissions, remove_submission, submit, waits
from nightlab.storage.ledger.used_sources import UsedSources
from nightlab.storage.ledger.write_back import require_kept

__all__ = [
    "LEDGER",
    "Ledger",
    "RedteamRecord",
    "SessionBusy",
    "Submission",
    "UsedSources",
    "add_note",
    "append_result",
    "find_ledger",
    "find_session",
    "is_running_now",
    "lock_session",
    "make_state_folder",
    "pending_submissions",
    "read_notes",
    "read_orders",
    "read_redteam",
    "record_redteam",
    "remove_submission",
    "repair_results",
    "require_kept",
    "require_own",
    "result_rows",
    "session_lock",
    "state_folder",
    "submit",
    "tags",
    "waits",
    "write_order",
    "write_results",
]
