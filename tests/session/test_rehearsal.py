"""``check`` tries the command in the sandbox: it is green only where ``run`` works, and says what is missing."""

from __future__ import annotations

from typing import Any

import pytest

from nightlab.core.types import NightlabError
from nightlab.session.rehearsal import check_thoroughly, hint_for
from nightlab.storage.git import Repo

WORKS = {
    "a metric": {"measure.py": "print('METRIC loss=1')\n"},
    "many files beside the genome": {f"{n}.txt": "x\n" for n in range(100)},
    "a new output": {"measure.py": "open('out.txt', 'w').write('x')\nprint('METRIC loss=1')\n"},
    "shared memory": {"measure.py": "open('/dev/shm/x', 'w').write('x')\nprint('METRIC loss=1')\n"},
    "a cache in the home": {
        "measure.py": "import os\nos.makedirs(os.path.expanduser('~/.cache/x'))\nprint('METRIC loss=1')\n"
    },
    "a local server": {
        "measure.py": "import socket\nsocket.create_server(('localhost', 0)).close()\nprint('METRIC loss=1')\n"
    },
}
FAILS = {
    "no metric": ({"measure.py": "print('done')\n"}, ""),
    "a missing module": ({"measure.py": "import no_such_module\n"}, "install no_such_module"),
    "data that is not there": ({"measure.py": "open('data/x.bin')\n"}, "data.open"),
    "a log that is committed": ({"measure.py": "open('logs/a.log', 'a')\n", "logs/a.log": ""}, "git rm --cached"),
    "the network": ({"measure.py": "import socket\nsocket.create_connection(('example.org', 80))\n"}, "no network"),
    "a crash": ({"measure.py": "raise SystemExit(3)\n"}, "by hand"),
}


def verdict(lab: Any) -> tuple[bool, str]:
    checks = check_thoroughly(Repo(lab.folder))[2]
    return all(check.ok or not check.fatal for check in checks), checks[-1].what + " / " + checks[-1].hint


@pytest.mark.parametrize("what", ["a metric", *(pytest.param(w, marks=pytest.mark.machine) for w in list(WORKS)[1:])])
def test_green_where_run_works(make_lab: Any, what: str) -> None:
    lab = make_lab(files=WORKS[what])
    good, said = verdict(lab)
    assert good, said
    assert lab.run(experiments=1)[1].champion().number == 0
    assert not list((lab.folder / ".git").glob("nightlab-check-*"))


FIRST = ["a missing module", "a log that is committed"]


@pytest.mark.parametrize(
    "what", [*FIRST, *(pytest.param(w, marks=pytest.mark.machine) for w in FAILS if w not in FIRST)]
)
def test_red_where_run_fails(make_lab: Any, what: str) -> None:
    files, hint = FAILS[what]
    lab = make_lab(files=files)
    good, said = verdict(lab)
    assert not good and said.startswith("its command fails in the sandbox: ") and hint in said, said
    with pytest.raises(NightlabError, match="the baseline can't be measured"):
        lab.run(experiments=1)


def test_what_prepare_may_bring_is_a_note(make_lab: Any) -> None:
    lab = make_lab(files={"measure.py": "open('data/x.bin')\n"})
    lab.write("lab.toml", 'prepare = "python make_data.py"\n' + (lab.folder / "lab.toml").read_text())
    lab.commit()
    good, said = verdict(lab)
    assert good and "make_data.py runs before each session" in said


def test_hints() -> None:
    assert "LD_LIBRARY_PATH" in hint_for("ImportError: libfoo.so.1: cannot open shared object file: No such file")
    assert hint_for("bwrap: execvp uv: No such file or directory").startswith("trials have no uv")
    assert hint_for("bwrap: execvp node: No such file or directory").startswith("install node below /usr")
    assert "install torch" in hint_for("ModuleNotFoundError: No module named 'torch'")
    assert "name its folder in data.open" in hint_for(
        "FileNotFoundError: [Errno 2] No such file or directory: '/data/x'"
    )
