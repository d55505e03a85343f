"""What waits to be tried: only plain files of the form that `submit` writes."""

from __future__ import annotations

import os
from pathlib import Path

from nightlab.storage.ledger import pending_submissions, submit


def test_what_submit_did_not_leave_is_passed_over_and_never_waited_for(tmp_path: Path) -> None:
    name = submit(tmp_path, "an idea", "a patch")
    folder = tmp_path / "tries"
    os.mkfifo(folder / "try-0pipe.json")
    (folder / "try-1not.json").write_text("{")
    (folder / "try-2other.json").write_text('{"id": "x", "else": 1}')
    outside = tmp_path.parent / "outside.json"
    outside.write_text((folder / f"{name}.json").read_text())
    (folder / "try-3link.json").symlink_to(outside)
    assert [(one.id, one.hypothesis) for one in pending_submissions(tmp_path)] == [(name, "an idea")]
