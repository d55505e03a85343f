"""What a contract's proposers need, and which of them no cap holds."""

from __future__ import annotations

import pytest
from support.commands import part
from support.labs import CONTRACT

from nightlab.core.config import StopRules, parse
from nightlab.proposers.requirements import needs, uncounted

ENDPOINTS = 'endpoints = ["api.example.com:443"]\n'
SAID = "proposer researcher has no endpoints: nothing counts its traffic, so the {} can't end a turn"


@pytest.mark.parametrize(
    ("own", "stop", "caps"),
    [
        ("", {}, ""),
        ("", {"tokens": 1000, "hours": 1}, "cap on tokens"),
        ("requests = 50\n", {"money": 2.0}, "caps on requests and money"),
        (f"requests = 50\n{ENDPOINTS}", {"money": 2.0}, ""),
        ('requests = 50\ngateway = {BASE_URL = "https://api.example.com"}\n', {"money": 2.0}, ""),
    ],
)
def test_a_program_that_no_proxy_counts_is_named_if_something_is_capped(
    own: str, stop: dict[str, float], caps: str
) -> None:
    lab = parse(CONTRACT.format(proposer="tuner") + part() + own)
    assert list(uncounted(lab, StopRules(**stop))) == ([SAID.format(caps)] if caps else [])


def test_it_needs_endpoints_and_can_work_all_the_same() -> None:
    lab = parse(CONTRACT.split("[[proposers]]")[0] + part() + "tokens = 1000\n")
    assert (SAID.format("cap on tokens"), False, "name its endpoints, or a gateway") in needs(lab)
    assert not any("no proposer of lab.toml can work here" in what for what, _, _ in needs(lab))
