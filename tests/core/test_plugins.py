"""Plug-ins: found, loaded, checked and used; and what is said of those that can't be."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.labs import TinyLab

from nightlab.core import plugins
from nightlab.core.config import LabConfig, PluginProposerConfig, parse
from nightlab.core.types import NightlabError
from nightlab.judge import make_rule
from nightlab.session.check import Check
from nightlab.session.preflight import plugged

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"
LEAST = 'name = "x"\ngenome = ["a.py"]\ncommand = "python a.py"\n[metric]\nname = "m"\n'
ODD = """
class Odd:
    name = "odd"

    def __init__(self, config, context):
        self.turns = 0

    def propose(self, briefing):
        self.turns += 1
        {body}

class Deaf:
    def __init__(self, config, context):
        pass

class Fails:
    def __init__(self, config, context):
        raise OSError("no licence")

    def propose(self, briefing):
        return None

class Wild:
    baseline_runs, same_seeds = 1, True

    def __init__(self, config, context):
        pass

    def compare(self, metric, champion, candidate, noise):
        raise ZeroDivisionError("by nothing")

    def remeasured(self, bar, weight, value):
        raise ZeroDivisionError("by nothing")

class Lost:
    memory = 5

    def __init__(self, config, context):
        pass

    def ask(self):
        raise LookupError("where am I")

    def tell(self, experiment):
        raise LookupError("who is that")

def write(source, experiments, place):
    from pathlib import Path
    Path(place).write_text(f"{{source.lab}} {{len(experiments)}}")
    return place, f"cat {{place}}"

class Faulty:
    platform = sandbox = None

    def __init__(self, config, context):
        pass

    def slots(self, count):
        raise ConnectionError("no such machine")

    slot_failure = start = stand_by = dismiss = adopt = collect = slots

number = 7
"""
OWN_ENGINE = """
from pathlib import Path
from nightlab.engines.local.engine import LocalEngine
from nightlab.engines.local.layout import detect_sandbox
from nightlab.storage.git import Repo

class Mine(LocalEngine):
    def attach(self, folder):
        self.folder = folder

    def start(self, trial, slot):
        if trial.experiment == 2 and not Path({marker!r}).exists():
            Path({marker!r}).touch()
            raise ValueError("the machine went away")
        return super().start(trial, slot)

def mine(config, context):
    lab = context.contract
    return Mine(Repo(context.lab), lab, lab.budget.on("cpu"), "cpu", Path("nowhere"), detect_sandbox())
