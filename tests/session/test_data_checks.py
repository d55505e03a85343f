"""Data that a trial would not find is named before a session starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.bench import LEAST, Bench

from nightlab.core.config import parse
from nightlab.core.layouts import Problem
from nightlab.integrations.layouts.autoresearch import read
from nightlab.sandbox.bubblewrap import Bubblewrap
from nightlab.session.data_checks import data_checks
from nightlab.session.session import detect_sandbox
from nightlab.storage.git import Repo

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"


def named(lab: Any, data: str) -> list[tuple[str, bool]]:
    return [(check.what, check.fatal) for check in data_checks(Repo(lab.folder), parse(LEAST + data))]


def test_names_links_and_pointers(make_lab: Any, tmp_path: Path) -> None:
    lab = make_lab(files={"big.bin": POINTER, "also.bin": POINTER})
    (lab.folder / "inside").symlink_to("genome.py")
    (lab.folder / "out").symlink_to(tmp_path)
    lab.commit()
    found = named(lab, f'[data]\nopen = ["data", "{tmp_path / "none"}"]\n')
    assert found == [
        ("data: data is relative, and trials would not find it", True),
        (f"data: {tmp_path / 'none'} does not exist", False),
        (f"out is a link to {tmp_path}, outside the lab, where a trial finds nothing", False),
        ("also.bin and 1 more: git-lfs is not set up, so a trial finds its pointer", False),
    ]
    lab.git("config", "filter.lfs.smudge", "cat")
    assert named(lab, f'[data]\nopen = ["{tmp_path}"]\n') == []


def test_a_link_to_data_that_is_named_and_locks_beside_data_work(make_lab: Any, tmp_path: Path) -> None:
    sandbox = detect_sandbox()
    if not isinstance(sandbox, Bubblewrap):
        pytest.skip("no bubblewrap here")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "x").write_text("5")
    cached = Path.home() / ".cache" / "hub" / "set"
    cached.mkdir(parents=True)
    genome = (
        "import os\nhome = os.path.expanduser('~/.cache')\nopen(f'{home}/hub/set.lock', 'w')\n"
        "os.mkdir(f'{home}/other')\n"
        "print('METRIC loss=' + open('data/x').read())\n"
    )
    lab = make_lab(genome=genome)
    (lab.folder / "data").symlink_to(tmp_path / "set")
    lab.commit()
    one = Bench(lab, LEAST + f'[data]\nopen = ["{tmp_path / "set"}", "~/.cache/hub/set"]\n', sandbox)
    assert one.run().metric == 5, one.log()


def test_the_originals_attention_kernels_are_opened() -> None:
    files = {
        "prepare.py": "TIME_BUDGET = 300\n",
        "train.py": 'repo = "varunneal/flash-attention-3" if cap == (9, 0) else "kernels-community/flash-attn3"\n',
    }
    found = read(Problem(tuple(files), files.get, "x"))
    assert found and found.contract["data"]["open"] == [
        "~/.cache/autoresearch",
        "~/.cache/huggingface/hub/models--varunneal--flash-attention-3",
        "~/.cache/huggingface/hub/models--kernels-community--flash-attn3",
    ]
