"""Any command as a proposer: real processes in real sandboxes, each behaving in its own way, well or badly."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import EDIT, GOOD, PYTHON, failure, part
from support.labs import CONTRACT, GENOME
from support.processes import wait

import nightlab.loop.candidate_queue
import nightlab.proposers.backoff
import nightlab.proposers.command
from nightlab.core.config import CommandConfig, StopRules, parse
from nightlab.core.events import ProposalRefused
from nightlab.core.observer import Observer
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.proposers import NoProposal
from nightlab.sandbox.bubblewrap import NoSandbox, Sandbox
from nightlab.session.session import detect_sandbox


@pytest.fixture(params=[pytest.param("bare", marks=pytest.mark.machine), "sealed"])
def sandbox(request: Any) -> Sandbox:
    if request.param == "bare":
        return NoSandbox()
    found = detect_sandbox()
    if found.missing:
        pytest.skip(found.why)
    return found


def test_what_it_changed_in_the_genome_is_the_proposal(proposer: Any, sandbox: Sandbox, tmp_path: Path) -> None:
    script = GOOD + "open('hypothesis.txt', 'w').write('Hypothesis: smaller\\x1b[2J\\nis better')\nprint('done')\n"
    proposal = proposer(script, sandbox)()
    assert proposal.files == {"genome.py": GENOME.replace("A = 4.0", "A = 2.0")}
    assert (proposal.proposer, proposal.hypothesis) == ("a", "smaller is better")
    assert proposal.usage["seconds"] > 0
    left = {path.name for path in (tmp_path / "place" / "a").iterdir()}
    assert left == {"briefing.md", "output.log"}, "the copy and the home are gone, the log stays"


def test_the_briefing_comes_on_its_standard_input_and_as_a_file(proposer: Any, sandbox: Sandbox) -> None:
    script = (
        "import os, sys\npage = sys.stdin.read()\n"
        "assert page == open(os.environ['NIGHTLAB_BRIEFING']).read() and 'A = 4.0' in page\n"
        "assert open('program.md').read() == 'the strategy that holds\\n' and 'the strategy that holds' in page\n"
        + GOOD
    )
    assert proposer(script, sandbox)().hypothesis == "a smaller A"


@pytest.mark.parametrize(
    "said",
    [
        "print('thinking'); print('**Hypothesis:** fewer steps'); print('```')",
        "open('hypothesis.txt', 'w').write('fewer steps'); print('done')",
    ],
)
def test_the_hypothesis_is_the_last_line_or_a_file_written_last(proposer: Any, said: str) -> None:
    assert proposer(EDIT + said, NoSandbox())().hypothesis == "fewer steps"


def test_a_turn_is_continued_once_in_its_copy(proposer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first answer was cut: what it edited is still there, its second briefing says so, both runs are counted."""
    decide = nightlab.proposers.command.finished_turn

    def cut_first(said: str, stop: str | None) -> Any:
        return decide(said, "length" if "again" not in said else stop)

    monkeypatch.setattr("nightlab.proposers.command.finished_turn", cut_first)
    script = f"""
import json, sys
json.dump({{"output_tokens": 5}}, open("nightlab-usage.json", "w"))
if "was cut" in sys.stdin.read():
    assert "A = 2.0" in open("genome.py").read()
    print("again\\nHYPOTHESIS: went on")
else:
    {EDIT}"""
    proposal = proposer(script, NoSandbox())()
    assert proposal.files and proposal.hypothesis == "went on" and proposal.usage["output_tokens"] == 10


