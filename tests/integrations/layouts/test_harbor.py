"""Harbor's and AutoLab's tasks: a test script whose container's folders are the trial's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.bench import Bench
from support.labs import TinyLab
from support.layouts import opened, problem

from nightlab.core.config import detect
from nightlab.core.types import NightlabError
from nightlab.engines.local.layout import detect_sandbox
from nightlab.session.create import written

FOLDER = {
    "task.toml": '[verifier]\ntimeout_sec = 90.0\n[environment]\ngpus = 1\n[optimization]\nmetric = "steps"\n'
    'direction = "lower"\n',
    "instruction.md": "Make it short. Edit `/app/solve.py` only.",
    "environment/Dockerfile": "RUN apt-get install -y \\\n  tmux \\\n  gcc && true\nCOPY solve.py /app/solve.py\n",
    "environment/solve.py": "STEPS = 7\n",
    "environment/main.py": "import sys\nsys.path.insert(0, '/app')\nimport solve\nprint(solve.STEPS)\n",
    "tests/test.sh": (
        "N=$(python /app/main.py)\n"
        'if [ "$N" -gt 0 ]; then G=true; else G=false; fi\n'
        'echo "{\\"reward\\": 0.5, \\"metric\\": $N, \\"correctness\\": $G}" > "${LOGS:-/logs/verifier}/reward.json"\n'
    ),
    "solution/solve.sh": "",
}


def test_what_of_a_task_is_not_read_is_named() -> None:
    assert not [note for note in opened(FOLDER)[1].notes if "task.toml" in note]
    more = (
        '[optimization.baseline]\nscore = 2\n[metadata]\nauthor = "x"\n[verifier.env]\nKEY = "1"\n[perf]\nrounds = 3\n'
    )
    spec = "colour = 1\n" + FOLDER["task.toml"].replace("gpus = 1", "gpus = 1\ncpus = 4\nmemory_mb = 9") + more
    notes = [note for note in opened({**FOLDER, "task.toml": spec})[1].notes if "task.toml" in note]
    assert notes == [
        "task.toml: cpus, memory_mb are the container's: [resources] in lab.toml limits a trial",
        "task.toml: colour, perf.rounds, verifier.env is not understood, so it is not read",
    ]


def test_a_task_with_a_number_to_improve() -> None:
    lab, reading = opened(FOLDER)
    assert lab.genome == ("environment/solve.py",) and lab.metric.name == "steps" and lab.metric.goal == "minimise"
    assert lab.command and lab.command.endswith("--metric=steps --timeout=90 environment/solve.py")
    told = " ".join(reading.notes)
    for words in ("installs gcc, tmux", "asks for a GPU", "no container is made", "solution/ is the reference's"):
        assert words in told, words
    assert "the number is a claim" in reading.source and reading.strategy == FOLDER["instruction.md"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"task.toml": "version = '1'\n"}, "without .optimization."),
        ({"instruction.md": "Be quick.", "environment/solve.c": ""}, "2 files that could be the program"),
        ({"task.toml": "a = ["}, "can't be read"),
    ],
)
def test_a_task_that_cant_be_opened_says_why(files: dict[str, str], said: str) -> None:
    with pytest.raises(NightlabError, match=said) as error:
        detect(problem({**FOLDER, **files}))
    assert error.value.hint


def test_the_test_runs_in_folders_like_the_containers(make_lab: Callable[..., TinyLab]) -> None:
    for steps, score, says in ((7, 7.0, ""), (-1, None, "not valid (correctness = 0)")):
        files = {**FOLDER, "environment/solve.py": f"STEPS = {steps}\n"}
        got = Bench(make_lab(files=files, name=f"s{steps}"), written(*opened(files)), detect_sandbox()).run()
        assert got.metric == score and says in got.detail, got.detail
        assert score is None or got.secondary == {"reward": 0.5}
