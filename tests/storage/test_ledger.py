"""The ledger: its tables are a fold of its events, it opens safely, and looking at it is quick."""

from __future__ import annotations

import itertools
import json
import random
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightlab.core.events import ProposalRefused, Rechecked, SessionStarted
from nightlab.core.types import Budget, Candidate, Measurement, Metric, NightlabError, Trial, Verdict
from nightlab.storage.ledger import Ledger, find_session, make_state_folder, repair_results, tags, write_results
from nightlab.storage.ledger.tables import TABLES, rebuild
from nightlab.storage.ledger.used_sources import HAD

BUDGET = Budget("wall", 5)


def candidate(number: int, **more: Any) -> Candidate:
    facts = {"commit": f"c{number:039d}", "parent": "p" * 40, "tree": f"t{number}", "proposer": "tuner"}
    return Candidate(**{**facts, "hypothesis": f"idea {number}", **more})


def trial(number: int, attempt: int = 1) -> Trial:
    return Trial(f"{number:04d}-search-s1-{attempt}", number, f"c{number}", 1, "search", BUDGET, attempt)


def tables(path: Path) -> dict[str, list[Any]]:
    with sqlite3.connect(path) as db:
        return {t: db.execute(f"SELECT * FROM {t} ORDER BY 1").fetchall() for t in TABLES}


# -- a fold of its events ------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.sampled_from(["propose", "start", "finish", "judge", "note"]),
        st.integers(0, 5),
        st.sampled_from(["keep", "discard", "crash"]),
        st.none() | st.floats(-1e6, 1e6),
        st.text(max_size=20),
    ),
    max_size=25,
)


def play(ledger: Ledger, moves: list[tuple[str, int, Any, float | None, str]]) -> int | None:
    """Do what the moves say as far as it makes sense; returns which experiment was kept last."""
    proposed, open_trials, attempts, kept = 0, [], itertools.count(1), None
    for what, which, status, value, words in moves:
        outcome = "measured" if value is not None else "crashed"
        measurement = Measurement(outcome, value, {"mem": 1.0}, detail=words, claims={"loss": 2.5})
        if what == "propose":
            ledger.propose(candidate(proposed, hypothesis=words, constants={"A": value, "B": [1, words]}))
            proposed += 1
        elif what == "note":
            ledger.append(ProposalRefused(reason=words, source="x"))
        elif what == "start" and proposed:
            open_trials.append(trial(which % proposed, next(attempts)))
            ledger.start(open_trials[-1])
        elif what == "finish" and open_trials:
            ledger.finish(open_trials.pop(), measurement)
        elif what == "judge" and proposed:
            ledger.judge(which % proposed, measurement, Verdict(status, "improved", words))
            kept = which % proposed if status == "keep" else None if kept == which % proposed else kept
    return kept


def test_rebuilt_from_its_events_it_is_the_same(tmp_path: Path) -> None:
    numbers = itertools.count()

    @given(steps)
    def check(moves: list[Any]) -> None:
        path = tmp_path / f"{next(numbers)}.db"
        ledger = Ledger(path)
        ledger._db.execute("PRAGMA synchronous = OFF")
        play(ledger, moves)
        before, champion, rows = tables(path), ledger.champion(), ledger.experiments()
        rebuild(ledger._db)
        assert tables(path) == before
        assert (ledger.champion(), ledger.experiments()) == (champion, rows)
        assert [e.number for e in rows] == list(range(len(rows)))
        ledger.close()

    check()