"""

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a package with entry points where Python finds it, also in a process of its own. Returns its folder."""

    def put(name: str, entries: dict[str, str], source: str = "", files: Path | None = None) -> Path:
        site = tmp_path / "site"
        site.mkdir(exist_ok=True)
        facts = site / f"{name}-0.1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 0.1.0\n")
        (facts / "entry_points.txt").write_text("".join(f"[{group}]\n{text}\n" for group, text in entries.items()))
        if files:
            shutil.copytree(files, site / files.name)
        else:
            (site / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.setenv("PYTHONPATH", str(site))
        return site

    before = set(sys.modules)
    yield put
    for module in set(sys.modules) - before:
        if module.startswith(("odd", "nightlab_example", "other")):
            del sys.modules[module]


@pytest.fixture
def example(install: Install) -> Path:
    """The example package, put where Python finds it."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    groups = {g: "\n".join(f"{k} = {v}" for k, v in e.items()) for g, e in project["entry-points"].items()}
    return install("nightlab_example", groups, files=EXAMPLE / "src" / "nightlab_example")


def install_by_pip(site: Path, copy: Path) -> None:
    """Install the example into ``site`` with pip, where its build backend is there to do it without the network."""
    if importlib.util.find_spec("hatchling") is None:
        return
    shutil.rmtree(site)
    shutil.copytree(EXAMPLE, copy)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([*pip, str(copy)], check=True)


def odd(body: str = "return None") -> str:
    return textwrap.dedent(ODD).format(body=body)


def faults(lab: LabConfig) -> list[Check]:
    return [check for check in plugged(lab) if not check.ok]


def contract(more: str, proposer: str = 'kind = "patches"') -> LabConfig:
    return parse(LEAST + f"[[proposers]]\n{proposer}\n{more}")


# -- the registry --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_each_built_in_name_leads_to_code(kind: plugins.Kind) -> None:
    built_in = [plugin for plugin in plugins.discover(kind) if plugin.built_in]
    assert built_in and all(callable(plugins.load_plugin(plugin)) for plugin in built_in)


@pytest.mark.integration
def test_the_help_imports_neither_the_registry_nor_a_plug_in(install: Install) -> None:
    install("odd", {"nightlab.proposers": "odd = odd:Odd"}, "raise SystemExit('imported')")
    program = (
        "import sys\nfrom nightlab.cli.main import _guarded\nfrom nightlab.cli.app import app\n"
        "sys.argv = ['nightlab', '--help']\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        "assert 'nightlab.core.plugins' not in sys.modules and 'odd' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.integration
def test_a_contract_of_built_in_ones_imports_only_those(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom nightlab.core.config import parse\n"
        "from nightlab.proposers import make_proposers\n"
        f"lab = parse({LEAST + '[[proposers]]' + chr(10) + 'kind = ' + chr(34) + 'patches' + chr(34)!r})\n"
        "make_proposers(lab, Path(), {}, set(), 0)\n"
        "assert 'nightlab.proposers.patches' in sys.modules\n"
        "assert 'nightlab.proposers.tuner' not in sys.modules and 'nightlab.proposers.model' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_package_cannot_take_a_built_in_name(install: Install) -> None:
    install("odd", {"nightlab.rules": "greedy = odd:Wild\nwild = odd:Wild"}, odd())
    install("other", {"nightlab.rules": "wild = other:Wild"}, odd())
    found = {(p.package, p.name): p.ignored for p in plugins.discover("rule") if not p.built_in}
    assert found == {
        ("odd", "greedy"): "the name is taken by the built-in one",
        ("odd", "wild"): "",
        ("other", "wild"): "the name is taken by that of odd",
    }
    assert type(make_rule("greedy")).__name__ == "Greedy"
    said = faults(contract('[judge]\nrule = "greedy"\n'))
    assert len(said) == 1 and "the rule greedy of odd 0.1.0 is ignored" in said[0].what and not said[0].fatal


def test_the_command_lists_what_is_found(example: Path, nightlab: Any, tmp_path: Path) -> None:
    done = nightlab("plugins", cwd=tmp_path)
    assert done.code == 0 and "step (nightlab-example 0.1.0, nightlab_example.proposer:Step)" in done.out
    assert "built in: tuner, controller, patches, recombine, command, agent, model" in done.out
    found = {(p["kind"], p["name"]): p for p in nightlab("plugins", "--json", cwd=tmp_path).json}
    assert found["rule", "margin"]["package"] == "nightlab-example" and found["sandbox", "bubblewrap"]["version"] == ""


# -- what is wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nowhere.at_all:Thing", r"the proposer nowhere\.at_all:Thing does not import .*ModuleNotFoundError"),
        ("odd:Missing", "AttributeError"),
        ("odd:number", "is a int, no class or function"),
        ("odd:Deaf", "it has no propose"),
        ("odd:Wild", "it has no propose"),
    ],
)
def test_what_is_no_proposer_is_named_before_a_session_starts(install: Install, kind: str, words: str) -> None:
    install("odd", {}, odd())
    lab = contract("", f'kind = "{kind}"')
    with pytest.raises(NightlabError, match=words) as refusal:
        plugins.configure("proposer", kind, {}, "proposers.0")
    assert refusal.value.hint and "\n" not in str(refusal.value)
    assert [check.fatal for check in faults(lab)] == [True]


def test_one_that_raises_when_it_is_imported_or_made_is_named(install: Install) -> None:
    install("odd", {}, odd())
    install("other", {}, "raise SystemExit('I quit')\n")
    with pytest.raises(NightlabError, match=r"other:Thing does not import .*SystemExit: I quit"):
        plugins.configure("rule", "other:Thing", {}, "judge.options")
    with pytest.raises(NightlabError, match=r"odd:Fails can't be made: OSError: no licence"):
        plugins.make("proposer", "odd:Fails", {}, None)


def test_keys_are_checked_by_the_plug_ins_own_model(example: Path) -> None:
    step = 'kind = "nightlab_example.proposer:Step"\n'
    assert faults(contract('[judge]\nrule = "margin"\noptions = { least = 0.1 }\n', step + "factor = 3")) == []
    for lab, words in (
        (contract("", step + "factr = 3"), "proposers.0.factr: there is no such key"),
        (contract("", step + "factor = 0.5"), "proposers.0.factor: must be greater than 1"),
        (
            contract('[judge]\nrule = "margin"\noptions = { least = "x" }\n'),
            "judge.options.least: must be a number, not 'x'",
        ),
        (contract("[judge]\noptions = { least = 1 }\n"), "judge.options.least: there is no such key"),
        (contract("[search]\noptions = { width = 1 }\n"), "search.options.width: there is no such key"),
    ):
        found = faults(lab)
        assert len(found) == 1 and found[0].fatal and words in found[0].what, found
    assert "constant, factor" in faults(contract("", step + "factr = 3"))[0].hint


def test_a_name_that_is_unknown_or_taken_is_refused_with_the_contract() -> None:
    for more, words in (
        (
            '[judge]\nrule = "lucky"\n',
            r"judge\.rule: lucky is none of shrunk, greedy, strict, replicate, nor a plug-in",
        ),
        ('[search]\nstrategy = "lucky"\n', r"search\.strategy: lucky is none of climb"),
    ):
        with pytest.raises(NightlabError, match=words):
            contract(more)
    with pytest.raises(NightlabError, match="'tuner' is the name of another proposer"):
        contract("", 'kind = "a.b:Tuner"\nname = "tuner"')
    twice = 'kind = "a.b:Thing"\n[[proposers]]\nkind = "c:Thing"'
    with pytest.raises(NightlabError, match="'Thing' is the name of another proposer"):
        contract("", twice)


def test_a_ledgers_contract_is_read_where_its_plug_ins_are_gone(example: Path) -> None:
    lab = contract('[judge]\nrule = "margin"\n', 'kind = "step"\nfactor = 3')
    facts = lab.model_dump(mode="json", exclude_unset=True)
    shutil.rmtree(example)
    plugins._entry_points.cache_clear()  # as in another process
    again = LabConfig.recorded(facts)
    part = again.proposers[0]
    assert isinstance(part, PluginProposerConfig) and part.keys == {"factor": 3} and again.judge.rule == "margin"
    with pytest.raises(ValueError, match="step is none of"):
        LabConfig.model_validate(facts)


# -- a night with them ---------------------------------------------------------------------------------


def test_a_night_with_the_example_package(example: Path, make_lab: Any, nightlab: Any, tmp_path: Path) -> None:
    install_by_pip(example, tmp_path / "copy")
    lab: TinyLab = make_lab(proposer="step", more='constant = "A"\nfactor = 4.0\n')
    text = (
        (lab.folder / "lab.toml").read_text().replace('rule = "greedy"', 'rule = "margin"\noptions = { least = 0.5 }')
    )
    lab.commit(lab_toml=text)
    checked = nightlab("check", cwd=lab)
    trusted = "is trusted code: it runs in the orchestrator's process"
    assert checked.code == 0 and f"the proposer step of nightlab-example 0.1.0 {trusted}" in checked.out
    assert f"the rule margin of nightlab-example 0.1.0 {trusted}" in checked.out
    done = nightlab("run", "--tag", "t", "--experiments", "2", "--plain", cwd=lab)
    assert done.code == 0, done.out + done.err
    rows = {row[0]: row for row in lab.table()[1:]}
    assert len(rows) == 3 and "A = 1\n" in lab.git("show", "nightlab/t:genome.py").replace("1  #", "1\n#")
    log = nightlab("log", "--json", cwd=lab).out
    assert '"proposer": "step"' in log and "A from 4 to 1" in log and "9 better" in log


@pytest.mark.parametrize("body", ["raise ValueError('no idea')", "return 'A = 2'", "import sys; sys.exit(3)"])
def test_a_turn_in_which_a_plug_in_fails_is_lost_and_the_night_goes_on(
    install: Install, make_lab: Any, body: str
) -> None:
    install("odd", {}, odd(body))
    lab: TinyLab = make_lab(more='\n[[proposers]]\nkind = "odd:Odd"\nname = "odd"\nshare = 9\n')
    lab.idea("1", "A = 2.0\nB = 8\n")
    why, session = lab.run(experiments=1)
    assert "done" in why and session.ledger.refusals_by() == {"odd": 1}
    assert session.ledger.experiment(1).kept
    session.close()


def test_a_rule_that_raises_keeps_nothing_and_the_night_goes_on(install: Install, make_lab: Any) -> None:
    install("odd", {}, odd())
    lab: TinyLab = make_lab()
    lab.commit(lab_toml=(lab.folder / "lab.toml").read_text().replace('rule = "greedy"', 'rule = "odd:Wild"'))
    lab.idea("1", "A = 2.0\nB = 8\n")
    lab.idea("2", "A = 1.0\nB = 8\n")
    _, session = lab.run()
    verdicts = [session.ledger.experiment(n).verdict for n in (1, 2)]
    assert all(v and v.status == "discard" and "odd:Wild raised ZeroDivisionError" in v.detail for v in verdicts)
    assert session.judge.rule.remeasured(1.5, 1, 9.0) == 1.5
    session.close()


def test_a_selection_that_raises_leaves_the_choice_to_the_champion(install: Install, make_lab: Any) -> None:
    install("odd", {"nightlab.selections": "lost = odd:Lost"}, odd())
    lab: TinyLab = make_lab(more='\n[search]\nstrategy = "lost"\n')
    lab.idea("1", "A = 2.0\nB = 8\n")
    _, session = lab.run()
    assert session.champion().number == 1
    session.close()


def test_a_session_runs_on_an_engine_of_a_package_and_resumes_after_it_failed(
    install: Install, make_lab: Any, nightlab: Any, tmp_path: Path
) -> None:
    source = OWN_ENGINE.format(marker=str(tmp_path / "failed"))
    install("odd", {"nightlab.engines": "mine = odd:mine"}, source)
    lab: TinyLab = make_lab()
    lab.idea("1", "A = 2.0\nB = 8\n")
    lab.idea("2", "A = 1.0\nB = 8\n")
    ready = nightlab("check", "--engine", "mine", cwd=lab)
    assert ready.code == 0 and "the engine mine of odd 0.1.0 is trusted code" in ready.out, ready.out
    failed = nightlab("run", "--tag", "t", "--engine", "mine", "-n", "2", cwd=lab)
    assert failed.code == 1 and "start raised ValueError: the machine went away" in failed.err, failed.err
    assert "engine mine" in failed.err and "hint:" in failed.err and "Traceback" not in failed.err
    assert nightlab("run", "--tag", "t", "--engine", "mine", "-n", "2", cwd=lab).code == 0
    session = lab.session()
    assert [e.number for e in session.ledger.judged()] == [0, 1, 2]
    log = session.local_engine.log(session.ledger.trials(2)[-1][0].id)
    assert "METRIC" in log, "its logs are in the session's folder"


def test_check_tells_the_fault_of_an_engine(install: Install, make_lab: Any, nightlab: Any) -> None:
    install("odd", {"nightlab.engines": "faulty = odd:Faulty"}, odd())
    done = nightlab("check", "--engine", "faulty", cwd=make_lab())
    assert done.code == 1, done.out
    assert "no   the engine faulty failed: platform returned NoneType, not Platform" in done.out, done.out


def test_an_exporter_of_a_package_writes(install: Install, make_lab: Any, nightlab: Any, tmp_path: Path) -> None:
    install("odd", {"nightlab.exporters": "note = odd:write\nbad = odd:number"}, odd())
    lab: TinyLab = make_lab()
    lab.run(experiments=1)[1].close()
    out = tmp_path / "out.txt"
    assert nightlab("export", "note", "--out", str(out), cwd=lab).code == 0 and out.read_text() == "tiny 1"
    failed = nightlab("export", "bad", "--out", str(out), cwd=lab)
    assert failed.code == 1 and "the exporter bad of odd 0.1.0" in failed.err
    assert "none of tsv, jsonl" in nightlab("export", "cards", cwd=lab).err


def test_an_engine_and_a_sandbox_of_a_package_that_are_none_are_refused(
    install: Install, make_lab: Any, nightlab: Any
) -> None:
    install("odd", {"nightlab.engines": "deaf = odd:Deaf", "nightlab.sandboxes": "deaf = odd:Deaf"}, odd())
    lab: TinyLab = make_lab()
    for done in (nightlab("run", "--on", "deaf", cwd=lab), nightlab("check", cwd=lab, NIGHTLAB_SANDBOX="deaf")):
        assert done.code == 1 and "deaf of odd 0.1.0 is none: it has no " in done.err and "hint:" in done.err
    assert "there is no sandbox 'glass'" in nightlab("check", cwd=lab, NIGHTLAB_SANDBOX="glass").err
    assert "unknown cluster 'cloud'" in nightlab("run", "--on", "cloud", cwd=lab).err


@pytest.mark.integration
@pytest.mark.parametrize("module", ["layouts", "plugins", "config", "foreign"])
def test_whichever_module_of_the_core_a_package_imports_first(module: str) -> None:
    """A circle of imports failed for a package whose first one was ``nightlab.core.layouts``."""
    done = subprocess.run([sys.executable, "-c", f"import nightlab.core.{module}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
