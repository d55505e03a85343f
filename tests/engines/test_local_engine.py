"""One candidate, one run, under a real supervisor: what it may do, how it ends, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.bench import GUEST, LEAST, SERVED, Bench
from support.processes import living, wait

from nightlab.core.config import parse
from nightlab.core.text import plain
from nightlab.core.types import Budget, NightlabError, Trial
from nightlab.engines.local import metric_text as words
from nightlab.engines.local.layout import detect_sandbox
from nightlab.engines.local.outcome import failed_setup
from nightlab.engines.local.prepare import run_prepare
from nightlab.engines.local.read_result import build_measurement
from nightlab.engines.local.trial_folder import kill_leftovers
from nightlab.engines.local.usage import CpuClock
from nightlab.sandbox import process_tree
from nightlab.sandbox.bubblewrap import NoSandbox, SandboxedStart, SandboxSpec
from nightlab.storage.git import Repo

# -- how it ends ---------------------------------------------------------------------------------------


def test_a_good_run(bench: Any) -> None:
    one = bench("print('METRIC loss=0.5')\nprint('METRIC size=12')\nprint('num_params_M:     50.3')\n")
    measured = one.run()
    assert (measured.outcome, measured.metric) == ("measured", 0.5)
    assert measured.secondary == {"size": 12} and measured.claims == {"num_params_M": 50.3}
    assert 0 < measured.training_seconds <= measured.wall_seconds and measured.peak_memory_mb > 1
    assert sorted(p.name for p in one.folder.iterdir() if p.is_dir()) == []
    assert "METRIC loss=0.5" in one.log()


class FailingSetup(NoSandbox):
    """A sandbox whose program ends before the command, as bubblewrap does where the kernel refuses a mount."""

    def start(self, spec: SandboxSpec) -> SandboxedStart:
        fails = 'echo "$0: Can\'t remount readonly on /newroot/dev: Device or resource busy" >&2; exit 1'
        return replace(super().start(spec), prefix=["sh", "-c", fails, "bwrap"])


def test_a_sandbox_that_fails_says_nothing_of_the_candidate(make_lab: Any) -> None:
    lab = make_lab("print('METRIC loss=0.5')")
    measured = Bench(lab, LEAST, FailingSetup()).run()
    assert measured.outcome == "lost", "it runs again, a few times"
    assert measured.detail.startswith("its sandbox could not be set up: bwrap: Can't remount readonly")


@pytest.mark.parametrize(
    ("output", "failed"),
    [
        ("bwrap: Creating new namespace failed: Resource temporarily unavailable\n", True),
        ("bwrap: Can't mkdir /newroot/lab/data: Not a directory\n", False),  # the candidate's file is in the way
        ("bwrap: execvp train.sh: No such file or directory\n", False),  # the lab's own fault
        ("Traceback\nbwrap: x: Resource temporarily unavailable\n", False),  # the command has run
        ("OSError: Resource temporarily unavailable\n", False),
        ("", False),
    ],
)
def test_what_a_sandbox_says_that_could_not_be_set_up(output: str, failed: bool) -> None:
    assert failed_setup(["bwrap"], output) == (output.strip() if failed else "")
    assert failed_setup([], output) == "", "there is no sandbox"


@pytest.mark.parametrize(
    ("genome", "outcome", "detail"),
    [
        ("raise ValueError('the rate is too high')", "crashed", "ValueError: the rate is too high (exit status 1)"),
        ("import sys; print('bye'); sys.exit(7)", "crashed", "bye (exit status 7)"),
        ("import os; os.kill(os.getpid(), 9)", "crashed", "(SIGKILL)"),
        ("import os; os.kill(os.getpid(), 11)", "crashed", "(SIGSEGV)"),
        ("x = 1\nx / 0", "crashed", "genome.py, line 2: ZeroDivisionError: division by zero (exit status 1)"),
        ("print('no number here')", "no metric", "printed no line METRIC loss=…; its last line is: no number here"),
        ("print('METRIC loss=nan')", "no metric", "METRIC loss=nan"),
        (
            "print('METRIC lossy=1')",
            "no metric",
            "printed no line METRIC loss=…; it printed another name: METRIC lossy=1",
        ),
        ("print('METRIC loss=1')\nraise SystemExit(1)", "crashed", "exit status 1"),
    ],
)
def test_how_it_can_fail(bench: Any, genome: str, outcome: str, detail: str) -> None:
    measured = bench(genome).run()
    assert (measured.outcome, measured.metric) == (outcome, None)
    assert detail in measured.detail


def test_a_number_beyond_its_bounds_is_tampering(tmp_path: Path) -> None:
    lab = parse(LEAST.replace("[metric]\n", "[metric]\nlowest = 0\nhighest = 10\n"))
    for value, outcome in ((-0.001, "tampered"), (0, "measured"), (10, "measured"), (10.001, "tampered")):
        (tmp_path / "candidate.log").write_text(f"METRIC loss={value}")
        found = build_measurement(lab, tmp_path, {"outcome": "measured"}, shared=False)
        assert (found.outcome, found.metric) == (outcome, value if outcome == "measured" else None)
        assert outcome == "measured" or found.detail == f"loss {value:g} is outside of 0 to 10"


def test_other_numbers_count_only_of_a_trial_that_was_measured(tmp_path: Path) -> None:
    (tmp_path / "candidate.log").write_text("METRIC loss=1\nMETRIC size=2\nFEEDBACK case 7 fails")
    for outcome, others in (("measured", {"size": 2}), ("crashed", {}), ("tampered", {})):
        found = build_measurement(parse(LEAST), tmp_path, {"outcome": outcome}, shared=False)
        assert (found.secondary, found.said) == (others, "case 7 fails")


def test_what_decides_counts_after_any_number_of_others(tmp_path: Path) -> None:
    evaluator = '[evaluator]\ncommand = "python score.py"\nheld_out = true\n[limits]\nsize = 3\n'
    others = "".join(f"METRIC case{k}=1\n" for k in range(2000))
    (tmp_path / "candidate.log").write_text("")
    (tmp_path / "evaluator.log").write_text(f"{others}METRIC held_out=0.5\nMETRIC size=4\nMETRIC loss=1\n")
    found = build_measurement(parse(f"{LEAST}\n{evaluator}"), tmp_path, {"outcome": "measured"}, shared=False)
    assert (found.metric, found.held_out, found.secondary["size"]) == (1, 0.5, 4)
    assert len(found.secondary) < 1003


def test_a_command_that_does_not_exist(bench: Any) -> None:
    measured = bench("", LEAST.replace("python genome.py", "no-such-program --now")).run()
    assert measured.outcome == "crashed" and "no-such-program" in measured.detail


def test_one_that_ignores_every_polite_signal_is_ended_in_time(bench: Any) -> None:
    genome = "import signal, time\nfor n in (1, 2, 3, 15): signal.signal(n, signal.SIG_IGN)\ntime.sleep(999)\n"
    one = bench(genome, startup=0.3, evaluation=0.3, wall_limit=0.4)
    measured = one.run()
    assert measured.outcome == "timed out" and "0.4 s" in measured.detail
    assert measured.wall_seconds < 30


def test_daemons_that_left_their_family_are_gone(bare_bench: Any, tmp_path: Path) -> None:
    genome = (
        "import os, time\n"
        "for n in range(3):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        if os.fork() == 0:\n"
        "            os.environ.clear(); os.chdir('/')\n"
        f"            open({str(tmp_path)!r} + f'/daemon{{n}}', 'w').write(str(os.getpid()))\n"
        "            time.sleep(999)\n"
        "        os._exit(0)\n"
        f"while len([f for f in os.listdir({str(tmp_path)!r}) if f.startswith('daemon')]) < 3: time.sleep(0.01)\n"
        "time.sleep(0.1)\n"
        "print('METRIC loss=1')\n"
    )
    assert bare_bench(genome).run().metric == 1
    pids = [int((tmp_path / f"daemon{n}").read_text()) for n in range(3)]
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


def test_a_flood_of_output_is_bounded_and_keeps_its_head_and_tail(bench: Any) -> None:
    genome = (
        "import sys\nprint('first words')\nfor n in range(40_000): sys.stdout.write('x' * 999 + '\\n')\n"
        "print('METRIC loss=3')\n"
    )
    one = bench(genome, LEAST + '[resources]\nlog = "64KB"\n')
    assert one.run().metric == 3
    log = (one.folder / "candidate.log").read_bytes()
    assert len(log) < 2 * 64 * 1024
    assert log.startswith(b"first words") and log.rstrip().endswith(b"METRIC loss=3") and b"left out" in log


def test_one_that_needs_too_much_memory(bench: Any) -> None:
    genome = "import time\nhold = bytearray(300 * 2**20)\ntime.sleep(999)\n"
    measured = bench(genome, LEAST + '[resources]\nmemory = "150MB"\n').run()
    assert measured.outcome == "over limit" and "the limit is 150 MB" in measured.detail


def test_checks_must_succeed(bench: Any) -> None:
    check = '[[checks]]\ncommand = "python check.py"\n'
    good = bench("print('METRIC loss=1')", LEAST + check, files={"check.py": "import genome"})
    assert good.run().metric == 1


def test_a_check_that_fails_takes_the_metric_away(bench: Any) -> None:
    check = '[[checks]]\ncommand = "python check.py"\n'
    bad = bench("print('METRIC loss=1')", LEAST + check, files={"check.py": "assert False, 'wrong answer'"})
    measured = bad.run()
    assert (measured.outcome, measured.metric) == ("checks failed", None)
    assert "python check.py: exit status 1" in measured.detail and "wrong answer" in bad.log("check0")
    assert bad.run(purpose="confirm").metric == 1, "checks are for the search; a number measured again is a number"


# -- what it sees --------------------------------------------------------------------------------------

LOOK = """\
import json, os
facts = {"env": dict(os.environ), "cwd": os.getcwd(), "files": sorted(os.listdir(".")),
         "home": sorted(os.listdir(os.environ["HOME"])), "stdin": os.read(0, 10).decode()}
