"""The profile for macOS, as text, read by a small model of how Seatbelt decides. It has never run on a Mac."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from nightlab.sandbox import detect
from nightlab.sandbox.bubblewrap import SandboxSpec
from nightlab.sandbox.macos import SandboxExec, sbpl_string

ODD = 'a "lab" with \\ and (allow default)'


@pytest.fixture
def place(tmp_path: Path) -> SandboxSpec:
    for name in ("work/lib", "home", "data", "trusted"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    return SandboxSpec(
        folder=tmp_path / "work",
        writable=True,
        frozen=("prepare.py", "lib/frozen.py"),
        home=tmp_path / "home",
        tmp=tmp_path / "tmp",
        data=(str(tmp_path / "data"),),
        scratch_mb=16,
        device="cpu",
    )


def rules(profile: str) -> list[tuple[str, list[str], list[tuple[str, str]]]]:
    """Each rule: its decision, its operations, and the paths that it is about."""
    found = []
    for line in profile.splitlines():
        if match := re.fullmatch(r"\((allow|deny) ([^(]+?)( \(.*)?\)", line):
            paths = re.findall(r'\((literal|subpath) "((?:[^"\\]|\\.)*)"\)', match[3] or "")
            found.append((match[1], match[2].split(), [(kind, re.sub(r"\\(.)", r"\1", path)) for kind, path in paths]))
    return found


def decides(profile: str, operation: str, path: Path | str) -> str:
    """What the last rule that is about an operation on a path says."""
    last = "deny"
    for decision, operations, paths in rules(profile):
        named = any(operation == o or (o.endswith("*") and operation.startswith(o[:-1])) for o in operations)
        about = any(str(path) == p or (kind == "subpath" and str(path).startswith(f"{p}/")) for kind, p in paths)
        if (named and about) or operations == ["default"]:
            last = decision
    return last


def test_it_denies_what_it_does_not_allow(place: SandboxSpec) -> None:
    profile = SandboxExec([]).profile(place)
    assert profile.startswith("(version 1)\n(deny default)\n") and "(allow default)" not in profile
    assert profile.endswith("(deny network*)\n") and "(allow network" not in profile
    for path in ("/Users/me/.ssh/id", "/private/etc/passwd", place.folder.parent / "trusted/prepare.py"):
        assert decides(profile, "file-read-data", path) == "deny"
        assert decides(profile, "file-write-data", path) == "deny"


def test_what_it_reads_and_writes(place: SandboxSpec) -> None:
    profile = SandboxExec([Path("/somewhere/venv")]).profile(place)
    for path in ("/usr/lib/x", "/somewhere/venv/bin/python", place.folder / "x", place.folder.parent / "data/a"):
        assert decides(profile, "file-read-data", path) == "allow"
    for path in ("/usr/lib/x", "/somewhere/venv/bin/python", place.folder.parent / "data/a"):
        assert decides(profile, "file-write-data", path) == "deny"
    for path in (place.folder / "train.py", place.folder / "lib/x", place.home / "tmp/x"):
        assert decides(profile, "file-write-data", path) == "allow"
    assert decides(profile, "file-read-metadata", place.folder.parent) == "allow", "or no path could be resolved"
    assert decides(profile, "file-read-data", place.folder.parent) == "deny", "but not listed"


def test_a_later_rule_denies_the_frozen_files(place: SandboxSpec) -> None:
    profile = SandboxExec([]).profile(place)
    lines = profile.splitlines()
    allowed = next(n for n, line in enumerate(lines) if line.startswith("(allow file-write* "))
    denied = next(n for n, line in enumerate(lines) if line.startswith("(deny file-write* "))
    assert allowed < denied, "the last rule that matches decides"
    for name in place.frozen:
        assert decides(profile, "file-write-data", place.folder / name) == "deny"
        assert decides(profile, "file-read-data", place.folder / name) == "allow"
    for folder in (place.folder, place.folder / "lib", place.home):
        assert decides(profile, "file-write-unlink", folder) == "deny", "nor is what holds them moved away"
    assert decides(profile, "file-write-unlink", place.folder / "train.py") == "allow"


def test_an_evaluator_writes_nothing_but_its_home(place: SandboxSpec, tmp_path: Path) -> None:
    trusted = SandboxSpec(tmp_path / "trusted", False, (), place.home, place.tmp, (), 16, "cpu", artefacts=place.folder)
    box = SandboxExec([])
    profile = box.profile(trusted)
    assert decides(profile, "file-write-data", trusted.folder / "x") == "deny"
    assert decides(profile, "file-read-data", place.folder / "model.json") == "allow"
    assert decides(profile, "file-write-data", place.folder / "model.json") == "deny"
    assert "(deny file-write* )" not in profile and "(deny file-write*)" not in profile
    assert box.start(trusted).env["NIGHTLAB_ARTEFACTS"] == str(place.folder)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/a b", '"/a b"'),
        ('/a"b', r'"/a\"b"'),
        (r"/a\b", r'"/a\\b"'),
        ('/a\\"b', r'"/a\\\"b"'),
        ('/x"))(allow default)(', r'"/x\"))(allow default)("'),
    ],
)
def test_paths_are_quoted(path: str, text: str) -> None:
    assert sbpl_string(Path(path)) == text


def test_a_hostile_name_adds_no_rule(place: SandboxSpec, tmp_path: Path) -> None:
    (tmp_path / ODD).mkdir()
    odd = SandboxSpec(tmp_path / ODD, True, ('x") (allow network* "',), place.home, place.tmp, (), 16, "cpu")
    profile = SandboxExec([]).profile(odd)
    assert len(profile.splitlines()) == len(SandboxExec([]).profile(place).splitlines())
    assert decides(profile, "file-write-data", odd.folder / "train.py") == "allow"
    assert decides(profile, "file-write-data", odd.folder / odd.frozen[0]) == "deny"


def test_paths_are_as_the_kernel_knows_them(place: SandboxSpec, tmp_path: Path) -> None:
    """As /tmp, which leads to /private/tmp."""
    (tmp_path / "short").symlink_to(tmp_path / "work")
    linked = SandboxSpec(tmp_path / "short", True, ("prepare.py",), place.home, place.tmp, (), 16, "cpu")
    start = SandboxExec([]).start(linked)
    assert start.cwd == str(place.folder) and str(tmp_path / "short") not in start.prefix[2]
    assert decides(start.prefix[2], "file-write-data", place.folder / "prepare.py") == "deny"


def test_metal_is_there_only_where_the_device_is(place: SandboxSpec) -> None:
    box = SandboxExec([])
    assert "iokit" not in box.profile(place)
    metal = SandboxSpec(place.folder, True, (), place.home, place.tmp, (), 16, "mps")
    assert "AGXDeviceUserClient" in box.profile(metal) and "MTLCompilerService" in box.profile(metal)


def test_how_it_is_started(place: SandboxSpec) -> None:
    box = SandboxExec([])
    start = box.start(place)
    assert start.prefix == ["/usr/bin/sandbox-exec", "-p", box.profile(place)]
    assert start.env == {"HOME": str(place.home), "TMPDIR": str(place.home / "tmp")}
    assert (place.home / "tmp").is_dir()
    assert box.missing == ("processes", "privileges"), "what it can't give it does not claim"


def test_it_is_found_on_a_mac(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "sandbox-exec"
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(detect, "SANDBOX_EXEC", program)
    assert detect.find_sandbox([]).name == "none"
    program.touch()
    assert detect.find_sandbox([]).name == "sandbox-exec"


def test_there_is_none_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    sandbox = detect.find_sandbox([])
    assert sandbox.name == "none" and "win32" in sandbox.why
