"""However a genome writes 1,500 bytes that are no program, the limit on its information counts them as 1,500 bytes.

Written independently of the limit, with knowledge of it. Each way holds the payload exactly: in the code, in what a
program could read of its own file, or in choices between spellings that mean the same.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Iterable

import pytest

from nightlab.core.program.facts import SessionContext, program_facts
from nightlab.core.program.information import new_information

PAYLOAD = random.Random(15).randbytes(1500)
BITS = f"{int.from_bytes(PAYLOAD):0{8 * len(PAYLOAD)}b}"
HEX = PAYLOAD.hex()
BASE = {"a.py": "RATE = 0.5\n"}


def pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def each(form: str, parts: Iterable[object]) -> str:
    return "".join(form.format(n=n, p=part) + "\n" for n, part in enumerate(parts))


def either(one: str, other: str, between: str = "") -> str:
    """A choice between two spellings for each bit."""
    return between.join(one if bit == "0" else other for bit in BITS)


LETTERS = HEX.translate(str.maketrans("0123456789", "ghijklmnop"))
ENCODED = {
    "base64 in short strings": each("W{n} = '{p}'", pieces(base64.b64encode(PAYLOAD).decode(), 60)),
    "base85 in a docstring": f"def f():\n    {base64.b85encode(PAYLOAD).decode()!r}\n",
    "base32 as one word": f"W = '{base64.b32encode(PAYLOAD).decode()}'\n",
    "hexadecimal comments": each("# {p}", pieces(HEX, 80)),
    "long names": each("w{p} = 0", pieces(HEX, 200)),
    "names of four letters": each("{p}_ = 0", pieces(LETTERS, 4)),
    "attributes of one expression": f"def f(x): x.{'.'.join(f'_{part}' for part in pieces(HEX, 8))}\n",
    "keys of small dictionaries": each("W{n} = {{'{p}': 0}}", pieces(HEX, 16)),
    "f-strings": each("W{n} = f'{{RATE}}{p}{{RATE}}'", pieces(HEX, 40)),
    "integers": each("W{n} = 0x{p}", pieces(HEX, 32)),
    "digits of floats": each("W{n} = 0.{p}", [f"{int(part, 16):015d}" for part in pieces(HEX, 12)]),
    "characters beyond ASCII": each(
        "W{n} = '{p}'", pieces("".join(chr(0x4E00 + 256 * (n % 2) + byte) for n, byte in enumerate(PAYLOAD)), 90)
    ),
    "names in another script": each("ж{p} = 0", pieces("".join(chr(0x4E00 + byte) for byte in PAYLOAD), 30)),
    "blanks and tabs in comments": each("#{p}", pieces(BITS.translate({48: " ", 49: "\t"}), 100)),
    "line ends": "x = 0" + "x = 0".join(either("\n", "\r\n", "\0").split("\0")) + "x = 0\n",
    "semicolons or lines": "x = 0" + "x = 0".join(either(";", "\n", "\0").split("\0")) + "x = 0\n",
    "one kind of quote or another": "def f(): " + either("''", '""', ";") + "\n",
    "signs of operations": each("def f(x): return {p}x", pieces(either("x+", "x-"), 200)),
    "cases of the letters of numbers": each("W{n} = 0X{p}", pieces(either("a", "A"), 100)),
    "escapes in bytes": each("W{n} = {p!r}", [PAYLOAD[at : at + 60] for at in range(0, len(PAYLOAD), 60)]),
    "imports that never run": each("if 0: import m{p}", pieces(HEX, 20)),
    "characters of the file's own encoding": "# coding: latin-1\n# "
    + "".join(chr(0xC0 + int(BITS[at : at + 6], 2)) for at in range(0, len(BITS), 6))
    + "\n",
}


@pytest.mark.parametrize("how", ENCODED)
def test_each_encoding_is_counted_as_what_it_holds(how: str) -> None:
    genome = {"a.py": ENCODED[how] + "RATE = 0.6\n"}
    assert new_information(genome, BASE) >= len(PAYLOAD)
    context = SessionContext("cpu", (), BASE, len(PAYLOAD) - 1, data=True)
    assert "bytes of information" in program_facts(genome, BASE, ["a.py"], context).refusal


@pytest.mark.parametrize("apart", ["in names of files", "in files of their own"])
def test_data_in_several_files_is_counted_too(apart: str) -> None:
    parts = pieces(HEX, 50)
    files = {f"{part}.txt": "" for part in parts} if "names" in apart else {f"{n}.txt": p for n, p in enumerate(parts)}
    assert new_information({**BASE, **files}, BASE) >= len(PAYLOAD)