print("FACTS" + json.dumps(facts))
print("METRIC loss=1")
"""


def test_it_sees_neither_secrets_nor_the_users_home(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    monkeypatch.setenv("WANTED", "yes")
    (tmp_path / "home" / ".netrc").write_text("secret")
    (tmp_path / "home" / ".cache" / "corpus").mkdir(parents=True)
    (tmp_path / "home" / ".cache" / "corpus" / "a").write_text("words")
    contract = 'environment = ["WANTED", "MISSING"]\n' + LEAST + '[data]\nopen = ["~/.cache/corpus"]\n'
    one = bench(LOOK, contract)
    assert one.run(seed=42).metric == 1
    log = (one.folder / "candidate.log").read_text()
    facts = json.loads(next(line for line in log.splitlines() if line.startswith("FACTS"))[5:])
    env = facts["env"]
    assert "sk-secret" not in json.dumps(facts) and "SSH_AUTH_SOCK" not in env and "MISSING" not in env
    assert env["WANTED"] == "yes" and env["NIGHTLAB_SEED"] == "42" and env["NIGHTLAB_DEVICE"] == "cpu"
    assert (env["NIGHTLAB_CLOCK"], env["NIGHTLAB_BUDGET"]) == ("wall", "30")
    assert env["HOME"] != os.environ["HOME"] and facts["home"] == [".cache"]
    assert facts["files"] == ["genome.py", "lab.toml", "measure.py"] and facts["stdin"] == ""
    if one.engine.sandbox.name == "none":
        assert env["TMPDIR"].startswith(str(one.folder)) and facts["cwd"].startswith(str(one.folder))


def test_it_runs_the_commit_not_the_working_copy(make_lab: Any) -> None:
    lab = make_lab(genome="print('METRIC loss=1')")
    one = Bench(lab, LEAST)
    lab.write("genome.py", "print('METRIC loss=2')")
    assert one.run().metric == 1
    assert (lab.folder / "genome.py").read_text() == "print('METRIC loss=2')"


def test_prepare_has_the_users_home_and_its_failure_is_told(
    make_lab: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare = "print('ready')\nimport os, pathlib\npathlib.Path(os.environ['HOME'], 'prepared').write_text('x')\n"
    lab = make_lab(files={"prepare.py": prepare})
    repo = Repo(lab.folder)
    run_prepare(repo, parse('prepare = "python prepare.py"\n' + LEAST), repo.resolve() or "", lab.folder)
    assert (tmp_path / "home" / "prepared").exists()
    assert capfd.readouterr() == ("", "ready\n"), "a command's own answer may be JSON"
    assert not (lab.folder / "prepare").exists()
    with pytest.raises(NightlabError, match="exit status 3: python -c") as error:
        broken = parse("prepare = \"python -c 'raise SystemExit(3)'\"\n" + LEAST)
        run_prepare(repo, broken, repo.resolve() or "", lab.folder)
    assert "by hand" in error.value.hint


# -- the budget ----------------------------------------------------------------------------------------

SPIN = "import time\nend = time.{clock}() + {seconds}\nwhile time.{clock}() < end: pass\n"


def test_the_budget_counts_from_the_start_signal(bench: Any) -> None:
    genome = GUEST + "import time\ntime.sleep(1.5)\ntrial.start()\ntime.sleep(0.4)\nprint('METRIC loss=1')\n"
    measured = bench(genome, amount=1).run()
    assert measured.metric == 1
    assert measured.startup_seconds > measured.training_seconds > 0.3


@pytest.mark.parametrize("clock", ["wall", "cpu"])
def test_training_past_the_budget_is_told(bench: Any, clock: str) -> None:
    spin = SPIN.format(clock="process_time" if clock == "cpu" else "perf_counter", seconds=60)
    genome = GUEST + "trial.start()\n" + spin + "print('METRIC loss=1')\n"
    measured = bench(genome, amount=0.5, clock=clock, wall_limit=200).run()
    assert (measured.outcome, measured.metric) == ("over budget", None)
    assert "the budget is 0.5 s" in measured.detail


def test_a_cpu_clock_does_not_run_while_it_sleeps_and_counts_its_children(bench: Any) -> None:
    asleep = GUEST + "import time\ntrial.start()\ntime.sleep(1.2)\nprint('METRIC loss=1')\n"
    measured = bench(asleep, amount=0.5, clock="cpu", wall_limit=200).run()
    assert measured.metric == 1 and measured.training_seconds < 1


def test_children_spend_the_same_cpu_budget(bench: Any) -> None:
    spin = SPIN.format(clock="process_time", seconds=60)
    genome = GUEST + f"import subprocess, sys\ntrial.start()\nsubprocess.run([sys.executable, '-c', {spin!r}])\n"
    measured = bench(genome, amount=0.5, clock="cpu", wall_limit=200).run()
    assert measured.outcome == "over budget"


@pytest.mark.skipif(CpuClock().fd < 0, reason="the kernel counts no program's CPU time here")
def test_children_that_nobody_waited_for_have_trained_when_the_program_has_ended(bench: Any) -> None:
    spin = SPIN.format(clock="process_time", seconds=0.4)
    genome = GUEST + (
        "import os, signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\ntrial.start()\n"
        f"if os.fork() == 0:\n    exec({spin!r})\n    os._exit(0)\n"
        "try: os.wait()\nexcept ChildProcessError: pass\nprint('METRIC loss=1')\n"
    )
    measured = bench(genome, amount=9, clock="cpu", wall_limit=200).run()
    assert measured.metric == 1 and measured.training_seconds > 0.35, measured
    assert measured.cpu_seconds >= measured.training_seconds, measured


def test_wall_limit_of_training(bench: Any) -> None:
    genome = GUEST + "import time\ntrial.start()\ntime.sleep(99)\n"
    measured = bench(genome, amount=30, clock="cpu", wall_limit=0.5).run()
    assert measured.outcome == "timed out" and "0.5 s of wall-clock time" in measured.detail


def test_a_work_budget_is_counted_by_the_lab_not_by_a_clock(bench: Any) -> None:
    genome = GUEST + "trial.start()\nprint(f'METRIC loss={1 / trial.budget}', trial.clock)\nprint('METRIC loss=0.25')"
    assert bench(genome).run(budget=Budget("work", 4)).metric == 0.25


# -- serving a function to an evaluator ----------------------------------------------------------------

EVALUATE = """\
import array, os, sys
import nightlab_guest
def batches():
    for n in range(5):
        a = array.array("i", range(n, n + 6))
        yield memoryview(a).cast("B").cast("i", (2, 3))
