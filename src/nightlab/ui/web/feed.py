"""What is new in a session, for every browser that looks, as server-sent events.

One thread alone follows the ledger, however many look, and only while somebody does. Each browser is told what it
lacks since the event it saw last, so one that is slow, or comes back after an hour, gets all of it and no more.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from nightlab.core.text import plain
from nightlab.core.types import NightlabError
from nightlab.storage.ledger import LEDGER, read_notes
from nightlab.storage.ledger.columns import ColumnReader
from nightlab.ui.monitor import Follower
from nightlab.ui.snapshot import as_json

T = TypeVar("T")
PACE = 0.5  # seconds between looks at the session
RESTLESS = ("duty", "duty_hour", "rate", "rules", "left", "free_mb", "machine")  # always a little different
CALM = 10.0  # seconds, after which those are told all the same
SILENCE = 20.0  # seconds, after which a browser hears that we are still here
MOST = 5000  # experiments that are told one by one: after more, the page loads anew
NOTES = 20  # the human's own, the latest
LISTENERS = 50  # browsers at once


class LiveFeed:
    """The session in ``folder``, followed while somebody looks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listeners = 0
        self._follower: Follower | None = None
        self._thread = ThreadPoolExecutor(1, "follower")  # SQLite's connections belong to one thread
        self._news = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._seen: tuple[float, dict[str, Any]] = (0.0, {})
        self.seq, self.began, self.snapshot = 0, 0.0, ""

    @property
    def mark(self) -> str:
        """Which event of which ledger the last look saw."""
        return f"{self.began:.6f}-{self.seq}"

    async def columns(self) -> dict[str, Any]:
        """All experiments, with the mark from which on to listen."""

        def read() -> dict[str, Any]:
            self._look()
            with closing(ColumnReader(self.folder / LEDGER)) as feed, feed.moment():
                # Read after the look: what it holds too much is told twice, and nothing is left out.
                return {**feed.points(), "mark": self.mark, "picture": json.loads(self.snapshot)}

        return await self._in_thread(read)

    async def words(self, first: int, last: int) -> dict[str, Any]:
        """The words of experiments ``first`` to ``last``, without that one."""

        def read() -> dict[str, Any]:
            with closing(ColumnReader(self.folder / LEDGER)) as feed:
                return feed.words(range(first, last))

        return await self._in_thread(read)

    async def events(self, mark: str) -> AsyncGenerator[str, None]:
        """All that is new after ``mark``, for as long as the browser listens. Raises NightlabError for one too many."""
        if self.listeners >= LISTENERS:
            raise NightlabError(f"{LISTENERS} browsers look already", "close some")
        self.listeners += 1
        try:
            if self._following is None or self._following.done():
                self._following = asyncio.create_task(self._follow())
            told = ""
            yield "retry: 2000\n\n"
            while True:
                news = self._news
                if self.snapshot and self.snapshot != told:
                    told, now = self.snapshot, self.mark
                    if now != mark:
                        yield await self._in_thread(partial(self._rows, mark, now))
                        mark = now
                    yield _event("picture", told, mark)
                try:
                    await asyncio.wait_for(news.wait(), SILENCE)
                except TimeoutError:
                    yield ": still here\n\n"
                if self._following.done():
                    self._following.result()  # why nobody follows any more
        finally:
            self.listeners -= 1
            if not self.listeners and self._following:
                self._following.cancel()
                self._following = None

    def close(self) -> None:
        self._thread.submit(self._forget)
        self._thread.shutdown()

    # -- in the thread ---------------------------------------------------------------------------

    def _rows(self, since: str, now: str) -> str:
        """The experiments that changed between two marks, or word that the page has to load anew."""
        began, _, seq = since.rpartition("-")
        if began != now.rpartition("-")[0] or not seq.isdecimal() or int(seq) > self.seq:
            return _event("anew", "{}", now)
        try:
            with closing(ColumnReader(self.folder / LEDGER)) as feed, feed.moment():
                touched = feed.touched(int(seq))
                if len(touched) > MOST:
                    return _event("anew", "{}", now)
                rows = {**feed.points(touched), "words": feed.words(touched)} if touched else {}
        except Exception as error:
            if not _of_the_ledger(error):
                raise
            return _event("anew", "{}", now)
        return _event("points", json.dumps(rows), now) if rows else ""

    def _look(self) -> None:
        """Look at the session, and draw a new picture if there is something that a page should show."""
        try:
            if self._follower is None:
                self._follower = Follower(self.folder, last=1)
            snapshot = self._follower.look()
        except Exception as error:
            if not _of_the_ledger(error):
                raise
            self._forget()
            told = {"fault": plain(str(error), 400), "mend": getattr(error, "hint", "")}
        else:
            self.seq, self.began = snapshot.seq, snapshot.about.begun
            # All experiments are told as columns: once, and then those that change.
            told = as_json(replace(snapshot, points=(), steps=()))
        told["notes"] = read_notes(self.folder)[-NOTES:]
        at, before = self._seen
        if _restful(told) != _restful(before) or time.monotonic() - at > CALM:
            self._seen = time.monotonic(), told
            self.snapshot = json.dumps(told)

    def _forget(self) -> None:
        if self._follower:
            self._follower.close()
            self._follower = None

    # -- in the loop -----------------------------------------------------------------------------

    async def _follow(self) -> None:
        announced = ""
        while True:
            await self._in_thread(self._look)
            if self.snapshot != announced:  # by whoever looked
                announced = self.snapshot
                self._news.set()
                self._news = asyncio.Event()
            await asyncio.sleep(PACE)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _restful(told: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in told.items() if key not in RESTLESS}
    flights = [{**flight, "left": None} for flight in told.get("flights", ())]
    return {**kept, "flights": flights}


def _of_the_ledger(error: Exception) -> bool:
    return isinstance(error, NightlabError | OSError) or type(error).__module__ == "sqlite3"


def _event(kind: str, data: str, mark: str) -> str:
    return f"id: {mark}\nevent: {kind}\ndata: {data}\n\n"
