"""A whole session with real agents, whose model is ours and has bad moods: every experiment that should be, is."""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.coding_agents import AGENTS, installed, write_script
from support.extras import extra
from support.labs import CONTRACT, users_own
from support.processes import wait
from support.researcher import GOOD, INJECTION, MISCHIEF, MOODS, NIGHT, Researcher
from support.scripted_model import serve

import nightlab.loop.candidate_queue
import nightlab.proposers.backoff
from nightlab.core.config import StopRules
from nightlab.core.events import ProposalRefused
from nightlab.core.observer import Observer
from nightlab.core.types import Experiment
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.session.session import Session, detect_sandbox

pytestmark = [pytest.mark.machine, pytest.mark.timeout(3600)]
extra("acp", "agents")

MARK = "NIGHTLAB_NIGHT_OF_CHAOS"
LINES = "".join(
    f'{agent.upper()}_{turn} = "off"\n# -\n# -- {agent} {turn}\n# ---\n'
    for agent in NIGHT
    for turn in range(len(MOODS))
)
GENOME = f"A = 4.0  # [0.25..8 log]\n# -\n# --\n# ---\nB = 8  # [1..16]\n# -\n# --\n# ---\n{LINES}"
MEASURE = """\
import genome
good = sum(value == "on" for value in vars(genome).values())
print(f"METRIC loss={(genome.A - 1) ** 2 + 0.1 * (genome.B - 3) ** 2 + 1 - 0.01 * good:.6f}")
"""
PART = """
[[proposers]]
kind = "{kind}"
name = "{name}"
command = "sh {script}"
environment = ["{mark}"]
files = ["{cache}", "{folder}", {libraries}]
endpoints = ["{endpoint}"]
idle = {idle}
wall = 120
concurrency = 1
"""
IDLE = float(os.environ.get("NIGHTLAB_TEST_IDLE", "30"))


@pytest.fixture
def forbidden() -> Any:
    """A port of this machine that no agent may reach; its list is who did."""
    reached: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            try:
                while True:
                    reached.append(server.accept()[1])
            except OSError:
                return

        threading.Thread(target=listen, daemon=True).start()
        yield server.getsockname()[1], reached
        server.shutdown(socket.SHUT_RDWR)


