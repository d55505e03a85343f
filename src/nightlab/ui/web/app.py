"""The web application: the page's data, and the two requests that change something (orders and notes)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from nightlab.core.text import one_line
from nightlab.core.types import NightlabError
from nightlab.loop.controls import leave
from nightlab.storage.ledger import add_note, state_folder
from nightlab.ui.web import queries
from nightlab.ui.web.feed import LiveFeed
from nightlab.ui.web.guard import Guard

PAGE = Path(__file__).parent / "page"
LONGEST = 4000  # bytes of a request's body
NOTE = 1000  # characters of a note


@dataclass(frozen=True, slots=True)
class WebApp:
    """The session to show. ``read_only``: orders and notes are rejected."""

    lab: Path
    tag: str
    read_only: bool = False

    @property
    def folder(self) -> Path:
        return state_folder(self.lab) / self.tag


class SessionApi:
    """The page's requests for one session."""

    def __init__(self, window: WebApp) -> None:
        self.window, self.live = window, LiveFeed(window.folder)

    @property
    def routes(self) -> list[Route | Mount]:
        return [
            Route("/", self.page),
            Route("/api/points", self.points),
            Route("/api/words", self.words),
            Route("/api/events", self.events),
            Route("/api/experiments/{number}", self.experiment),
            Route("/api/compare", self.compare),
            Route("/api/studies", self.studies),
            Route("/api/orders", self.order, methods=["POST"]),
            Route("/api/notes", self.note, methods=["POST"]),
            Mount("/page", StaticFiles(directory=PAGE)),
        ]

    async def page(self, request: Request) -> Response:
        return FileResponse(PAGE / "index.html", headers={"cache-control": "no-cache"})

    async def points(self, request: Request) -> Response:
        told = await self.live.columns()
        return JSONResponse({**told, "read_only": self.window.read_only})

    async def words(self, request: Request) -> Response:
        first, last = (_number(name, request.query_params.get(name, "")) for name in ("first", "last"))
        return JSONResponse(await self.live.words(first, min(last, first + 20_000)))

    async def events(self, request: Request) -> Response:
        mark = request.headers.get("last-event-id") or request.query_params.get("mark", "")
        told = self.live.events(mark)
        head = await anext(told)  # so that a listener too many gets an error instead of an empty stream

        async def stream() -> AsyncIterator[str]:
            try:
                yield head
                async for event in told:
                    yield event
            finally:
                await told.aclose()

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def experiment(self, request: Request) -> Response:
        number = _number("number", request.path_params["number"])
        return JSONResponse(await run_sync(queries.experiment, self.window.lab, self.window.tag, number))

    async def compare(self, request: Request) -> Response:
        one, other = (_number(name, request.query_params.get(name, "")) for name in ("one", "other"))
        return JSONResponse(await run_sync(queries.comparison, self.window.lab, self.window.tag, one, other))

    async def studies(self, request: Request) -> Response:
        return JSONResponse(await run_sync(queries.studies, self.window.lab))

    async def order(self, request: Request) -> Response:
        word = " ".join((await _told(request, "order")).split())  # an order is one line
        return await self._write(leave, word)

    async def note(self, request: Request) -> Response:
        words = one_line(await _told(request, "words"), NOTE)
        if not words:
            raise NightlabError("the note is empty")
        return await self._write(add_note, words)

    async def _write(self, write: Callable[[Path, str], object], words: str) -> Response:
        if self.window.read_only:
            raise NightlabError("this page is read-only", "start it without --read-only: nightlab serve")
        await run_sync(write, self.window.folder, words)
        return JSONResponse({"done": True})


def make_app(window: WebApp, *, token: str = "", names: tuple[str, ...] = ()) -> Starlette:
    """The application for one session. With a ``token``, access requires it; ``names``: further host names."""
    answers = SessionApi(window)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        answers.live.close()

    return Starlette(
        routes=answers.routes,
        middleware=[
            Middleware(Guard, token=token, names=names),
            Middleware(GZipMiddleware, minimum_size=2000, compresslevel=1),
        ],
        exception_handlers=dict.fromkeys((NightlabError, OSError, sqlite3.Error), _as_json),
        lifespan=lifespan,
    )


async def _told(request: Request, name: str) -> str:
    """The text in a request's JSON body, by its key."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST:
            raise NightlabError("the text is too long", f"use at most {NOTE} characters")
    try:
        said = json.loads(body)[name]
    except (ValueError, KeyError, TypeError, RecursionError):
        said = None
    if not isinstance(said, str):
        raise NightlabError(f'the request must be {{"{name}": "…"}}')
    return said


def _number(name: str, word: str) -> int:
    if not (word.isdecimal() and len(word) < 10):
        raise NightlabError(f"{name} must be a number")
    return int(word)


async def _as_json(request: Request, error: Exception) -> Response:
    hint = error.hint if isinstance(error, NightlabError) else ""
    return JSONResponse({"message": one_line(str(error)), "mend": hint}, 400)
