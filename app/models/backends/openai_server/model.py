"""ChatModel over OpenAI's chat completions API; cancelling closes the connection."""

import json
import weakref
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.errors import PromptTooLong
from app.models.backends.openai_server.engine import Call, RemoteEngine
from app.models.backends.openai_server.errors import NoAnswerBehindReasoning
from app.models.backends.openai_server.replica import Chunk
from app.models.backends.openai_server.token_estimate import estimate, tokens_in
from app.models.engine.prompt import apart_from_begun, fit_turns, refuse_pictures
from app.models.engine.reasoning import THINK, AnswerSplitter
from app.models.engine.reasoning_budget import reasoning_room
from app.models.interface import (
    FinishReason,
    Message,
    Part,
    Sampling,
    SamplingDefaults,
    Thinking,
    answer_pieces,
)
from app.pictures import data_url
from app.texts import has_chinese

GO_ON = {
    "zh": "请从刚才中断的地方接着写，不要重复已经写过的内容。",
    "en": "Continue exactly where you stopped. Do not repeat what is already written.",
}
MARGIN = 1.3  # an estimate may be that much too low
EMPTY_REASONING = 16  # tokens that a model may write between its marks although it was told not to reason


@dataclass(frozen=True)
class Measured:
    """Messages with the tokens that their prompt has, as far as is known here."""

    messages: tuple[Message, ...]
    tokens: int

    def __len__(self) -> int:
        return self.tokens


class RemoteModel:
    """See `interface.ChatModel`. `remote_name` is what the server calls the model; empty for what each replica serves.

    It has no chat template here: the server applies its own.
    """

    chat_template = ""
    sampling_defaults = SamplingDefaults()  # nobody knows those of the server; what was not chosen is not sent
    thinking: Thinking = "never"

    def __init__(self, engine: RemoteEngine, name: str, remote_name: str = "") -> None:
        self.engine = engine
        self.name = name
        self.remote_name = remote_name
        self.is_multimodal = engine.address.is_multimodal
        self.context_tokens = engine.context_tokens

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """By the server's tokenizer where it can be asked, else an estimate."""
        counted = self.engine.count_tokens(self.remote_name, openai_messages(messages))
        return estimate(messages) if counted is None else counted

    def stream(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        visitor: str = "",  # noqa: ARG002  the server knows no visitors
        drop_oldest: bool = False,
    ) -> "RemoteGeneration":
        if not self.is_multimodal:
            refuse_pictures(self.name, messages)
        earlier, begun = apart_from_begun(messages)
        if begun:  # no server takes a turn of ours to write it on: it is asked in words
            asked = GO_ON["zh" if has_chinese(begun) else "en"]
            messages = [*earlier, {"role": "assistant", "content": begun}, {"role": "user", "content": asked}]
        prompt, dropped = self._fit(messages, sampling.max_new_tokens, drop_oldest)
        room = self.context_tokens - prompt.tokens
        answer = sampling.max_new_tokens
        if self.engine.reported_context:
            answer = max(1, min(answer, room))
        body = request_body(self.remote_name, prompt.messages, sampling, answer)
        splitter = AnswerSplitter(stop=sampling.stop, after=begun)
        if sampling.thinking is False:
            return RemoteGeneration(self.engine, Call(body), prompt.tokens, dropped, splitter)
        # No field for a budget is known to all servers: its reasoning is counted here, and where the budget is spent
        # the model is asked again, to answer at once.
        budget = reasoning_room(sampling.max_reasoning_tokens, answer, room)
        at_once = request_body(self.remote_name, prompt.messages, replace(sampling, thinking=False), answer)
        limit = ReasoningLimit(budget, Call(at_once))
        call = Call(body | {"max_tokens": answer + budget})
        return RemoteGeneration(self.engine, call, prompt.tokens, dropped, splitter, answer, limit)

    def _fit(self, messages: Sequence[Message], answer: int, drop_oldest: bool) -> tuple[Measured, int]:
        """A prompt that surely fits is not counted; one that may not is judged by the server unless turns may go."""
        rough = Measured(tuple(messages), round(estimate(messages) * MARGIN))
        if rough.tokens + answer <= self.context_tokens:
            return Measured(rough.messages, estimate(messages)), 0
        try:
            return fit_turns(self._measure, messages, self.context_tokens, answer, drop_oldest)
        except PromptTooLong:
            if drop_oldest or self.engine.reported_context:
                raise
            return self._measure(messages), 0

    def _measure(self, messages: Sequence[Message]) -> Measured:
        return Measured(tuple(messages), self.count_tokens(messages))


@dataclass(frozen=True)
class ReasoningLimit:
    """After `budget` tokens of reasoning the server is asked `at_once` instead, where there is such a call."""

    budget: int
    at_once: Call | None


