"""Other programs' nights: read as far as they can be, shown as claims, and nothing runs in them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.labs import TinyLab, users_own

from nightlab.analysis import report
from nightlab.core.types import NightlabError
from nightlab.integrations import foreign
from nightlab.integrations.foreign import read_foreign_log
from nightlab.integrations.imports import bring_in
from nightlab.session.create import start_session
from nightlab.session.session import open_session
from nightlab.storage.git import Repo

HEADER = "commit\tval_bpb\tmemory_gb\tstatus\tdescription"
EVIL = "[a](http://e.example/) <script>x</script> $x_{ | \x1b[31mred\x1b[0m \u202e"


def night(seed: int = 1, count: int = 126) -> list[str]:
    """The rows of a night of the public one's shape: mostly discards, a crash, gains that become smaller."""
    luck, best, rows = random.Random(seed), 0.9979, []
    for number in range(count):
        commit = f"{luck.getrandbits(28):07x}"
        if (number and luck.random() < 0.01) or number == 50:
            rows.append(f"{commit}\t0.000000\t0.0\tcrash\tdouble the width (out of memory)")
            continue
        keep = not number or luck.random() < 0.18
        value = best - luck.expovariate(1 / 0.0013) if keep and number else best + luck.expovariate(1 / 0.0011)
        best = min(best, value)
        said = f"change {number} {EVIL}" if number else "baseline"
        rows.append(f"{commit}\t{value:.6f}\t{44 + number / 100:.1f}\t{'keep' if keep else 'discard'}\t{said}")
    return rows


def tsv(rows: list[str], header: str = HEADER) -> bytes:
    return ("\n".join([header, *rows]) + "\n").encode()


def runs(*entries: dict[str, Any], **config: Any) -> bytes:
    first = {"type": "config", "name": "Faster tests", "metricName": "total_ms", "metricUnit": "ms", **config}
    return "\n".join(json.dumps(entry) for entry in [first, *entries]).encode()


def run(number: int, metric: Any, status: str = "keep", **more: Any) -> dict[str, Any]:
    return {"run": number, "commit": f"abc{number:04d}", "metric": metric, "metrics": {}, "status": status,
            "description": f"run {number}", "timestamp": 1_773_444_368_000 + number, "segment": 0, **more}  # fmt: skip


# -- reading -------------------------------------------------------------------------------------------


def test_a_whole_night_is_read() -> None:
    log = read_foreign_log(tsv(night()), "results.tsv")
    assert len(log.claims) == 126 and not log.faults
    assert (log.by, log.metric, log.goal) == ("autoresearch", "val_bpb", "minimise")
    assert log.claims[50].status == "crash" and log.claims[50].value is None
    assert log.claims[0].memory_mb == 44 * 1024 and log.claims[0].line == 2
    assert all("\x1b" not in claim.description and "\u202e" not in claim.description for claim in log.claims)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("garbage", "line 3: its status '' is none of keep"),
        ("abc1234\tnan\t1.0\tkeep\tx", "line 3: its val_bpb 'nan' is no number"),
        ("abc1234\t1e999\t1.0\tkeep\tx", "no number"),
        ("abc1234\t0.9\tmuch\tkeep\tx", "line 3: its memory_gb 'much' is no number"),
        ("abc1234\t0.9\t1.0\tkept\tx", "line 3: its status 'kept' is none of"),
        ("abc1234\t0.9\t1.0\t\x1b[31m\tx", "line 3: its status '' is none of"),
    ],
)
def test_a_bad_row_is_named_and_the_rest_is_read(row: str, why: str) -> None:
    rows = night(count=5)
    log = read_foreign_log(tsv([rows[0], row, *rows[1:]]), "results.tsv")
    assert len(log.claims) == 5 and len(log.faults) == 1 and why in log.faults[0]


def test_other_columns_and_directions() -> None:
    log = read_foreign_log(
        b"commit\tval_rmse\tstatus\tdescription\r\na\t343.9\tkeep\tbaseline\r\nb\t285\tkeep\ta\ttab\r\n", "x"
    )
    assert (log.metric, log.claims[1].description, log.claims[1].memory_mb) == ("val_rmse", "a tab", None)
    up = tsv(["a\t1.0\t\tkeep\tx", "b\t2.0\t\tkeep\ty"], HEADER.replace("val_bpb", "accuracy (%)"))
    assert read_foreign_log(up, "x").goal == "maximise" and read_foreign_log(up, "x").metric == "accuracy_"
    assert read_foreign_log(up, "x", "minimise").goal == "minimise"


