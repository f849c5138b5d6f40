"""Rate limits per visitor, statistics of finished answers, and graceful shutdown of running ones."""

import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.access.client_address import SHARE, AddressSpent, ClientAddresses
from app.access.identity import Server
from app.access.rate_window import RateWindow
from app.errors import StudioError
from app.models.interface import (
    ChatModel,
    Generation,
    InspectableModel,
    Inspection,
    Message,
    Sampling,
    TextModel,
    TokenScore,
    TokenScoringModel,
)
from app.models.registry.running_request import Answered, MeteredGeneration, RunningRequest

log = logging.getLogger(__name__)
MINUTE_S = 60.0


def mark_of(visitor: str) -> str:
    """What stands for a visitor in the log: always the same for one, and no name."""
    return hashlib.sha256(visitor.encode()).hexdigest()[:8] if visitor else ""


class TooManyAtOnce(StudioError):
    status = 429
    zh = "同时只能有 {limit} 个回答在生成，请等其中一个完成或将它停止。"
    en = "Only {limit} of your answers may be in progress at once; wait for one to end, or stop one."


class TooManyTokens(StudioError):
    status = 429
    zh = "每分钟最多 {limit} 个 token，已用完；请 {wait_s} 秒后再试。"
    en = "You have used the {limit} tokens that a minute allows; try again in {wait_s} s."


class Ending(StudioError):
    status = 503
    zh = "服务器正在关闭，不再接受新的请求；请稍后再试。"
    en = "The server is shutting down and takes no new requests; try again later."


@dataclass(frozen=True)
class Allowance:
    """What one visitor may have; 0 is no limit. Tokens are those of prompts and answers together."""

    requests_at_once: int = 0
    tokens_per_minute: int = 0


