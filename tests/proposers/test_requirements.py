"""What a contract's proposers need, and which of them no cap holds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from support.commands import part
from support.labs import CONTRACT

from nightlab.core.config import StopRules, parse
from nightlab.proposers.requirements import needs, uncounted
from nightlab.sandbox.bubblewrap import NoSandbox

ENDPOINTS = 'endpoints = ["api.example.com:443"]\n'
SAID = (
    "proposer researcher passes no proxy in this sandbox (none): nothing counts its traffic, so the {} can't end a turn"
)


@pytest.mark.parametrize(
    ("own", "stop", "caps"),
    [
        ("", {}, ""),
        ("", {"tokens": 1000, "hours": 1}, "cap on tokens"),
        ("requests = 50\n", {"money": 2.0}, "caps on requests and money"),
        (f"requests = 50\n{ENDPOINTS}", {"money": 2.0}, "caps on requests and money"),
    ],
)
def test_a_program_that_no_proxy_counts_is_named_if_something_is_capped(
    own: str, stop: dict[str, float], caps: str
) -> None:
    lab, stopping = parse(CONTRACT.format(proposer="tuner") + part() + own), StopRules(**stop)
    assert list(uncounted(lab, stopping, NoSandbox())) == ([SAID.format(caps)] if caps else [])
    assert not list(uncounted(lab, stopping, SimpleNamespace(name="proxied", missing=(), why="", has_proxy=True)))
    closed = list(uncounted(lab, stopping, SimpleNamespace(name="none", missing=(), why="", has_proxy=False)))
    assert closed == ([SAID.format(caps)] if caps and ENDPOINTS not in own else []), "it can't run there at all"


def test_it_can_work_all_the_same() -> None:
    lab = parse(CONTRACT.split("[[proposers]]")[0] + part() + "tokens = 1000\n")
    assert not any("no proposer of lab.toml can work here" in what for what, _, _ in needs(lab))
