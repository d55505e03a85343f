"""Who may run a session: one thread at a time, in a run of the loop or one step of it after another."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nightlab.core.config import StopRules
from nightlab.core.observer import Observer, Observers
from nightlab.core.types import NightlabError
from nightlab.engines.base import Engine
from nightlab.engines.caller import CallerEngine
from nightlab.loop.ask_tell import AskTell
from nightlab.session.overrides import Overrides
from nightlab.ui.notebook import notebook_progress

if TYPE_CHECKING:
    from nightlab.loop.loop import ExperimentLoop
    from nightlab.loop.scheduler import Scheduler
    from nightlab.session.session import Session


class SessionRunner:
    """The parts of an open session that run it, and the lock of the thread that does."""

    def __init__(
        self,
        inner: Session,
        overrides: Overrides,
        engine: Engine | None,
        slots: int | None,
        seed: int,
        voice: Voice,
    ) -> None:
        self.inner, self.seed, self.voice = inner, seed, voice
        self._overrides, self._engine, self._slots = overrides, engine, slots
        self._work = threading.Lock()
        self._worker: threading.Thread | None = None
        self._scheduler: Scheduler | None = None
        self._asking: AskTell | None = None
        self._closed = False

    def stop(self, now: bool) -> None:
        """End the run that is under way."""
        if scheduler := self._scheduler:
            scheduler.ask_to_stop(now, by="the program")

    def close(self) -> None:
        """Stop what runs, and close the session. Raises NightlabError in a callback."""
        if self._worker is threading.current_thread():
            raise NightlabError(
                f"session {self.inner.tag} is running: it can't be closed here", "end it: session.stop()"
            )
        self.stop(now=True)
        with self._work:
            if not self._closed:
                self._closed = True
                self._end_asking()
                self.inner.close()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While the block runs, no other thread may run this session."""
        if self._worker is threading.current_thread():
            raise NightlabError(
                f"session {self.inner.tag} is running: a callback can't run it", "end it: session.stop()"
            )
        if not self._work.acquire(blocking=False):
            raise NightlabError(
                f"another thread of this program runs session {self.inner.tag}",
                "wait until it has ended, or end it: session.stop()",
            )
        try:
            if self._closed:
                raise NightlabError(
                    f"session {self.inner.tag} is closed", f"open it again: lab.session({self.inner.tag!r})"
                )
            self._worker = threading.current_thread()
            yield
        finally:
            self._worker = None
            self._work.release()

    def loop(self, scheduler: Scheduler, stop: StopRules) -> ExperimentLoop:
        from nightlab.loop.loop import ExperimentLoop

        brought = self._overrides
        return ExperimentLoop(
            self.inner, stop, scheduler, seed=self.seed, proposers=brought.proposers, selection=brought.selection
        )

    def ask_tell(self) -> AskTell:
        """The steps of the loop, one by one, from the first question on until something else is done."""
        from nightlab.loop.scheduler import Scheduler

        if self._asking is None:
            engine = CallerEngine(self._engine or self.inner.local_engine)
            scheduler = Scheduler(self.inner, Observers(notebook_progress()), self._slots, engine)
            self._asking = AskTell(self.loop(scheduler, StopRules()), engine)
        return self._asking

    def _end_asking(self) -> None:
        if self._asking:
            self._asking.close()
            self._asking = None

    @contextmanager
    def running(self, observers: Iterable[Observer]) -> Iterator[Scheduler]:
        """A scheduler for one run; what it has running when the run is interrupted is ended and written down."""
        from nightlab.loop.scheduler import Scheduler

        with self.alone():
            self._end_asking()
            view = Observers([*notebook_progress(), *observers])
            self._scheduler = Scheduler(self.inner, view, self._slots, self._engine)
            self.voice.view = view
            try:
                yield self._scheduler
            except KeyboardInterrupt:
                self._scheduler.stop_now()
                raise
            finally:
                self._scheduler = self.voice.view = None
                view.close()


class Voice:
    """Where an engine's words go: to the run that is under way, else they are kept for who opened the session."""

    def __init__(self) -> None:
        self.view: Observer | None = None
        self.heard: list[str] = []

    def __call__(self, words: str) -> None:
        if self.view:
            self.view.say(words)
        else:
            self.heard.append(words)
