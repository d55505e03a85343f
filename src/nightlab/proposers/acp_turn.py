"""One turn of an agent over the Agent Client Protocol. Runs as a program in the sandbox, beside the agent.

Executed by its path, with the agent's command as arguments and the briefing on standard input. It prints a line for
each of the agent's actions, as a sign of life: none of these is the agent's words. Its last message and the stop reason
are written to one file, its name, model, tokens and cost to another. Permission requests are answered automatically:
edits of files below the working folder are allowed, everything else is rejected.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import acp
from acp import schema

USAGE, TURN = "nightlab-usage.json", "nightlab-turn.json"
AUTH_REQUIRED = -32000  # the protocol's error for an agent that needs a login
MOST_WORDS, LONGEST_LINE = 20_000, 16 * 2**20  # characters kept of its messages; bytes of one protocol message


class Client:
    """The client side of the protocol: allows edits, records messages, and offers no files and no terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.words, self.usage = folder, "", dict[str, Any]()
        self.tools: dict[str, tuple[str | None, set[str]]] = {}  # kind and files of each tool call, as first reported

    def on_connect(self, connection: Any) -> None: ...

    async def request_permission(self, session_id: str, tool_call: Any, options: list[Any], **more: Any) -> Any:
        kind, places = self.tools.get(tool_call.tool_call_id, (None, set()))
        kind, places = tool_call.kind or kind, _places(tool_call) or places
        allowed = kind == "edit" and bool(places) and all(map(self._inside, places))
        wanted = "allow_once" if allowed else "reject_once"
        print(f"permission to {kind}: {wanted}", flush=True)
        option = next((option for option in options if option.kind == wanted), None)
        if option is None:
            return schema.RequestPermissionResponse(outcome=schema.DeniedOutcome(outcome="cancelled"))
        chosen = schema.AllowedOutcome(outcome="selected", option_id=option.option_id)
        return schema.RequestPermissionResponse(outcome=chosen)

    async def session_update(self, session_id: str, update: Any, **more: Any) -> None:
        what = update.session_update
        if what == "agent_message_chunk":
            self.words = (self.words + getattr(update.content, "text", ""))[-MOST_WORDS:]
        elif what == "tool_call":
            self.words = ""  # only the message after its last tool call counts
            self.tools[update.tool_call_id] = update.kind, _places(update)
        elif what == "usage_update" and update.cost and update.cost.currency == "USD":
            self.usage["cost_usd"] = update.cost.amount
        print(what, flush=True)

    def _inside(self, path: str) -> bool:
        return (self.folder / path).resolve().is_relative_to(self.folder)


def _places(call: Any) -> set[str]:
    """The files that a tool call names."""
    diffs = [content for content in call.content or [] if content.type == "diff"]
    return {place.path for place in (*(call.locations or []), *diffs)}


async def turn(argv: list[str], page: str, client: Any) -> str:
    """Run the agent for one prompt; returns the protocol's stop reason."""
    pipes = {"stderr": None, "limit": LONGEST_LINE}
    start = acp.spawn_agent_process(client, *argv, env=dict(os.environ), cwd=client.folder, transport_kwargs=pipes)
    async with start as (agent, _):
        about = await agent.initialize(
            protocol_version=acp.PROTOCOL_VERSION,
            client_info=schema.Implementation(name="nightlab", version="1"),
        )
        if about.agent_info:
            client.usage["agent"] = f"{about.agent_info.name} {about.agent_info.version}"
        session = await agent.new_session(cwd=str(client.folder), mcp_servers=[])
        if models := getattr(session, "models", None):
            client.usage["model"] = models.current_model_id
        for option in session.config_options or []:
            if getattr(option, "category", None) == "model" and getattr(option, "current_value", None):
                client.usage["model"] = option.current_value
        answer = await agent.prompt(session_id=session.session_id, prompt=[acp.text_block(page)])
        if answer.usage:
            client.usage |= {"input_tokens": answer.usage.input_tokens, "output_tokens": answer.usage.output_tokens}
        return str(answer.stop_reason)


def acp_main() -> None:
    client, login = Client(Path.cwd().resolve()), False
    try:
        why = asyncio.run(turn(sys.argv[1:], sys.stdin.read(), client))
    except acp.RequestError as error:
        why, login = f"{error}", error.code == AUTH_REQUIRED
    except Exception as error:  # whatever an agent sends, the turn has a reason
        why = f"{error}" or type(error).__name__
    Path(USAGE).write_text(json.dumps(client.usage), encoding="utf-8")
    Path(TURN).write_text(json.dumps({"said": client.words, "stop": why, "login": login}), encoding="utf-8")
    os._exit(0)  # exits before transports that are closed late can print


if __name__ == "__main__":
    acp_main()
