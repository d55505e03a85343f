"""A language model as a proposer: one briefing, one answer with edits, and one retry if it is cut or does not apply.

The client is pydantic-ai (extra ``models``), which supports Anthropic's API and OpenAI's (from any provider), and knows
the prices of most models. No tools, no conversation: a turn is one request, or two.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from nightlab.core.config import ModelConfig
from nightlab.core.text import one_line
from nightlab.proposers.briefing import render_briefing
from nightlab.proposers.edited_files import lost_edits
from nightlab.proposers.edits import FORMAT, BadEdit, apply_edits, parse_edits
from nightlab.proposers.finished import BREAK_OFF, UnfinishedTurn, finished_turn, is_regular
from nightlab.proposers.proposer import Briefing, NoProposal, Proposal

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.models import Model as Client

TASK = f"""\
# One proposal

You are a researcher. Improve the program below: change its genome in one way that you have a reason to believe in.
nightlab measures each proposal under a fixed budget, keeps it or not, and tells you in your next turn.
Questions are not answered, so ask none.

{FORMAT}"""
Answer = tuple[str, Mapping[str, str]]


class LanguageModel:
    """Asks a contract's model once per turn."""

    def __init__(self, part: ModelConfig) -> None:
        self.name, self.part = part.called, part
        self._turn: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._stopped = False

    def propose(self, briefing: Briefing) -> Proposal:
        begun, usage = time.monotonic(), {"model": self.part.model}
        try:
            hypothesis, files = asyncio.run(self._ask(briefing, usage))
        except NoProposal as failure:
            raise failure.with_usage({**usage, "seconds": _since(begun)}) from None
        except asyncio.CancelledError:
            raise NoProposal("it was stopped", {**usage, "seconds": _since(begun)}) from None
        if not files:
            raise NoProposal("its edits change nothing", {**usage, "seconds": _since(begun)})
        return Proposal(self.name, hypothesis, files, usage={**usage, "seconds": _since(begun)})

    def stop(self) -> None:
        self._stopped = True  # the turn may not have started yet
        if turn := self._turn:
            loop, task = turn
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(task.cancel)

    async def _ask(self, briefing: Briefing, usage: dict[str, Any]) -> Answer:
        """The hypothesis and files of one answer; ``usage`` is updated even if it fails."""
        try:
            from pydantic_ai.exceptions import ModelAPIError, UnexpectedModelBehavior
        except ImportError:
            raise NoProposal("its library is not installed: pip install 'nightlab[models]'", final=True) from None
        task = asyncio.current_task()
        assert task is not None
        self._turn = asyncio.get_running_loop(), task
        try:
            if self._stopped:
                raise asyncio.CancelledError
            page = render_briefing(briefing, TASK, self.part.briefing)
            async with self._client() as client:
                return await asyncio.wait_for(self._converse(client, page, briefing.genome, usage), self.part.wall)
        except TimeoutError:
            raise NoProposal(f"it took longer than {self.part.wall:g} s") from None
        except ModelAPIError as fault:
            raise self._refused_by_endpoint(fault) from None
        except UnexpectedModelBehavior as fault:
            raise NoProposal(f"its answer can't be used: {_said(fault)}") from None
        except NoProposal:
            raise
        except Exception as fault:  # any client error on an unexpected answer must not end the session
            raise NoProposal(f"{type(fault).__name__}: {_said(fault)}") from fault
        finally:
            self._turn = None

    async def _converse(self, client: Client, page: str, genome: Mapping[str, str], usage: dict[str, Any]) -> Answer:
        """Ask, and once more if the answer is cut at its limit or can't be applied: it is told why."""
        from pydantic_ai import ModelSettings
        from pydantic_ai.direct import model_request
        from pydantic_ai.messages import ModelRequest

        settings = ModelSettings(max_tokens=self.part.answer, timeout=self.part.wall)
        messages: list[ModelMessage] = [ModelRequest.user_text_prompt(page)]
        for last in (False, True):
            response = await model_request(client, messages, model_settings=settings)
            _count(response, usage)
            try:
                return read_answer(response.text or "", _finish_reason(response), genome)
            except (UnfinishedTurn, BadEdit) as fault:
                cut = isinstance(fault, UnfinishedTurn) and fault.cut
                if last or not (cut or is_regular(_finish_reason(response))):
                    raise NoProposal(f"{fault}{_lost(response.text or '', genome)}") from None
                limit = f" in fewer than {self.part.answer:,} tokens, thinking included" if cut else ""
                again = f"{fault}. Nothing was applied. Answer again, whole{limit}, with all edits and the last line."
                messages = [*messages, *([] if cut else [response]), ModelRequest.user_text_prompt(again)]
        raise AssertionError

    def _refused_by_endpoint(self, fault: Any) -> NoProposal:
        """What an endpoint's error comes to: where, why, and a rest; a wrong key ends the proposer's run."""
        status = getattr(fault, "status_code", 0)
        words = error_words(getattr(fault, "body", None)) or ("" if status else _said(fault))
        reason = f"{self.part.where}: {': '.join(filter(None, (f'status {status}' if status else '', words)))}"
        if status not in (401, 403):
            return NoProposal(reason, rest=fault.retry_after or 0.0)
        key = f"the variable {self.part.key}" if self.part.key else "it was sent none: name its variable as key"
        return NoProposal(f"{reason}; check its key ({key})", final=True)

    @contextlib.asynccontextmanager
    async def _client(self) -> AsyncIterator[Client]:
        """The model behind its API. The client's own retries are off: a failed turn backs off instead."""
        part = self.part
        if part.key and part.key not in os.environ:
            raise NoProposal(f"the variable {part.key}, named for its key in lab.toml, is not set", final=True)
        key = os.environ[part.key] if part.key else "none"
        if part.api == "anthropic":
            from anthropic import AsyncAnthropic
            from pydantic_ai.models.anthropic import AnthropicModel
            from pydantic_ai.providers.anthropic import AnthropicProvider

            where = part.base_url or "https://api.anthropic.com"
            async with AsyncAnthropic(api_key=key, base_url=where, max_retries=0) as anthropic:
                yield AnthropicModel(part.model, provider=AnthropicProvider(anthropic_client=anthropic))
        else:
            from openai import AsyncOpenAI
            from pydantic_ai.models.openai import OpenAIChatModel
            from pydantic_ai.providers.openai import OpenAIProvider

            where = part.base_url or "https://api.openai.com/v1"
            async with AsyncOpenAI(api_key=key, base_url=where, max_retries=0) as openai:
                yield OpenAIChatModel(part.model, provider=OpenAIProvider(openai_client=openai))


