"""The copies of the lab that a trial's processes run in, and what an evaluator is given of the candidate's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.bench import LEAST, Bench

from nightlab.session.session import detect_sandbox

UNSERVED = '[evaluator]\ncommand = "python evaluate.py"\n'
SEVEN = {"evaluate.py": "print('METRIC loss=7')\n"}


def test_an_evaluator_works_on_a_pristine_copy(make_lab: Any) -> None:
    """In a copy of its own, which nothing that the candidate writes changes; where nothing holds it, that is told."""
    genome = "open('evaluate.py', 'w').write('print(\"METRIC loss=0\")')\n"
    one = Bench(make_lab(genome=genome, files=SEVEN), LEAST + UNSERVED)
    measured = one.run()
    assert (measured.outcome, measured.metric) == ("tampered", None)
    assert measured.detail == "evaluate.py was changed in the copy of the lab for the candidate"
    one.commit = one.engine.repo.commit_files(one.commit, {"genome.py": "honest = 1\n"}, "an honest one")
    assert one.run().metric == 7


CHECK = '[[checks]]\ncommand = "python -m unittest -q test_it"\n'
TESTS = {"test_it.py": "print('checked')\n", "lib/data.txt": "x\n"}
SWAP = "os.unlink({0}); os.symlink('/etc/passwd', {0})"
TAMPERING = {
    "the evaluator": ("open('../trusted/evaluate.py', 'w').write('x = 1')", "evaluate.py was changed"),
    "its folder": ("os.unlink('../trusted/lib/data.txt')", "lib/data.txt is missing"),
    "a module for it": ("open('../trusted/json.py', 'w').write('')", "json.py appeared"),
    "a module for the check": ("open('../checked/unittest.py', 'w').write('')", "unittest.py appeared"),
    "a package for the check": ("os.mkdir('../checked/a'); open('../checked/a/b', 'w')", "a appeared"),
    "the test": ("open('../checked/test_it.py', 'w').write('')", "test_it.py was changed"),
    "a link": (SWAP.format("'../checked/test_it.py'"), "test_it.py was replaced by a link"),
    "a folder": ("os.rename('../checked/lib', 'l'); os.symlink('../work/l', '../checked/lib')", "lib was replaced by"),
    "a pipe": ("os.unlink('../checked/test_it.py'); os.mkfifo('../checked/test_it.py')", "test_it.py was changed"),
    "there and back": (
        "p = '../trusted/evaluate.py'; t = open(p).read(); open(p, 'w').write('0'); open(p, 'w').write(t)",
        "evaluate.py was written to",
    ),
    "the genome": ("open('../checked/genome.py', 'a').write('# more')", "genome.py was changed"),
}


@pytest.mark.parametrize("what", sorted(TAMPERING))
def test_a_changed_copy_is_told(bare_bench: Any, what: str) -> None:
    """Without a sandbox a candidate finds the copies beside its own."""
    line, fault = TAMPERING[what]
    one = bare_bench(f"import os\n{line}\n", LEAST + UNSERVED + CHECK, files={**SEVEN, **TESTS})
    measured = one.run()
    assert (measured.outcome, measured.metric) == ("tampered", None), measured.detail
    assert fault in measured.detail and "in the copy of the lab for the" in measured.detail


def test_what_an_honest_one_leaves_is_its_own(bench: Any) -> None:
    """Files of its own beside the frozen ones, and what a check builds or tidies: nothing is amiss."""
    files = {
        **SEVEN,
        **TESTS,
        "test_it.py": "import genome\nopen('report.txt', 'w').write('x')\nopen('genome.py', 'a').write('# tidy')\n",
    }
    one = bench("open('made.txt', 'w').write('x')\n", LEAST + UNSERVED + CHECK, files=files)
    assert one.run().metric == 7


def test_files_that_git_converts_are_no_fault(make_lab: Any) -> None:
    files = {**SEVEN, ".gitattributes": "*.txt text eol=crlf\n*.id ident\n", "a.txt": "a\nb\n", "b.id": "$Id$\n"}
    lab = make_lab(genome="", files=files)
    (lab.folder / "link").symlink_to("a.txt")
    lab.commit()
    assert Bench(lab, LEAST + UNSERVED).run().metric == 7


# -- artefacts -----------------------------------------------------------------------------------------

READ = {
    "evaluate.py": """\