def test_only_the_last_segment_of_a_log_is_read() -> None:
    raw = runs(run(1, 9.0), run(2, 8.0)) + b"\n" + runs(
        run(3, 100, asi={"x": 1}, metrics={"compile µs": 4, "bad": "x"}), run(4, 90, "checks_failed"),
        {"type": "hook", "stage": "before", "exit_code": 0}, run(5, 0, "crash"), run(6, 120), bestDirection="higher",
    )  # fmt: skip
    log = read_foreign_log(raw, "log.jsonl")
    assert [claim.value for claim in log.claims] == [100, None, None, 120]
    assert (log.metric, log.unit, log.goal, log.name) == ("total_ms", "ms", "maximise", "Faster tests")
    assert log.claims[1].detail == "checks failed" and log.claims[0].others == {"compile_µs": 4.0}
    assert log.claims[0].at == pytest.approx(1_773_444_368.003) and "2 runs of earlier segments" in log.left_out


def test_bad_lines_of_a_log_are_named() -> None:
    raw = runs(run(1, 9.0)) + b'\n{"run": 2, "status"\n[1]\n' + json.dumps(run(3, True and "x")).encode() + b"\n\xff\n"
    log = read_foreign_log(raw, "log.jsonl")
    assert len(log.claims) == 1
    assert [fault.split(":")[0] for fault in log.faults] == ["line 3", "line 4", "line 5", "line 6"]
    assert "no JSON" in log.faults[0] and "no object" in log.faults[1] and "'x' is no number" in log.faults[2]


@pytest.mark.parametrize("raw", [b"", b"\n\n", b"a,b\n1,2", b"{}", b'{"type": "hook"}', HEADER.encode(), b"\x00" * 99])
def test_what_is_no_log_is_refused(raw: bytes) -> None:
    with pytest.raises(NightlabError) as refusal:
        read_foreign_log(raw, "some.file")
    assert "some.file" in str(refusal.value) and refusal.value.hint


def test_a_huge_file_is_refused(monkeypatch: Any) -> None:
    monkeypatch.setattr(foreign, "MOST_BYTES", 1000)
    with pytest.raises(NightlabError, match="1,001 bytes; the limit is 1,000"):
        read_foreign_log(b" " * 1001, "x")


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda t: (HEADER + "\n" + t).encode("utf-8", "replace")))
def test_no_file_breaks_the_reader(raw: bytes) -> None:
    try:
        log = read_foreign_log(raw, "x")
    except NightlabError:
        return
    assert log.claims


@settings(max_examples=40)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
        max_leaves=9,
    )
)
def test_no_value_in_a_log_breaks_the_reader(value: Any) -> None:
    for key in ("run", "commit", "metric", "metrics", "status", "description", "timestamp"):
        log = read_foreign_log(runs(run(1, 2.0), {**run(2, 1.0), key: value}), "x")
        assert 1 <= len(log.claims) <= 2
    for key in ("name", "metricName", "metricUnit", "bestDirection"):
        assert len(read_foreign_log(runs(run(1, 2.0), **{key: value}), "x").claims) == 1


# -- as a session --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def imported(tmp_path_factory: Any) -> Path:
    file = tmp_path_factory.mktemp("import") / "results.tsv"
    file.write_bytes(tsv(night()))
    return bring_in(file, None, None, None, None, file.parent / "night")[0]


def test_it_can_be_looked_at(imported: Path, nightlab: Any) -> None:
    log = nightlab("log", "--all", cwd=imported).out.splitlines()
    assert len(log) == 127 and "keep (reported)" in log[1] and "crash (reported)" in log[51]
    shown = nightlab("show", "3", cwd=imported).out
    assert "not measured by nightlab" in shown and "1970" not in shown and "by autoresearch, line 5" in shown
    assert nightlab("plot", cwd=imported).code == nightlab("plot", "effects", cwd=imported).code == 0
    assert len(nightlab("export", "jsonl", cwd=imported).out.splitlines()) == 126
    refused = nightlab("diff", "3", cwd=imported)
    assert refused.code == 1 and "is not in this repository" in refused.err and "--repo" in refused.err


@pytest.mark.integration
def test_nothing_in_it_looks_measured_or_confirmed(imported: Path) -> None:
    session = open_session(imported)
    assert {e.level for e in session.ledger.experiments()} == {"", "reported"}
    assert not any(e.evidence or e.bar for e in session.ledger.experiments())
    text = report.write_report(session)[0].read_text()
    assert "**Reported, not measured.**" in text and "nightlab has run none of it" in text
    for word in ("confirmed", "evidence:", "sealed", "*measured*", "training"):
        assert word not in text, word
    for kind in ("progress", "worth", "effects", "duty"):
        figure = report.draw(session, kind)  # type: ignore[arg-type]
        assert "not measured by nightlab: results.tsv" in figure.axes[0].get_title()
    crashed = sum(e.verdict.status == "crash" for e in session.ledger.experiments() if e.verdict)
    kept = sum(e.kept for e in session.ledger.experiments()) - 1
    assert f"125 experiments: {kept} kept, {125 - kept - crashed} discarded, {crashed} failed" in text
    assert "<script>" not in text.replace("\\<script\\>", "") and "\x1b" not in text


