"""The journal of a session, and the only code that writes its state."""

from nightlab.ledger.journal import Ledger
from nightlab.ledger.places import LEDGER, find_ledger, find_session, make_state_folder, state_folder, tags
from nightlab.ledger.results import append_result, mend_results, write_results

__all__ = [
    "LEDGER",
    "Ledger",
    "append_result",
    "find_ledger",
    "find_session",
    "make_state_folder",
    "mend_results",
    "state_folder",
    "tags",
    "write_results",
]