BAD = {
    "is cut": (
        EDIT + "print('Now I also set B, because')",
        "not finished; last line: Now I also set B, because; its e",
    ),
    "says when first": (
        "print('HYPOTHESIS: x')\n" + EDIT + "print('and')",
        "its edits are lost: -A = 4.0 # [0.25..8 log] +A",
    ),
    "writes when first": (
        "open('hypothesis.txt', 'w').write('x')\nimport time; time.sleep(0.02)\n" + EDIT,
        "not finished",
    ),
    "edits nothing": (
        "print('I can not help with that.')",
        "it edited nothing; last line of output: I can not help with that.",
    ),
    "says nothing": ("", "it edited nothing; last line of output: nothing"),
    "crashes after an edit": (
        GOOD + "raise ValueError('quota')",
        "exit status 1; last line of output: ValueError: quota",
    ),
    "is killed": ("import os; os.kill(os.getpid(), 9)", "exit status"),
    "removes the genome": ("import os; os.remove('genome.py')", "it removed genome.py"),
    "links the genome": ("import os; os.remove('genome.py'); os.symlink('/etc/passwd', 'genome.py')", "it removed"),
    "makes it a pipe": ("import os; os.remove('genome.py'); os.mkfifo('genome.py')", "it removed"),
    "writes bytes": ("open('genome.py', 'wb').write(b'\\xff\\xfe')", "genome.py is no longer text in UTF-8"),
    "writes too much": ("open('genome.py', 'w').write('#' * 2_000_000)", "genome.py has more than"),
}


@pytest.mark.parametrize(("script", "reason"), BAD.values(), ids=list(BAD))
def test_a_turn_that_fails_says_why(proposer: Any, sandbox: Sandbox, script: str, reason: str) -> None:
    said = failure(proposer(script, sandbox))
    assert reason in said and "\n" not in said


@pytest.mark.parametrize("path", ["measure.py", "sub/frozen.txt"])
def test_frozen_files_stay_as_they_are(proposer: Any, sandbox: Sandbox, path: str) -> None:
    said = failure(proposer(GOOD + f"open('{path}', 'w').write('x')", sandbox))
    assert said == f"out of scope: {path} was changed; only the genome may change" or "Read-only" in said


def test_what_else_it_leaves_is_thrown_away(proposer: Any, sandbox: Sandbox) -> None:
    script = GOOD + "import os\nopen('notes.md', 'w'); os.makedirs('__pycache__'); open('__pycache__/genome.py', 'w')\n"
    assert set(proposer(script, sandbox)().files) == {"genome.py"}


@pytest.mark.parametrize(
    ("script", "limits", "reason"),
    [
        ("import time; time.sleep(600)", {"wall": 1}, "it took longer than 1 s"),
        ("import time; time.sleep(600)", {"idle": 1}, "neither printed nor changed anything for 1 s"),
        ("while True: print('x' * 65536)", {}, "it printed more than 16 MB"),
    ],
    ids=["wall", "idle", "flood"],
)
def test_limits_end_it(proposer: Any, sandbox: Sandbox, script: str, limits: dict[str, int], reason: str) -> None:
    assert reason in failure(proposer(GOOD + script, sandbox, **limits)), "and it is not waited for to its own end"


def test_one_that_goes_on_printing_is_not_idle(proposer: Any) -> None:
    script = "import time\nfor n in range(12):\n    print(n, flush=True)\n    time.sleep(0.5)\n" + GOOD
    assert proposer(script, NoSandbox(), idle=4)().files


DAEMON = (
    "import os, subprocess, sys\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(120)  # {mark}'],"
    " env={{}}, start_new_session=True, stdout=-3, stderr=-3)\n"
)