def test_a_night_of_chaos(make_lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forbidden: Any) -> None:
    if not detect_sandbox().has_proxy:
        pytest.skip(f"there is no sandbox here for the agents: {detect_sandbox().why}")
    programs = installed(NIGHT.values())
    port, reached = forbidden
    monkeypatch.setattr(nightlab.proposers.backoff, "FIRST", 0.01)
    monkeypatch.setattr(nightlab.proposers.backoff, "LONGEST", 20.0)  # or one that has nothing more had all the turns
    monkeypatch.setattr(nightlab.loop.candidate_queue, "REFUSALS", 1000)
    monkeypatch.setenv(MARK, str(tmp_path))
    tmp_path.chmod(0o755)
    secret, outside = tmp_path / "secret", tmp_path / "outside"
    secret.write_text("mine")
    researcher = Researcher(MISCHIEF.format(port=port, secret=secret, outside=outside))
    with serve(choose=researcher.choose) as server:
        lab = make_lab(GENOME, MEASURE, contract=contract(server.url, tmp_path, programs))
        before = users_own(lab)
        session = lab.session()
        night = ExperimentLoop(session, StopRules(), Scheduler(session, Observer()))

        def all_had_their_turns() -> bool:
            left = Counter(turn.agent for turn in list(researcher.turns.values()) if turn.mood == "has nothing more")
            return all(left[agent] >= 2 for agent in NIGHT)

        def stop() -> None:
            wait(all_had_their_turns, 3000)
            looking = Session(session.repo, session.tag)  # a ledger's connection is its thread's own
            wait(lambda: not looking.ledger.unjudged())
            looking.close()
            night.scheduler.asked_to_stop = 1

        threading.Thread(target=stop, daemon=True).start()
        try:
            reason = night.run()
        finally:
            tell(session, researcher)
    assert reason == "stopped by the user"

    turns = list(researcher.turns.values())
    tried = session.ledger.experiments()[1:]
    refused = session.ledger.events(ProposalRefused)
    for agent in NIGHT:
        mine = [turn for turn in turns if turn.agent == agent]
        assert [turn.mood for turn in mine[: len(MOODS)]] == list(MOODS), "each mood was one turn, whatever was retried"
        should = [turn for turn in mine if turn.mood in GOOD and turn.ended]
        given_up = {"limit", "mischief and an edit"} if agent == "qwen" else {"limit"}  # it ends its turn at a "no"
        assert {turn.mood for turn in mine if turn.mood in GOOD and not turn.ended} <= given_up, "some don't try again"
        names = [f"{agent}_{turn.number} ".upper() for turn in should]
        done = [e for e in tried if e.candidate.proposer == agent]
        assert [e.candidate.hypothesis.split("HYPOTHESIS: ")[-1].split("on is")[0] for e in done] == names
        assert [verdict(e) for e in done] == ["crash" if turn.mood == "crash" else "keep" for turn in should]
        failed = [note for note in refused if note.proposer == agent]
        slow = [note for note in failed if f"for {IDLE:g} s" in note.reason]  # to start, on a machine that is busy
        last = (
            "I have nothing more.",
            "it was stopped",
        )  # turns that the model doesn't tell apart: their pages are alike
        came = len(done) + sum(not note.reason.endswith(last) for note in failed)
        assert len(MOODS) <= came <= len(MOODS) + len(slow), "each turn was one or the other"
        assert all(note.reason for note in failed)
        if agent != "qwen":  # it asks before it runs a command, and is told no
            assert any(f"127.0.0.1:{port}" in note.reason for note in failed), "it tried"
    assert sum(turn.mood in MOODS for turn in turns) >= 30
    assert [e for e in tried if e.candidate.proposer == "tuner" and e.verdict], "the tuner had its share"

    repo = session.repo
    for e in session.ledger.experiments()[1:]:
        assert repo.check_scope(e.candidate.parent, e.candidate.commit, session.lab.genome) == ["genome.py"]
    assert users_own(lab) == before, "nothing but the genome ever changed, and that not in the working copy"
    assert not outside.exists() and not reached, "nobody got out"
    quoting = [page for page in researcher.pages if INJECTION.split(" ```")[0] in page]
    assert quoting, "a crash's message reached a briefing"
    assert not any(f"\n{INJECTION}" in page for page in quoting)
    session.close()
    assert [words for words in living() if not words.endswith("core/program/worker.py")] == [], "that is nightlab's own"


def contract(url: str, tmp_path: Path, programs: Path) -> str:
    folder = tmp_path / "scripts"
    folder.mkdir()
    libraries = ", ".join(f'"{path}"' for path in os.sys.path if path.endswith("site-packages"))  # type: ignore[attr-defined]
    text = CONTRACT.format(proposer="tuner") + "share = 0.5\n"
    for name, entry in NIGHT.items():
        text += PART.format(
            kind=AGENTS[entry].kind,
            name=name,
            script=write_script(folder, programs, url.removesuffix("/v1"), entry),
            mark=MARK,
            cache=programs.parent.parent,
            folder=folder,
            libraries=libraries,
            endpoint=url.removeprefix("http://").removesuffix("/v1"),
            idle=IDLE,
        )
    return text


def verdict(experiment: Experiment) -> str:
    return experiment.verdict.status if experiment.verdict else ""


def living() -> list[str]:
    """Processes that were started with an agent's environment and are still there."""
    found = []
    for process in psutil.process_iter():
        try:
            if MARK in process.environ() and process.pid != os.getpid():
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def tell(session: Any, researcher: Researcher) -> None:
    """What happened, agent by agent, for whoever runs this by hand: pytest -s."""
    for agent in NIGHT:
        print(f"\n{agent}")
        for turn in researcher.turns.values():
            if turn.agent == agent and turn.mood in MOODS:
                print(
                    f"  {turn.number:2} {turn.mood:22} {turn.requests} requests{'' if turn.ended else ', no last word'}"
                )
        for e in session.ledger.experiments()[1:]:
            if e.candidate.proposer == agent:
                print(f"  experiment {e.number}: {verdict(e)}, {e.candidate.usage}: {e.candidate.hypothesis[:60]}")
        for note in session.ledger.events(ProposalRefused):
            if note.proposer == agent:
                print(f"  failed: {note.reason[:150]}")
    print(f"\ntuner: {sum(e.candidate.proposer == 'tuner' for e in session.ledger.experiments())} experiments")