class Meter:
    """Thread-safe. Requests without a visitor, or of a `Server`, are not limited.

    An answer may end in a finalizer, in whatever thread the garbage collector runs and under whatever lock that holds.
    So its end is only put into a queue; a thread of the meter books it and calls the observers.
    """

    def __init__(
        self,
        allowance: Allowance | None = None,
        *,
        log_prompts: bool = False,
        addresses: ClientAddresses | None = None,
    ) -> None:
        self.allowance = allowance or Allowance()
        self._addresses = addresses or ClientAddresses()
        self._log_prompts = log_prompts
        self.observers: list[Callable[[Answered], None]] = []
        self._running: dict[int, RunningRequest] = {}
        self._ended: queue.SimpleQueue[tuple[RunningRequest, Answered] | threading.Event] = queue.SimpleQueue()
        self._booking: threading.Thread | None = None
        self._spent = RateWindow(MINUTE_S)
        self._ending = False
        self._changed = threading.Condition()

    def model(self, model: ChatModel) -> ChatModel:
        """The same model, metered."""
        if isinstance(model, InspectableModel):
            return _MeteredInspectable(self, model)
        if isinstance(model, TextModel):
            return _MeteredText(self, model)
        return _MeteredScoring(self, model) if isinstance(model, TokenScoringModel) else _MeteredModel(self, model)

    def running(self) -> list[RunningRequest]:
        """What has not ended yet."""
        return [request for request in list(self._running.values()) if not request.ended]

    def end(self, seconds: float) -> int:
        """Take no new requests, wait so long for those that run, then cancel the rest; how many that were."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._ending = True
            while (left := self.running()) and (wait := deadline - time.monotonic()) > 0:
                self._changed.wait(wait)
        for request in left:
            request.end()
        return len(left)

    def flush(self) -> None:
        """Wait until every answer that has ended is booked and told to the observers."""
        if self._booking is not None:
            reached = threading.Event()
            self._ended.put(reached)
            reached.wait()

    def admit(self, model: str, visitor: str) -> MeteredGeneration:
        """A place for a request about to start. Raises TooManyAtOnce, TooManyTokens, AddressSpent or Ending."""
        self.flush()
        with self._changed:
            if self._ending:
                raise Ending
            if visitor and not isinstance(visitor, Server):
                self._check(visitor)
            if self._booking is None:
                self._booking = threading.Thread(target=self._book_ended, name="meter", daemon=True)
                self._booking.start()
            request = RunningRequest(self, model, visitor)
            self._running[id(request)] = request
            return MeteredGeneration(request)

    def note_prompt(self, model: str, visitor: str, messages: Sequence[Message]) -> None:
        """Write what was asked to the log, where the operator has said so."""
        if self._log_prompts and messages:
            asked = messages[-1]["content"]
            log.info("prompt", extra={"model": model, "visitor": mark_of(visitor), "prompt": asked})

    def note_end(self, request: RunningRequest, answered: Answered) -> None:
        """Called once by each request when it ends; takes no lock."""
        self._ended.put((request, answered))

    def _book_ended(self) -> None:
        while True:
            self._book_next(self._ended.get())  # no name for it here: it would keep its model in memory until the next

    def _book_next(self, ended: tuple[RunningRequest, Answered] | threading.Event) -> None:
        if isinstance(ended, threading.Event):
            ended.set()
            return
        self._book(*ended)
        for observe in self.observers:
            try:
                observe(ended[1])
            except Exception:
                log.exception("an observer of answers failed")

    def _book(self, request: RunningRequest, answered: Answered) -> None:
        with self._changed:
            self._running.pop(id(request), None)
            if answered.visitor and self.allowance.tokens_per_minute:
                spent = answered.prompt_tokens + answered.completion_tokens
                for whose in filter(None, (answered.visitor, self._addresses.of(answered.visitor))):
                    self._spent.add(whose, spent)
            self._changed.notify_all()

    def _check(self, visitor: str) -> None:
        running = self.running()
        self._check_visitor(visitor, [other for other in running if other.visitor == visitor])
        if network := self._addresses.of(visitor):
            self._check_network(network, [other for other in running if self._addresses.of(other.visitor) == network])

    def _check_visitor(self, visitor: str, own: list[RunningRequest]) -> None:
        limit = self.allowance.requests_at_once
        if limit and len(own) >= limit:
            raise TooManyAtOnce(limit=limit)
        used, wait_s = self._used(visitor, own)
        if (limit := self.allowance.tokens_per_minute) and used >= limit:
            raise TooManyTokens(limit=limit, wait_s=max(1, round(wait_s)))

    def _check_network(self, network: str, theirs: list[RunningRequest]) -> None:
        at_once, tokens = SHARE * self.allowance.requests_at_once, SHARE * self.allowance.tokens_per_minute
        if (at_once and len(theirs) >= at_once) or (tokens and self._used(network, theirs)[0] >= tokens):
            raise AddressSpent

    def _used(self, whose: str, running: list[RunningRequest]) -> tuple[int, float]:
        """Tokens of the last minute, and the seconds until the oldest of them are forgotten."""
        spent, wait_s = self._spent.of(whose)
        return spent + sum(one.inner.prompt_tokens + one.inner.completion_tokens for one in running), wait_s


class _MeteredModel:
    def __init__(self, meter: Meter, model: ChatModel) -> None:
        self.name = model.name
        self.context_tokens = model.context_tokens
        self.chat_template = model.chat_template
        self.is_multimodal = model.is_multimodal
        self.sampling_defaults = model.sampling_defaults
        self.thinking = model.thinking
        self._meter = meter
        self._model = model

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return self._model.count_tokens(messages)

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, *, visitor: str = "", drop_oldest: bool = False
    ) -> Generation:
        place = self._meter.admit(self.name, visitor)
        self._meter.note_prompt(self.name, visitor, messages)
        return place.start(
            lambda: self._model.stream(messages, sampling, visitor=visitor, drop_oldest=drop_oldest),
        )


class _MeteredScoring(_MeteredModel):
    def score_tokens(self, messages: Sequence[Message], answer: str, top_logprobs: int) -> list[TokenScore]:
        scoring = self._model
        assert isinstance(scoring, TokenScoringModel)
        return scoring.score_tokens(messages, answer, top_logprobs)


class _MeteredText(_MeteredScoring):
    def encode(self, text: str) -> list[int]:
        return self._text.encode(text)

    def token_text(self, token: int) -> str:
        return self._text.token_text(token)

    def complete(self, tokens: Sequence[int], sampling: Sampling, *, visitor: str = "") -> Generation:
        place = self._meter.admit(self.name, visitor)
        return place.start(lambda: self._text.complete(tokens, sampling, visitor=visitor))

    def score_text(self, tokens: Sequence[int], top_logprobs: int, start: int = 1) -> list[TokenScore]:
        return self._text.score_text(tokens, top_logprobs, start)

    @property
    def _text(self) -> TextModel:
        assert isinstance(self._model, TextModel)
        return self._model


class _MeteredInspectable(_MeteredText):
    def inspect(self, messages: Sequence[Message], answer: str) -> Inspection:
        inspectable = self._model
        assert isinstance(inspectable, InspectableModel)
        return inspectable.inspect(messages, answer)
