"""A window that is served in this process, what browsers ask of it, and experiments to show."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from contextlib import closing
from typing import Any

from nightlab.core.types import Candidate, Measurement, Verdict
from nightlab.session.session import Session
from nightlab.ui.web.app import WebApp, make_app
from nightlab.ui.web.serve import server
from support.processes import PATIENCE, wait

OURS = {"x-nightlab": "window", "content-type": "application/json"}
EVIL = '<img src=x onerror="alert(1)">\x1b[31m\u202e</script><script>alert(2)</script>'


class ModelAnswer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Site:
    """A window that is served in this process, and what a browser asks of it."""

    def __init__(self, window: WebApp, port: int = 0, **more: Any) -> None:
        self.socket = socket.create_server(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]
        self.server = server(make_app(window, **more))
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],))
        self.thread.start()
        wait(lambda: self.server.started)

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join()

    def ask(self, path: str, method: str = "GET", body: str | None = None, **headers: str) -> ModelAnswer:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as link:
            link.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            return ModelAnswer(link.getresponse())

    def tell(self, path: str, what: Any, **headers: str) -> ModelAnswer:
        return self.ask(path, "POST", json.dumps(what), **OURS, **headers)


class Listener:
    """A browser's event source."""

    def __init__(self, site: Site, mark: str = "", **headers: str) -> None:
        self.link = http.client.HTTPConnection("127.0.0.1", site.port, timeout=PATIENCE)
        self.link.request("GET", f"/api/events?mark={mark}", headers=headers)
        self.answer = self.link.getresponse()
        assert self.answer.status == 200 and self.answer.headers["content-type"].startswith("text/event-stream")

    def next(self, kind: str) -> tuple[str, Any]:
        """The mark and the data of the next event of a kind."""
        found: dict[str, str] = {}
        while line := self.answer.readline().decode():
            if line == "\n":
                if found.get("event") == kind:
                    return found["id"], json.loads(found["data"])
                found = {}
            elif ": " in line:
                name, _, value = line.rstrip("\n").partition(": ")
                found[name] = value
        raise AssertionError(f"the stream ended without {kind}")

    def judged(self) -> tuple[str, Any]:
        """The mark and the rows of the next experiments that have a verdict: a proposal may be told before."""
        mark, rows = self.next("points")
        return (mark, rows) if -1 not in rows["status"] else self.judged()

    def close(self) -> None:
        self.link.close()


def add(
    session: Session, text: str = "", hypothesis: str = "baseline", status: str = "keep", value: float = 1.0
) -> int:
    """An experiment on the champion, judged at once."""
    champion = session.ledger.champion()
    parent = champion.candidate.commit if champion else session.base
    commit = session.repo.commit_files(parent, {"genome.py": text}, "x") if text else parent
    about = {"changes": ("A 4 → 2",), "theme": ("genome.py:A",)} if text else {}
    number = session.ledger.propose(Candidate(commit, parent, commit, "tuner", hypothesis, **about))
    measured = Measurement("measured", value)
    session.ledger.judge(number, measured, Verdict(status, "improved", bar=value if status == "keep" else None))  # type: ignore[arg-type]
    return number