def test_the_champion_is_the_last_kept_even_if_the_clock_steps_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path / "l.db")
    clock = iter([100.0, 101.0, 200.0, 150.0])
    monkeypatch.setattr(time, "time", lambda: next(clock))
    for n in range(2):
        ledger.propose(candidate(n))
    ledger.judge(1, Measurement("measured", 2.0), Verdict("keep", "improved"))
    ledger.judge(0, Measurement("measured", 1.0), Verdict("keep", "improved"))
    champion = ledger.champion()
    assert champion and champion.number == 0


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.db")
    ledger.append(SessionStarted("t", lab={"name": "x"}))
    one = candidate(0, constants={"A": 0.1, "S": "SL"}, changes=("A 1 → 0.1",), source="01.patch", lines=9)
    measured = Measurement("measured", 1.5, {"mem": 2.0}, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, "fine", {"loss": 0.1})
    assert ledger.propose(one) == 0
    ledger.start(trial(0))
    assert ledger.open_trials() == [trial(0)]
    assert [e.number for e in ledger.unjudged()] == [0]
    ledger.finish(trial(0), measured)
    ledger.judge(0, measured, Verdict("keep", "baseline"))
    for name in ("codex", "pi", "codex"):
        ledger.append(ProposalRefused(name, reason="it edited nothing"))
    ledger.close()

    reader = Ledger(tmp_path / "l.db", read_only=True)
    found = reader.experiment(0)
    assert (found.candidate, found.measurement, found.verdict) == (one, measured, Verdict("keep", "baseline"))
    assert reader.trials(0) == [(trial(0), measured)]
    assert reader.open_trials() == [] and reader.unjudged() == []
    assert reader.champion() == found and reader.find_tree("t0") == found and reader.find_tree("t1") is None
    assert reader.session() == SessionStarted("t", lab={"name": "x"})
    assert reader.proposals_by() == {"tuner": 1} and reader.refusals_by() == {"codex": 2, "pi": 1}
    with pytest.raises(NightlabError, match="no experiment 7: this session has 0 to 0"):
        reader.experiment(7)


