"""What a candidate leaves in its folder, made fit to be read by an evaluator that sees sealed data."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def leave_only_files(folder: Path) -> None:
    """Remove what is neither a file nor a folder, following nothing.

    A link ``model.json`` to the sealed data would make an evaluator read that in the model's place; a pipe
    would make it wait. Nothing may run any more that could put one back.
    """
    for at, folders, files in os.walk(folder):
        Path(at).chmod(stat.S_IMODE(Path(at).lstat().st_mode) | stat.S_IRWXU)
        for path in (Path(at) / name for name in (*folders, *files)):
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                path.unlink()
