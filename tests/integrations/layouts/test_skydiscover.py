"""SkyDiscover's container form: without a container, the evaluator is called, or its script runs."""

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

PROGRAM = "# EVOLVE-BLOCK-START\ndef run():\n    return 2\n# EVOLVE-BLOCK-END\n"
CALLED = {
    "initial_program.py": PROGRAM,
    "config.yaml": "max_iterations: 30\nevaluator: {timeout: 50}\nprompt: {system_message: Grow.}\n",
    "evaluator/Dockerfile": "FROM python:3.12-slim\nRUN apt-get install -y gcc\nRUN pip install -r requirements.txt\n",
    "evaluator/requirements.txt": "# of the evaluator\nnumpy>=1\n",
    "evaluator/evaluate.sh": '#!/bin/bash\nset -eu\nPROGRAM="$1"\npython /benchmark/evaluator.py "$PROGRAM"\n',
    "evaluator/evaluator.py": (
        "import importlib.util\nfrom helper import twice\ndef evaluate(program_path):\n"
        "    spec = importlib.util.spec_from_file_location('program', program_path)\n"
        "    module = importlib.util.module_from_spec(spec)\n    spec.loader.exec_module(module)\n"
        "    return {'combined_score': twice(module.run()), 'rank': float(open('data.txt').read())}\n"
    ),
    "evaluator/helper.py": "def twice(x):\n    return 2 * x\n",
    "evaluator/data.txt": "7",
}
SCRIPT = {
    **CALLED,
    "evaluator/evaluator.py": (
        "import json, runpy, sys\nscore = runpy.run_path(sys.argv[1])['run']()\nprint('noise', file=sys.stderr)\n"
        "rank = float(open('/benchmark/data.txt').read())\n"
        "print(json.dumps({'status': 'success' if score else 'error', 'combined_score': score,\n"
        "    'metrics': {'rank': rank}, 'artifacts': {'error': 'it is nothing', 'mode': sys.argv[2]}}))\n"
    ),
    "evaluator/evaluate.sh": 'python /benchmark/evaluator.py "$1" "$2"\n',
}


def test_an_evaluator_that_the_script_only_starts_is_called_and_sealed() -> None:
    lab, reading = opened(CALLED)
    assert lab.evaluator and lab.evaluator.command.endswith("--timeout=50 evaluator/evaluator.py initial_program.py")
    assert lab.between and lab.stop.experiments == 30 and reading.strategy == "Grow."
    told = " ".join(reading.notes)
    for words in ("no container is made", "Dockerfile installs gcc:", "requirements.txt wants numpy>=1: install what"):
        assert words in told, words
    assert "SkyDiscover" in reading.source and "sealed" in reading.source


@pytest.mark.parametrize(
    "change",
    [
        {"evaluator/evaluate.sh": "python /benchmark/prepare.py\npython /benchmark/evaluator.py $1\n"},
        {"evaluator/evaluator.py": CALLED["evaluator/evaluator.py"].replace("'data.txt'", "'/benchmark/data.txt'")},
        {"evaluator/evaluator.py": SCRIPT["evaluator/evaluator.py"]},
    ],
)
def test_any_other_script_runs_and_its_number_is_a_claim(change: dict[str, str]) -> None:
    lab, reading = opened({**CALLED, **change})
    assert lab.command == "python -P -m nightlab_bridge.skydiscover --timeout=50 initial_program.py"
    assert lab.evaluator is None and "the number is a claim" in reading.source and lab.between


def test_an_evaluator_beside_the_program_goes_before_the_container() -> None:
    evaluator = CALLED["evaluator/evaluator.py"]
    lab, _ = opened({**CALLED, "evaluator.py": evaluator})
    assert lab.evaluator and " evaluator.py initial_program.py" in lab.evaluator.command


def test_a_folder_without_a_program_says_so() -> None:
    with pytest.raises(NightlabError, match="no program") as error:
        detect(problem({path: text for path, text in CALLED.items() if path.startswith("evaluator/")}))
    assert error.value.hint


def test_both_forms_measure_without_a_container(make_lab: Callable[..., TinyLab]) -> None:
    for files, score, name in ((CALLED, 4.0, "called"), (SCRIPT, 2.0, "script")):
        got = Bench(make_lab(files=files, name=name), written(*opened(files)), detect_sandbox()).run()
        assert (got.metric, got.secondary) == (score, {"rank": 7.0}), got.detail
    assert "mode: train" in got.said


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"initial_program.py": PROGRAM.replace("2", "0")}, "reports error: it is nothing"),
        ({"evaluator/evaluate.sh": "docker run x\nexit 3\n"}, "evaluate.sh exited with status 3"),
        ({"evaluator/evaluate.sh": "echo hello\n"}, "has to print one JSON object"),
    ],
)
def test_a_script_without_a_score_is_a_crash_that_says_why(
    make_lab: Callable[..., TinyLab], change: dict[str, str], says: str
) -> None:
    files = {**SCRIPT, **change}
    got = Bench(make_lab(files=files), written(*opened(files)), detect_sandbox()).run()
    assert got.metric is None and says in got.detail, got.detail