def test_event_and_effect_are_both_there_or_both_absent(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.db")
    ledger.propose(candidate(0))
    ledger.start(trial(0))
    with pytest.raises(sqlite3.IntegrityError):
        ledger.start(trial(0))  # the same trial twice: the effect fails, so the event must not stay
    rebuild(ledger._db)
    assert len(ledger.trials()) == 1


# -- opening -------------------------------------------------------------------------------------------


def test_a_reader_writes_nothing_and_sees_a_writer_at_work(tmp_path: Path) -> None:
    writer = Ledger(tmp_path / "l.db")
    reader = Ledger(tmp_path / "l.db", read_only=True)
    writer.propose(candidate(0))
    assert len(reader.experiments()) == 1
    with pytest.raises(NightlabError, match="can't be written") as error:
        reader.propose(candidate(1))
    assert error.value.hint
    with pytest.raises(NightlabError, match="there is no ledger"):
        Ledger(tmp_path / "none.db", read_only=True)
    assert not (tmp_path / "none.db").exists()


OLD = """
DROP TABLE proposers; DROP TABLE trials; DROP INDEX experiments_source; DROP INDEX experiments_metric;
CREATE TABLE trials (id TEXT PRIMARY KEY, experiment INTEGER, purpose TEXT, trial TEXT, measurement TEXT);
CREATE INDEX trials_experiment ON trials (experiment);
CREATE INDEX trials_open ON trials (id) WHERE measurement IS NULL;
PRAGMA user_version = 2;
"""


def test_the_tables_of_an_older_format_are_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    ledger = a_short_session(path, 3)
    ledger.start(trial(1))
    ledger.finish(trial(1), Measurement("measured", 1.0))
    ledger.close()
    before = tables(path)
    db = sqlite3.connect(path)
    db.executescript(OLD)
    db.close()
    now = Ledger(path)
    assert tables(path) == before and len(before["trials"]) == 1
    assert now.proposals_by() == {"tuner": 3} and "" not in now.sources() and now.attempts(1, "search", 1) == 1


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    Ledger(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    for read_only in (True, False):
        with pytest.raises(NightlabError, match=r"newer nightlab \(format 99") as error:
            Ledger(path, read_only=read_only)
        assert "upgrade" in error.value.hint
    assert path.read_bytes() == before


def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    path.write_bytes(b"this is no database, whatever its name says " * 200)
    before = path.read_bytes()
    for read_only in (True, False):
        with pytest.raises(NightlabError, match="can't be opened") as error:
            Ledger(path, read_only=read_only)
        assert str(path) in str(error.value) and "backup" in error.value.hint
    assert path.read_bytes() == before


def test_looking_at_an_old_session_does_not_make_it_the_latest(tmp_path: Path) -> None:
    home = make_state_folder(tmp_path)
    for tag in ("old", "new"):
        (home / tag).mkdir()
        ledger = Ledger(home / tag / "ledger.db")
        ledger.append(SessionStarted(tag))
        ledger.close()
        time.sleep(0.02)
    assert tags(tmp_path) == ["new", "old"]
    reader = Ledger(home / "old" / "ledger.db", read_only=True)
    reader.experiments()
    assert find_session(tmp_path, None) == "new"
    reader.close()
    assert find_session(tmp_path, None) == "new"


# -- the table -----------------------------------------------------------------------------------------


def test_the_table_has_the_originals_columns_first_and_one_line_per_row(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.db")
    ledger.propose(candidate(0, hypothesis="baseline"))
    ledger.judge(0, Measurement("measured", 0.9979, peak_memory_mb=2048), Verdict("keep", "baseline"))
    ledger.propose(candidate(1, hypothesis="a\ttab and\na line", changes=("A 1 → 2", "B 3 → 4")))
    ledger.judge(1, Measurement("crashed", claims={"peak_vram_mb": 1024.0}), Verdict("crash", "crashed"))
    seen = Measurement("measured", 1.0, peak_gpu_memory_mb=3072, claims={"peak_vram_mb": 1.0}, peak_memory_mb=512)
    ledger.propose(candidate(2, hypothesis="it claims less than was seen"))
    ledger.judge(2, seen, Verdict("discard", "regressed"))
    ledger.propose(candidate(3))  # not judged yet
    path = tmp_path / "results.tsv"
    write_results(path, Metric("val_bpb"), ledger)
    header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    assert header[:5] == ["commit", "val_bpb", "memory_gb", "status", "description"]
    assert [r[:5] for r in rows] == [
        ["c000000", "0.997900", "2.0", "keep", "baseline"],
        ["c000000", "0.000000", "1.0", "crash", "a tab and a line"],
        ["c000000", "1.000000", "3.0", "discard", "it claims less than was seen"],
    ]
    assert rows[1][-1] == "A 1 → 2; B 3 → 4"
    assert {len(r) for r in rows} == {len(header)}
    assert list(tmp_path.glob("*.tmp")) == []


def a_short_session(path: Path, judged: int) -> Ledger:
    ledger = Ledger(path)
    for n in range(judged):
        ledger.propose(candidate(n))
        ledger.judge(n, Measurement("measured", 1.0 - n), Verdict("keep", "improved", bar=1.0 - n))
    return ledger


@pytest.mark.parametrize("judged", range(4))
def test_a_table_that_a_kill_left_is_completed_and_a_whole_one_left_alone(tmp_path: Path, judged: int) -> None:
    ledger, path, metric = a_short_session(tmp_path / "l.db", judged), tmp_path / "results.tsv", Metric("loss")
    repair_results(path, metric, ledger)
    whole = path.read_text()
    assert len(whole.splitlines()) == judged + 1
    before = path.stat()
    repair_results(path, metric, ledger)
    assert path.stat().st_mtime_ns == before.st_mtime_ns and path.stat().st_ino == before.st_ino
    for cut in range(len(whole)):  # wherever the write was torn
        path.write_text(whole[:cut])
        repair_results(path, metric, ledger)
        assert path.read_text() == whole
    path.write_text("another table\n")
    repair_results(path, metric, ledger)
    assert path.read_text() == whole


# -- a bounded history ---------------------------------------------------------------------------------


def test_an_outline_has_the_baseline_the_best_and_the_last(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.db")
    ledger._db.execute("PRAGMA synchronous = OFF")
    metrics = [5.0, 9.0, 1.0, 7.0, None, 8.0, 2.0, 6.0, 4.0]
    for n, value in enumerate(metrics):
        ledger.propose(candidate(n))
        outcome, status = ("measured", "discard") if value is not None else ("crashed", "crash")
        ledger.judge(n, Measurement(outcome, value), Verdict(status, "regressed"))
    ledger.propose(candidate(9))  # it runs
    assert [e.number for e in ledger.outline("minimise", best=2, last=2)] == [0, 2, 6, 8, 9]
    assert [e.number for e in ledger.outline("maximise", best=2, last=2)] == [0, 1, 5, 8, 9]
    assert ledger.outline("minimise", best=99, last=99) == ledger.experiments()
    assert ledger.tally() == {"discard": 8, "crash": 1, None: 1}
    assert [e.number for e in ledger.judged(last=3)] == [6, 7, 8] and len(list(ledger.judged())) == 9


def test_repeats_come_with_the_first_run_of_each_genome(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.db")
    runs = [(0, "a", "search"), (1, "b", "search"), (2, "c", "search"), (0, "a", "replay"), (1, "b", "search")]
    runs += [(3, "d", "search"), (2, "c", "confirm"), (1, "b", "upkeep")]
    for n, (number, commit, purpose) in enumerate(runs, 1):
        ledger.start(Trial(f"t{n}", number, commit, n, purpose, BUDGET))
        ledger.finish(Trial(f"t{n}", number, commit, n, purpose, BUDGET), Measurement("measured", float(n)))
    assert [place for place, _, _ in ledger.repeats(2)] == [1, 2, 3, 7, 8], "the fifth is a repeat too many"
    assert [(place, t.seed, m.metric) for place, t, m in ledger.repeats(9)] == [
        (n, n, float(n)) for n in (1, 2, 3, 5, 7, 8)
    ]
    tells = [ledger.tells_noise(t.id) for t, _ in ledger.trials()]
    assert tells == [True, False, False, True, True, False, True, True], "of the baseline's, and of repeats"
    assert [t.seed for t, _ in ledger.trials(1, last=2)] == [5, 8] and ledger.attempts(1, "search", 5) == 1


def test_a_candidate_of_which_a_newer_nightlab_says_more_is_read(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.db")
    ledger.propose(candidate(0))
    ledger._db.execute("UPDATE experiments SET candidate = json_set(candidate, '$.mood', 'good')")
    assert ledger.experiment(0).candidate == candidate(0)


def test_a_thread_learns_which_entries_had_their_turn(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.db")
    sources, asked = ledger.sources(), ("1.patch", "2.patch", "3+4", "", "\udcff.patch")
    ledger.propose(candidate(0))
    with ThreadPoolExecutor(1) as thread:
        had = lambda: [name for name in asked if thread.submit(sources.__contains__, name).result()]  # noqa: E731
        assert had() == []
        ledger.propose(candidate(1, source="1.patch"))
        ledger.append(ProposalRefused(source="2.patch", reason="it conflicts"))
        ledger.append(ProposalRefused(reason="no queue"))
        assert had() == ["1.patch", "2.patch"]
        sources.add("3+4")
        assert had() == ["1.patch", "2.patch", "3+4"] and "3+4" in ledger.sources()
    ledger.close()
    assert list(tmp_path.glob("l.db*")) == [tmp_path / "l.db"], "a backup takes the one file"


def test_nothing_that_the_loop_asks_is_answered_by_reading_a_whole_table(tmp_path: Path) -> None:
    ledger = a_session(tmp_path, 30)
    asked: list[str] = []
    ledger._db.set_trace_callback(asked.append)
    ledger.events(Rechecked, last=1), ledger.next_number(), ledger.last_event_at(), ledger.experiment(3)
    ledger.champion(), ledger.unjudged(), ledger.find_tree("t3"), ledger.by_commit("c"), ledger.open_trials()
    ledger.trials(3, "search", last=9), ledger.attempts(3, "search", 1), ledger.trials_before("x"), ledger.repeats(9)
    ledger.tells_noise(trial(3).id), ledger.outline("minimise", 5, 5), list(ledger.judged(last=2)), ledger.kept()
    ledger._db.set_trace_callback(None)
    assert len(asked) == 17
    for query in [*asked, HAD.replace("?1", "'a.patch'")]:
        plan = [row[3] for row in ledger._db.execute(f"EXPLAIN QUERY PLAN {query}")]
        whole = [step for step in plan if step in ("SCAN events", "SCAN experiments", "SCAN trials")]
        assert not whole or (" LIMIT " in query and not any("ORDER BY" in step for step in plan)), (query, plan)


# -- quick to look at ----------------------------------------------------------------------------------


def a_session(lab: Path, experiments: int) -> Ledger:
    """A session as its events alone, from which its tables are made."""
    folder = make_state_folder(lab) / "long"
    folder.mkdir()
    ledger = Ledger(folder / "ledger.db")
    draw, best = random.Random(1), 1.0
    constants = {f"CONSTANT_{n}": n * 0.1 for n in range(20)}
    events: list[tuple[str, dict[str, Any]]] = [("session", {"lab": {"metric": {"name": "loss"}}})]
    for n in range(experiments):
        value = draw.gauss(1.0, 0.1)
        kept = n == 0 or value < best
        best = value if kept else best
        one = asdict(candidate(n, constants=constants, changes=("CONSTANT_1 0.1 → 0.2",)))
        measured = asdict(Measurement("measured", value, claims={"loss": value}))
        verdict = asdict(Verdict("keep" if kept else "discard", "improved" if kept else "regressed"))
        events += [
            ("proposed", {"number": n, "candidate": one}),
            ("started", asdict(trial(n))),
            ("finished", {"id": trial(n).id, "measurement": measured}),
            ("judged", {"number": n, "measurement": measured, "verdict": verdict}),
        ]
    with ledger.at_once():
        rows = [(1e9 + at, kind, json.dumps(data)) for at, (kind, data) in enumerate(events)]
        ledger._db.executemany("INSERT INTO events (at, kind, data) VALUES (?, ?, ?)", rows)
    rebuild(ledger._db)
    return ledger


def seconds(*command: str) -> float:
    def once() -> float:
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - begun

    return min(once() for _ in range(3))


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.machine)])
def test_the_log_of_many_experiments(tmp_path: Path, nightlab: Any, capsys: Any, count: int) -> None:
    ledger = a_session(tmp_path, count)
    ledger.close()
    done = nightlab("log", cwd=tmp_path)
    assert done.code == 0
    assert str(count - 1) in done.out and f"{count - 30} earlier ones" in done.out
    assert len(nightlab("log", "--json", cwd=tmp_path).json) == count
    assert len(nightlab("log", "--all", cwd=tmp_path).out.splitlines()) > count

    bare = seconds(sys.executable, "-c", "pass")
    program = str(Path(sys.executable).parent / "nightlab")
    shown, helped = seconds(program, "log", "-C", str(tmp_path)), seconds(program, "--help")
    with capsys.disabled():
        print(f"\n  bare python {bare:.3f} s, nightlab --help {helped:.3f} s, log of {count:,} {shown:.3f} s")


CORE = (
    "cli.main core.config core.observer core.types judge loop.loop proposers session.create session.session "
    "storage.ledger storage.git engines.local.engine engines.local.supervisor ui.terminal.log"
)


def imported(code: str) -> set[str]:
    shown = f"{code}\nimport sys; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", shown], check=True, capture_output=True, text=True).stdout
    return {name.split(".")[0] for name in out.splitlines()[-1].split()}


@pytest.mark.integration
def test_the_core_imports_no_torch() -> None:
    loaded = imported("\n".join(f"import nightlab.{name}" for name in CORE.split()))
    assert "pydantic" in loaded  # it did import something
    assert not loaded & {"torch", "pyarrow", "tokenizers"}


HEAVY = {"torch", "optuna", "rich", "scipy", "numpy", "matplotlib", "psutil"}


@pytest.mark.parametrize("command", ["--help", "run --help", "log --help"])
@pytest.mark.integration
def test_help_imports_nothing_heavy(command: str) -> None:
    argv = ["nightlab", *command.split()]
    loaded = imported(
        f"import sys; sys.argv = {argv}\nfrom nightlab.cli.main import app\ntry: app()\nexcept SystemExit: pass"
    )
    assert "typer" in loaded
    assert not loaded & HEAVY
    if command == "--help":  # for a command's own help typer itself takes pydantic in
        assert "pydantic" not in loaded


@pytest.mark.integration
def test_a_trial_s_supervisor_imports_nothing_heavy() -> None:
    loaded = imported("import nightlab.engines.local.supervisor")
    assert "psutil" in loaded
    assert not loaded & (HEAVY - {"psutil"} | {"pydantic", "sqlite3", "statistics"})


@pytest.mark.integration
def test_the_log_imports_nothing_heavy(tmp_path: Path) -> None:
    a_session(tmp_path, 5).close()
    loaded = imported(
        f"import sys; sys.argv = ['nightlab', 'log', '-C', {str(tmp_path)!r}]\n"
        "from nightlab.cli.main import app\ntry: app()\nexcept SystemExit: pass"
    )
    assert "sqlite3" in loaded
    assert not loaded & (HEAVY - {"rich"})


def test_a_candidate_of_before_its_usage_was_recorded_can_be_read(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.propose(candidate(0, usage={"model": "m", "input_tokens": 7}))
    ledger.propose(candidate(1))
    ledger._db.execute("UPDATE experiments SET candidate = json_remove(candidate, '$.usage') WHERE number = 1")
    assert [e.candidate.usage for e in ledger.experiments()] == [{"model": "m", "input_tokens": 7}, {}]