class RemoteGeneration:
    """See `interface.Generation`. Counts are estimates until the server reports its own.

    `longest_answer` in tokens, without its reasoning; 0 where the server counts them itself. `limit` is for servers
    that keep no budget of reasoning.
    """

    def __init__(
        self,
        engine: RemoteEngine,
        call: Call,
        prompt_tokens: int,
        dropped: int,
        splitter: AnswerSplitter,
        longest_answer: int = 0,
        limit: ReasoningLimit | None = None,
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = 0
        self.dropped_turns = dropped
        self.reasoning_tokens = 0
        self.finish_reason: FinishReason | None = None
        self._engine, self._call = engine, call
        self._splitter = splitter
        self._longest_answer, self._limit = longest_answer, limit
        self._earlier_tokens = 0  # of the reasoning that was cut
        self._parts = self._read(self._splitter)
        self._pieces = answer_pieces(self._parts)
        self._begin(call)

    def _begin(self, call: Call) -> None:
        self._call = call
        self._engine.begin(call)
        # the engine knows only the call, so that an answer which nobody holds any more ends its request
        weakref.finalize(self, self._engine.end, call).atexit = False

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    def parts(self) -> Iterator[Part]:
        return self._parts

    @property
    def reasoning(self) -> str:
        return self._splitter.reasoning

    @property
    def queue_ahead(self) -> int:
        return self._engine.ahead_of(self._call)

    def cancel(self) -> None:
        if self.finish_reason is None:
            self.finish_reason = "cancelled"
            self._engine.end(self._call)
            self._call.events.put(None)

    def _read(self, text: AnswerSplitter) -> Generator[Part, None, None]:
        finish: str | None = None
        try:
            while self.finish_reason is None:
                event = self._call.events.get()
                if isinstance(event, Exception) and self.finish_reason is None:
                    raise event
                if isinstance(event, Exception):
                    return
                if event is None:
                    self._finish(text, finish)
                    if self.finish_reason == "length" and text.in_reasoning:
                        raise self._no_answer()
                    if self.finish_reason != "cancelled":
                        yield from text.finish()
                    return
                finish = event.finish or finish
                parts = self._take(event, text)
                if text.stopped:
                    self.finish_reason = "stop"
                elif 0 < self._longest_answer <= self.completion_tokens - self.reasoning_tokens:
                    parts += text.finish()
                    self.finish_reason = "length"
                yield from parts
                if self._limit and text.in_reasoning and self.reasoning_tokens > self._limit.budget:
                    yield from self._answer_at_once(self._limit, text)
        finally:
            if self.finish_reason is None:
                self.finish_reason = "cancelled"
            self._engine.end(self._call)

    def _answer_at_once(self, limit: ReasoningLimit, text: AnswerSplitter) -> list[Part]:
        """The budget is spent: the same asked again without reasoning. Raises NoAnswerBehindReasoning the next time."""
        self._engine.end(self._call)
        if limit.at_once is None:
            raise self._no_answer()
        self._limit = ReasoningLimit(self.reasoning_tokens + EMPTY_REASONING, None)
        self._earlier_tokens = self.completion_tokens
        self._begin(limit.at_once)
        return text.push(THINK.closing)

    def _no_answer(self) -> NoAnswerBehindReasoning:
        return NoAnswerBehindReasoning(name=self._engine.address.name, reason="", tokens=self.reasoning_tokens)

    def _take(self, chunk: Chunk, text: AnswerSplitter) -> list[Part]:
        self.prompt_tokens = chunk.prompt_tokens or self.prompt_tokens
        before, was_in_reasoning = self.completion_tokens, text.in_reasoning
        told = chunk.completion_tokens and self._earlier_tokens + chunk.completion_tokens
        self.completion_tokens = told or before + (tokens_in(chunk.text) if self._limit else bool(chunk.text))
        parts = text.push(chunk.text) if chunk.text else []
        if was_in_reasoning or text.in_reasoning:
            self.reasoning_tokens += self.completion_tokens - before
        return parts

    def _finish(self, text: AnswerSplitter, finish: str | None) -> None:
        if self.finish_reason is None:
            self.finish_reason = "length" if finish == "length" and not text.stopped else "stop"


def request_body(remote_name: str, messages: Sequence[Message], sampling: Sampling, most: int) -> dict[str, Any]:
    """A chat completion as OpenAI's API has it; what only some engines know is sent only where it is asked for."""
    body: dict[str, Any] = {
        "model": remote_name,
        "messages": openai_messages(messages),
        "max_tokens": most,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    greedy = sampling.temperature == 0
    chosen = {
        "temperature": sampling.temperature,
        "top_p": None if greedy else sampling.top_p,
        "top_k": None if greedy else sampling.top_k or None,
        "min_p": None if greedy else sampling.min_p or None,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty or None,
        "frequency_penalty": sampling.frequency_penalty or None,
        "logit_bias": {str(token): bias for token, bias in sampling.logit_bias} or None,
        "stop_token_ids": list(sampling.stop_token_ids) or None,
        "ignore_eos": sampling.ignore_eos or None,
    }
    body |= {name: value for name, value in chosen.items() if value is not None}
    if sampling.thinking is not None:
        body["chat_template_kwargs"] = {"enable_thinking": sampling.thinking}
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop and sampling.thinking is False:  # many servers look for them within the reasoning, too
        body["stop"] = list(sampling.stop)
    if sampling.keep_special_tokens:
        body["skip_special_tokens"] = False
    return body


def openai_messages(messages: Sequence[Message], keeps_names: bool = False) -> list[dict[str, Any]]:
    """Turns in the roles that every engine knows; an interpreter's output is told as the user's words unless roles and
    names are kept, for a chat template that knows them."""
    return [_openai_turn(turn, keeps_names) for turn in messages]


def _openai_turn(turn: Message, keeps_names: bool) -> dict[str, Any]:
    role = "user" if turn["role"] == "environment" and not keeps_names else turn["role"]
    made: dict[str, Any] = {"role": role, "content": _openai_content(turn)}
    if "name" in turn and (keeps_names or not turn["name"].startswith("<")):  # no mark of InternLM's
        made["name"] = turn["name"]
    if "tool_call_id" in turn:
        made["tool_call_id"] = turn["tool_call_id"]
    if "tool_calls" in turn:
        made["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
            for call in turn["tool_calls"]
        ]
    return made


def _openai_content(turn: Message) -> str | list[dict[str, Any]]:
    """Text alone where there is no picture: not every engine takes parts."""
    shown = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in turn.get("images", ())]
    return [*shown, {"type": "text", "text": turn["content"]}] if shown else turn["content"]
