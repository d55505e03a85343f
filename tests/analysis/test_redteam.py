"""Attacks on a user's own lab: which ones fit, that each is a program, and what a lab that believes would keep."""

from __future__ import annotations

import ast
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from support.labs import CONTRACT
from support.tiers import by_default

from nightlab.analysis.redteam.attacks import ATTACKS, attacks_on, best_claim, with_prologue
from nightlab.core.config import LabConfig
from nightlab.session.preflight import attackable, attacked, committed_contract
from nightlab.storage.git import Repo
from nightlab.storage.ledger import record_redteam


def lab(**more: Any) -> LabConfig:
    least = {"name": "x", "genome": ["g.py"], "command": "python g.py", "metric": {"name": "loss"}}
    return LabConfig.model_validate({**least, **more})


SERVED = lab(evaluator={"command": "python e.py", "served": True})


def test_each_attack_is_a_program_after_the_docstring() -> None:
    genome = '"""What it is."""\nfrom __future__ import annotations\n\nimport os\nX = 1\n'
    for attack in ATTACKS:
        text = with_prologue(genome, attack.source(SERVED))
        body = ast.parse(text).body
        compile(text, "g.py", "exec")
        assert ast.get_docstring(ast.parse(text)) == "What it is."
        assert isinstance(body[1], ast.ImportFrom) and ast.unparse(body[-1]) == "X = 1", attack.name
    assert ast.unparse(ast.parse(with_prologue("X = 1\n", "Y = 2"))) == "Y = 2\nX = 1"


def test_attacks_on_answers_fit_labs_that_ask_for_them() -> None:
    names = {attack.name for attack in attacks_on(lab())}
    assert {"early output", "clock", "smuggling"} <= names and not {"lookahead", "replay"} & names
    assert {attack.name for attack in attacks_on(SERVED)} == {attack.name for attack in ATTACKS}


def test_a_liar_names_the_best_that_is_possible() -> None:
    assert best_claim(lab()) == -1e6
    assert best_claim(lab(metric={"name": "loss", "lowest": 0.0})) == 0.0
    assert best_claim(lab(metric={"name": "loss", "goal": "maximise"})) == 1e6


@pytest.mark.parametrize(
    ("genome", "more", "there"),
    [
        ({"genome.py": "A = 1"}, "command = 'python measure.py'", ["genome.py"]),
        ({"a.c": "", "flags.txt": ""}, "command = 'python serve.py'", []),
        ({"page.py": "A = 1"}, "evaluator = {command = 'python reads.py'}", []),
    ],
    ids=("Python", "C", "Python as data"),
)
def test_it_attacks_python_that_a_trial_runs(genome: dict[str, str], more: str, there: list[str]) -> None:
    text = f"name = 'x'\ngenome = {[*genome]}\n{more}\nmetric = {{name = 'loss'}}\n"
    contract = LabConfig.model_validate(tomllib.loads(text))
    assert attackable(contract, [*genome, "measure.py", "reads.py"]) == there


def test_check_says_what_came_of_the_last_attacks(make_lab: Any) -> None:
    made = make_lab()
    repo = Repo(made.folder)
    contract = committed_contract(repo)[1]
    commit = repo.resolve() or ""
    assert (attacked(repo, contract).what, attacked(repo, contract).ok) == ("its metric was never attacked", False)
    record_redteam(repo.lab, commit, 0.0, [], 8)
    assert "none of 8 attacks" in attacked(repo, contract).what and attacked(repo, contract).ok
    made.commit(genome_py="A, B = 2.0, 8\n")
    assert "before it changed" in attacked(repo, contract).what and not attacked(repo, contract).ok
    record_redteam(repo.lab, commit, 0.0, ["clock", "NaN"], 8)
    assert "2 of 8 attacks would be kept" in attacked(repo, contract).what and not attacked(repo, contract).ok
    other = contract.model_copy(update={"genome": ("measure.sh",)})
    assert "has no attacks for this lab" in attacked(repo, other).what and attacked(repo, other).ok


def test_a_lab_without_python_in_its_genome_is_told_so(make_lab: Any, nightlab: Any) -> None:
    contract = CONTRACT.format(proposer="patches").replace("genome.py", "genome.json")
    made = make_lab(contract=contract, files={"genome.json": "{}"})
    done = nightlab("redteam", cwd=made)
    assert done.code == 1 and "there are no attacks for this lab" in done.err


def test_a_lab_that_believes_what_is_printed_is_told_so(make_lab: Any, nightlab: Any) -> None:
    tiny = make_lab()
    done = nightlab("redteam", "--attack", "early output", "--attack", "smuggling", "--json", cwd=tiny)
    told = json.loads(done.out)
    assert done.code == 3 and told["kept"] == ["early output"]
    assert "[evaluator]" in told["attacks"][0]["hint"] and "over limit" in told["attacks"][1]["verdict"]
    done = nightlab("redteam", "--attack", "nothing", cwd=tiny)
    assert done.code == 1 and "there is no attack nothing on this lab" in done.err and "early output" in done.err


FEW, ALL = ("smuggling", "lazy answer"), ()


@pytest.mark.integration
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("chosen", by_default(FEW, of=(FEW, ALL)), ids=("few", "all"))
def test_the_shipped_speed_lab_keeps_none(nightlab: Any, tmp_path: Path, chosen: tuple[str, ...]) -> None:
    assert nightlab("new", "fast", "--from", "speed", cwd=tmp_path).code == 0
    options = [word for name in chosen for word in ("--attack", name)]
    done = nightlab("redteam", "--json", *options, cwd=tmp_path / "fast")
    told = json.loads(done.out)
    assert (done.code, told["kept"]) == (0, []), told
    said = {each["attack"]: each["verdict"] for each in told["attacks"]}
    assert said.keys() >= set(FEW) and "a wrong answer" in said["lazy answer"] and "over limit" in said["smuggling"]
