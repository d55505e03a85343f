"""A session in an ASCII locale: nightlab's own text files are UTF-8 wherever it runs."""

from __future__ import annotations

from typing import Any

ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
CHANGE = """\
Hypothesis: schneller → größer
diff --git a/genome.py b/genome.py
--- a/genome.py
+++ b/genome.py
@@ -1,2 +1,2 @@
-A = 4.0  # [0.25..8 log]
+A = 2.0  # [0.25..8 log]
 B = 8  # [1..16]
"""


def test_a_session_runs_resumes_and_is_looked_at(make_lab: Any, nightlab: Any) -> None:
    lab = make_lab()
    lab.write("program.md", "Größer ist nicht besser.\n")
    lab.write("ideas/01.patch", CHANGE)
    lab.commit()
    for more in ("1", "2"):
        done = nightlab("run", "-n", more, "--tag", "t", "--allow-missing", "all", cwd=lab, **ASCII)
        assert done.code == 0, done.err
    table = (lab.folder / ".nightlab" / "t" / "results.tsv").read_text(encoding="utf-8")
    assert "schneller → größer" in table
    for command, *what in (["report"], ["note", "größer"]):
        looked = nightlab(command, *what, "--tag", "t", cwd=lab, **ASCII)
        assert looked.code == 0, looked.err
    notes = (lab.folder / ".nightlab" / "t" / "notes.txt").read_text(encoding="utf-8")
    assert notes == "größer\n"


def test_a_try_with_a_message(make_lab: Any, nightlab: Any) -> None:
    lab = make_lab()
    lab.write("genome.py", "A = 1.5\nB = 8\n")
    tried = nightlab("try", "-m", "kleiner → größer", "--tag", "t", "--allow-missing", "all", cwd=lab, **ASCII)
    assert tried.code in (0, 3), tried.err
    assert "kleiner → größer" in (lab.folder / ".nightlab" / "t" / "results.tsv").read_text(encoding="utf-8")


NO_TEXT = "half \udced\udca0\udc80 a\ncharacter\r\x1b[2J"  # as arguments of these bytes come in: no UTF-8


def test_a_message_and_a_note_that_are_no_text(make_lab: Any, nightlab: Any) -> None:
    lab = make_lab()
    lab.write("genome.py", "A = 1.5\nB = 8\n")
    tried = nightlab("try", "-m", NO_TEXT, "--tag", "t", "--allow-missing", "all", cwd=lab)
    assert tried.code in (0, 3), tried.err
    said = lab.table()[-1][4]
    assert said.startswith("half") and "a character" in said and said.isprintable(), said
    assert nightlab("note", NO_TEXT, "--tag", "t", cwd=lab).code == 0
    [note] = (lab.folder / ".nightlab" / "t" / "notes.txt").read_text(encoding="utf-8").splitlines()
    assert note.startswith("half") and "a character" in note and note.isprintable(), note
