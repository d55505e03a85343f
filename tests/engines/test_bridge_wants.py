"""What an evaluator wanted and a trial does not have is said in words."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable

import pytest
from nightlab_bridge import wants
from support.bench import Bench
from support.labs import TinyLab

from nightlab.engines.local.layout import detect_sandbox


def raises(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("fail", "says"),
    [
        (lambda: os.environ["NO_SUCH_KEY"], "wants the variable 'NO_SUCH_KEY'.*no keys"),
        (lambda: {}["x"], "^the evaluator failed: KeyError: 'x'$"),
        (raises(RuntimeError("No CUDA GPUs are available")), "No CUDA GPUs are available .it needs a GPU"),
        (raises(AssertionError("Torch not compiled with CUDA enabled")), "it needs a GPU"),
        (raises(OSError("[Errno -2] Name or service not known")), "a trial has no network"),
        (raises(ConnectionRefusedError("refused")), "a trial has no network"),
        (raises(subprocess.CalledProcessError(125, ["docker", "run"])), "starts a container, and nightlab runs none"),
        (raises(ValueError("set your API key")), "given no keys"),
        (lambda: __import__("no_such_package"), "needs the package 'no_such_package'.*install it"),
        (raises(ValueError("the dock is closed")), "^the evaluator failed: ValueError: the dock is closed$"),
    ],
)
def test_a_failure_says_what_was_wanted(fail: Callable[[], object], says: str) -> None:
    try:
        fail()
    except Exception as error:
        assert re.search(says, wants.failure(error)), wants.failure(error)
    else:
        pytest.fail("it did not fail")


@pytest.mark.integration
def test_a_program_that_is_not_installed_is_named() -> None:
    try:
        subprocess.Popen(["no-such-compiler"])
    except FileNotFoundError as error:
        assert "starts the program 'no-such-compiler', which is not installed" in wants.failure(error)


def test_processes_that_an_evaluator_leaves_are_ended(make_lab: Callable[..., TinyLab]) -> None:
    """The bench finds none alive after the trial."""
    evaluator = (
        "import subprocess\ndef evaluate(program_path):\n"
        "    subprocess.Popen(['sleep', '600'], start_new_session=True)\n    return {'combined_score': 1.0}\n"
    )
    files = {"initial_program.py": "def run(): return 1\n", "evaluator.py": evaluator}
    contract = """\
name = "leaves"
genome = ["initial_program.py"]
command = "python -P -m nightlab_bridge.serve initial_program.py"
[metric]
name = "combined_score"
[evaluator]
command = "python -P -m nightlab_bridge.openevolve --sealed --timeout 20 evaluator.py initial_program.py"
served = true
"""
    assert Bench(make_lab(files=files), contract, detect_sandbox()).run().metric == 1.0
