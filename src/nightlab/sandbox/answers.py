"""What a model's endpoint says of an answer: tokens, model, why it ended, or its error.

Reads the formats of OpenAI's two APIs, Anthropic's and Gemini's, as one JSON document or a stream of events. Tokens are
those that the endpoint states; within one answer the counts grow, so the largest is the last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

MOST_LINE = 16 * 2**20  # bytes of one event, or of one document, that are read
MARKS = ("messages", "input", "contents", "prompt")  # keys of a request to a model


class AnswerReader:
    """Reads one answer. After ``end``: what it said; ``None`` counts where it said nothing."""

    def __init__(self) -> None:
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.model = self.stop = self.error = ""
        self.code = ""
        """The error's own code or type, where it has one."""
        self.begun = False
        """Whether it is an answer of a known API with content, which has to state why it ended."""
        self._empty = False
        self._rest, self._overflow = b"", False

    def feed(self, content: bytes) -> None:
        """The next decoded bytes of its body."""
        if self._overflow:
            return
        *lines, self._rest = (self._rest + content).split(b"\n") if b"\n" in content else (self._rest + content,)
        if (
            lines
            and not lines[0].lstrip().startswith((b"data:", b"event:", b"id:", b":", b"retry:"))
            and lines[0].strip()
        ):
            self._rest = b"\n".join([*lines, self._rest])  # a document over several lines
            lines = []
        self._overflow = len(self._rest) > MOST_LINE
        for line in lines:
            if line.startswith(b"data:"):
                self._read(line[5:])

    def end(self) -> None:
        """The body has ended."""
        rest = self._rest.removeprefix(b"data:")
        self._read(rest)
        if self._empty and not self.begun:
            self.error = self.error or "an answer without choices"

    def _read(self, raw: bytes) -> None:
        for document in _documents(raw.decode(errors="replace").strip()):
            for one in document if isinstance(document, list) else [document]:
                if isinstance(one, dict):
                    self._take(one)

    def _take(self, one: dict[str, Any]) -> None:
        inner: dict[str, Any] = next(
            (one[name] for name in ("response", "message") if isinstance(one.get(name), dict)), {}
        )
        for part in (one, inner):
            for name in ("usage", "usageMetadata"):
                if isinstance(part.get(name), dict):
                    self._count(part[name])
            if isinstance(model := part.get("model") or part.get("modelVersion"), str):
                self.model = model[:80]
            if part.get("error"):
                self.error = error_words(part) or "an error without words"
                self.code = _code(part["error"])
            if isinstance(blocked := part.get("promptFeedback"), dict) and blocked.get("blockReason"):
                self.error, self.code = "the prompt was blocked", str(blocked["blockReason"])[:60]
        choices = [one[name] for name in ("choices", "candidates") if name in one]
        kinds = [part.get(name) for part in (one, inner) for name in ("type", "object")]
        self.begun |= any(choices) or "message" in kinds or "response" in kinds
        self._empty |= bool(choices) and not any(choices)
        self.stop = _stop(one) or _stop(inner) or self.stop

    def _count(self, usage: dict[str, Any]) -> None:
        cached = ("cache_creation_input_tokens", "cache_read_input_tokens")  # Anthropic's input is without these
        taken = _first(usage, "prompt_tokens", "input_tokens", "promptTokenCount")
        given = _first(usage, "completion_tokens", "output_tokens", "candidatesTokenCount")
        if taken is not None:
            taken += sum(_first(usage, name) or 0 for name in cached)
            taken += _first(usage, "toolUsePromptTokenCount") or 0
            self.input_tokens = max(taken, self.input_tokens or 0)
        reasoned = _first(usage, "thoughtsTokenCount")
        if given is not None or reasoned is not None:
            self.output_tokens = max((given or 0) + (reasoned or 0), self.output_tokens or 0)


def is_model_request(body: bytes) -> str | None:
    """What identifies a request to a model, as text: its conversation; None for any other request."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(asked, dict) or not any(name in asked for name in MARKS):
        return None
    return json.dumps({name: asked.get(name) for name in (*MARKS, "system", "instructions")}, sort_keys=True)


def has_tools(body: bytes) -> bool:
    """Whether a request offers tools: an agent's own small questions, such as for a title, do not."""
    try:
        return bool(json.loads(body).get("tools"))
    except (ValueError, AttributeError, RecursionError):
        return False


def error_words(body: Any) -> str:
    """The message in an endpoint's error, of any of the known APIs; empty if there is none."""
    found = body.get("error") or body if isinstance(body, dict) else body
    if isinstance(found, dict):
        found = found.get("message") or found.get("detail") or found.get("type") or found.get("code") or ""
    return " ".join(f"{found or ''}".split())[:300]


def _documents(text: str) -> Iterator[Any]:
    """The JSON documents in a text, one after the other; what is none ends it."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        try:
            found, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return
        yield found
        while at < len(text) and text[at] in " \r\n\t,":
            at += 1


def _first(usage: dict[str, Any], *names: str) -> int | None:
    found = (usage.get(name) for name in names)
    return next((n for n in found if isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1e12), None)


def _code(error: Any) -> str:
    if not isinstance(error, dict):
        return ""
    return str(error.get("code") or error.get("type") or error.get("status") or "")[:60]


def _stop(one: dict[str, Any]) -> str:
    """Why an answer ended, as it says; empty while it does not."""
    choices = one.get("choices") or one.get("candidates")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return str(choices[0].get("finish_reason") or choices[0].get("finishReason") or "").lower()
    delta = one.get("delta")
    said = one.get("stop_reason") or (delta.get("stop_reason") if isinstance(delta, dict) else "")
    if said:
        return str(said).lower()
    why = one.get("incomplete_details")
    if one.get("object") == "response" and one.get("status") in ("completed", "incomplete", "failed"):
        return str((why or {}).get("reason") or one["status"]).lower()
    return ""
