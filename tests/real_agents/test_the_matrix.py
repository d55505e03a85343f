"""What real agents make of an endpoint that misbehaves: event by agent, each one turn, through the real proxy.

Nothing that was half a turn may be kept, and what was counted is what the endpoint stated. ``-k codex`` plays one;
``NIGHTLAB_TEST_TABLE`` names a file to which each turn is appended as a line of JSON. How long an agent's whole turns
take here decides how long the others may, so that those of one agent follow each other (``--dist loadgroup``).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.coding_agents import AGENTS, NEWEST, CodingAgent, installed, write_script
from support.extras import extra
from support.labs import GENOME
from support.model_wire import Call
from support.scripted_model import ChampionStep, Fault, ScriptedModel, Whole, serve

from nightlab.core.config import AgentConfig, CommandConfig
from nightlab.core.types import Experiment, Metric
from nightlab.proposers import Briefing, NoProposal, Proposal
from nightlab.proposers.command import AnyCommand
from nightlab.proposers.proposer import ProposerWorkspace
from nightlab.session.session import detect_sandbox

pytestmark = [pytest.mark.machine, pytest.mark.timeout(3600)]
extra("acp", "agents")

WALL = float(os.environ.get("NIGHTLAB_TEST_WALL", "150"))  # seconds of an agent's first turn, for a busy machine
RETRIES = 20  # seconds that a turn has for retries, beyond three times the agent's quickest whole turn
TABLE = os.environ.get("NIGHTLAB_TEST_TABLE", "")
REQUESTS = 25  # of a turn
OLD, NEW = "A = 4.0", "A = 2.0"
LAST = "HYPOTHESIS: a smaller A"
MARK = f"987.{os.getpid()}"  # seconds; not those of another worker's daemon
DAEMON = f"setsid sleep {MARK} > /dev/null 2>&1 < /dev/null & true"
# The same reason in the words of each API: of OpenAI's chat and responses, Anthropic's, Gemini's.
REASONS = {
    "length": ("length", "max_output_tokens", "max_tokens", "MAX_TOKENS"),
    "filter": ("content_filter", "content_filter", "refusal", "SAFETY"),
}


@dataclass(frozen=True)
class Event:
    """What the endpoint answers after the edit: ``last`` for ever, after ``first``. ``whole``: a turn may be kept."""

    last: ChampionStep
    first: tuple[ChampionStep, ...] = ()
    whole: bool = False
    edits: bool = True


def cut(reason: str) -> Whole:
    return Whole("Now I also set B, because", reason)


def error(status: int, words: str, **headers: str) -> Fault:
    return Fault(status, headers, body=json.dumps({"error": {"message": words, "type": "an_error"}}))


EVENTS = {
    "ends with its hypothesis": Event(LAST, whole=True),
    "the same in gzip": Event(Whole(LAST, way="gzip"), whole=True),
    "two answers in one": Event(Whole(LAST, way="twice"), whole=True),
    "429, Retry-After 1, then well": Event(LAST, (error(429, "slow down", **{"retry-after": "1"}),), whole=True),
    "starts a daemon, then well": Event(LAST, (Call("shell", {"line": DAEMON}),), whole=True),
    "nothing after its edit": Event(""),
    "words after its hypothesis": Event(f"{LAST}\n\nWait, that is wrong."),
    "its hypothesis in `<think>`": Event(f"<think>\n{LAST}"),
    "cut for length": Event(cut("length")),
    "cut by a filter": Event(cut("filter")),
    "whole, but filtered": Event(Whole(LAST, "filter")),
    "no finish reason": Event(Whole(LAST, None)),
    "an unknown one": Event(Whole(LAST, "whatever")),
    "pause_turn": Event(Whole(LAST, "pause_turn")),
    "ends early": Event(Whole(LAST, way="early")),
    "connection breaks": Event(Whole(LAST, way="broken")),
    "hangs up": Event(Fault(hang_up=True)),
    "400": Event(error(400, "bad request")),
    "401": Event(error(401, "wrong key")),
    "401 at once": Event(error(401, "wrong key"), edits=False),
    "429, Retry-After 600": Event(error(429, "slow down", **{"retry-after": "600"})),
    "500": Event(error(500, "broken")),
    "200 with an error": Event(Fault(body='{"error": {"message": "over quota", "code": 402}}')),
    "no choices": Event(Fault(body='{"choices": []}')),
    "the same tool for ever": Event(Call("shell", {"line": "true"})),
    "an endless stream": Event(Whole(LAST, way="endless")),
    "one byte a second": Event(Whole(LAST, way="slow")),
}
FIRST = next(iter(EVENTS))
NEVER_END = {"an endless stream", "one byte a second"}


@dataclass
class Play:
    """Chooses the answers of one turn: the agent's edit, then what the event says."""

    agent: CodingAgent
    event: Event
    given: int = 0
    asked: list[str] = field(default_factory=list)

    def choose(self, path: str, body: dict[str, Any]) -> ChampionStep:
        kind, done, told = heard(path, body)
        self.asked.append(path)
        if not told or not (has_tools(body) or self.agent.block):
            return "A title"  # a question of the agent's own, on the side
        edits = self.agent.edit(OLD, NEW) if self.event.edits else []
        if done < len(edits):
            return edits[done]
        self.given += 1
        steps = (*self.event.first, self.event.last)
        return self._worded(steps[min(self.given, len(steps)) - 1], kind)

    def _worded(self, step: ChampionStep, kind: int) -> ChampionStep:
        """A step in the words of the endpoint's API and the agent's tools."""
        if isinstance(step, Call):
            return self.agent.shell(step.arguments["line"])
        if isinstance(step, Whole) and step.stop in REASONS:
            step = Whole(step.words, REASONS[str(step.stop)][kind], step.way)
        line = GENOME.splitlines()[0]
        return with_words(self.agent.block(line, line.replace(OLD, NEW)), step) if self.agent.block else step


