"""Data that a trial would not find is named before a session starts."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.bench import LEAST, Bench
from support.labs import TinyLab

from nightlab.core.config import parse
from nightlab.core.layouts import Problem
from nightlab.engines.local.prepare import run_prepare
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
    found = named(lab, f'[data]\nopen = ["data", "../mine", ".", "inside", "{tmp_path / "none"}"]\n')
    pointers = ("also.bin and 1 more: git-lfs is not set up, so a trial finds its pointer", False)
    set_up = subprocess.run(["git", "config", "--system", "filter.lfs.smudge"], capture_output=True).returncode == 0
    assert found == [
        ("data: data does not exist", False),
        ("data: ../mine leads out of the lab", True),
        ("data: . holds files of the genome", True),
        ("data: inside is a link that is committed", True),
        (f"data: {tmp_path / 'none'} does not exist", False),
        (f"out is a link to {tmp_path}, outside the lab, where a trial finds nothing", False),
        *([] if set_up else [pointers]),
    ]
    lab.git("config", "filter.lfs.smudge", "cat")
    assert named(lab, f'[data]\nopen = ["{tmp_path}"]\n') == []
    (lab.folder / "out").unlink()
    (lab.folder / "out").symlink_to("..")
    lab.commit()
    assert len(named(lab, f'[data]\nopen = ["{tmp_path}"]\n')) == 1, "a relative link leads elsewhere from a copy"


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


EVALUATES = '[evaluator]\ncommand = "python evaluate.py"\n'
READS = "import pathlib\nprint('METRIC loss=' + pathlib.Path('{}').read_text())\n"


@pytest.mark.parametrize("full", [False, True])
def test_ignored_data_of_the_labs_own_folder_is_shown_read_only(bench: Any, full: bool) -> None:
    """Also beside committed files of its folder, below a frozen folder, and where the lab's folder is full."""
    names = '[data]\nopen = ["data", "assets/sets", "one.txt", "none"]\nsealed = ["secret"]\n'
    genome = (
        "import os, pathlib\nassert not os.path.exists('secret/x') and os.path.exists('data/.gitkeep')\n"
        "assert pathlib.Path('one.txt').read_text() == '1'\n" + READS.format("assets/sets/x")
    )
    evaluate = READS.format("data/x") + READS.format("secret/x")
    files = {"data/.gitkeep": "", "assets/a": "", "evaluate.py": evaluate, "lab.toml": ""}
    files |= {f"{n}.md": "" for n in range(100)} if full else {}
    one = bench(genome, LEAST + names, files=files)
    lab = one.engine.repo.lab
    for path, text in {"data/x": "2", "assets/sets/x": "3", "one.txt": "1", "secret/x": "4"}.items():
        (lab / path).parent.mkdir(exist_ok=True)
        (lab / path).write_text(text)
    assert one.run().metric == 3, one.log()
    judged = Bench(TinyLab(lab), LEAST + EVALUATES + names, one.engine.sandbox)
    found = judged.run()
    assert found.metric == 4, (found.detail, judged.log("evaluator"))
    assert sorted(path.name for path in lab.iterdir() if not path.name.endswith(".md")) == [
        *[".git", ".nightlab", "assets", "data", "evaluate.py", "genome.py", "lab.toml", "measure.py"],
        *["one.txt", "secret"],
    ]


def test_a_candidates_file_in_the_place_of_data_is_its_own_crash(bench: Any) -> None:
    one = bench(READS.format("sets/x"), LEAST.replace('"genome.py"', '"**"') + '[data]\nopen = ["sets"]\n')
    (one.engine.repo.lab / "sets").mkdir()
    (one.engine.repo.lab / "sets" / "x").write_text("1")
    one.commit = one.engine.repo.commit_files(one.commit, {"sets": "a file\n"}, "in the way")
    assert one.run().outcome == "crashed"


def test_prepare_makes_data_in_the_labs_own_folder(make_lab: Any) -> None:
    make = "import os\nos.makedirs('data', exist_ok=True)\nopen('data/x', 'a').write('5')\n"
    lab = make_lab(files={"prepare.py": make, ".gitignore": "data\n"})
    contract, repo = parse('prepare = "python prepare.py"\n' + LEAST + '[data]\nopen = ["data"]\n'), Repo(lab.folder)
    for made in ("5", "55"):
        run_prepare(repo, contract, repo.resolve() or "", lab.folder / ".nightlab")
        assert (lab.folder / "data" / "x").read_text() == made


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