try:
    total = 0.0
    for answer in nightlab_guest.Served().map(batches(), "f", (2, 3, 2)):
        total += sum(answer[b, t, v] * (v + 1) for b in range(2) for t in range(3) for v in range(2))
except nightlab_guest.ServeError as error:
    print(error)
    sys.exit(4)
print(f"METRIC loss={total}")
print("METRIC leaked=" + str(len(os.environ.get("SECRET", ""))))
"""

SERVE = (
    GUEST
    + """\
import array, sys
trial.start()
def function(tokens):
    {body}
    out = array.array("f", [0.0] * 12)
    for i, x in enumerate(x for row in tokens.tolist() for x in row):
        out[2 * i], out[2 * i + 1] = x, 2 * x
    return memoryview(out).cast("B").cast("f", {shape})
trial.serve(function)
"""
)


def served(bench: Any, body: str = "pass", shape: str = "(2, 3, 2)", **more: Any) -> Any:
    genome = SERVE.format(body=body, shape=shape)
    return bench(genome, LEAST + SERVED, files={"evaluate.py": EVALUATE}, **more)


def test_arrays_go_round(bench: Any) -> None:
    measured = served(bench).run()
    # Each token x counts x + 2 * 2x; tokens n … n+5 for n in 0 … 4.
    assert measured.metric == 5 * sum(sum(range(n, n + 6)) for n in range(5))
    assert measured.secondary == {"leaked": 0} and measured.outcome == "measured"
    assert measured.evaluation_seconds > 0


def test_large_arrays_and_growing_ones_go_round(bench: Any) -> None:
    genome = GUEST + "trial.start()\ntrial.serve(lambda a: bytes(a[::-1]) if a.ndim == 1 else a)\n"
    evaluate = """\
