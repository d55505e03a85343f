"""The answers of a model's endpoint in the words of four APIs: OpenAI's chat and responses, Anthropic's, Gemini's."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

USAGE = (1000, 50)
Event = tuple[str, tuple[int, int]]
"""One event of a stream as text, and the tokens in and out that the answer has stated with it."""


@dataclass(frozen=True)
class Call:
    """An answer that asks for a tool."""

    tool: str
    arguments: dict[str, Any]


def is_gemini(path: str) -> bool:
    return ":generateContent" in path or ":streamGenerateContent" in path


def is_streamed(path: str, body: dict[str, Any]) -> bool:
    return bool(body.get("stream")) or ":streamGenerateContent" in path


def answer(path: str, model: str, step: str | Call, stop: str | bool | None = True) -> dict[str, Any]:
    """An answer as one document. ``stop``: its finish reason, None for none; True for the regular one."""
    if is_gemini(path):
        return _gemini(model, step, stop)
    if path.split("?")[0].endswith("/messages"):
        return _anthropic(model, step, stop)
    if path.endswith("/responses"):
        return _response(model, step, stop)
    return _chat(model, step, stop)


def events(path: str, whole: dict[str, Any]) -> list[Event]:
    """An answer as a stream of server-sent events."""
    if is_gemini(path):
        return [(_event(whole), USAGE)]
    if whole.get("type") == "message":
        return list(_anthropic_events(whole))
    if whole.get("object") == "response":
        return list(_response_events(whole))
    return list(_chat_events(whole))


def unfinished(path: str, model: str, step: str | Call) -> list[Event]:
    """The stream of an answer up to where it would state its finish reason and its tokens."""
    if is_gemini(path):
        return [(words(path, f"{step}"), (0, 0))]
    told = events(path, answer(path, model, step, None))
    return [event for event in told if event[1] != USAGE and "content_block_stop" not in event[0]]


def words(path: str, text: str) -> str:
    """One more event of a stream that says these words."""
    if is_gemini(path):
        return _event({"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}]})
    if path.split("?")[0].endswith("/messages"):
        return _named({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})
    if path.endswith("/responses"):
        return _named({"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "delta": text})
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
    return _event({**chunk, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})


def _chat(model: str, step: str | Call, stop: str | bool | None) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": step}
    if isinstance(step, Call):
        function = {"name": step.tool, "arguments": json.dumps(step.arguments)}
        message |= {"content": None, "tool_calls": [{"id": _new("call"), "type": "function", "function": function}]}
    regular = "tool_calls" if isinstance(step, Call) else "stop"
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": regular if stop is True else stop}],
        "usage": {"prompt_tokens": USAGE[0], "completion_tokens": USAGE[1], "total_tokens": sum(USAGE)},
    }


def _chat_events(whole: dict[str, Any]) -> Iterable[Event]:
    choice = whole["choices"][0]
    delta = dict(choice["message"])
    delta |= {"tool_calls": [{"index": 0, **call} for call in delta["tool_calls"]]} if "tool_calls" in delta else {}
    chunk = {**whole, "object": "chat.completion.chunk"}
    usage = chunk.pop("usage")
    yield _event({**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}), (0, 0)
    yield _event({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]}), (0, 0)
    yield _event({**chunk, "choices": [], "usage": usage}), USAGE
    yield "data: [DONE]\n\n", USAGE


def _response(model: str, step: str | Call, stop: str | bool | None) -> dict[str, Any]:
    if isinstance(step, Call):
        item = {"type": "function_call", "id": _new("fc"), "call_id": _new("call"), "name": step.tool}
        item |= {"arguments": json.dumps(step.arguments), "status": "completed"}
    else:
        said = {"type": "output_text", "text": step, "annotations": []}
        item = {"type": "message", "id": _new("msg"), "role": "assistant", "status": "completed", "content": [said]}
    usage = {"input_tokens": USAGE[0], "output_tokens": USAGE[1], "total_tokens": sum(USAGE)}
    usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}  # type: ignore[dict-item]
    about: dict[str, Any] = {"id": _new("resp"), "object": "response", "created_at": 1, "status": "completed"}
    if stop is not True:
        about |= {"status": "incomplete", "incomplete_details": {"reason": stop}}
    about |= {"model": model, "output": [item], "usage": usage, "tools": [], "tool_choice": "auto", "error": None}
    return about


def _response_events(whole: dict[str, Any]) -> Iterable[Event]:
    item = {"output_index": 0, "item": whole["output"][0]}
    begun = {**whole, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield _named({"type": "response.created", "response": begun}), (0, 0)
    yield _named({"type": "response.output_item.added", **item}), (0, 0)
    yield _named({"type": "response.output_item.done", **item}), (0, 0)
    yield _named({"type": f"response.{whole['status']}", "response": whole}), USAGE


def _anthropic(model: str, step: str | Call, stop: str | bool | None) -> dict[str, Any]:
    content: dict[str, Any] = {"type": "text", "text": step}
    if isinstance(step, Call):
        content = {"type": "tool_use", "id": _new("toolu"), "name": step.tool, "input": step.arguments}
    regular = "tool_use" if isinstance(step, Call) else "end_turn"
    return {
        "id": _new("msg"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [content],
        "stop_reason": regular if stop is True else stop,
        "stop_sequence": None,
        "usage": {"input_tokens": USAGE[0], "output_tokens": USAGE[1]},
    }


def _anthropic_events(whole: dict[str, Any]) -> Iterable[Event]:
    block = whole["content"][0]
    begun = {**whole, "content": [], "stop_reason": None, "usage": {"input_tokens": USAGE[0], "output_tokens": 1}}
    so_far = (USAGE[0], 1)
    yield _named({"type": "message_start", "message": begun}), so_far
    if block["type"] == "text":
        first, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
    else:
        first = {**block, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    yield _named({"type": "content_block_start", "index": 0, "content_block": first}), so_far
    yield _named({"type": "content_block_delta", "index": 0, "delta": delta}), so_far
    yield _named({"type": "content_block_stop", "index": 0}), so_far
    ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield _named({"type": "message_delta", "delta": ended, "usage": {"output_tokens": USAGE[1]}}), USAGE
    yield _named({"type": "message_stop"}), USAGE


def _gemini(model: str, step: str | Call, stop: str | bool | None) -> dict[str, Any]:
    part: dict[str, Any] = {"text": step}
    if isinstance(step, Call):
        part = {"functionCall": {"id": _new("call"), "name": step.tool, "args": step.arguments}}
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [part]}, "index": 0}
    if stop is not None:
        candidate["finishReason"] = "STOP" if stop is True else stop
    counts = {"promptTokenCount": USAGE[0], "candidatesTokenCount": USAGE[1], "totalTokenCount": sum(USAGE)}
    return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": model, "responseId": _new("r")}


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


def _named(data: dict[str, Any]) -> str:
    return f"event: {data['type']}\n{_event(data)}"


def _new(kind: str) -> str:
    return f"{kind}_{next(_numbers)}"


_numbers = itertools.count(1)