def with_words(block: str, step: ChampionStep) -> ChampionStep:
    """An answer with an edit in words before it."""
    if isinstance(step, Whole):
        return replace(step, words=f"{block}{step.words}")
    return f"{block}{step}" if isinstance(step, str) else step


def heard(path: str, body: dict[str, Any]) -> tuple[int, int, bool]:
    """Which API a request is of, how many tools have answered in it, and whether it holds the briefing."""
    said = body.get("messages") or body.get("input") or body.get("contents") or []
    said = said if isinstance(said, list) else []
    kind = 3 if "contents" in body else 2 if path.split("?")[0].endswith("/messages") else int("input" in body)
    parts = [part for one in said for part in (one.get("content") or one.get("parts") or []) if isinstance(part, dict)]
    done = sum(one.get("role") == "tool" or one.get("type") == "function_call_output" for one in said)
    done += sum(part.get("type") == "tool_result" or "functionResponse" in part for part in parts)
    return kind, done, "# One proposal" in json.dumps(said)


def has_tools(body: dict[str, Any]) -> bool:
    return bool(body.get("tools"))


@dataclass(frozen=True)
class Row:
    """What one turn came to. ``kept``: its genome, where it became a proposal."""

    agent: str
    event: str
    kept: str
    reason: str
    stated: int
    counted: int
    requests: int
    asked: int
    seconds: float


def play(agent: str, event: str, wall: float, turn: Callable[[str, ScriptedModel, float], Proposal]) -> Row:
    played, begun = Play(AGENTS[agent], EVENTS[event]), time.monotonic()
    with serve(choose=played.choose) as model:
        kept, reason = "", ""
        try:
            proposal = turn(agent, model, wall)
            kept, usage = proposal.files.get("genome.py", ""), proposal.usage
        except NoProposal as failure:
            reason, usage = str(failure), failure.usage
        stated = sum(map(sum, model.stated))
    counted = usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
    seconds = time.monotonic() - begun
    asked = len(played.asked)
    name = f"{agent}, newest" if NEWEST else agent
    return Row(name, event, kept, reason, stated, counted, usage.get("requests", 0), asked, seconds)


@pytest.fixture(scope="module")
def quickest() -> dict[str, float]:
    """The seconds of the quickest whole turn so far of each agent."""
    return {}


@pytest.fixture
def turn(make_lab: Any, tmp_path: Path) -> Iterator[Callable[[str, ScriptedModel, float], Proposal]]:
    """One turn of an agent whose model is ours."""
    if not (sandbox := detect_sandbox()).has_proxy:
        pytest.skip(f"there is no sandbox here for the agents: {sandbox.why}")
    session = make_lab().session()
    first = Experiment(0, session.baseline_candidate(), 0.0)
    told = Briefing(Metric("loss"), "cpu", session.genome(session.base), first, [first], lab=session.lab)
    workspace = ProposerWorkspace(session.repo, session.lab, sandbox, tmp_path / "place")
    tmp_path.chmod(0o755)
    (folder := tmp_path / "scripts").mkdir()

    def run(agent: str, model: ScriptedModel, wall: float) -> Proposal:
        programs, url = installed([agent]), model.url.removesuffix("/v1")
        libraries = [path for path in sys.path if path.endswith("site-packages")]
        part = {
            "name": agent,
            "command": f"sh {write_script(folder, programs, url, agent)}",
            "files": [str(programs.parent.parent), str(folder), *libraries],
            "endpoints": [url.removeprefix("http://")],
            "wall": wall,
            "requests": REQUESTS,
        }
        acp = AGENTS[agent].kind == "agent"
        config = AgentConfig(kind="agent", **part) if acp else CommandConfig(kind="command", **part)
        return AnyCommand(config, workspace).propose(told)

    yield run
    session.close()


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("agent", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in AGENTS])
def test_no_half_turn_is_kept_and_every_token_is_counted(
    turn: Any, quickest: dict[str, float], agent: str, event: str
) -> None:
    if AGENTS[agent].block and any(isinstance(step, Call) for step in (*EVENTS[event].first, EVENTS[event].last)):
        pytest.skip("it has no tools")
    wall = 3 * quickest[agent] + (0 if event in NEVER_END else RETRIES) if agent in quickest else WALL
    row = play(agent, event, min(wall, WALL), turn)
    if row.kept:
        quickest[agent] = min(row.seconds, quickest.get(agent, row.seconds))
    print(row)
    if TABLE:
        with Path(TABLE).open("a") as table:
            table.write(f"{json.dumps(asdict(row))}\n")
    assert not row.kept or EVENTS[event].whole, "half a turn was kept"
    assert not row.kept or row.kept == GENOME.replace(OLD, NEW)
    assert row.kept or (row.reason and "\n" not in row.reason)
    assert row.kept or event != FIRST, "it does not work at all"
    assert abs(row.counted - row.stated) <= 0.02 * row.stated
    assert not [p for p in psutil.process_iter(["cmdline"]) if MARK in (p.info["cmdline"] or [])], "a daemon is left"
