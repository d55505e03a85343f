"""Agents over the Agent Client Protocol: the real client, and agents of our own that speak plain JSON-RPC, or badly."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from support.extras import extra
from support.labs import GENOME
from support.tiers import by_default

from nightlab.core.config import AgentConfig
from nightlab.core.types import Experiment, Metric
from nightlab.proposers import Briefing, NoProposal, Proposal
from nightlab.proposers.command import AnyCommand
from nightlab.proposers.proposer import ProposerWorkspace
from nightlab.sandbox.bubblewrap import NoSandbox
from nightlab.session.session import detect_sandbox

extra("acp", "agents")

AGENT = """
import json, os, sys, time

def send(**message): print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
def update(what, **more):
    send(method="session/update", params={"sessionId": "s", "update": {"sessionUpdate": what, **more}})
def say(words): update("agent_message_chunk", content={"type": "text", "text": words})
def heard(): return json.loads(sys.stdin.readline())
def write(old, new):
    text = open("genome.py").read()
    open("genome.py", "w").write(text.replace(old, new))
def may(kind, path, call="t1"):
    if call[0] == "t":
        update("tool_call", toolCallId=call, title="a call", kind=kind, locations=[{"path": path}] if path else [])
    options = [{"optionId": k, "name": k, "kind": k} for k in ("allow_always", "allow_once", "reject_once")]
    send(id=99, method="session/request_permission", params={
        "sessionId": "s", "toolCall": {"toolCallId": call}, "options": options})
    return heard()["result"]["outcome"].get("optionId") == "allow_once"

def turn(page, cwd):
    {{turn}}
    return "end_turn"

cwd = ""
while line := sys.stdin.readline():
    message = json.loads(line)
    method, params, id = message.get("method"), message.get("params"), message.get("id")
    if method == "initialize":
        assert not any(params.get("clientCapabilities", {}).values())
        about = {"name": "fake", "version": "2.0"}
        send(id=id, result={"protocolVersion": 1, "agentInfo": about, "agentCapabilities": {}})
    elif method == "session/new":
        cwd = params["cwd"]
        {{new}}
        send(id=id, result={"sessionId": "s"})
    elif method == "session/prompt":
        page = params["prompt"][0]["text"]
        update("usage_update", used=10, size=100, cost={"amount": 0.25, "currency": "USD"})
        why = turn(page, cwd)
        send(id=id, result={"stopReason": why, "usage": {"totalTokens": 30, "inputTokens": 20, "outputTokens": 10}})
"""
EDIT = "write('A = 4.0', 'A = 2.0')"
DONE = f"{EDIT}\nsay('HYPOTHESIS: a smaller A')"


@pytest.fixture(params=by_default("sealed", of=["bare", "sealed"]))
def propose(request: Any, make_lab: Any, tmp_path: Path) -> Any:
    """One turn of an agent that does as it is told here."""
    sandbox = detect_sandbox() if request.param == "sealed" else NoSandbox()
    if request.param == "sealed" and sandbox.missing:
        pytest.skip(sandbox.why)

    def run(turn: str, new: str = "pass", **more: Any) -> Proposal:
        script = AGENT.replace("{{turn}}", turn.replace("\n", "\n    ")).replace("{{new}}", new)
        session = make_lab(files={"agent.py": script}).session()
        libraries = [path for path in sys.path if "site-packages" in path]
        part = AgentConfig(kind="agent", command=f"{sys.executable} agent.py", name="a", files=libraries, **more)
        first = Experiment(0, session.baseline_candidate(), 0.0)
        told = Briefing(Metric("loss"), "cpu", session.genome(session.base), first, [first], lab=session.lab)
        return AnyCommand(part, ProposerWorkspace(session.repo, session.lab, sandbox, tmp_path / "place")).propose(told)

    return run


def test_an_edit_is_the_proposal_and_what_it_took_is_known(propose: Any) -> None:
    first = "assert 'A = 4.0' in page\nsay('first I look.')\nassert may('edit', cwd + '/genome.py')\n"
    proposal = propose(f"{first}{EDIT}\nsay('HYPOTHESIS: I made ')\nsay('A smaller.')")
    assert proposal.files == {"genome.py": GENOME.replace("4.0", "2.0")}
    assert proposal.hypothesis == "I made A smaller."
    usage = dict(proposal.usage)
    assert usage.pop("seconds") > 0
    assert usage == {"agent": "fake 2.0", "input_tokens": 20, "output_tokens": 10, "cost_usd": 0.25}


def test_nothing_but_an_edit_in_its_folder_is_permitted(propose: Any) -> None:
    asked = """
for kind, path in [("execute", cwd + "/genome.py"), ("edit", "/etc/passwd"), ("edit", cwd + "/../x"), ("edit", ""),
                   ("fetch", ""), ("delete", cwd + "/genome.py"), ("other", ""), ("switch_mode", "")]:
    assert not may(kind, path), (kind, path)
assert may("edit", "genome.py", "t2")
""".strip()
    assert propose(f"{asked}\n{DONE}").files


def test_an_edit_that_shows_only_its_diff_is_judged_by_it(propose: Any) -> None:
    asked = """
def shows(path, call):
    diff = [{"type": "diff", "path": path, "newText": "x"}]
    update("tool_call", toolCallId=call, title="a call", kind="edit", content=diff)
    return may("edit", "", call)
assert shows(cwd + "/genome.py", "d1") and not shows("/etc/passwd", "d2")
""".strip()
    assert propose(f"{asked}\n{DONE}").files


STOPPED = "it stopped before it was finished"
BAD = {
    "refuses": (
        f"{DONE}\nreturn 'refusal'",
        f"{STOPPED}: refusal; its edits are lost: -A = 4.0 # [0.25..8 log] +A = 2.0",
    ),
    "is cut": (f"{DONE}\nreturn 'max_tokens'", "its answer was cut at a limit: max_tokens"),
    "is cut and says it ended": (
        f"{EDIT}\nsay('Now I also set B, because')",
        "not finished; last line: Now I also set",
    ),
    "says nothing after its edit": (
        f"{EDIT}\nupdate('session_info_update', title='x')",
        "so it was not finished; its edits",
    ),
    "says it, and goes on": (f"{DONE}\nmay('edit', cwd + '/genome.py')", "so it was not finished; its edits"),
    "edits nothing": ("say('I would rather not.')", "it edited nothing; last line of output: I would rather not."),
    "dies": (f"{EDIT}\nos._exit(3)", f"{STOPPED}: Connection closed"),
    "fails": (f"{EDIT}\nraise SystemExit(0)", f"{STOPPED}: Connection closed"),
    "talks nonsense": (f"{EDIT}\nprint('no json at all', flush=True)\nos._exit(1)", f"{STOPPED}: Connection closed"),
    "hangs": (f"{EDIT}\ntime.sleep(60)", "it neither printed nor changed anything for 5 s"),
}


@pytest.mark.parametrize(("turn", "reason"), BAD.values(), ids=list(BAD))
def test_a_turn_that_fails_says_why(propose: Any, turn: str, reason: str) -> None:
    with pytest.raises(NoProposal) as failed:
        propose(turn, idle=5 if "sleep" in turn else 600)
    assert reason in str(failed.value) and "_update" not in str(failed.value), "no trace line is its words"


def test_one_that_wants_credentials_says_so(propose: Any) -> None:
    error = "send(id=id, error={'code': -32000, 'message': 'Authentication required'}); continue"
    with pytest.raises(NoProposal, match="it needs a login: Authentication required; pass it a key") as failed:
        propose(EDIT, new=error)
    assert failed.value.final, "a login needs a person, so it is not asked again"
