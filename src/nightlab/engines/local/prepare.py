"""Runs the lab's own preparation (data, tokenizer and the like) before a session."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from nightlab.core.config import LabConfig
from nightlab.core.types import NightlabError
from nightlab.engines.local import lab_data
from nightlab.sandbox.bubblewrap import search_path
from nightlab.storage.git import Repo
from nightlab.storage.git.exports import export

STDERR = 2  # what it prints is no part of the answer of a command, which may be JSON


def run_prepare(repo: Repo, lab: LabConfig, commit: str, folder: Path) -> None:
    """Run the lab's ``prepare`` command in a pristine copy. It is the user's code: it has network and home.

    Data that the contract names by a relative path is the lab's own there, or becomes that.

    Raises NightlabError when it fails.
    """
    if lab.prepare is None:
        return
    place = folder / "prepare"
    shutil.rmtree(place, ignore_errors=True)
    export(repo, commit, place)
    data = lab.data.everything
    lab_data.bring(repo.lab, data, place)
    path = search_path(os.environ.get("PATH", ""))
    try:
        command, env = shlex.split(lab.prepare), {**os.environ, "PATH": path}
        done = subprocess.run(command, cwd=place, env=env, stdout=STDERR, check=False)
        if done.returncode == 0:
            lab_data.take(repo.lab, data, place)
    except OSError as error:
        raise NightlabError(f"the lab's prepare command can't be started: {error}", f"fix: {lab.prepare}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if done.returncode:
        raise NightlabError(
            f"the lab's prepare command failed with exit status {done.returncode}: {lab.prepare}",
            f"run it by hand in {repo.lab} and fix the error it shows",
        )