def running(mark: str) -> list[int]:
    """Processes that have a word in their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"# {mark}".encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def test_its_whole_tree_is_ended(proposer: Any, sandbox: Sandbox, tmp_path: Path) -> None:
    mark = f"of-{tmp_path.name}-{sandbox.name}"
    script = DAEMON.format(mark=mark) + GOOD
    assert proposer(script, sandbox)().files
    assert running(mark) == []


def test_it_is_told_nothing_but_what_the_contract_names(
    proposer: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "given")
    monkeypatch.setenv("OTHER_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", "."))
    script = GOOD + "import os\nopen('hypothesis.txt', 'w').write(' '.join([*os.environ, os.environ['SOME_KEY']]))"
    words = proposer(script, sandbox, environment=["SOME_KEY"])().hypothesis.split()
    *names, value = words
    assert value == "given" and "SOME_KEY" in names
    known = {"LANG", "LC_ALL", "LC_CTYPE", "TZ", "PATH", "TERM", "NIGHTLAB_BRIEFING", "SOME_KEY"}
    names = [name for name in names if not name.lower().endswith("_proxy")]
    assert set(names) <= known | {"HOME", "TMPDIR", "USER", "PWD"}


def test_what_it_says_that_its_turn_took_is_kept_as_far_as_it_makes_sense(proposer: Any) -> None:
    said = {"model": "m\x1b[2J 1", "input_tokens": 7, "output_tokens": -1, "cost_usd": 0.5, "seconds": 0, "x": [1]}
    usage = proposer(GOOD + f"import json; json.dump({said!r}, open('nightlab-usage.json', 'w'))", NoSandbox())().usage
    assert usage["seconds"] > 0
    assert {**usage, "seconds": 0} == {"model": "m 1", "input_tokens": 7, "cost_usd": 0.5, "seconds": 0}


def test_keys_are_written_nowhere(proposer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    script = "import time; time.sleep(2)\n" + GOOD
    turn = proposer(script, NoSandbox(), environment=["SOME_KEY"])
    thread = threading.Thread(target=turn)
    thread.start()
    wait(lambda: (tmp_path / "place" / "a" / "output.log").exists())
    written = [path for path in (tmp_path / "place").rglob("*") if path.is_file()]
    assert written and not any(b"sk-very-secret" in path.read_bytes() for path in written)
    thread.join()


def test_in_the_sandbox_it_reads_the_lab_alone_and_no_service_of_this_machine(proposer: Any, tmp_path: Path) -> None:
    found = detect_sandbox()
    if found.missing:
        pytest.skip(found.why)
    secret = tmp_path / "secret"
    secret.write_text("mine")
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "given").write_text("yours")
    tmp_path.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = f"""
import os, socket, urllib.error, urllib.request
assert not os.path.exists({str(secret)!r}) and not os.path.exists('.git')
assert open({str(shared / "given")!r}).read() == 'yours'
assert os.listdir(os.path.expanduser('~')) == []
assert socket.socket().connect_ex(('127.0.0.1', {port}))
for name in ("no_proxy", "NO_PROXY"): os.environ.pop(name)
try: urllib.request.urlopen("http://localhost:{port}/")
except urllib.error.HTTPError as error: assert error.code == 502 and b"on this machine" in error.read()
{GOOD}"""
        assert proposer(script, found, files=[str(shared)])().files
        assert server.accept()[0].recv(1) == b"", "what the proxy turned out to have reached was asked nothing"


def test_a_program_or_a_key_that_is_not_there(proposer: Any, sandbox: Sandbox) -> None:
    assert failure(proposer("", sandbox, command="no-such-agent -p")) == (
        "no-such-agent is not installed, or not on the PATH"
    )


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ("ERROR: unexpected status 401 Unauthorized: wrong key, url: https://a.example", True),
        ('401: {"message": "wrong key"}', True),
        ('API Error: 401 {"type": "error"}\n\ntokens used\n2,100', True),
        ("Invalid API key · Fix external API key", True),
        ("The loss was 401 after 40 steps", False),
        ("status 4015", False),
        ("I did not touch the key", False),
    ],
)
def test_a_key_that_was_refused_where_no_proxy_sees_it_ends_its_run(
    proposer: Any, monkeypatch: pytest.MonkeyPatch, said: str, refused: bool
) -> None:
    monkeypatch.setenv("OUR_KEY", "sk-wrong")
    turn = proposer(f"print({said!r})\n{EDIT}raise SystemExit(1)", NoSandbox(), environment=["OUR_KEY"])
    with pytest.raises(NoProposal) as failed:
        turn()
    assert failed.value.final == refused == ("; check its key (the variable OUR_KEY)" in str(failed.value))


def test_words_about_a_key_after_an_edit_are_no_refusal(proposer: Any) -> None:
    with pytest.raises(NoProposal) as failed:
        proposer(f"{EDIT}print('The server answers with status 401 now.')", NoSandbox())()
    assert not failed.value.final


def test_a_variable_that_is_not_set(proposer: Any) -> None:
    said = failure(proposer("", NoSandbox(), environment=["NO_SUCH_KEY"]))
    assert said == "the variable NO_SUCH_KEY, listed for it in lab.toml, is not set"


def test_stopping_ends_a_turn_at_once(proposer: Any, sandbox: Sandbox, tmp_path: Path) -> None:
    mark = f"stop-{tmp_path.name}-{sandbox.name}"
    turn = proposer(f"import time; time.sleep(100)  # {mark}\n", sandbox)
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(failure(turn)))
    thread.start()
    wait(lambda: (tmp_path / "place" / "a" / "output.log").exists())
    proposer.made[0].stop()
    thread.join(20)
    assert said == ["it was stopped"]


def test_one_that_was_stopped_before_it_began_does_nothing(proposer: Any) -> None:
    turn = proposer("import time; time.sleep(100)", NoSandbox())
    proposer.made[0].stop()
    assert failure(turn) == "it was stopped"


@pytest.mark.integration
def test_it_does_not_outlive_a_nightlab_that_was_killed(tmp_path: Path) -> None:
    mark = f"orphan-{tmp_path.name}"
    (tmp_path / "in").touch()
    code = f"""
