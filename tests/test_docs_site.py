"""What the docs show is true: links, code blocks, the names in the walks through the code, the tutorial's lab."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import nightlab
from nightlab.core.config import LabConfig

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
WALKS = [ROOT / "docs" / "candidate.md", ROOT / "docs" / "finding.md"]


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        generated = target.endswith("reference/cli.md")  # made with the site, which checks it
        if not generated and not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_code_blocks_are_code(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block)
    for block in blocks(page, "toml"):
        tomllib.loads(block)


def documented_keys() -> set[str]:
    """The keys in the first column of the reference; ``.wall`` after ``proposers.briefing`` is ``proposers.wall``."""
    found = set()
    for line in (ROOT / "docs" / "lab.md").read_text().splitlines():
        table = ""
        for key in re.findall(r"`([\w.]+)`", line.split("|")[1]) if line.startswith("| `") else []:
            table = key.split(".")[0] or table
            found.add(table + key if key.startswith(".") else key)
    return found


def models_in(annotation: Any) -> list[type[BaseModel]]:
    inner = [model for part in get_args(annotation) for model in models_in(part)]
    return inner or ([annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else [])


def test_the_reference_has_every_key_of_the_contract() -> None:
    keys = set()
    for name, field in LabConfig.model_fields.items():
        inner = {f"{name}.{key}" for model in models_in(field.annotation) for key in model.model_fields}
        keys |= inner or {name}
    in_one_row = {"proposers.kind", "proposers.share", "proposers.folder", "checks.command"}
    documented = documented_keys()
    assert keys - in_one_row <= documented, "lab.md lacks these"
    assert documented - keys <= set(LabConfig.model_fields), "lab.md has keys that there are not"


def test_the_api_reference_has_every_public_name() -> None:
    shown = set(
        re.findall(r"^::: nightlab\.api\.(\w+)$", (ROOT / "docs" / "reference" / "api.md").read_text(), re.MULTILINE)
    )
    assert shown == set(nightlab.__all__) - {"__version__"}


def test_every_example_is_shown() -> None:
    shown = re.findall(r'--8<-- "(.+?)"', (ROOT / "docs" / "python.md").read_text())
    assert {ROOT / name for name in shown} == set((ROOT / "examples").glob("*.py"))


def names_of(page: Path) -> list[str]:
    """The dotted names of a walk: each begins with a package of ours, or with the module ``api``."""
    packages = {path.stem for path in (ROOT / "src/nightlab").iterdir()}
    found = re.findall(r"`([a-z_]+(?:\.\w+)+)`", page.read_text())
    return [name for name in found if name.split(".")[0] in packages and name != "commons.verifications"]


def resolve(name: str) -> Any:
    """The module, class or function of a dotted name below the package."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        module = ".".join(["nightlab", *parts[:cut]])
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise AttributeError(name)


@pytest.mark.parametrize("page", WALKS, ids=page_name)
def test_the_walks_name_what_there_is(page: Path) -> None:
    names = names_of(page)
    assert len(names) > 15
    for name in names:
        resolve(name)
    with pytest.raises(AttributeError):
        resolve("judge.judge.Judge.guess")


def test_the_lab_of_the_tutorial_runs(tmp_path: Path, nightlab: Any) -> None:
    page = ROOT / "docs" / "tutorials" / "any-program.md"
    lab = tmp_path / "mine"
    lab.mkdir()
    for name, block in (("train.py", blocks(page, "python")[0]), ("lab.toml", blocks(page, "toml")[0])):
        assert block.startswith(f"# {name}\n")
        (lab / name).write_text(block)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for args in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a lab"]):
        subprocess.run([*git, *args], cwd=lab, check=True)
    ran = nightlab("run", "-n", "3", "--plain", "--allow-missing", "all", cwd=lab)
    assert ran.code == 0, ran.err
    assert "3 experiments are done" in ran.out and "tune " in ran.out


def vocabulary() -> Any:
    spec = importlib.util.spec_from_file_location("vocabulary", ROOT / "tools" / "vocabulary.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_vocabulary_check_notices() -> None:
    faults = vocabulary().faults
    assert [(n, word) for n, word, _ in faults("fine\nthe crew of its own\nupkeep_due")] == [
        (2, "crew"),
        (2, "of its own"),
        (3, "upkeep"),
    ]
    assert not list(faults('judge.upkeep = 25, "mend": the recommended amendment'))
