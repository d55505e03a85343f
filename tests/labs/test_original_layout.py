"""A folder in the original's layout runs as it is: nothing configured, its table's columns first."""

from __future__ import annotations

from support.labs import TinyLab

PREPARE = """\
import sys
MAX_SEQ_LEN = 2048
TIME_BUDGET = 30  # training time budget in seconds
def evaluate_bpb(depth, rate):
    return 0.99 + 0.002 * abs(depth - 6) + 2.0 * abs(rate - 0.03)
if __name__ == "__main__":
    print("data is ready", file=sys.stderr)
"""

TRAIN = """\
from prepare import TIME_BUDGET, evaluate_bpb

# Hyperparameters (edit these directly, no CLI flags needed)
DEPTH = 8                # number of transformer layers
MATRIX_LR = 0.04         # learning rate for matrix parameters
WINDOW_PATTERN = "SSSL"

print("step 00953 (100.0%) | loss: 2.1", end="\\r")
val_bpb = evaluate_bpb(DEPTH, MATRIX_LR)
print("---")
print(f"val_bpb:          {val_bpb:.6f}")
print(f"training_seconds: {TIME_BUDGET:.1f}")
print(f"total_seconds:    {TIME_BUDGET + 25.9:.1f}")
print("peak_vram_mb:     45060.2")
print("mfu_percent:      39.80")
print("num_params_M:     50.3")
print(f"depth:            {DEPTH}")
"""


def original(folder: TinyLab) -> TinyLab:
    for name in ("lab.toml", "genome.py", "measure.py"):
        (folder.folder / name).unlink()
    folder.write("prepare.py", PREPARE)
    folder.write("train.py", TRAIN)
    folder.write("program.md", "# the strategy\n")
    folder.commit()
    return folder


def test_it_runs_without_any_configuration_and_tuning_it_helps(make_lab, nightlab) -> None:
    lab = original(make_lab())
    done = nightlab("run", "-n", "8", "--tag", "first", "--allow-missing", "all", cwd=lab)
    assert done.code == 0, done.err

    header, *rows = lab.table("first")
    assert header[:5] == ["commit", "val_bpb", "memory_gb", "status", "description"]
    assert len(rows) == 9
    commit, val_bpb, memory, status, description = rows[0][:5]
    assert lab.git("rev-parse", "HEAD").startswith(commit)
    assert (val_bpb, memory, status, description) == ("1.014000", "44.0", "keep", "baseline")
    assert all(row[3] in ("keep", "discard", "crash") for row in rows)
    assert all(f == "train.py" for f in lab.git("diff", "--name-only", "main", "nightlab/first").splitlines())
    values = [e["metric"] for e in nightlab("log", "--json", "--kept", cwd=lab).json]
    assert len(values) > 1
    assert values == sorted(values, reverse=True)


def test_what_is_inferred_can_be_read_and_kept(make_lab, nightlab) -> None:
    lab = original(make_lab())
    shown = nightlab("init", "--show", cwd=lab)
    assert shown.code == 0 and 'genome = ["train.py"]' in shown.out and not (lab.folder / "lab.toml").exists()
    assert "amount = 60" in shown.out

    assert nightlab("init", cwd=lab).code == 0
    assert (lab.folder / "lab.toml").read_text() == shown.out
    again = nightlab("init", cwd=lab)
    assert again.code == 1 and "lab.toml exists already" in again.err

    uncommitted = nightlab("run", "-n", "1", cwd=lab)
    assert (
        uncommitted.code == 1
        and "lab.toml is not committed" in uncommitted.err
        and "git add lab.toml" in uncommitted.err
    )
    lab.commit()
    checked = nightlab("check", "--json", "--allow-missing", "all", cwd=lab)
    assert checked.code == 0 and checked.json["ok"] and "lab.toml" in checked.json["source"]
