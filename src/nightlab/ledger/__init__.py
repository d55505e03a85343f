"""The journal of a session, and the only code that writes its state."""

from nightlab.ledger.journal import Ledger
from nightlab.ledger.places import (
    LEDGER,
    add_note,
    find_ledger,
    find_session,
    give_order,
    make_state_folder,
    read_notes,
    read_orders,
    state_folder,
    tags,
)
from nightlab.ledger.results import append_result, mend_results, write_results

__all__ = [
    "LEDGER",
    "Ledger",
    "add_note",
    "append_result",
    "find_ledger",
    "find_session",
    "give_order",
    "make_state_folder",
    "mend_results",
    "read_notes",
    "read_orders",
    "state_folder",
    "tags",
    "write_results",
]
