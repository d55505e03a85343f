"""What passes the egress proxy in one turn: counted, and held against the turn's caps."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any

from nightlab.sandbox.answers import AnswerReader

MOST_REPEATS = 8  # requests that were sent before, since the last new one
LONGEST_HOLD = 120.0  # seconds that a request waits for an endpoint; a longer wait ends the turn
MILLION = 1e6
DENIED = (401, 403)
BUSY = (429, 503, 529)
BREAK_OFF = "no finish reason"  # of an answer that ended without one


@dataclass(frozen=True, slots=True)
class TrafficCaps:
    """What one turn may take; None: no cap. ``price``: US dollars per million tokens of input and output."""

    requests: int | None = None
    tokens: int | None = None
    money: float | None = None
    price: tuple[float, float] | None = None


class TurnEnded(Exception):
    """A request that is not let through, because the turn has ended."""


@dataclass
class Traffic:
    """Counts of one turn. ``ended``: why it has to end, as soon as there is a reason; then nothing passes any more."""

    caps: TrafficCaps = field(default_factory=TrafficCaps)
    requests: int = 0
    sent: int = 0
    received: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    untold: int = 0
    """Answers of models that stated no tokens."""
    unpriced: int = 0
    sealed: int = 0
    """Connections that can't be looked into, such as TLS: their requests are estimated, their tokens unknown."""
    model: str = ""
    stop: str | None = None
    """Why the last answer to a request with tools ended, else the last answer; None where nothing was said."""
    fault: str = ""
    """The last error of an endpoint, in words; empty after a good answer. ``fault_at``: the endpoint."""
    fault_at: str = ""
    pending: list[str] = field(default_factory=list)
    """Endpoints whose answers have not ended, once for each."""
    ended: str = ""
    rest: float = 0.0
    denied: bool = False
    _seen: set[bytes] = field(default_factory=set)
    _repeats: int = 0
    _held: dict[str, float] = field(default_factory=dict)
    _with_tools: bool = False

    def admit(self, said: str | None) -> None:
        """Count a request, with what identifies it where it is to a model. Raises TurnEnded if it may not pass."""
        self.check()
        if self.caps.requests is not None and self.requests >= self.caps.requests:
            self.end(f"it sent more than {self.caps.requests:,} requests, its cap")
        self.check()
        self.requests += 1
        if said is None:
            return
        digest = hashlib.sha256(said.encode()).digest()
        self._repeats = self._repeats + 1 if digest in self._seen else 0
        self._seen.add(digest)
        if self._repeats >= MOST_REPEATS:
            self.end(f"it sent {MOST_REPEATS} requests in a row that it had sent before{self._because()}")
        self.check()

    def check(self) -> None:
        if self.ended:
            raise TurnEnded(self.ended)

    def end(self, reason: str) -> None:
        self.ended = self.ended or reason

    def wait(self, endpoint: str) -> float:
        """Seconds until an endpoint may be asked again, as it said itself."""
        return max(self._held.get(endpoint, 0.0) - time.monotonic(), 0.0)

    def answered(self, endpoint: str, status: int, after: float, answer: AnswerReader, *, tools: bool) -> None:
        """Count an answer of a model; ``after``: the seconds that it asks to wait."""
        failed = status >= 400 or bool(answer.error)
        if failed:
            self._fail(endpoint, status, after, answer)
        else:
            self.fault = ""
            self._stopped(answer.stop or (BREAK_OFF if answer.begun else None), tools=tools)
        self._count(answer, failed=failed)

    def failed(self, endpoint: str, fault: str) -> None:
        """Note what went wrong at an endpoint."""
        self.fault_at, self.fault = endpoint, fault

    @property
    def fault_words(self) -> str:
        if self.pending and not self.fault:
            return f"{self.pending[0]}: its answer had not ended"
        return f"{self.fault_at}: {self.fault}" if self.fault else ""

    def broke_off(self, endpoint: str, answer: AnswerReader, *, tools: bool, why: str) -> None:
        """An answer ended before its end, through its endpoint's fault if there is a ``why``."""
        if why:
            self.failed(endpoint, why)
        self._stopped("the connection broke off", tools=tools)
        self._count(answer, failed=False)

    def _stopped(self, why: str | None, *, tools: bool) -> None:
        if tools or not self._with_tools:
            self._with_tools, self.stop = tools, why

    def _count(self, answer: AnswerReader, *, failed: bool) -> None:
        if answer.input_tokens is None and answer.output_tokens is None:
            self.untold += not failed
        else:
            self._spend(answer)

    def record(self) -> dict[str, Any]:
        """The counts that are not zero, as a proposal's usage names them."""
        counts = {"requests": self.requests, "bytes_sent": self.sent, "bytes_received": self.received}
        if self.requests > self.untold and not (self.sealed and not self.input_tokens):
            counts |= {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        told: dict[str, Any] = {name: count for name, count in counts.items() if count}
        told |= {"untold": self.untold} if self.untold else {}
        told |= {"sealed": self.sealed} if self.sealed else {}
        told |= {"model": self.model} if self.model else {}
        return told | ({"cost_usd": round(self.cost, 6)} if self.cost and not self.unpriced else {})

    def _fail(self, endpoint: str, status: int, after: float, answer: AnswerReader) -> None:
        code = f", {answer.code}" if answer.code and answer.code != answer.error else ""
        how = f"status {status}" if status >= 400 else f"an error in an answer with status {status}{code}"
        self.failed(endpoint, f"{how}{': ' + answer.error if answer.error else ''}")
        if status in DENIED or answer.code in ("401", "403", "authentication_error", "invalid_api_key"):
            self.denied = True
            self.end(self.fault_words)
        if status in BUSY and after > 0:
            self._held[endpoint] = time.monotonic() + after
            if after > LONGEST_HOLD:
                self.rest = after
                self.end(f"{self.fault_words}; it asks to wait {after:g} s")

    def _spend(self, answer: AnswerReader) -> None:
        taken, given = answer.input_tokens or 0, answer.output_tokens or 0
        self.input_tokens += taken
        self.output_tokens += given
        self.model = answer.model or self.model
        asked = self.caps.price or self.caps.money is not None  # else no request waits for a price list to load
        price = cost_of_tokens(self.caps.price, answer.model, taken, given) if asked else None
        self.unpriced += price is None
        self.cost += price or 0.0
        spent = self.input_tokens + self.output_tokens
        if self.caps.tokens is not None and spent >= self.caps.tokens:
            self.end(f"it took {spent:,} tokens, of a cap of {self.caps.tokens:,}")
        if self.caps.money is not None and self.cost >= self.caps.money:
            self.end(f"it cost ${self.cost:.4f}, of a cap of ${self.caps.money:.4f}")

    def _because(self) -> str:
        return f", after {self.fault_words}" if self.fault else ", without progress"


def cost_of_tokens(price: tuple[float, float] | None, model: str, taken: int, given: int) -> float | None:
    """US dollars: by the given price, else the list price where pydantic-ai's price list knows it; else None."""
    if price is not None:
        return (taken * price[0] + given * price[1]) / MILLION
    try:
        from genai_prices import Usage, calc_price

        return float(calc_price(Usage(input_tokens=taken, output_tokens=given), model_ref=model).total_price)
    except (ImportError, LookupError):
        return None


@dataclass(frozen=True, slots=True)
class TrafficReport:
    """What a turn's traffic came to: its counts by name, and why it had to end, if it had."""

    counts: dict[str, Any] = field(default_factory=dict)
    ended: str = ""
    rest: float = 0.0
    denied: bool = False
    stop: str | None = None
    fault: str = ""


def report_of(traffic: Traffic) -> TrafficReport:
    return TrafficReport(
        traffic.record(), traffic.ended, traffic.rest, traffic.denied, traffic.stop, traffic.fault_words
    )
