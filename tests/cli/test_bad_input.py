"""Everything that a user can get wrong: exit status 1, a message that names the thing and the mend, nothing lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.labs import TinyLab, lab_in, users_own
from support.processes import Done, living, wait

from nightlab.core.types import NightlabError
from nightlab.session import machine_checks
from nightlab.session.create import start_session

CHANGE = "A = 2.0\nB = 8\n"


def also(damage: Any) -> Any:
    """One more of a kind, for the machine tier."""
    return pytest.param(damage, marks=pytest.mark.machine)


def refused(done: Done, *names: str) -> None:
    """A message for people: what is wrong, by name, and how to mend it."""
    assert done.code == 1, (done.code, done.out, done.err)
    said, hint = done.err.strip().splitlines()
    assert said.startswith("nightlab: ") and hint.startswith("  hint: ") and len(hint) > 12
    for name in names:
        assert name in done.err, done.err


@pytest.fixture
def lab(make_lab: Any) -> TinyLab:
    return make_lab()


# -- git -----------------------------------------------------------------------------------------------


def test_not_a_git_repository(nightlab: Any, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "train.py").write_text("x = 1\n")
    for command in ("run", "check", "try"):
        refused(nightlab(command, cwd=folder), str(folder), "not in a git repository", "git init")
    assert [p.name for p in folder.iterdir()] == ["train.py"]


def test_an_empty_repository(nightlab: Any, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path / "new")], check=True)
    refused(nightlab("run", cwd=tmp_path / "new"), "has no commit yet", "git commit")


def test_git_is_not_installed(lab: TinyLab, nightlab: Any) -> None:
    refused(nightlab("run", cwd=lab, PATH=str(Path(sys.executable).parent)), "git is not installed", "apt install git")


def test_a_folder_that_is_not_there(nightlab: Any, tmp_path: Path) -> None:
    refused(nightlab("run", "-C", "nowhere", cwd=tmp_path), "nowhere is not a folder")
    refused(nightlab("check", "-C", "nowhere", cwd=tmp_path), "nowhere")
    refused(nightlab("init", "-C", "nowhere", cwd=tmp_path), "nowhere is not a folder")
    refused(nightlab("log", "-C", "nowhere", cwd=tmp_path), "nowhere")


def test_no_session_yet(lab: TinyLab, nightlab: Any) -> None:
    for command in (["log"], ["show", "0"], ["diff"], ["replay", "0"], ["plot"], ["confirm"]):
        refused(nightlab(*command, cwd=lab), "has no session yet", "nightlab run")
    assert not (lab.folder / ".nightlab").exists()


# -- the lab -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "says"), [("genome.py", "the genome has"), ("measure.py", "frozen files have")])
def test_uncommitted_changes(lab: TinyLab, nightlab: Any, path: str, says: str) -> None:
    lab.write(path, "A = 1\nB = 1\n# my unsaved thought\n")
    before = users_own(lab)
    refused(nightlab("run", cwd=lab), f"{says} uncommitted changes: {path}", "git commit")
    assert nightlab("check", cwd=lab).code == 1
    assert users_own(lab) == before and not (lab.folder / ".nightlab").exists()


def test_a_genome_that_does_not_exist(lab: TinyLab, nightlab: Any) -> None:
    lab.commit(lab_toml=(lab.folder / "lab.toml").read_text().replace("genome.py", "genom.py"))
    refused(nightlab("run", cwd=lab), "the genome genom.py does not exist", "lab.toml: is genome.py meant?")
    lab.git("rm", "-q", "--cached", "genome.py")
    lab.commit(lab_toml=(lab.folder / "lab.toml").read_text().replace("genom.py", "model/*.py"))
    refused(nightlab("run", cwd=lab), "model/*.py does not exist")
    assert "the tuner" not in nightlab("check", cwd=lab).out, "nothing is said of what is not there"


def test_no_contract_and_no_known_layout(lab: TinyLab, nightlab: Any) -> None:
    lab.git("rm", "-q", "lab.toml")
    lab.commit()
    refused(nightlab("run", cwd=lab), "no lab.toml", "nightlab init")


def test_a_contract_that_is_wrong(lab: TinyLab, nightlab: Any) -> None:
    lab.commit(lab_toml='name = "x"\ngenome = ["genome.py"]\ncommand = "c"\n[metric]\nname = "m"\ngoal = "up"\n')
    refused(nightlab("run", cwd=lab), "lab.toml, line 6: metric.goal")
    refused(nightlab("check", cwd=lab), "lab.toml, line 6: metric.goal")
    example = nightlab("init", "--show", cwd=lab)  # to which the hint sends
    assert example.code == 0 and "[metric]" in example.out and 'goal = "up"' not in example.out
    lab.commit(lab_toml="name = \n")
    refused(nightlab("check", cwd=lab), "not valid TOML", "line 1")


def test_python_that_does_not_parse(lab: TinyLab, nightlab: Any) -> None:
    lab.commit(genome_py="A = 1\nB = (\n")
    refused(nightlab("run", cwd=lab), "genome.py, line 2", "fix that line")


def test_a_lab_on_a_network_mount(lab: TinyLab, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = f"/dev/vda / ext4 rw 0 0\nserver:/x {lab.folder.parent} nfs4 rw 0 0\n"
    real = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda self, *a, **k: mounts if str(self) == "/proc/mounts" else real(self, *a, **k)
    )
    assert machine_checks._filesystem(lab.folder) == "nfs4" and machine_checks._filesystem(Path("/etc")) == "ext4"
    with pytest.raises(NightlabError, match=r"network mount \(nfs4\)") as error:
        start_session(lab.folder, None, None)
    assert str(lab.folder) in str(error.value) and "git clone" in error.value.hint
    assert not (lab.folder / ".nightlab").exists()


def test_a_metric_that_never_appears(lab: TinyLab, nightlab: Any) -> None:
    lab.commit(measure_py="print('METRIC los=1')\n")
    refused(
        nightlab("run", cwd=lab),
        "the baseline can't be measured",
        "METRIC loss=…; it printed another name: METRIC los=1",
    )
    refused(nightlab("redteam", cwd=lab), "METRIC los=1", "nightlab check")


def test_an_evaluator_that_fails_names_its_line_and_its_log(lab: TinyLab, nightlab: Any) -> None:
    contract = (lab.folder / "lab.toml").read_text() + '[evaluator]\ncommand = "python score.py"\n'
    lab.commit(lab_toml=contract, score_py="x = 1\nx / 0\n")
    done = nightlab("run", cwd=lab)
    refused(done, "the evaluator failed: score.py, line 2: ZeroDivisionError", "evaluator.log")
    lab.commit(score_py="print('score 7')\n")
    refused(
        nightlab("run", cwd=lab), "the evaluator ended normally but printed no line METRIC", "score 7", "evaluator.log"
    )


def test_a_baseline_that_crashes_and_is_mended(lab: TinyLab, nightlab: Any) -> None:
    lab.commit(genome_py="A = 1\nimport nonsense\n")
    done = nightlab("run", "--tag", "t", cwd=lab)
    refused(done, "the baseline can't be measured", "ModuleNotFoundError: No module named 'nonsense'")
    log = next(word for word in done.err.replace(",", "").split() if word.endswith("candidate.log"))
    assert "nonsense" in Path(log).read_text()
    assert nightlab("show", "0", "--tag", "t", cwd=lab).code == 0, "what happened can be looked at"
    refused(nightlab("run", "--tag", "t", cwd=lab), "session t can't go on", "--tag")
    lab.commit(genome_py=CHANGE)
    again = nightlab("run", "-n", "1", cwd=lab)
    assert again.code == 0 and "a new session" in again.out


def test_a_prepare_command_that_fails(lab: TinyLab, nightlab: Any) -> None:
    contract = (lab.folder / "lab.toml").read_text()
    lab.commit(lab_toml="prepare = \"python -c 'raise SystemExit(5)'\"\n" + contract)
    refused(nightlab("run", cwd=lab), "exit status 5", "by hand")
    lab.commit(lab_toml='prepare = "no-such-program"\n' + contract)
    refused(nightlab("run", cwd=lab), "no-such-program")


# -- sessions ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> TinyLab:
    lab = lab_in(tmp_path_factory.mktemp("finished"))
    lab.idea("01", CHANGE)
    lab.run(experiments=1)[1].close()
    return lab


@pytest.fixture
def ran(finished: TinyLab, tmp_path: Path) -> TinyLab:
    return finished.copied(tmp_path / "lab")


def test_two_champions(ran: TinyLab, nightlab: Any) -> None:
    ran.git("checkout", "-q", "nightlab/t")
    mine = ran.commit(genome_py="A = 1.0\nB = 8\n")
    ran.git("checkout", "-q", "main")
    done = nightlab("run", "--tag", "t", cwd=ran)
    refused(done, "two champions", mine[:7], "git branch -m nightlab/t mine/t")
    assert ran.git("rev-parse", "nightlab/t") == mine, "the user's commit is where it was"
    ran.git("branch", "-m", "nightlab/t", "mine/t")
    assert nightlab("run", "--tag", "t", "-n", "1", cwd=ran).code == 0
    assert ran.git("rev-parse", "mine/t") == mine != ran.git("rev-parse", "nightlab/t")


def test_a_branch_of_that_name_exists(lab: TinyLab, nightlab: Any) -> None:
    lab.git("branch", "nightlab/mine")
    refused(nightlab("run", "--tag", "mine", cwd=lab), "the branch nightlab/mine exists", "--tag")
    assert lab.git("rev-parse", "nightlab/mine") == lab.git("rev-parse", "main")


@pytest.mark.parametrize("tag", ["a b", "../x", "-x", "a..b", "x.lock", "ü~"])
def test_a_name_that_can_not_be_a_tag(lab: TinyLab, nightlab: Any, tag: str) -> None:
    refused(nightlab("run", f"--tag={tag}", cwd=lab), "can't be a tag")
    assert not (lab.folder.parent / "x").exists()


def test_a_tag_whose_lab_has_changed(ran: TinyLab, nightlab: Any) -> None:
    ran.commit(measure_py="print('METRIC loss=0')\n")
    refused(nightlab("run", "--tag", "t", cwd=ran), "measure.py changed since t began", "--tag")
    assert len(ran.table()) == 3
    fresh = nightlab("run", "-n", "1", cwd=ran)
    assert fresh.code == 0 and "measure.py changed" in fresh.out and len(ran.table()) == 3
    assert "to begin with its champion: git merge nightlab/t" in fresh.out
    ran.git("merge", "-q", "-m", "x", "nightlab/t")
    assert "git merge" not in nightlab("run", "-n", "1", cwd=ran).out


def test_a_session_that_runs_already(make_lab: Any, start_nightlab: Any, nightlab: Any) -> None:
    lab = make_lab("A = 1\nB = 1\nimport time; time.sleep(99)\n")
    first = start_nightlab("run", "--tag", "t", cwd=lab)
    wait(lambda: living(lab.folder))
    refused(nightlab("run", "--tag", "t", cwd=lab), "already running", str(first.pid))
    assert nightlab("log", "--tag", "t", cwd=lab).code == 0, "looking is always allowed"
    assert first.poll() is None


def test_an_unknown_tag(ran: TinyLab, nightlab: Any) -> None:
    refused(nightlab("log", "--tag", "x", cwd=ran), "there is no session x", "t")


@pytest.mark.parametrize("damage", ["header", "newer", *map(also, ("pages", "cut short", "empty"))])
def test_a_damaged_ledger(ran: TinyLab, nightlab: Any, damage: str) -> None:
    path = ran.folder / ".nightlab" / "t" / "ledger.db"
    for journal in path.parent.glob("ledger.db-*"):
        journal.unlink()
    sound = path.read_bytes()
    if damage == "newer":
        db = sqlite3.connect(path)
        db.execute("PRAGMA user_version = 99")
        db.close()
    else:
        path.write_bytes(
            {
                "header": b"\0" * 100 + sound[100:],
                "pages": sound[:4096] + b"\xff" * (len(sound) - 4096),
                "cut short": sound[: len(sound) // 2],
                "empty": b"",
            }[damage]
        )
    broken = path.read_bytes()
    for command in (["log"], ["run", "-n", "2"], ["show", "1"]):
        refused(nightlab(*command, "--tag", "t", cwd=ran), "t")
        assert path.read_bytes() == broken or damage in ("empty", "pages"), command
    for journal in path.parent.glob("ledger.db-*"):
        journal.unlink()
    path.write_bytes(sound)
    assert nightlab("run", "--tag", "t", "-n", "1", cwd=ran).code == 0, "with its backup it goes on"


# -- disk and permissions ------------------------------------------------------------------------------


def in_namespace(script: str, *args: str) -> list[str]:
    return ["unshare", "-rm", "sh", "-euc", script, "sh", *args]


@pytest.fixture(scope="module")
def mounts() -> None:
    done = subprocess.run(in_namespace("mount -t tmpfs none /mnt"), capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounts in a namespace of one's own are not permitted here: {done.stderr.strip()}")


READ_ONLY = 'mount --bind "$1" "$1"; mount -o remount,ro,bind "$1"; cd "$1"; shift; exec "$@"'


def test_a_read_only_folder(ran: TinyLab, make_lab: Any, nightlab: Any, mounts: None) -> None:
    fresh = make_lab(name="fresh")
    before = users_own(ran), users_own(fresh)
    refused(nightlab("run", cwd=fresh, before=tuple(in_namespace(READ_ONLY, str(fresh.folder)))), "fresh", "writable")
    refused(nightlab("run", cwd=ran, before=tuple(in_namespace(READ_ONLY, str(ran.folder)))), "lab", "writable")
    target = str(fresh.folder)
    new = nightlab("new", f"{target}/sub", cwd=fresh, before=tuple(in_namespace(READ_ONLY, target)))
    refused(new, "sub")
    assert (users_own(ran), users_own(fresh)) == before


SMALL = 'mount -t tmpfs -o size="$2" none "$1"; cd "$1"; shift 2; exec "$@"'


def test_a_disk_that_is_too_small_to_start(lab: TinyLab, nightlab: Any, tmp_path: Path, mounts: None) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=20m none "$1"; cp -a "$2" "$1/lab"; cd "$1/lab"; shift 2; exec "$@"'
    before = tuple(in_namespace(script, str(disk), str(lab.folder)))
    refused(nightlab("run", cwd=lab, before=before), "of disk are free", "free some disk space")


FILLED = """\
mount -t tmpfs -o size=400m none "$1"; cp -a "$2" "$1/lab"; cd "$1/lab"; program="$3"
"$program" run --tag t -n 1
head -c 1G /dev/zero > ../filler 2>/dev/null || true
code=0; "$program" run --tag t -n 2 2>"$4" || code=$?
rm ../filler; cat "$4" >&2; echo "CODE $code"
"$program" run --tag t -n 2
cat .nightlab/t/results.tsv
"""


@pytest.mark.machine
def test_a_disk_that_fills_between_runs(make_lab: Any, tmp_path: Path, mounts: None) -> None:
    lab, disk = make_lab(), tmp_path / "disk"
    disk.mkdir()
    for n in (1, 2):
        lab.idea(f"{n:02}", f"A = {n}.5\nB = 8\n")
    program = str(Path(sys.executable).parent / "nightlab")
    done = subprocess.run(
        in_namespace(FILLED, str(disk), str(lab.folder), program, str(tmp_path / "said")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "CODE 1" in done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and "free" in done.stderr and "hint:" in done.stderr
    assert [line.split("\t")[5] for line in done.stdout.splitlines() if line.count("\t") > 5] == ["experiment", *"012"]


@pytest.mark.parametrize("kilobytes", [60, *map(also, (20, 100, 140))])
def test_a_disk_that_fills_in_the_middle(make_lab: Any, nightlab: Any, tmp_path: Path, kilobytes: int) -> None:
    lab = make_lab()
    for n in range(1, 4):
        lab.idea(f"{n:02}", f"A = {n}.5\nB = 8\n")
    limited = ("sh", "-c", f'ulimit -f {kilobytes * 2}; exec "$@"', "sh")  # of dash, in blocks of 512 bytes
    before = users_own(lab)
    done = nightlab("run", "--tag", "t", "-n", "3", cwd=lab, before=limited)
    assert done.code in (0, 1)
    if done.code == 1:
        refused(done)
    assert users_own(lab) == before
    if not (lab.folder / ".nightlab" / "t" / "ledger.db").exists():
        return
    known = [e for e in nightlab("log", "--json", "--tag", "t", cwd=lab).json if e["status"]]
    again = nightlab("run", "--tag", "t", "-n", "3", cwd=lab)
    if again.code == 1:
        refused(again, "baseline")  # the limit struck the baseline's own run
        return
    now = nightlab("log", "--json", "--tag", "t", cwd=lab).json
    assert [e["number"] for e in now] == list(range(4)) and now[: len(known)] == known


def test_a_table_that_can_not_be_written(ran: TinyLab, nightlab: Any) -> None:
    path = ran.folder / ".nightlab" / "t" / "results.tsv"
    path.unlink()
    path.mkdir()
    ran.idea("02", "A = 1.5\nB = 8\n")
    refused(nightlab("run", "--tag", "t", "-n", "2", cwd=ran), "results.tsv")
    shutil.rmtree(path)
    assert nightlab("run", "--tag", "t", "-n", "2", cwd=ran).code == 0
    assert len(ran.table()) == 4


def test_a_chart_that_can_not_be_written(ran: TinyLab, nightlab: Any, tmp_path: Path) -> None:
    refused(nightlab("plot", "--out", str(tmp_path / "nowhere" / "p.png"), cwd=ran), "nowhere")
    refused(nightlab("plot", "--out", str(tmp_path / "p.docx"), cwd=ran), "p.docx")
    assert not (tmp_path / "p.docx").exists()


def test_no_home_and_no_terminal(lab: TinyLab, nightlab: Any) -> None:
    assert os.environ.get("HOME")
    done = nightlab("run", "-n", "1", cwd=lab, HOME="/nonexistent", TERM="dumb")
    assert done.code == 0, done.err
