"""A night with caps: proposers whose traffic is counted, and that ends within one request of each cap."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from support.labs import CONTRACT, GENOME
from support.scripted_model import USAGE, Fault, ScriptedModel, serve

from nightlab.core.events import ProposalRefused, RunStopped
from nightlab.session.session import detect_sandbox

# An agent that asks twice before it edits, and proposes something new in each turn.
AGENT = """
import json, re, sys, time, urllib.request
page = sys.stdin.read()
for n in range(2):
    body = {"model": "m", "messages": [{"role": "user", "content": f"{n} {page}"}], "tools": [1]}
    with urllib.request.urlopen("URL/chat/completions", json.dumps(body).encode()) as answer:
        said = json.load(answer)["choices"][0]["message"]["content"]
text = open("genome.py").read()
open("genome.py", "w").write(re.sub("A = .*", lambda _: f"A = {4 + time.time_ns() % 10**9 / 1e9}", text))
print(said)
"""
PART = """
[[proposers]]
kind = "command"
name = "agent"
command = "python agent.py"
endpoints = ["{host}"]
price = [10.0, 100.0]
concurrency = 1
"""
DOLLARS = (USAGE[0] * 10 + USAGE[1] * 100) / 1e6  # of one answer


def lab_with(make_lab: Any, model: ScriptedModel) -> Any:
    if not detect_sandbox().has_proxy:
        pytest.skip(detect_sandbox().why)
    host = model.url.removeprefix("http://").removesuffix("/v1")
    contract = CONTRACT.split("[[proposers]]")[0] + PART.format(host=host)
    return make_lab(contract=contract, files={"agent.py": AGENT.replace("URL", model.url)})


def said(model: ScriptedModel) -> tuple[int, int]:
    """The requests that came to an endpoint, and the tokens that it stated."""
    return len(model.asked), sum(map(sum, model.stated))


def test_a_cap_on_requests_ends_a_night(make_lab: Any, nightlab: Any) -> None:
    with serve("HYPOTHESIS: another A") as model:
        lab = lab_with(make_lab, model)
        done = nightlab("run", "--tag", "t", "--plain", "--request-limit", "5", cwd=lab)
        assert done.code == 0 and "5 requests are sent, of 5" in done.out
        assert len(model.asked) == 5 and done.out.count("its cap") == 1, "only the last turn is cut short"
        again = nightlab("run", "--tag", "t", "--plain", "--request-limit", "5", cwd=lab)
        assert again.code == 0 and len(model.asked) == 5, "it holds after a restart"


@pytest.mark.parametrize(
    ("rule", "cap", "each"),
    [("tokens", 5000, sum(USAGE)), pytest.param("money", 0.05, DOLLARS, marks=pytest.mark.machine)],
)
def test_a_cap_on_what_answers_cost_ends_a_night_within_one(make_lab: Any, rule: str, cap: float, each: float) -> None:
    with serve("HYPOTHESIS: another A") as model:
        reason, session = lab_with(make_lab, model).run(**{rule: cap})
        asked, tokens = said(model)
    assert f"of {cap:,}" in reason or f"of ${cap:.2f}" in reason
    assert cap <= asked * each < cap + each, "the answer that passed the cap was the last"
    spent = session.ledger.spent()
    assert (spent.requests, spent.tokens) == (asked, tokens), (
        "every turn is in the ledger, the last one's part included"
    )
    assert spent.money == pytest.approx(asked * DOLLARS)
    assert session.ledger.events(RunStopped, last=1)[0].reason == reason
    session.close()


def test_a_run_says_whom_its_caps_do_not_hold(make_lab: Any, nightlab: Any, tmp_path: Path) -> None:
    lab = make_lab(
        contract=CONTRACT.format(proposer="patches") + '\n[[proposers]]\nkind = "command"\ncommand = "true"\n'
    )
    lab.idea("one", GENOME.replace("4.0", "3.0"))
    for program in ("git", "python", "true"):  # but no bwrap
        (tmp_path / program).symlink_to(shutil.which(program) or sys.executable)
    words = ("--tag", "t", "--plain", "-n", "1", "--token-limit", "5000", "--allow-missing", "all")
    out = nightlab("run", *words, cwd=lab, PATH=str(tmp_path)).out
    assert "true passes no proxy in this sandbox (none): nothing counts its traffic" in " ".join(out.split())


@pytest.mark.xdist_group("models")  # one worker imports the SDKs
def test_a_wrong_key_stops_its_proposer_alone(make_lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_KEY", "sk-wrong")
    body = json.dumps({"error": {"message": "invalid key"}})
    with serve(Fault(401, body=body)) as model:
        part = f'kind = "model"\nmodel = "m"\nbase_url = "{model.url}"\nkey = "OUR_KEY"\n'
        lab = make_lab(contract=CONTRACT.format(proposer="patches") + f"\n[[proposers]]\n{part}")
        lab.idea("one", GENOME.replace("4.0", "3.0"))
        reason, session = lab.run()
        assert len(model.asked) == 1
    (refused,) = session.ledger.events(ProposalRefused)
    host = model.url.removeprefix("http://").removesuffix("/v1")
    assert refused.reason == (
        f"{host}: status 401: invalid key; check its key (the variable OUR_KEY); it is not asked again in this run"
    )
    assert [e.candidate.proposer for e in session.ledger.experiments()[1:]] == ["patches"] and "nothing left" in reason
    session.close()