import sys
from nightlab.sandbox.process_guard import ProcessSpec, read_result, start_guard
argv = [sys.executable, '-c', 'import time; time.sleep(120)  # {mark}']
read_result(start_guard(ProcessSpec(argv, '.', {{}}, 'in', 'out', '.', 100, 100, 1000, 1 << 30)))
"""
    ours = subprocess.Popen([PYTHON, "-c", code], cwd=tmp_path, env={**os.environ})
    # The mark is in our own command line too, and in that of the program it starts.
    wait(lambda: len(running(mark)) == 2)
    os.kill(ours.pid, signal.SIGKILL)
    ours.wait()
    wait(lambda: running(mark) == [])


# -- in a session --------------------------------------------------------------------------------------

RESEARCHER = """
import re, sys
page = sys.stdin.read()
done = int(re.search(r"(\\d+) experiments: ", page)[1])
failed = page.count('\\n- "researcher"')
text = open("genome.py").read()
def write(new): open("genome.py", "w").write(new)
turn = done + failed + page.count("- Running now: ")
if turn == 0: print("I would rather not.")
elif turn == 1: write("A = ("); print("HYPOTHESIS: one")
elif turn == 2: write(re.sub("A = .*", "A = 2.0", text)); print("HYPOTHESIS: nearer to one")
elif turn == 3: write(text + "# a comment\\n"); print("HYPOTHESIS: a comment")
elif turn == 4: sys.exit(7)
elif turn == 5: write(re.sub("B = .*", "B = 3", text)); print("HYPOTHESIS: nearer to three")
else: print("that is all")
"""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(nightlab.proposers.backoff, "FIRST", 0.01)
    monkeypatch.setattr(nightlab.proposers.backoff, "LONGEST", 0.01)
    monkeypatch.setattr(nightlab.loop.candidate_queue, "REFUSALS", 4)
    return


def test_a_night_through_bad_turns_gets_every_experiment_it_should(make_lab: Any, impatient: None) -> None:
    contract = CONTRACT.split("[[proposers]]")[0] + part() + "concurrency = 1\n"  # each turn knows of the last
    lab = make_lab(contract=contract, files={"agent.py": RESEARCHER})
    reason, session = lab.run()
    assert reason == "4 proposals in a row were refused"
    tried = session.ledger.experiments()[1:]
    assert [(e.candidate.hypothesis, e.kept) for e in tried] == [("nearer to one", True), ("nearer to three", True)]
    assert all(e.candidate.proposer == "researcher" and e.candidate.usage["seconds"] > 0 for e in tried)
    refused = [note.reason for note in session.ledger.events(ProposalRefused)]
    assert refused[0] == "it edited nothing; last line of output: I would rather not."
    assert "does not parse" in refused[1] and "nothing but layout, comments or seeds" in refused[2]
    assert "exit status 7" in refused[3] and len(refused) == 8
    told = (session.folder / "proposers" / "researcher" / "briefing.md").read_text()
    assert "I would rather not." in told and "nearer to one" in told
    session.close()


def test_while_one_rests_the_next_takes_the_turn(make_lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEAST", "FIRST"):
        monkeypatch.setattr(nightlab.proposers.backoff, name, 600)
    contract = CONTRACT.format(proposer="patches") + part().replace("name =", "share = 9\nname =")
    lab = make_lab(contract=contract, files={"agent.py": "raise SystemExit(1)"})
    lab.idea("01", GENOME.replace("4.0", "3.0"))
    lab.idea("02", GENOME.replace("4.0", "2.5"))
    reason, session = lab.run(experiments=2)
    assert reason == "2 experiments are done"
    assert [e.candidate.proposer for e in session.ledger.experiments()[1:]] == ["patches", "patches"]
    assert len(session.ledger.events(ProposalRefused)) == 1, "it was asked once, and rests"
    session.close()


def test_a_session_that_stops_ends_the_turn_under_way(make_lab: Any, tmp_path: Path) -> None:
    mark = f"thinks-{tmp_path.name}"
    slow = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import time; time.sleep(100)  # {mark}'])\n"
    lab = make_lab(contract=CONTRACT.split("[[proposers]]")[0] + part(), files={"agent.py": slow})
    session = lab.session()
    night = ExperimentLoop(session, StopRules(), Scheduler(session, Observer()))

    def stop() -> None:
        wait(lambda: running(mark))
        night.scheduler.asked_to_stop = 1

    threading.Thread(target=stop, daemon=True).start()
    assert night.run() == "stopped by the user"
    assert running(mark) == []
    session.close()


def test_a_note_and_an_edited_strategy_reach_the_next_turn(make_lab: Any, impatient: None, nightlab: Any) -> None:
    lab = make_lab(contract=CONTRACT.split("[[proposers]]")[0] + part(), files={"agent.py": RESEARCHER})
    session = lab.session()
    session.close()
    assert nightlab("note", "look at", "B first", cwd=lab).code == 0
    lab.write("program.md", "Prefer small steps.")
    _, session = lab.run()
    told = (session.folder / "proposers" / "researcher" / "briefing.md").read_text()
    assert "- look at B first" in told and "Prefer small steps." in told
    session.close()


def test_what_a_proposer_needs_is_checked_and_stops_nothing(make_lab: Any, nightlab: Any) -> None:
    more = part().replace(PYTHON, "no-such-agent") + 'environment = ["NO_SUCH_KEY"]\n'
    done = nightlab("check", cwd=make_lab(contract=CONTRACT.format(proposer="patches") + more))
    assert done.code == 0
    assert "no-such-agent is not on the PATH" in done.out and "NO_SUCH_KEY is not set" in done.out


def test_names_tell_proposers_apart() -> None:
    text = CONTRACT.format(proposer="patches")
    names = [p.called for p in parse(text + part(name="") + part(name="b")).proposers[1:]]  # type: ignore[union-attr]
    assert names == [Path(PYTHON).name, "b"]
    for command in ("..", "./.", ".hidden/..", "'a b/\\x1b'"):
        assert CommandConfig(kind="command", command=command).called.strip(".-"), "a folder has its name"
    with pytest.raises(ValueError, match="name"):
        CommandConfig(kind="command", command="a", name="..")
    for clash in (part(name="b") + part(name="b"), part(name="tuner")):
        with pytest.raises(Exception, match="name of another proposer"):
            parse(text + clash)
