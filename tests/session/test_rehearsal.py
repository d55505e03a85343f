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
    "no metric": ({"measure.py": "print('done')\n"}, "print METRIC name=value"),
    "a missing module": ({"measure.py": "import no_such_module\n"}, "install no_such_module"),
    "data that is not there": ({"measure.py": "open('data/x.bin')\n"}, "data.open"),
    "a log that is committed": ({"measure.py": "open('logs/a.log', 'a')\n", "logs/a.log": ""}, "git rm --cached"),
    "the network": ({"measure.py": "import socket\nsocket.create_connection(('example.org', 80))\n"}, "no network"),
    "a crash": ({"measure.py": "raise SystemExit(3)\n"}, "by hand"),
    "an error": ({"measure.py": "\n1 / 0\n"}, "measure.py, line 2: ZeroDivisionError"),
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


def test_a_limit_that_no_trial_measures_is_named_before_all_is_over_it(make_lab: Any) -> None:
    lab = make_lab(files={"measure.py": "print('METRIC loss=1')\n"})
    contract = (lab.folder / "lab.toml").read_text()
    lab.write("lab.toml", contract + '[limits]\npeak_memory = "+20%"\n[objectives]\nsize = "minimise"\n')
    lab.commit()
    checks = [check for check in check_thoroughly(Repo(lab.folder))[2] if "is not measured" in check.what]
    assert [(check.what, check.fatal) for check in checks] == [
        ("limits.peak_memory is not measured, and every candidate would be over it", True),
        ("objectives.size is not measured", False),
    ]
    assert checks[0].hint.startswith("is peak_memory_mb or peak_gpu_memory_mb meant?")
    lab.write("lab.toml", contract + '[limits]\npeak_memory_mb = "+20%"\n')
    lab.commit()
    assert verdict(lab)[0]


def test_what_the_checks_print_is_not_taken_for_the_programs(make_lab: Any) -> None:
    lab = make_lab(files={"measure.py": "print('loss 1')\n"})
    lab.write("lab.toml", (lab.folder / "lab.toml").read_text() + '[[checks]]\ncommand = "echo OK"\n')
    lab.commit()
    good, said = verdict(lab)
    assert not good and "printed no line METRIC loss=…; it printed: loss 1 / " in said


def test_hints() -> None:
    python = hint_for("No module named 'torch'", "the trial's Python, /opt/x")
    assert python.startswith("install torch for the trial's Python, /opt/x, or")
    assert (
        hint_for("bwrap: execvp train.py: No such file or directory")
        == "name the program that runs it: python train.py"
    )
    for word in ("cd", "X=1"):
        assert "without a shell" in hint_for(f"bwrap: execvp {word}: No such file or directory")
    missing = hint_for("python: can't open file '/lab/trian.py': [Errno 2] No such file or directory")
    assert missing == "there is no trian.py in the commit at HEAD: commit it, or fix its name in lab.toml"
    assert hint_for("[Errno 2] No such file or directory: '/lab/data/x'").startswith("commit data/x, or")
    assert "LD_LIBRARY_PATH" in hint_for("ImportError: libfoo.so.1: cannot open shared object file: No such file")
    assert hint_for("bwrap: execvp uv: No such file or directory").startswith("trials have no uv")
    assert hint_for("bwrap: execvp node: No such file or directory").startswith("install node below /usr")
    assert "install torch" in hint_for("ModuleNotFoundError: No module named 'torch'")
    assert "name its folder in data.open" in hint_for(
        "FileNotFoundError: [Errno 2] No such file or directory: '/data/x'"
    )
