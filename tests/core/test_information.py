"""A genome is a program: what it carries beyond the baseline is bounded, and what looks like data is named."""

from __future__ import annotations

import base64
import random
from dataclasses import replace
from pathlib import Path

import pytest

from nightlab.core.config import LabConfig
from nightlab.core.program.facts import SessionContext, program_facts
from nightlab.core.program.information import new_information, program_information

LAB = Path(__file__).parents[2] / "src" / "nightlab" / "labs" / "lm"
BASE = {"train.py": (LAB / "train.py").read_text()}
DEFAULT = LabConfig.model_validate({"name": "x", "genome": ["train.py"], "command": "x", "metric": {"name": "m"}})
CONTEXT = SessionContext("cpu", (), BASE, DEFAULT.information.growth_bytes, data=False)
DRAW = random.Random(0)


def refusal(text: str, context: SessionContext = CONTEXT, parent: str = BASE["train.py"]) -> str:
    return program_facts({"train.py": text}, {"train.py": parent}, ["train.py"], context).refusal


def words(count: int) -> str:
    """Text that is no program: as much information as its words are drawn."""
    return " ".join("".join(DRAW.choices("abcdefghijklmnop", k=DRAW.randint(2, 9))) for _ in range(count))


SMUGGLED = {
    "weights as base64": (f"W = {base64.b64encode(DRAW.randbytes(3000))!r}\n", "looks like data"),
    "weights as bytes": (f"W = {DRAW.randbytes(3000)!r}\n", "looks like data"),
    "ideographs": (f"W = {''.join(chr(DRAW.randint(0x4E00, 0x9FFF)) for _ in range(3000))!r}\n", "looks like data"),
    "a table of numbers": (f"W = {[DRAW.random() for _ in range(600)]}\n", "a table of 600 values"),
    "a table of phrases": (f"W = {dict.fromkeys(words(600).split(), 1)}\n", "a table of"),
    "many short texts": ("".join(f"W{n} = {words(20)!r}\n" for n in range(400)), "bytes of information"),
    "in comments": ("X = 1\n" + "".join(f"# {words(20)}\n" for _ in range(400)), "bytes of information"),
    "in names": ("".join(f"def {'_'.join(words(20).split())}(): ...\n" for _ in range(400)), "bytes of information"),
}


@pytest.mark.parametrize("how", SMUGGLED)
def test_what_is_smuggled_is_over_a_limit(how: str) -> None:
    text, said = SMUGGLED[how]
    found = refusal(BASE["train.py"] + text)
    assert found.startswith("over limit: ") and said in found and "lab.toml" in found
    free = replace(CONTEXT, growth=None, data=True)
    assert refusal(BASE["train.py"] + text, free) == ""


def test_another_program_is_none() -> None:
    """Whole files that people wrote, larger than the baseline: what an agent's rewrite may look like at most."""
    source = LAB.parents[1]
    for path in ("storage/git/repo.py", "loop/loop.py", "proposers/briefing.py", "engines/local/supervisor.py"):
        assert refusal((source / path).read_text()) == ""
    kernel = "KERNEL = '''\n" + (LAB / "prepare.py").read_text().replace("'''", "") + "'''\n"
    assert refusal(BASE["train.py"] + kernel) == "", "a kernel in another language, as text"


def test_an_old_champion_with_more_is_no_obstacle() -> None:
    fat = BASE["train.py"] + SMUGGLED["in comments"][0]
    slimmer = fat[: -len(fat) // 20].replace("X = 1", "X = 2")
    assert refusal(fat) and refusal(slimmer, parent=fat) == ""


def test_information_is_what_is_not_there_already() -> None:
    assert new_information(BASE, BASE) < 100
    assert new_information({"train.py": BASE["train.py"] * 2}, BASE) < 100
    assert program_information("a.py", "x = 1  # so\n\n\n") == program_information("a.py", "x = 1\n")
    assert program_information("a.txt", words(100)) > 300