@pytest.mark.parametrize(
    "command",
    [["run", "--tag", "imported"], ["confirm"], ["transfer", "--scale", "2"], ["replay", "1"], ["pause"], ["skip", "1"],
     ["note", "x"], ["try", "--tag", "imported"], ["pin", "1"], ["report", "--session-branch"]],
)  # fmt: skip
def test_what_needs_a_lab_is_refused(command: list[str], imported: Path, nightlab: Any) -> None:
    done = nightlab(*command, cwd=imported)
    assert done.code == 1 and ("imported" in done.err or "no layout" in done.err), done.err
    assert "hint:" in done.err


def test_a_night_of_a_repository(make_lab: Any, tmp_path: Path) -> None:
    lab: TinyLab = make_lab()
    lab.git("checkout", "-q", "-b", "autoresearch/mar8")
    base = lab.git("rev-parse", "HEAD")
    better = lab.commit(genome_py="A = 2.0\nB = 8\n")
    worse = lab.commit(genome_py="A = 9.0\nB = 8\n")
    lab.git("reset", "-q", "--hard", better)
    lab.git("checkout", "-q", "main")
    before, file = users_own(lab), tmp_path / "results.tsv"
    rows = [
        f"{base[:7]}\t11.5\t1\tkeep\tbaseline",
        f"{better[:7]}\t3.5\t1\tkeep\tA",
        f"{worse[:7]}\t66\t1\tdiscard\tno",
    ]
    file.write_bytes(tsv([*rows, "--help\t3\t1\tdiscard\tan option", "HEAD\t3\t1\tdiscard\ta name"]))
    home, tag, _ = bring_in(file, lab.folder, "autoresearch/mar8", None, None, None)
    assert (home, tag) == (lab.folder, "mar8") and users_own(lab) == before
    session = open_session(lab.folder, "mar8")
    commits = [e.candidate.commit for e in session.ledger.experiments()]
    assert commits == [base, better, worse, "--help", "HEAD"]
    assert session.ledger.experiment(2).candidate.parent == better and session.lab.genome == ("genome.py",)
    assert "+A = 9.0" in session.repo.diff(better, worse)
    assert session.ledger.experiment(1).proposed_at > 1e9, "when its commit was made"
    assert Repo(lab.folder).resolve("refs/nightlab/mar8/000002") == worse, "git would forget it"
    session.close()
    mine, said = start_session(lab.folder, None, None, ["all"])
    assert mine.tag != "mar8" and not said, "a new session begins beside it"
    mine.close()


@pytest.mark.integration
def test_times_of_a_log_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_bytes(runs(run(1, 9.0), run(2, 8.0, timestamp=1_773_444_369), run(3, 7.0, timestamp="what"), run(4, 6)))
    home, _, _ = bring_in(file, None, None, "pi", None, tmp_path / "night")
    times = [e.proposed_at for e in open_session(home, "pi").ledger.experiments()]
    assert times == sorted(times) and times[0] == pytest.approx(1_773_444_368.001, abs=1e-3)
    assert times[-1] == pytest.approx(1_773_444_369, abs=1)


def test_the_command_says_what_it_left_out(tmp_path: Path, nightlab: Any) -> None:
    (tmp_path / "results.tsv").write_bytes(tsv([*night(count=3), *["bad"] * 12]))
    done = nightlab("import", "results.tsv", cwd=tmp_path)
    assert done.code == 0 and "imported 3 experiments of autoresearch as session imported: val_bpb" in done.out
    assert "line 5: its status" in done.out and "and 2 more" in done.out
    assert "nightlab log -C imported" in done.out
    assert "126" not in nightlab("log", "-C", "imported", cwd=tmp_path).err
    again = nightlab("import", "results.tsv", "imported", cwd=tmp_path)
    assert again.code == 1 and "exists already" in again.err
    assert nightlab("import", "results.tsv", cwd=tmp_path).out.count("imported-2")
    assert nightlab("import", "none.tsv", cwd=tmp_path).code == 1
    assert nightlab("import", "results.tsv", "--branch", "x", cwd=tmp_path).code == 2
    assert "no branch" in nightlab("import", "results.tsv", "--repo", "imported", "--branch", "x", cwd=tmp_path).err
