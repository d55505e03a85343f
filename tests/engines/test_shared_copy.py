"""The copy of the frozen files that a session's trials share: each sees it with its own genome, and can't change it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from support.bench import LEAST, Bench
from support.processes import wait

from nightlab.core.types import Trial
from nightlab.engines.slots import WHOLE
from nightlab.sandbox.bubblewrap import Bubblewrap, Sandbox
from nightlab.session.session import detect_sandbox

READS = LEAST + '[evaluator]\ncommand = "python evaluate.py"\n'
EVALUATE = """\
import os, pathlib
left = pathlib.Path(os.environ["NIGHTLAB_ARTEFACTS"])
told = [len(list(pathlib.Path("many").iterdir())), open("genome.py").read()[:5], (left / "many/7.txt").read_text()]
print(told, os.path.exists("made"), (left / "made").read_text())
print("METRIC loss=2")
"""
MANY = {f"many/{number}.txt": f"{number}\n" for number in range(200)}
BESIDE = {f"{number}.txt": f"{number}\n" for number in range(200)}
TRIES = """\
# one
import os, pathlib
def refused(what):
    try:
        what()
    except OSError as error:
        return os.strerror(error.errno)
    return "done"
print(refused(lambda: open("evaluate.py", "w")), refused(lambda: open("many/7.txt", "a")))
print(refused(lambda: open("many/new", "w")), refused(lambda: os.unlink("evaluate.py")))
print(refused(lambda: open("genome.py", "a").write("# more")), refused(lambda: open("made", "w").write("mine")))
print("METRIC loss=1")
"""
SUM = "import os, genome\nprint('METRIC loss=%d' % (genome.A * 1000 + len(os.listdir('.'))))\n"
SUMS = LEAST.replace('"python genome.py"', '"python measure.py"')


@pytest.fixture
def box() -> Sandbox:
    sandbox = detect_sandbox()
    if not isinstance(sandbox, Bubblewrap):
        pytest.skip("no bubblewrap here")
    return sandbox


@pytest.fixture
def narrow_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_trials_share_the_frozen_files_and_change_none(make_lab: Any, box: Sandbox, narrow_umask: None) -> None:
    """Whatever the umask is: trials of root run as `nobody`."""
    one = Bench(make_lab(genome=TRIES, files={**MANY, "evaluate.py": EVALUATE}), READS, box)
    for _ in range(2):
        measured = one.run()
        assert (measured.outcome, measured.metric) == ("measured", 2), (
            measured.detail,
            one.log(),
            one.log("evaluator"),
        )
        said = one.log().splitlines()
        assert said[0].startswith("Read-only file system ") and not said[0].endswith("done")
        assert said[1].endswith("Device or resource busy") and "done" not in said[1] and said[2] == "done done"
        assert one.log("evaluator").splitlines()[0] == "[200, '# one', '7\\n'] False mine"
    assert len(list((one.engine.folder.parent / "frozen").iterdir())) == 1
    one.engine.close()
    assert not (one.engine.folder.parent / "frozen").exists()


def test_a_lab_in_a_subfolder_with_many_files_beside_the_genome(make_lab: Any, box: Sandbox) -> None:
    """With files that git converts, and links; and candidates that change, add and remove files."""
    lab = make_lab(files={f"labs/one/{path}": text for path, text in BESIDE.items()})
    lab.write(".gitattributes", "labs/one/7.txt text eol=crlf\n")
    lab.write("labs/one/genome.py", "A = 1\n")
    lab.write("labs/one/extra_a.py", "B = 1\n")
    lab.write(
        "labs/one/measure.py", "assert open('7.txt', 'rb').read() == open('link', 'rb').read() == b'7\\r\\n'\n" + SUM
    )
    (lab.folder / "labs/one/link").symlink_to("7.txt")
    lab.commit()
    lab.folder = lab.folder / "labs/one"
    one = Bench(lab, SUMS.replace('["genome.py"]', '["genome.py", "extra_*.py"]'), box)
    repo, base = one.engine.repo, one.commit
    assert one.run().metric == 1000 + 204, one.log()
    one.commit = repo.commit_files(base, {"genome.py": "A = 2\n"}, "two")
    assert one.run().metric == 2000 + 204, one.log()
    one.commit = repo.commit_files(base, {"genome.py": "A = 3\n", "extra_b.py": ""}, "one more")
    assert one.run().metric == 3000 + 205, one.log()
    assert lab.folder.joinpath("7.txt").read_text() == "7\n"


def test_one_that_stands_by_gets_the_next_genome_where_it_is_mounted(make_lab: Any, box: Sandbox) -> None:
    one = Bench(make_lab("A = 1\n", SUM, files=BESIDE), f"warm = ['json']\n{SUMS}", box)
    trial = Trial("like", 0, one.commit, 1, "search", one.engine.budget.record())
    one.engine.stand_by(trial, WHOLE)
    [ready] = one.engine.standing_by.values()
    wait(lambda: (ready.folder / "born").exists())
    one.commit = one.engine.repo.commit_files(one.commit, {"genome.py": "A = 5\n"}, "five")
    assert one.run().metric == 5000 + 203, one.log()
    assert (one.folder / "born").exists(), "it was started ahead"


@pytest.mark.parametrize(
    "line", ["os.rename('src', 'other'); os.mkdir('src'); open('src/rule.py', 'w')", "os.rename('src', 'other')"]
)
def test_what_frozen_files_are_mounted_on_must_stay(make_lab: Any, box: Sandbox, line: str) -> None:
    lab = make_lab(f"import os\n{line}\nprint('METRIC loss=0')\n", files={"src/rule.py": "x = 1\n", "src/gene.py": ""})
    one = Bench(lab, LEAST.replace('["genome.py"]', '["genome.py", "src/gene.py"]'), box)
    measured = one.run()
    assert (measured.outcome, measured.metric) == ("tampered", None)
    assert measured.detail == "src/rule.py was moved or replaced in the copy of the lab for the candidate"


def test_a_copy_that_a_trial_runs_on_stays(make_lab: Any, box: Sandbox) -> None:
    one = Bench(make_lab(genome="import time\nprint('up', flush=True)\ntime.sleep(60)\n"), LEAST, box)
    running = one.start()
    wait(lambda: "up" in one.log())
    one.engine.close()
    assert (one.engine.folder.parent / "frozen").exists()
    running.stop()
    wait(running.finished)
    one.engine.collect(running)
    one.engine.close()
    assert not (one.engine.folder.parent / "frozen").exists()


def test_without_a_sandbox_that_mounts_each_trial_has_whole_copies(bare_bench: Any) -> None:
    one = bare_bench("import os\nprint('METRIC loss=%d' % len(os.listdir('many')))\n", files=MANY)
    assert one.run().metric == 200
    assert not (one.engine.folder.parent / "frozen").exists()
