"""Bytes in, bytes out: what is read of a genome is written back as it was, whatever its encoding."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nightlab.core.program.constants import change_constants, find_constants
from nightlab.core.source import syntax_fault
from nightlab.core.source_bytes import changed_lines, decode_source, encode_source, parse_python
from nightlab.proposers.edits import apply_edits, parse_edits

LATIN = "# -*- coding: latin-1 -*-\nA = 1  # café\nB = 2\n".encode("latin-1")
BOM = b"\xef\xbb\xbfA = 1\r\nB = 2\r\n"
FILES = {
    "Latin-1": LATIN,
    "a byte-order mark and CRLF": BOM,
    "Windows-1252, declared in line 2": b"#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\nA = 1  # \x80\n",
    "Shift JIS": "# coding: shift_jis\nA = 1  # 表示\n".encode("shift_jis"),
    "no encoding declared": b"A = 1  # caf\xe9\n",
    "a form feed and odd line ends": b"A = 1\x0c\nC = 2\r# \xc2\x85\n",
    "without an end": b"A = 1",
}


@pytest.mark.parametrize("raw", FILES.values(), ids=FILES)
def test_the_tuner_changes_one_constant_and_no_other_byte(raw: bytes) -> None:
    text = decode_source(raw)
    assert find_constants(text, "cpu")["A"].value == 1
    assert encode_source(change_constants(text, "cpu", {"A": 7})) == raw.replace(b"A = 1", b"A = 7")


@given(
    st.binary(),
    st.sampled_from(
        [
            b"",
            b"\xef\xbb\xbf",
            *(
                b"#coding:%s\n" % name
                for name in (
                    b"latin-1",
                    b"cp1252",
                    b"koi8-r",
                    b"utf-8",
                    b"utf-16",
                    b"utf-7",
                    b"iso2022_jp",
                    b"raw_unicode_escape",
                    b"rot13",
                    b"cp932",
                    b"idna",
                    b"klingon",
                )
            ),
        ]
    ),
)
@example(b"\xe9" * 3000 + b"\n\xe9", b"")
@example(b"\x1b$B\\u0041", b"#coding:iso2022_jp\n")
def test_every_file_survives(raw: bytes, head: bytes) -> None:
    assert encode_source(decode_source(head + raw)) == head + raw


@pytest.mark.parametrize("raw", FILES.values(), ids=FILES)
def test_what_python_runs_is_accepted_and_what_it_refuses_is_named(raw: bytes) -> None:
    fault = syntax_fault("x.py", decode_source(raw))
    assert fault == (
        "x.py, line 1: byte 0xe9 is not UTF-8; declare its encoding in line 1: # -*- coding: latin-1 -*-"
        if raw == FILES["no encoding declared"]
        else None
    )


@pytest.mark.parametrize(
    ("encoding", "hidden"),
    [
        ("utf-7", b"x = 1 # +AAo-x = 2"),
        ("unicode_escape", rb"x = 1 # \u000ax = 2"),
        ("raw_unicode_escape", rb"x = 1 # \u000ax = 2"),
        ("shift_jis", b"x = '\x95\\'; x = 2 #'"),
    ],
)
def test_a_program_that_only_its_encoding_shows_is_refused(encoding: str, hidden: bytes) -> None:
    raw = f"# coding: {encoding}\n".encode() + hidden + b"\n"
    scope: dict[str, object] = {}
    exec(compile(raw, "x.py", "exec"), scope)
    assert scope["x"] == 2, "what Python runs"
    assert "another program than its text shows" in (syntax_fault("x.py", decode_source(raw)) or "")


@pytest.mark.parametrize("encoding", ["shift_jis", "gbk", "big5"])
@pytest.mark.parametrize("line", ["x = '{}'", "x = '{} '"])
def test_an_honest_program_in_such_an_encoding_is_told_to_use_utf_8(encoding: str, line: str) -> None:
    text = {"shift_jis": "表", "gbk": "廫", "big5": "功"}[encoding]
    raw = f"# coding: {encoding}\n{line.format(text)}\n".encode(encoding)
    assert b"\\" in raw, "the second byte of that character is a backslash"
    fault = syntax_fault("x.py", decode_source(raw)) or ""
    assert fault.startswith(f"x.py: in {encoding}, which it declares") and fault.endswith("use UTF-8")


def test_other_faults_keep_their_line() -> None:
    assert syntax_fault("x.py", "\ufeffx = 1\ny = = 2\n") == "x.py, line 2: invalid syntax"
    assert syntax_fault("x.py", "# coding: klingon\n") == "x.py: unknown encoding: klingon"
    with pytest.raises(SyntaxError):
        parse_python("x = = 1")


def test_a_character_that_the_encoding_lacks_is_named() -> None:
    with pytest.raises(ValueError, match=r"line 2: latin-1 has no '\\u2192'"):
        encode_source("# -*- coding: latin-1 -*-\nx = '→'\n")


def test_a_models_edit_keeps_line_ends_the_mark_and_a_missing_end() -> None:
    def edited(raw: bytes, old: str, new: str) -> bytes:
        genome = {"x.py": decode_source(raw)}
        edits = parse_edits(f"x.py\n<<<<<<< SEARCH\n{old}\n=======\n{new}\n>>>>>>> REPLACE\n", genome)
        return encode_source(apply_edits(genome, edits)["x.py"])

    assert edited(BOM, "A = 1", "A = 3\nC = 4") == b"\xef\xbb\xbfA = 3\r\nC = 4\r\nB = 2\r\n"
    assert edited(b"A = 1\r\nB = 2", "B = 2", "B = 3") == b"A = 1\r\nB = 3"
    assert edited(LATIN, "A = 1  # café", "A = 1  # thé") == LATIN.replace(b"caf\xe9", b"th\xe9")
    assert edited(b"A = 1\n# caf\xe9\n", "A = 1", "A = 2") == b"A = 2\n# caf\xe9\n"


def test_lines_of_a_patch_are_counted_without_its_headers() -> None:
    patch = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n--- a comment of SQL\n+++ more\n same\n"
    assert changed_lines(patch + patch) == 4
