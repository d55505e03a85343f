"""A language model as a proposer: one briefing, one answer with edits, and one retry if it is cut or does not apply.

The client is pydantic-ai (extra ``models``), which supports Anthropic's API and OpenAI's (from any provider), and knows
the prices of most models. No tools, no conversation: a turn is one request, or two.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from nightlab.core.config import ModelConfig
from nightlab.core.text import one_line
from nightlab.proposers.briefing import render_briefing
from nightlab.proposers.counted import caps_of, priced, traffic_failure
from nightlab.proposers.edited_files import lost_edits
from nightlab.proposers.edits import FORMAT, BadEdit, apply_edits, parse_edits
from nightlab.proposers.finished import UnfinishedTurn, finished_turn, is_regular
from nightlab.proposers.proposer import Briefing, NoProposal, Proposal
from nightlab.sandbox.egress_proxy import EgressProxy, loopback_socket
from nightlab.sandbox.traffic import BREAK_OFF, Traffic, report_of

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
# The proxy is on this machine and reached without TLS: reading the certificates each turn would take 30 ms.
TO_PROXY: dict[str, Any] = {"trust_env": False, "verify": False}
NO_TAGS = ("\0", "\0")  # the client drops a <think> that is not closed: what follows it would be an answer


class LanguageModel:
    """Asks a contract's model once per turn, through the egress proxy, which counts."""

    def __init__(self, part: ModelConfig) -> None:
        self.name, self.part = part.called, part
        self._turn: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._stopped = False

    def propose(self, briefing: Briefing) -> Proposal:
        begun, listening, route = time.monotonic(), loopback_socket(), f"/{secrets.token_urlsafe(16)}"
        where = f"http://127.0.0.1:{listening.getsockname()[1]}{route}/0"
        caps = caps_of(self.part, briefing.left, {})
        proxy = EgressProxy(listening, (), [self.part.url], caps=caps, route=route)
        proxy.open()
        try:
            try:
                hypothesis, files = asyncio.run(self._ask(briefing, where, proxy.traffic))
            finally:
                proxy.close()  # what an unfinished answer had stated is counted too
            if not files:
                raise NoProposal("its edits change nothing")
            usage = self._usage(proxy.traffic, begun)
            return Proposal(self.name, hypothesis, files, usage=usage)
        except NoProposal as failure:
            raise failure.with_usage(self._usage(proxy.traffic, begun)) from None
        except asyncio.CancelledError:
            raise NoProposal("it was stopped", self._usage(proxy.traffic, begun)) from None

    def stop(self) -> None:
        self._stopped = True  # the turn may not have started yet
        if turn := self._turn:
            loop, task = turn
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(task.cancel)

    def _usage(self, traffic: Traffic, begun: float) -> dict[str, Any]:
        seconds = round(time.monotonic() - begun, 3)
        return {**priced(traffic.record()), "model": self.part.model, "seconds": seconds}

    async def _ask(self, briefing: Briefing, where: str, traffic: Traffic) -> Answer:
        """The hypothesis and files of one answer of the model that is reached at ``where``."""
        if importlib.util.find_spec("pydantic_ai") is None:
            raise NoProposal("its library is not installed: pip install 'nightlab[models]'", final=True)
        task = asyncio.current_task()
        assert task is not None
        self._turn = asyncio.get_running_loop(), task
        try:
            if self._stopped:
                raise asyncio.CancelledError
            page = render_briefing(briefing, TASK, self.part.briefing)
            async with self._client(where) as client:
                return await asyncio.wait_for(self._converse(client, page, briefing.genome), self.part.wall)
        except TimeoutError:
            raise NoProposal(f"it took longer than {self.part.wall:g} s") from None
        except NoProposal:
            raise
        except Exception as fault:  # any client error on an unexpected answer must not end the session
            raise self._failure(fault, traffic) from fault
        finally:
            self._turn = None

    def _failure(self, fault: Exception, traffic: Traffic) -> NoProposal:
        """What an error comes to, in one sentence: the endpoint's own words, where it had some, and a rest."""
        report = report_of(traffic)
        if failure := traffic_failure(report, [self.part.key] if self.part.key else []):
            return failure
        if traffic.fault:
            return NoProposal(f"{self.part.where}: {traffic.fault}", rest=traffic.wait(traffic.fault_at))
        words = re.sub(r": \d+ validation errors? .*", "", _said(fault))
        unusable = type(fault).__name__ == "UnexpectedModelBehavior"
        return NoProposal(f"its answer can't be used: {words}" if unusable else f"{type(fault).__name__}: {words}")

    async def _converse(self, client: Client, page: str, genome: Mapping[str, str]) -> Answer:
        """Ask, and once more if the answer is cut at its limit or can't be applied: it is told why."""
        from pydantic_ai import ModelSettings
        from pydantic_ai.direct import model_request
        from pydantic_ai.messages import ModelRequest

        settings = ModelSettings(max_tokens=self.part.answer, timeout=self.part.wall)
        messages: list[ModelMessage] = [ModelRequest.user_text_prompt(page)]
        for last in (False, True):
            response = await model_request(client, messages, model_settings=settings)
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

    @contextlib.asynccontextmanager
    async def _client(self, where: str) -> AsyncIterator[Client]:
        """The model behind its API. The client's own retries are off: a failed turn backs off instead."""
        part = self.part
        if part.key and part.key not in os.environ:
            raise NoProposal(f"the variable {part.key}, named for its key in lab.toml, is not set", final=True)
        key = os.environ[part.key] if part.key else "none"
        if part.api == "anthropic":
            import anthropic
            from pydantic_ai.models.anthropic import AnthropicModel
            from pydantic_ai.providers.anthropic import AnthropicProvider

            direct = anthropic.DefaultAsyncHttpxClient(**TO_PROXY)
            async with anthropic.AsyncAnthropic(
                api_key=key, base_url=where, max_retries=0, http_client=direct
            ) as client:
                yield AnthropicModel(part.model, provider=AnthropicProvider(anthropic_client=client))
        else:
            import openai
            from pydantic_ai.models.openai import OpenAIChatModel
            from pydantic_ai.providers.openai import OpenAIProvider

            direct = openai.DefaultAsyncHttpxClient(**TO_PROXY)
            async with openai.AsyncOpenAI(api_key=key, base_url=where, max_retries=0, http_client=direct) as client:
                provider = OpenAIProvider(openai_client=client)
                yield OpenAIChatModel(part.model, provider=provider, profile={"thinking_tags": NO_TAGS})


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


def _said(fault: BaseException) -> str:
    """The root cause of an exception, as text: clients wrap "connection refused" in "connection error"."""
    while fault.__cause__:
        fault = fault.__cause__
    return one_line(re.sub(r"^\[Errno -?\d+\] ", "", f"{fault}"), 300)
