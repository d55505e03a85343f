"""Streams a session's changes to browsers as server-sent events.

One thread follows the ledger for all browsers, and only while one is connected. Each browser gets what is new since the
last event it received, so a slow or reconnecting one misses nothing and gets nothing twice.
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
PACE = 0.5  # seconds between refreshes
RESTLESS = ("duty", "duty_hour", "rate", "rules", "left", "free_mb", "machine")  # fields that change all the time
CALM = 10.0  # seconds after which changes in only those fields are sent
SILENCE = 20.0  # seconds between keep-alive messages
MOST = 5000  # changed experiments above which the page is told to reload
NOTES = 20  # latest notes of the user
LISTENERS = 50  # browsers at once


class LiveFeed:
    """The session in ``folder``, followed while a browser is connected."""

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
        """The position (ledger and event) of the last refresh."""
        return f"{self.began:.6f}-{self.seq}"

    async def columns(self) -> dict[str, Any]:
        """All experiments, with the position from which to listen."""

        def read() -> dict[str, Any]:
            self._look()
            with closing(ColumnReader(self.folder / LEDGER)) as feed, feed.moment():
                # Read after the refresh: an event may be sent twice, but none is missed.
                return {**feed.points(), "mark": self.mark, "picture": json.loads(self.snapshot)}

        return await self._in_thread(read)

    async def words(self, first: int, last: int) -> dict[str, Any]:
        """The texts of experiments ``first`` (included) to ``last`` (excluded)."""

        def read() -> dict[str, Any]:
            with closing(ColumnReader(self.folder / LEDGER)) as feed:
                return feed.words(range(first, last))

        return await self._in_thread(read)

    async def events(self, mark: str) -> AsyncGenerator[str, None]:
        """Everything new after ``mark``, while the browser listens. Raises NightlabError for too many browsers."""
        if self.listeners >= LISTENERS:
            raise NightlabError(f"{LISTENERS} browsers are connected already", "close some")
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
                    self._following.result()  # raises the reason why following ended
        finally:
            self.listeners -= 1
            if not self.listeners and self._following:
                self._following.cancel()
                self._following = None

    def close(self) -> None:
        self._thread.submit(self._forget)
        self._thread.shutdown()

    # -- in the follower's thread ----------------------------------------------------------------

    def _rows(self, since: str, now: str) -> str:
        """The experiments that changed between two positions, or a request to reload the page."""
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
        """Refresh the session's snapshot, and replace it if there is something to show."""
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
            # All experiments are sent as columns once; later only changed ones.
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

    # -- in the event loop -----------------------------------------------------------------------

    async def _follow(self) -> None:
        announced = ""
        while True:
            await self._in_thread(self._look)
            if self.snapshot != announced:  # refreshed by another listener
                announced = self.snapshot
                self._news.set()
                self._news = asyncio.Event()
            await asyncio.sleep(PACE)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _restful(told: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in told.items() if key not in RESTLESS}
    running = [{**trial, "left": None} for trial in told.get("running", ())]
    return {**kept, "running": running}


def _of_the_ledger(error: Exception) -> bool:
    return isinstance(error, NightlabError | OSError) or type(error).__module__ == "sqlite3"


def _event(kind: str, data: str, mark: str) -> str:
    return f"id: {mark}\nevent: {kind}\ndata: {data}\n\n"
