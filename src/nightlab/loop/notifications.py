"""Telling the human of a keep, a stall, the end, or trouble: by a command, the desktop, or a webhook.

What happened is read from the ledger as it is written. Each way out is a program under a keeper, like a hook: it has
``LIMIT`` seconds, the loop never waits for it, and it ends with the orchestrator, killed or not. One that fails is
noted once, until it works again. What happened while the session was not running is not told later.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape

from nightlab.core.config import Event, NotifyConfig
from nightlab.core.events import Judged, LedgerEvent, NotificationFailed
from nightlab.core.text import counted, one_line, plain
from nightlab.core.types import Experiment, NightlabError
from nightlab.loop.scheduler import POLL, Scheduler
from nightlab.sandbox.bubblewrap import search_path
from nightlab.sandbox.process_guard import ProcessResult, ProcessSpec, read_result, start_guard

LOOK = 1.0  # seconds between looks at the ledger
LIMIT = 20.0  # seconds that a notice may take on its way
LAST = 15.0  # seconds that the end of a session waits for its own notices
MOST = 20  # notices that wait for a way out; the oldest goes
LONGEST = 300  # characters of quoted text in a notice
SAID = 2**16  # bytes that a way out may print
ANY_SIZE = 2**50
OFF = ("", "0", "no", "false")


@dataclass(slots=True)
class NotificationChannel:
    """A way out, what waits for it, and the keeper of what is on its way. ``told``: that it fails has been said."""

    name: str
    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    waiting: list[dict[str, Any]] = field(default_factory=list)
    guard: subprocess.Popen[bytes] | None = None
    told: bool = False


class Notifications:
    """Sends a session's notices, each way one at a time."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler, self.session, self.ledger = scheduler, scheduler.session, scheduler.ledger
        self.part, self.folder = self.session.lab.notify, self.session.folder / "notices"
        self.ways = ways(self.part, os.environ)
        self._seen, self._looked, self._stalled = self.ledger.last_event(), 0.0, False

    def poll(self) -> None:
        """Tell what has happened since the last look, and see how the notices under way are doing."""
        if not self.ways:
            return
        if time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            for event in self.ledger.journal(self._seen):
                self._seen = event.seq
                self._happened(event)
        for way in self.ways:
            if way.guard is not None and way.guard.poll() is not None:
                guard, way.guard = way.guard, None
                with guard:
                    self._ended(way, read_result(guard))
            if way.guard is None and way.waiting:
                self._send(way, way.waiting.pop(0))

    def ended(self, reason: str, *, trouble: bool = False) -> None:
        """Tell why the session has ended, and give it a moment to get out; none when the user is in a hurry."""
        if not self.ways:
            return
        self._looked = 0.0
        self.poll()
        self._tell("trouble" if trouble else "stop", reason, self.ledger.champion())
        until = time.monotonic() + LAST
        while left := [way for way in self.ways if way.waiting or way.guard]:
            if self.scheduler.asked_to_stop > 1:
                return
            if time.monotonic() > until:
                for way in left:
                    self._failed(way, f"it takes longer than {LAST:g} s, and the session has ended")
                return
            self.poll()
            time.sleep(POLL)

    def stop(self) -> None:
        """End what is under way."""
        for way in self.ways:
            if way.guard is not None:
                assert way.guard.stdin is not None
                with way.guard:
                    way.guard.stdin.close()
                way.guard = None

    def _happened(self, event: LedgerEvent) -> None:
        if event.fault:
            self._tell("trouble", f"{event.kind}: {event.fault}")
        elif isinstance(event, Judged) and event.number:
            experiment = self.ledger.experiment(event.number)
            if experiment.kept:
                self._stalled = False
                self._tell("keep", experiment.candidate.hypothesis, experiment)
            else:
                champion = self.ledger.champion()
                since = experiment.number - champion.number if champion else 0
                if since >= self.part.stall and not self._stalled:
                    self._stalled = True  # once, until something is kept
                    self._tell("stall", f"{counted(since, 'experiment')} in a row brought no keep", champion)

    def _tell(self, event: Event, words: str, experiment: Experiment | None = None) -> None:
        if event not in self.part.on:
            return
        metric, measured = self.session.metric, experiment.measurement if experiment else None
        baseline = self.ledger.experiment(0).measurement if self.ledger.next_number() else None
        before, value = baseline and baseline.metric, measured and measured.metric
        name, number = f"{self.session.lab.name} {self.session.tag}", experiment and experiment.number
        cleaned = one_line(words, LONGEST)
        # `text` and `content` are what the webhooks of chats show; nothing in them is a confirmed result.
        text = f"nightlab {name}: {event}{f' #{number}' if event == 'keep' else ''}: {cleaned}"
        if value is not None:
            text += f" ({'now' if event == 'keep' else 'best'} {metric.name} {value:.6g}, measured, not confirmed)"
        told = {
            "text": text,
            "content": text,
            "event": event,
            "lab": self.session.lab.name,
            "session": self.session.tag,
            "words": cleaned,
            "metric": metric.name,
            "goal": metric.goal,
            "value": value,
            "baseline": before,
            "number": number,
            "proposer": experiment and one_line(experiment.candidate.proposer, 60),
            "evidence": experiment and experiment.level,
            "at": time.time(),
        }
        for way in self.ways:
            way.waiting = [*way.waiting, told][-MOST:]

    def _send(self, way: NotificationChannel, told: dict[str, Any]) -> None:
        home = self.folder / way.name
        argv = [*way.argv, told["text"]] if way.name == "desktop" else way.argv
        spec = ProcessSpec(
            argv=argv,
            cwd=str(self.session.repo.lab),
            env={**os.environ, **way.env, "PATH": search_path(os.environ.get("PATH", os.defpath))},
            stdin=str(home / "notice.json"),
            output=str(home / "said.log"),
            folder=str(home),
            wall=LIMIT,
            idle=LIMIT,
            most_output=SAID,
            most_disk=ANY_SIZE,
        )
        try:
            home.mkdir(parents=True, exist_ok=True)
            Path(spec.output).unlink(missing_ok=True)
            Path(spec.stdin).write_text(json.dumps(told), encoding="utf-8")
            way.guard = start_guard(spec)
        except OSError as error:
            self._ended(way, ProcessResult("unstartable", 0, 0.0, tree_ended=True, detail=str(error)))

    def _ended(self, way: NotificationChannel, kept: ProcessResult) -> None:
        if kept.end == "exited" and not kept.status:
            way.told = False
            return
        said = ""
        with suppress(OSError):
            said = one_line(plain((self.folder / way.name / "said.log").read_bytes()), LONGEST)
        late = f"it took longer than {LIMIT:g} s"
        why = {"wall": late, "idle": late, "exited": said or f"exit status {kept.status}"}.get(kept.end, kept.detail)
        self._failed(way, why or kept.end)

    def _failed(self, way: NotificationChannel, why: str) -> None:
        if not way.told:
            way.told = True
            self.scheduler.view.say(f"  [bold yellow]no notice went out by {way.name}:[/] {escape(why)}")
            with suppress(NightlabError):  # the loop reports a full disk
                self.ledger.append(NotificationFailed(way.name, why))


def ways(part: NotifyConfig, environment: Mapping[str, str]) -> list[NotificationChannel]:
    """The ways out that the contract and the user's own environment name; the environment's come first."""
    found = []
    if command := environment.get("NIGHTLAB_NOTIFY") or part.command:
        found.append(NotificationChannel("command", shlex.split(command)))
    if address := environment.get("NIGHTLAB_WEBHOOK") or part.webhook:
        found.append(
            NotificationChannel(
                "webhook", [sys.executable, "-m", "nightlab.loop.webhook"], {"NIGHTLAB_WEBHOOK": address}
            )
        )
    if environment.get("NIGHTLAB_DESKTOP", "").lower() not in OFF or part.desktop:
        found.append(NotificationChannel("desktop", _program()))
    return found


def _program() -> list[str]:
    """What shows words on this desktop."""
    if sys.platform == "darwin":
        # The words are an argument, never part of the script.
        script = 'on run words\ndisplay notification (item 1 of words) with title "nightlab"\nend run'
        return ["osascript", "-e", script]
    return ["notify-send", "--app-name=nightlab", "--", "nightlab"]