def read_answer(said: str, stop: str, genome: Mapping[str, str]) -> Answer:
    """The hypothesis and new files of an answer that ended with the finish reason ``stop``.

    Raises UnfinishedTurn for one that is not whole, BadEdit for one whose edits do not apply.
    """
    turn = finished_turn(said, stop)
    return turn.hypothesis, apply_edits(genome, parse_edits(turn.body, genome))


def _finish_reason(response: ModelResponse) -> str:
    """Why an answer ended, as the endpoint says. The client's own reading takes none for a regular one."""
    return str((response.provider_details or {}).get("finish_reason") or BREAK_OFF)


def _lost(said: str, genome: Mapping[str, str]) -> str:
    """What the whole edits in an answer would have changed, in words."""
    try:
        return lost_edits(genome, apply_edits(genome, parse_edits(said, genome)))
    except BadEdit:
        return ""


def _count(response: ModelResponse, usage: dict[str, Any]) -> None:
    """Add a request and its tokens to a turn's usage, and its cost where a list price is known."""
    counts = {"requests": 1, "input_tokens": response.usage.input_tokens, "output_tokens": response.usage.output_tokens}
    with contextlib.suppress(LookupError, AssertionError):
        usage["cost_usd"] = usage.get("cost_usd", 0.0) + float(response.cost().total_price)
    for name, count in counts.items():
        if count:
            usage[name] = usage.get(name, 0) + count


def _said(fault: BaseException) -> str:
    """The root cause of an exception, as text: clients wrap "connection refused" in "connection error"."""
    while fault.__cause__:
        fault = fault.__cause__
    return one_line(re.sub(r"^\[Errno -?\d+\] ", "", f"{fault}"), 300)


def error_words(body: Any) -> str:
    """The message in an endpoint's error, of any of the known APIs; empty if there is none."""
    found = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(found, dict):
        found = found.get("message") or found.get("detail") or found.get("type") or found.get("code") or ""
    return one_line(f"{found or ''}", 300)


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 3)