import json, os
left = os.environ["NIGHTLAB_ARTEFACTS"]
print(sorted(os.listdir(left)))
print("METRIC loss=%g" % json.load(open(left + "/model.json"))["loss"])
"""
}
MODEL = "import json, os, sys, time\njson.dump({'loss': 5}, open('model.json', 'w'))\n"


def test_an_evaluator_reads_what_the_candidate_left(bench: Any) -> None:
    one = bench(MODEL + "print('METRIC loss=0')\n", LEAST + UNSERVED, files=READ)
    measured = one.run()
    assert measured.metric == 5, one.log("evaluator")


def test_artefacts_are_read_only(make_lab: Any) -> None:
    write = "import os\nopen(os.environ['NIGHTLAB_ARTEFACTS'] + '/model.json', 'a')\n"
    sandbox = detect_sandbox()
    if sandbox.name == "none":
        pytest.skip(sandbox.why)
    measured = Bench(make_lab(genome=MODEL, files={"evaluate.py": write}), LEAST + UNSERVED, sandbox).run()
    assert measured.outcome == "crashed" and "Read-only" in measured.detail


def test_what_the_candidate_left_running_is_gone_before(bench: Any) -> None:
    """A daemon that rewrites the artefact when the candidate has ended, and had its second to settle."""
    daemon = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(1, 99)
        time.sleep(1.6)
        while True:
            json.dump({"loss": 0}, open("draft", "w"))
            os.replace("draft", "model.json")
    os._exit(0)
"""
    slow = {"evaluate.py": "import time\ntime.sleep(2)\n" + READ["evaluate.py"]}
    assert bench(MODEL + daemon, LEAST + UNSERVED, files=slow).run().metric == 5


def test_artefacts_hold_files_and_nothing_else(bench: Any, tmp_path: Path) -> None:
    """The evaluator sees the sealed data, so a link would make it read that; a pipe would make it wait."""
    (tmp_path / "sealed").mkdir()
    (tmp_path / "sealed" / "val.json").write_text('{"loss": 0}')
    genome = f"""
import os, socket
os.makedirs("a/b")
for name in ("model.json", "a/b/model.json"):
    os.symlink({str(tmp_path / "sealed" / "val.json")!r}, name)
os.symlink({str(tmp_path / "sealed")!r}, "folder")
os.mkfifo("pipe")
socket.socket(socket.AF_UNIX).bind("socket")
open("a/b/plain", "w").write("x")
os.chmod("a/b", 0o500)
"""
    evaluate = """\
import os
left = os.environ["NIGHTLAB_ARTEFACTS"]
found = [os.path.relpath(f"{at}/{name}", left) for at, folders, files in os.walk(left) for name in folders + files]
print(sorted(found))
print("METRIC loss=%g" % (sorted(set(found) - {"evaluate.py"}) == KNOWN))
""".replace("KNOWN", repr(["a", "a/b", "a/b/plain", "genome.py", "lab.toml", "measure.py"]))
    contract = LEAST + UNSERVED + f'[data]\nsealed = ["{tmp_path}/sealed"]\n'
    one = bench(genome, contract, files={"evaluate.py": evaluate})
    assert one.run().metric == 1, one.log("evaluator")


@pytest.mark.parametrize(
    "genome",
    [
        "for n in range(3): open(f'{n}', 'wb').write(bytes(4 * 2**20))",
        "import os\nfor n in range(300): os.mkdir('d'); os.chdir('d')",
    ],
    ids=["large", "deep"],
)
def test_artefacts_without_measure(bench: Any, genome: str) -> None:
    """Over the limit, also when it ended before anybody looked."""
    measured = bench(genome, LEAST + UNSERVED + '[resources]\ndisk = "8MB"\n', files=READ).run()
    assert measured.outcome == "over limit", measured
