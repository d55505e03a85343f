"""The contract: what lab.toml may say, what is inferred where there is none, and errors that name their key."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightlab.core.config import LabConfig, allowed, detect, load_contract, megabytes, parse, to_toml
from nightlab.core.layouts import Problem
from nightlab.core.types import Budget, NightlabError
from nightlab.engines.local.metric_text import parse_metrics

LEAST = 'name = "x"\ngenome = ["a.py"]\ncommand = "python a.py"\n[metric]\nname = "m"\n'
EVALUATOR, GATEWAY = '[evaluator]\ncommand = "python e.py"\n', 'gateway = { U = "http://127.0.0.1:1/v1" }\n'


def test_the_least_contract_has_sensible_defaults() -> None:
    lab = parse(LEAST)
    assert lab.metric.record().goal == "minimise"
    assert lab.budget.on("cpu").record() == Budget("wall", 300)
    assert [p.kind for p in lab.proposers] == ["patches", "tuner"]
    assert lab.evaluator is None and lab.checks == () and lab.stop.hours is None


FAULTS: list[tuple[str, str, str]] = [
    ("a key that does not exist", 'genom = ["b"]\n' + LEAST, "genom: there is no such key"),
    ("a nested key that does not exist", LEAST + "units = 1\n", "metric.units: there is no such key"),
    ("no metric", 'name = "x"\ngenome = ["a"]\ncommand = "c"\n', "metric: is missing"),
    ("no genome", LEAST.replace('genome = ["a.py"]\n', ""), "genome: is missing"),
    ("an empty genome", LEAST.replace('["a.py"]', "[]"), "genome: "),
    ("a goal misspelt", LEAST + 'goal = "min"\n', "metric.goal: "),
    ("a metric name with a space", LEAST.replace('"m"', '"a b"'), "metric.name: "),
    ("a budget of nothing", LEAST + "[budget]\namount = 0\n", "budget.amount: "),
    ("an unknown clock", LEAST + '[budget]\nclock = "moon"\n', "budget.clock: "),
    ("a bad budget on one device", LEAST + "[budget.cpu]\namount = -1\n", "budget.cpu.amount"),
    ("a bad key of one device", LEAST + "[budget.cuda]\namout = 1\n", "budget.cuda.amout"),
    ("a limit that is no limit", LEAST + '[limits]\npeak_memory_mb = "20%"\n', "peak_memory_mb"),
    ("an objective without a direction", LEAST + '[objectives]\nsize = "small"\n', "objectives.size: "),
    ("an objective that is the metric", LEAST + '[objectives]\nm = "minimise"\n', "objectives: m is the metric"),
    ("memory that is no size", LEAST + '[resources]\nmemory = "lots"\n', "resources.memory: "),
    ("no process allowed", LEAST + "[resources]\nprocesses = 0\n", "resources.processes: "),
    ("a gateway of one that is served", LEAST + EVALUATOR + f"served = true\n{GATEWAY}", "evaluator: gateway: "),
    ("a key without its gateway", LEAST + EVALUATOR + 'keys = ["K"]\n', "evaluator.keys: "),
    ("a gateway to a file", LEAST + EVALUATOR + GATEWAY.replace("http", "file"), "evaluator.gateway.U: "),
    ("an unknown proposer", LEAST + '[[proposers]]\nkind = "oracle"\n', "proposers.0"),
    ("a share of nothing", LEAST + '[[proposers]]\nkind = "tuner"\nshare = 0\n', "proposers.0.share: "),
    ("an unknown rule", LEAST + '[judge]\nrule = "coin"\n', "judge.rule: "),
    ("a stop after no hours", LEAST + "[stop]\nhours = 0\n", "stop.hours: "),
    ("a stop after a text", LEAST + '[stop]\nexperiments = "many"\n', "stop.experiments: "),
    ("a budget of no money", LEAST + "[stop]\nmoney = 0\n", "stop.money: "),
    ("a hook of blanks", LEAST + '[hooks]\nafter = " "\n', "hooks.after: "),
    ("a quote left open", LEAST.replace("python a.py", "python 'a.py"), "command: "),
    ("a quote left open in a check", LEAST + '[[checks]]\ncommand = "sh \'x"\n', "checks.0.command: "),
    ("a quote left open in the evaluator", LEAST + '[evaluator]\ncommand = "sh \'x"\n', "evaluator.command: "),
    ("a command of blanks", LEAST.replace("python a.py", "  "), "command: "),
    ("nothing that measures", LEAST.replace('command = "python a.py"\n', ""), "give a command"),
    ("no TOML", LEAST + "[[[", "is not valid TOML"),
]


@pytest.mark.parametrize(("text", "names"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_every_fault_names_its_key_and_has_a_mend(text: str, names: str) -> None:
    with pytest.raises(NightlabError) as error:
        parse(text)
    assert names in str(error.value)
    assert str(error.value).startswith("lab.toml")
    assert "\n" not in str(error.value)
    assert error.value.hint


def test_an_unknown_kind_of_proposer_is_told_which_there_are() -> None:
    with pytest.raises(NightlabError, match=r"proposers\.0\.kind: agnet is none of tuner, controller, .*, model"):
        parse(LEAST + '[[proposers]]\nkind = "agnet"\n')
    with pytest.raises(NightlabError, match=r"proposers\.0\.kind: is missing"):
        parse(LEAST + "[[proposers]]\nshare = 1\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LEAST.replace("genome", "genomes"), ", line 2: genomes: there is no such key; is genome meant?"),
        (LEAST + "gaol = 1\n", ", line 6: metric.gaol: there is no such key; is metric.goal meant?"),
        (LEAST + "amount = 1\n", ", line 6: metric.amount: there is no such key; is budget.amount meant?"),
        ("hours = 8\n" + LEAST, ", line 1: hours: there is no such key; is stop.hours meant?"),
        (LEAST + "zzz = 8\n", ", line 6: metric.zzz: there is no such key"),
        (LEAST + "[budget.cpu]\namout = 1\n", ", line 7: budget.cpu.amout: there is no such key; is amount meant?"),
        (
            LEAST + "[[proposers]]\nkind = 'tuner'\nshares = 1\n",
            ", line 8: proposers.0.shares: there is no such key; is pr",
        ),
        (LEAST + "[proposers]\nkind = 'tuner'\n", ", line 6: proposers: must be a list of tables: write [[proposers]]"),
        (LEAST + "[[evaluator]]\ncommand = 'x'\n", ", line 6: evaluator: must be a table: write [evaluator]"),
        (LEAST.replace('["a.py"]', '"a.py"'), ', line 2: genome: must be a list: ["a.py"]'),
        (LEAST + "goal = 'minimize'\n", ", line 6: metric.goal: must be 'minimise' or 'maximise', not 'minimize'"),
        (LEAST + "[budget]\namount = '5s'\n", ", line 7: budget.amount: must be a number, not '5s'"),
        (LEAST + "[stop]\nexperiments = 2.5\n", ", line 7: stop.experiments: must be a whole number, not 2.5"),
        (LEAST + "[limits]\nmem = '20%'\n", ", line 7: limits: mem must be a number or like"),
        (LEAST.replace('"x"', '"my lab"'), ", line 1: name: must be a name of letters, digits and _ . -, not 'my lab'"),
        (LEAST + "[notify]\nwebhook = 'x'\n", ", line 7: notify.webhook: must be an address that begins with http"),
        (LEAST.replace('name = "m"\n', ""), ", line 4: metric.name: is missing"),
    ],
)
def test_a_fault_names_its_line_and_what_may_be_meant(text: str, says: str) -> None:
    with pytest.raises(NightlabError) as error:
        parse(text)
    assert str(error.value).startswith(f"lab.toml{says}")
    assert "is missing" in says or "is missing" not in str(error.value)


def test_two_faults_are_both_named() -> None:
    with pytest.raises(NightlabError, match=r"(?s)metric\.goal.*stop\.stall"):
        parse(LEAST + 'goal = "up"\n[stop]\nstall = -1\n')


def test_budget_by_device() -> None:
    text = LEAST + '[budget]\namount = 300\nstartup = 60\n[budget.cpu]\nclock = "cpu"\namount = 7\n'
    budget = parse(text).budget
    assert budget.on("cuda").record() == Budget("wall", 300)
    assert budget.on("cpu").record() == Budget("cpu", 7)
    assert budget.on("cpu").startup == 60


def test_training_may_take_longer_on_a_cpu_clock_than_on_a_wall_clock() -> None:
    budget = parse(LEAST + '[budget]\namount = 10\n[budget.cpu]\nclock = "cpu"\n').budget
    assert budget.on("cpu").longest() > budget.on("cuda").longest() > 10
    assert parse(LEAST + "[budget]\nwall_limit = 33\n").budget.on("cpu").longest() == 33


def test_a_budget_says_when_it_ends_a_trial() -> None:
    wall = parse(LEAST + "[budget]\namount = 5\nstartup = 9\n").budget.on("cpu").limit()
    assert "may train for 6.5 s" in wall and "from its launch if none comes within 9 s" in wall
    work = parse(LEAST + '[budget]\nclock = "work"\nwall_limit = 33\n').budget.on("cpu").limit()
    assert work == "a trial is ended after 33 s of wall-clock time"


def test_limits() -> None:
    assert allowed("+20%", 100) == pytest.approx(120)
    assert allowed("+0.5%", 1000) == pytest.approx(1005)
    assert allowed(64, 1e9) == 64
    for wrong in ("20%", "-20%", "+x%", "1GB", ""):
        with pytest.raises(ValueError, match="must be a number or like"):
            allowed(wrong, 1)


def test_sizes() -> None:
    assert megabytes("8GB") == 8192
    assert megabytes("500 mb") == 500
    assert megabytes("1.5KB") == 1.5 / 1024
    assert megabytes(str(2**20)) == 1
    for wrong in ("8 G", "GB", "-1MB", "1e3MB"):
        with pytest.raises(ValueError, match="is not a size"):
            megabytes(wrong)


# -- known layouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["val-loss", "eval/accuracy", "total_µs", "p99.latency"])
def test_a_metric_may_be_called_as_a_metric_line_may_call_it(name: str) -> None:
    assert parse(LEAST.replace('"m"', f'"{name}"')).metric.name == name
    files = {".auto/measure.sh": f'echo "METRIC {name}=$t"\n', "a.py": ""}
    found = detect(Problem(tuple(files), files.get))
    assert found and found[0].metric.name == name and parse_metrics(f"METRIC {name}=1").values == {name: 1.0}


@pytest.mark.parametrize(
    ("name", "more", "timed"),
    [
        ("latency", 'unit = "ms"', True),
        ("latency", 'unit = "µs of a call"', True),
        ("milliseconds", "", True),
        ("makespan", 'unit = "s"\ntimed = false', False),
        ("cycles", "timed = true", True),
        ("loss", 'unit = "bits"', False),
    ],
)
def test_a_metric_is_a_time_by_its_unit_its_name_or_as_it_is_said(name: str, more: str, timed: bool) -> None:
    text = f'name = "x"\ngenome = ["a"]\ncommand = "c"\n[metric]\nname = "{name}"\n{more}\n'
    assert parse(text).timed is timed


def test_an_unknown_layout_is_not_guessed(tmp_path: Any) -> None:
    (tmp_path / "main.c").write_text("int main() {}")
    assert detect(Problem(("main.c",), lambda _: "")) is None
    with pytest.raises(NightlabError) as error:
        load_contract(tmp_path)
    assert str(tmp_path) in str(error.value) and "nightlab init" in error.value.hint


def test_a_lab_toml_goes_before_a_layout(tmp_path: Any) -> None:
    (tmp_path / "prepare.py").write_text("")
    (tmp_path / "train.py").write_text("")
    (tmp_path / "lab.toml").write_text(LEAST)
    lab, says = load_contract(tmp_path)
    assert lab.genome == ("a.py",) and "lab.toml" in says


# -- writing it down -----------------------------------------------------------------------------------

words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
seconds = st.one_of(st.integers(1, 10_000), st.floats(0.01, 1e4))


@st.composite
def contracts(draw: st.DrawFn) -> LabConfig:
    part: dict[str, Any] = {
        "name": draw(names),
        "genome": draw(st.lists(words, min_size=1, max_size=3)),
        "command": "python -c 'print(1)'",
        "metric": draw(
            st.fixed_dictionaries(
                {"name": names},
                optional={"goal": st.sampled_from(["minimise", "maximise"]), "unit": words},
            )
        ),
    }
    device = st.fixed_dictionaries({}, optional={"amount": seconds, "clock": st.sampled_from(["wall", "cpu", "work"])})
    more = {
        "prepare": st.just("make data"),
        "evaluator": st.fixed_dictionaries({"command": st.just("python e.py")}, optional={"served": st.booleans()}),
        "checks": st.lists(st.just({"command": "true"}), max_size=2),
        "budget": st.fixed_dictionaries(
            {}, optional={"amount": seconds, "startup": seconds, "wall_limit": seconds, "cpu": device, "cuda": device}
        ),
        "limits": st.dictionaries(names, st.one_of(st.integers(1, 99), st.just("+20%"), st.just("+2.5%")), max_size=2),
        "resources": st.fixed_dictionaries({}, optional={"memory": st.just("8GB"), "processes": st.integers(1, 99)}),
        "data": st.fixed_dictionaries({}, optional={"open": st.lists(words, max_size=2)}),
        "environment": st.lists(names, max_size=2),
        "proposers": st.lists(
            st.one_of(
                st.fixed_dictionaries({"kind": st.just("tuner")}, optional={"share": seconds}),
                st.fixed_dictionaries({"kind": st.just("patches")}, optional={"folder": words}),
            ),
            max_size=3,
        ),
        "stop": st.fixed_dictionaries({}, optional={"hours": seconds, "stall": st.integers(1, 99)}),
    }
    return LabConfig.model_validate({**part, **draw(st.fixed_dictionaries({}, optional=more))})


@given(contracts())
def test_a_contract_written_down_and_read_again_is_the_same(lab: LabConfig) -> None:
    assert parse(to_toml(lab)) == lab
