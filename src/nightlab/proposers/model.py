"""A language model as a proposer: one briefing, one answer with edits, and one retry if they do not apply.

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
from nightlab.proposers.edits import FORMAT, BadEdit, apply_edits, parse_edits
from nightlab.proposers.proposer import Briefing, NoProposal, Proposal, ProposerUnavailable

if TYPE_CHECKING:
    from pydantic_ai.models import Model as Client

TASK = f"""\
# One proposal

You are a researcher. Improve the program below: change its genome in one way that you have a reason to believe in.
nightlab measures each proposal under a fixed budget, keeps it or not, and tells you in your next turn.
Questions are not answered, so ask none.

{FORMAT}"""


class LanguageModel:
    """Asks a contract's model once per turn."""

    def __init__(self, part: ModelConfig) -> None:
        self.name, self.part = part.called, part
        self._turn: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._stopped = False

    def propose(self, briefing: Briefing) -> Proposal:
        begun, usage = time.monotonic(), {"model": self.part.model}
        try:
            answer = asyncio.run(self._ask(briefing, usage))
        except NoProposal as failure:
            raise type(failure)(str(failure), {**usage, "seconds": _since(begun)}, failure.rest) from None
        except asyncio.CancelledError:
            raise NoProposal("it was stopped", {**usage, "seconds": _since(begun)}) from None
        hypothesis, files = answer
        if not files:
            raise NoProposal("its edits change nothing", {**usage, "seconds": _since(begun)})
        hypothesis = one_line(hypothesis) or f"a change by {self.name}"
        return Proposal(self.name, hypothesis, files, usage={**usage, "seconds": _since(begun)})

    def stop(self) -> None:
        self._stopped = True  # the turn may not have started yet
        if turn := self._turn:
            loop, task = turn
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(task.cancel)

    async def _ask(self, briefing: Briefing, usage: dict[str, Any]) -> tuple[str, Mapping[str, str]]:
        """The hypothesis and files of one answer; ``usage`` is updated even if it fails."""
        try:
            from pydantic_ai import Agent, ModelRetry, ModelSettings, TextOutput
            from pydantic_ai.exceptions import ModelAPIError, UnexpectedModelBehavior
            from pydantic_ai.usage import RunUsage
        except ImportError:
            raise ProposerUnavailable("its library is not installed: pip install 'nightlab[models]'") from None

        def read(text: str) -> tuple[str, Mapping[str, str]]:
            try:
                found = parse_edits(text, briefing.genome)
                return found.hypothesis, apply_edits(briefing.genome, found.edits)
            except BadEdit as fault:
                raise ModelRetry(f"{fault}. Nothing was applied. Answer again, with all edits.") from fault

        task = asyncio.current_task()
        assert task is not None
        self._turn, used = (asyncio.get_running_loop(), task), RunUsage()
        try:
            if self._stopped:
                raise asyncio.CancelledError
            page = render_briefing(briefing, TASK, self.part.briefing)
            async with self._client() as client:
                settings = ModelSettings(max_tokens=self.part.answer, timeout=self.part.wall)
                agent = Agent(client, output_type=TextOutput(read), retries=1, model_settings=settings)
                answer: tuple[str, Mapping[str, str]]
                answer = (await asyncio.wait_for(agent.run(page, usage=used), self.part.wall)).output
                return answer
        except TimeoutError:
            raise NoProposal(f"it took longer than {self.part.wall:g} s") from None
        except ModelAPIError as fault:
            key = "; check its key" if getattr(fault, "status_code", 0) in (401, 403) else ""
            raise NoProposal(f"{self.part.where}: {_said(fault)}{key}", rest=fault.retry_after or 0.0) from None
        except UnexpectedModelBehavior as fault:
            raise NoProposal(f"its answer can't be used: {_said(fault)}") from None
        except NoProposal:
            raise
        except Exception as fault:  # any client error on an unexpected answer must not end the session
            raise NoProposal(f"{type(fault).__name__}: {_said(fault)}") from fault
        finally:
            self._turn = None
            usage |= _counted(used)

    @contextlib.asynccontextmanager
    async def _client(self) -> AsyncIterator[Client]:
        """The model behind its API. The client's own retries are off: a failed turn backs off instead."""
        part = self.part
        if part.key and part.key not in os.environ:
            raise ProposerUnavailable(f"the variable {part.key}, named for its key in lab.toml, is not set")
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


def _counted(used: Any) -> dict[str, Any]:
    """A run's usage, as numbers for the ledger."""
    counted = {name: getattr(used, name) for name in ("requests", "input_tokens", "output_tokens")}
    if used.cost is not None:
        counted["cost_usd"] = float(used.cost)
    return {name: value for name, value in counted.items() if value}


def _said(fault: BaseException) -> str:
    """The root cause of an exception, as text: clients wrap "connection refused" in "connection error"."""
    while fault.__cause__:
        fault = fault.__cause__
    return one_line(re.sub(r"^\[Errno -?\d+\] ", "", f"{fault}"), 300)


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 3)
