"""A session in a notebook: a real kernel shows its progress, is interrupted, and is started again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.extras import extra
from support.labs import TinyLab
from support.processes import PATIENCE, program_env

extra("ipykernel", "dev")
jupyter_client = extra("jupyter_client", "dev")

SLOW = "import time\nfrom genome import A\ntime.sleep(0 if A == 4 else 600)\nprint('METRIC loss=1')\n"
OPEN = "import nightlab\nsession = nightlab.Lab({folder!r}).session('t')\n"


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Any]:
    manager = jupyter_client.KernelManager(kernel_name="python3")
    manager.start_kernel(env=program_env(tmp_path / "home"), cwd=str(tmp_path))
    yield manager
    manager.shutdown_kernel(now=True)


def execute(kernel: Any, code: str, heard: Callable[[str], None] = lambda shown: None) -> tuple[str, list[str]]:
    """Run a cell; returns how it ended (``ok``, or the name of the error), and what was shown, as HTML or text."""
    client, shown = kernel.client(), []
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE)

        def take(message: Any) -> None:
            content = message["content"]
            data = content.get("data", {})
            if text := data.get("text/html") or data.get("text/plain") or content.get("text"):
                shown.append(f"{message['msg_type']}: {text}")
                heard(text)

        reply = client.execute_interactive(code, output_hook=take, timeout=PATIENCE)
        return reply["content"].get("ename", "ok"), shown
    finally:
        client.stop_channels()


def test_a_notebook_shows_progress_is_interrupted_and_goes_on_after_a_restart(
    make_lab: Callable[..., TinyLab], kernel: Any
) -> None:
    lab = make_lab(proposer="tuner", measure=SLOW)
    begin = OPEN.format(folder=str(lab.folder))
    told: list[str] = []

    def interrupt(text: str) -> None:
        if "#1 starting" in text and not told:
            told.append(text)
            kernel.interrupt_kernel()

    ended, shown = execute(kernel, begin + "session.run(experiments=3)", interrupt)
    assert ended == "KeyboardInterrupt" and told
    assert shown[0].startswith("display_data: session t · lab tiny")
    assert any(text.startswith("update_display_data") and "best loss 1 (#0)" in text for text in shown)

    ended, shown = execute(kernel, "print([e.verdict is not None for e in session.experiments()])")
    assert ended == "ok" and "[True, False]" in "".join(shown)

    kernel.restart_kernel(now=True)
    quick = f"{begin}trial = session.ask()\nprint(trial.experiment.number, session.tell(trial, 0.5).verdict.status)"
    ended, shown = execute(kernel, quick)
    assert ended == "ok" and "1 keep" in "".join(shown)
