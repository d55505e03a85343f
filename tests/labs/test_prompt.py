"""The prompt lab: the genome is text for a model, which only the evaluator reaches, through a gateway with the key."""

from __future__ import annotations

import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.labs import TinyLab
from support.shipped import lab_module

from nightlab.session.create import make_lab

STAND_IN = lab_module("prompt", "stand_in")


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Sort it.", "The message is about: refund."),
        ("Answer in one word.", "refund"),
        ("Answer in one word. What is broken is a fault.", "fault"),
    ],
)
def test_the_stand_in_is_as_good_as_its_instructions(prompt: str, answer: str) -> None:
    assert STAND_IN.answer(prompt, "It is broken, I want a refund.") == answer


def test_every_other_case_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = lab_module("prompt", "ask")
    monkeypatch.chdir(Path(ask.__file__).parent)
    searched, held_out = ask.cases(False), ask.cases(True)
    assert len(searched) == len(held_out) == 20 and not {m for _, m in searched} & {m for _, m in held_out}
    assert {label for label, _ in searched} == {label for label, _ in held_out} == {*STAND_IN.WORDS, "other"}


def test_a_short_session_confirms_a_gain_and_the_key_stays_outside(nightlab: Any, tmp_path: Path) -> None:
    keys = set()

    class Endpoint(STAND_IN.Endpoint):  # type: ignore[misc, name-defined]
        def do_POST(self) -> Any:  # noqa: N802
            keys.add(self.headers["Authorization"])
            super().do_POST()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    lab = TinyLab(make_lab(tmp_path / "prompt", "prompt"))
    contract = (lab.folder / "lab.toml").read_text()
    for text, other in ((":8765", f":{server.server_port}"), ("# keys", "keys")):
        assert text in contract
        contract = contract.replace(text, other)
    for idea in ("02-polite", "04-what-is-broken", "05-anything-else"):
        (lab.folder / "ideas" / f"{idea}.patch").unlink()
    lab.commit(lab_toml=contract)
    done = nightlab("run", cwd=lab, OPENAI_API_KEY="sk-not-for-trials")
    server.shutdown()
    server.server_close()
    assert done.code == 0 and "\nconfirmed: right is 0." in done.out, done.out
    assert "1 kept, 1 discarded, 0 crashed" in done.out, "a prompt that prints the metric is only text"
    assert keys == {"Bearer sk-not-for-trials"}
    written = [path for path in tmp_path.rglob("*") if path.is_file() and b"sk-not-for-trials" in path.read_bytes()]
    assert not written, "the key is in no file of a trial"