import os, nightlab_guest
link = nightlab_guest.Served()
good = 0
for size in (1, 1000, 3_000_000, 10, 9_000_000):
    inputs = [os.urandom(size) for _ in range(3)]
    for sent, back in zip(inputs, link.map(inputs, "B", (size,)), strict=True):
        good += bytes(back) == sent[::-1]
print(f"METRIC loss={good}")
"""
    measured = bench(genome, LEAST + SERVED, files={"evaluate.py": evaluate}).run()
    assert measured.metric == 15, measured.detail


@pytest.mark.parametrize(
    ("body", "shape", "says"),
    [
        ("pass", "(3, 2, 2)", "the candidate answered with f(3, 2, 2), expected f(2, 3, 2)"),
        ("pass", "(12,)", "the candidate answered with f(12,), expected f(2, 3, 2)"),
        ("return b'x' * 48", "(2, 3, 2)", "the candidate answered with B(48,)"),
        ("return b'x' * 4800", "(2, 3, 2)", "returned 4800 bytes, room was 48"),
        ("return 'no buffer'", "(2, 3, 2)", "TypeError"),
        ("raise ValueError('boom')", "(2, 3, 2)", "ValueError: boom"),
        ("import os; os._exit(5)", "(2, 3, 2)", "exit status 5 while serving"),
        ("import os; os.kill(os.getpid(), 9)", "(2, 3, 2)", "SIGKILL"),
    ],
)
def test_a_served_function_that_misbehaves(bench: Any, body: str, shape: str, says: str) -> None:
    measured = served(bench, body, shape).run()
    assert (measured.outcome, measured.metric) == ("crashed", None)
    assert says in measured.detail, measured.detail


def test_the_candidates_own_metric_line_counts_for_nothing(bench: Any) -> None:
    measured = served(bench, "print('METRIC loss=0')").run()
    assert measured.metric and measured.metric > 1


def test_one_that_never_serves_has_no_metric(bench: Any) -> None:
    genome = GUEST + "trial.start()\nprint('METRIC loss=0')\n"
    measured = bench(genome, LEAST + SERVED, files={"evaluate.py": EVALUATE}).run()
    assert (measured.outcome, measured.metric) == ("no metric", None)
    assert "without handing over" in measured.detail


def test_one_that_never_starts_training(bench: Any) -> None:
    genome = GUEST + "import time\ntime.sleep(99)\n"
    measured = bench(genome, LEAST + SERVED, files={"evaluate.py": EVALUATE}, startup=0.5).run()
    assert measured.outcome == "timed out" and "had not started after 0.5 s" in measured.detail


def test_one_that_hangs_while_serving(bench: Any) -> None:
    measured = served(bench, "import time; time.sleep(99)", evaluation=0.5).run()
    assert measured.outcome == "timed out" and "evaluation took more than 0.5 s" in measured.detail


def test_an_evaluator_that_sees_cheating_says_so(bench: Any) -> None:
    evaluate = "import sys\nprint('the answers depend on the future')\nsys.exit(3)\n"
    contract = LEAST + '[evaluator]\ncommand = "python evaluate.py"\n'
    measured = bench("", contract, files={"evaluate.py": evaluate}).run()
    assert (measured.outcome, measured.detail) == ("tampered", "the answers depend on the future")


# -- deaths from outside -------------------------------------------------------------------------------

SLEEPER = (
    "import subprocess, sys, time\n"
    "subprocess.Popen([sys.executable, '-c', 'import os, time; os.setsid(); time.sleep(999)'])\n"
    "print('up', flush=True)\ntime.sleep({seconds})\nprint('METRIC loss=1')\n"
)


def up(one: Bench) -> Callable[[], bool]:
    return lambda: (one.folder / "candidate.log").exists() and "up" in (one.folder / "candidate.log").read_text()


def test_a_supervisor_that_is_killed_takes_the_candidate_along(bench: Any) -> None:
    one = bench(SLEEPER.format(seconds=999))
    running = one.start()
    wait(up(one))
    assert len(living(one.folder)) >= 3
    assert not running.finished()
    children = psutil.Process(running.process.pid).children()
    os.kill(running.process.pid, signal.SIGKILL)
    wait(running.finished)
    wait(lambda: not any(child.is_running() for child in children))  # at once, not when somebody looks
    measured = one.engine.collect(running)
    assert (measured.outcome, measured.metric) == ("lost", None)
    wait(lambda: living(one.folder) == [])


def test_stopping_a_trial_ends_it_at_once(bench: Any) -> None:
    one = bench(SLEEPER.format(seconds=999))
    running = one.start()
    wait(up(one))
    running.stop()
    wait(running.finished)
    assert one.engine.collect(running).outcome == "interrupted"
    assert living(one.folder) == []


ORCHESTRATOR = """\
import sys, time
sys.path[:0] = {tests!r}
from pathlib import Path
from support.labs import TinyLab
from support.bench import Bench, LEAST
one = Bench(TinyLab(Path({folder!r})), LEAST)
one.start()
print("started", flush=True)
time.sleep(999)
"""


@pytest.mark.parametrize("finished", [False, True])
def test_a_trial_whose_orchestrator_was_killed_is_adopted(make_lab: Any, tmp_path: Path, finished: bool) -> None:
    end = tmp_path / "end"
    until = f"import os\nwhile not os.path.exists({str(end)!r}): time.sleep(0.02)\n"
    lab = make_lab(genome=SLEEPER.replace("time.sleep({seconds})\n", until))
    code = ORCHESTRATOR.format(tests=sys.path, folder=str(lab.folder))
    orchestrator = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert orchestrator.stdout and orchestrator.stdout.readline() == "started\n"
    one = Bench(lab, LEAST)
    one.count = 1
    wait(up(one))
    orchestrator.kill()
    orchestrator.wait()
    if finished:
        end.touch()
        wait((one.folder / "result.json").exists)
    running = one.engine.adopt(Trial("t1", 0, one.commit, 1, "search", Budget("wall", 30)))
    if not finished:
        assert not running.finished()
        end.touch()
    wait(running.finished)
    assert one.engine.collect(running).metric == 1
    wait(lambda: living(one.folder) == [])


def test_an_adopted_trial_can_be_stopped(bench: Any) -> None:
    one = bench(SLEEPER.format(seconds=999))
    first = one.start()
    wait(up(one))
    adopted = one.engine.adopt(first.trial)
    assert adopted.alive() and not adopted.finished()
    adopted.stop()
    wait(lambda: first.process.poll() is not None)
    assert adopted.finished() and one.engine.collect(adopted).outcome == "interrupted"


def test_an_adopted_trial_that_is_gone_is_lost(bench: Any) -> None:
    one = bench("")
    running = one.engine.adopt(Trial("never", 0, one.commit, 1, "search", Budget("wall", 1)))
    assert running.finished() and one.engine.collect(running).outcome == "lost"


def test_leftovers_of_this_session_and_no_others_are_ended(bench: Any, tmp_path: Path) -> None:
    one = bench("")

    def sleeper(mark: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "99"], env={"NIGHTLAB_TRIAL": mark, "PATH": os.environ["PATH"]})

    mine, other = sleeper(f"{one.engine.folder}/0001"), sleeper(f"{one.engine.folder}-else/0001")
    assert kill_leftovers(one.engine.folder) == 1
    assert mine.wait() == -signal.SIGKILL and other.poll() is None
    other.kill()
    other.wait()


# -- what it printed -----------------------------------------------------------------------------------


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.integration
def test_a_tree_is_found_with_children_of_threads(tmp_path: Path, listed: bool, monkeypatch: Any) -> None:
    if listed and not process_tree.LISTED:
        pytest.skip("this kernel lists no children")
    monkeypatch.setattr(process_tree, "LISTED", listed)
    starts = "threading.Thread(target=lambda: subprocess.Popen(['sh', '-c', 'sleep 60 & sleep 60'])).start()"
    program = f"import subprocess, threading, time; {starts}; time.sleep(60)"
    top = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    beside = subprocess.Popen(["sleep", "60"])
    try:
        wait(lambda: len(process_tree.descendants(top.pid)) == 3)
        assert set(process_tree.descendants(top.pid)) == set(psutil.Process(top.pid).children(recursive=True))
        ours = {process.pid for process in process_tree.descendants(os.getpid(), [beside.pid])}
        assert top.pid in ours and beside.pid not in ours
    finally:
        os.killpg(top.pid, signal.SIGKILL)
        beside.kill()
        top.wait()
        beside.wait()
    assert process_tree.descendants(top.pid) == []


def test_printed_text_is_harmless() -> None:
    nasty = b"\x1b[2J\x1b]0;title\x07hello\x00 \xff\r\nab\rcd \xe2\x80\xaegnp \x1b[31mred\x1b[0m\tx"
    assert plain(nasty) == "hello \ufffd\nab\ncd gnp red\tx"
    long = plain("a" * 5000 + "b" * 5000, limit=100)
    assert long.startswith("a" * 50) and long.endswith("b" * 50) and "9,900 characters left out" in long


def test_metric_lines_and_summary_blocks() -> None:
    text = "METRIC a=1\nMETRIC a=2.5\nMETRIC c=inf\nMETRIC d=x\nxMETRIC e=1\nMETRIC total_µs=15\n"
    found = words.parse_metrics(text)
    assert found.values == {"a": 2.5, "total_µs": 15} and set(found.unreadable) == {"c", "d"}
    assert words.parse_claims("---\nval_bpb:          0.997900\nmfu_percent:      39.80\nnote: a b\n") == {
        "val_bpb": 0.9979,
        "mfu_percent": 39.8,
    }
    assert words.crash_summary("Traceback …\n  File x\nRuntimeError: CUDA out of memory\n\n") == (
        "RuntimeError: CUDA out of memory"
    )
    assert words.crash_summary("  \n") == "it printed nothing"


TRACEBACK = """\
Traceback (most recent call last):
  File "/lab/genome.py", line 9, in <module>
    train()
{}KeyError: 'lr'
"""


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ("", "genome.py, line 9: KeyError: 'lr'"),
        ('  File "/lab/src/net.py", line 3, in f\n', "src/net.py, line 3: KeyError: 'lr'"),
        ('  File "/usr/lib/python3/site-packages/x.py", line 3, in f\n', "genome.py, line 9: KeyError: 'lr'"),
        ('  File "<frozen importlib>", line 3, in f\n', "genome.py, line 9: KeyError: 'lr'"),
    ],
)
def test_a_crash_names_the_innermost_line_of_the_lab(frames: str, says: str) -> None:
    assert words.crash_summary(f"epoch 1\n{TRACEBACK.format(frames)}") == says
    assert words.crash_summary(f"{TRACEBACK.format(frames)}Traceback …\nOSError: no") == "OSError: no"


@pytest.mark.parametrize(
    ("printed", "says"),
    [
        ("", "it printed nothing"),
        ("METRIC rsme=1\ndone\n", "it printed another name: METRIC rsme=1"),
        ("rmse 0.5\ndone\n", "it printed: rmse 0.5"),
        ("Metric: 3\ndone\n", "it printed: Metric: 3"),
        ("rmses 0.5\nparametric\n", "its last line is: parametric"),
        ("a\x1b[2Jb\n", "its last line is: ab"),
    ],
)
def test_an_output_without_the_metric_is_quoted_where_it_may_be_meant(printed: str, says: str) -> None:
    assert words.missing_metric(printed, "rmse") == (
        f"the program ended normally but printed no line METRIC rmse=…; {says}"
    )


NAMES = """\
import socket, threading
served = []
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    server = socket.create_server((address, 0), family=family)
    threading.Thread(target=lambda: server.accept()[0].sendall(b"x"), daemon=True).start()
    for name in ("localhost", socket.gethostname()):
        found = {one[4][0] for one in socket.getaddrinfo(name, 0, family)}
        served += [found == {address}]
    with socket.create_connection((address, server.getsockname()[1])) as link:
        served += [link.recv(1) == b"x"]
try:
    socket.getaddrinfo("example.org", 80)
except OSError:
    served += [True]
print(f"METRIC loss={served.count(True)}")
"""


def test_localhost_and_the_hosts_name_resolve_in_the_sandbox_and_nothing_else_does(make_lab: Any) -> None:
    sandbox = detect_sandbox()
    if sandbox.name == "none":
        pytest.skip(sandbox.why)
    one = Bench(make_lab(genome=NAMES), LEAST, sandbox)
    assert one.run().metric == 7, one.log()


@pytest.mark.integration
def test_a_supervisor_imports_nothing_heavy() -> None:
    """Each trial starts one, and where none stands by it is part of the trial's time: these took half of its start."""
    module = "nightlab.engines.local.supervisor"
    shown = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    heavy = {"dataclasses", "inspect", "tempfile", "shutil", "nightlab.core.types", "pydantic", "numpy"}
    assert module in shown.stdout and not heavy & set(shown.stdout.split())
