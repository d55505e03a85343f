"""How the tests lie: beside what they test, and sharing only what is in ``tests/support``."""

from __future__ import annotations

import ast
from pathlib import Path

import nightlab

TESTS = Path(__file__).parent


def imported(file: Path) -> set[str]:
    """Every module name that a file imports, at whatever depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_no_test_imports_another() -> None:
    files = list(TESTS.rglob("*.py"))
    for file in files:
        others = {name for name in imported(file) if name.split(".")[-1].startswith("test_") or name == "conftest"}
        assert not others, f"{file.relative_to(TESTS)} imports {others}: what they share belongs in tests/support"
    text = {file: file.read_text() for file in files if file != Path(__file__)}
    quoted = [file.name for file, page in text.items() if "from test_" in page or "import test_" in page]
    assert not quoted, "a program in a test imports a test"


def test_each_folder_is_a_room_of_the_source() -> None:
    rooms = {path.name for path in Path(nightlab.__file__).parent.iterdir() if path.is_dir()}
    folders = {path.name for path in TESTS.iterdir() if path.is_dir() and any(path.glob("test_*.py"))}
    assert folders - rooms == {"adversarial", "real_agents"}
