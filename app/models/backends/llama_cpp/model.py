"""ChatModel over llama.cpp: token counts, sampling parameters, log-probabilities."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app.errors import BadInput, PromptTooLong
from app.models.backends.llama_cpp.engine import LlamaCall, LlamaEngine
from app.models.backends.llama_cpp.prompts import MARK
from app.models.backends.llama_cpp.reasoning_limits import CLOSING_TOKENS, ReasoningLimits
from app.models.backends.openai_server.model import RemoteGeneration
from app.models.engine.grammar import grammar_of
from app.models.engine.prompt import UnknownToken, fit_turns, refuse_pictures
from app.models.engine.reasoning import AnswerSplitter, thinking_of
from app.models.engine.reasoning_budget import reasoning_room
from app.models.interface import Message, Sampling, SamplingDefaults, Thinking, TokenScore


class NoStopTokenIds(BadInput):
    about = "stop_token_ids"
    zh = "模型 {name} 由 llama.cpp 运行，不支持 stop_token_ids。请改用 stop 写出文字。"
    en = "The model {name} runs by llama.cpp, which takes no stop_token_ids. Write the text in stop instead."


class LlamaModel:
    """See `interface.ChatModel`."""

    is_multimodal = False

    def __init__(self, engine: LlamaEngine) -> None:
        self.engine = engine
        self.name = engine.name
        self.context_tokens = engine.context_tokens
        self.chat_template = engine.prompts.template
        self.sampling_defaults = engine.sampling_defaults
        self.thinking: Thinking = thinking_of(engine.prompts.template)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return len(self._prompt(messages))

    def stream(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        visitor: str = "",
        drop_oldest: bool = False,
    ) -> RemoteGeneration:
        refuse_pictures(self.name, messages)
        prompts = self.engine.prompts
        prompt, dropped = fit_turns(
            lambda turns: prompts.encode(turns, sampling.thinking, sampling.output is not None),
            messages,
            self.context_tokens,
            sampling.longest(prompts.reasoning is not None),
            drop_oldest,
        )
        stop = (*sampling.stop, *prompts.stops)
        splitter = AnswerSplitter(prompts.reasoning, is_open=prompt.opens_reasoning, stop=stop)
        if prompts.reasoning is None:
            return self._start(self._checked(prompt.tokens), dropped, replace(sampling, stop=stop), visitor, splitter)
        # stop strings end an answer, not the reasoning before it
        wanted = 0 if sampling.thinking is False else sampling.max_reasoning_tokens
        budget = reasoning_room(wanted, sampling.max_new_tokens, self.context_tokens - len(prompt) - CLOSING_TOKENS)
        longer = replace(sampling, max_new_tokens=sampling.max_new_tokens + budget + CLOSING_TOKENS, stop=())
        limits = ReasoningLimits(prompts.reasoning, budget, prompt.opens_reasoning)
        return self._start(prompt.tokens, dropped, longer, visitor, splitter, limits, sampling.max_new_tokens)

    def complete(self, tokens: Sequence[int], sampling: Sampling, *, visitor: str = "") -> RemoteGeneration:
        return self._start(self._fitting(tokens), 0, sampling, visitor, AnswerSplitter(None, stop=sampling.stop))

    def encode(self, text: str) -> list[int]:
        return self.engine.tokens(text, opening=True, controls=True)

    def token_text(self, token: int) -> str:
        return self.engine.text(self._checked([token]))

    def score_text(self, tokens: Sequence[int], top_logprobs: int, start: int = 1) -> list[TokenScore]:
        known = self._fitting(tokens)
        return [self._score(self._checked(known[:at]), known[at], top_logprobs) for at in range(start, len(known))]

    def _fitting(self, tokens: Sequence[int]) -> list[int]:
        if len(tokens) >= self.context_tokens:
            raise PromptTooLong(tokens=len(tokens), limit=self.context_tokens)
        return self._checked(tokens)

    def _checked(self, tokens: Sequence[int]) -> list[int]:
        """See `PromptBuilder.checked`."""
        facts = self.engine.facts
        if unknown := [token for token in tokens if token >= facts.vocabulary]:
            raise UnknownToken(token=unknown[0])
        return list(tokens) or [facts.begin_of_text]

    def _start(
        self,
        prompt: list[int],
        dropped: int,
        sampling: Sampling,
        visitor: str,
        splitter: AnswerSplitter,
        limits: ReasoningLimits | None = None,
        longest_answer: int = 0,
    ) -> RemoteGeneration:
        if sampling.stop_token_ids:
            raise NoStopTokenIds(name=self.name)
        most = max(1, min(sampling.max_new_tokens, self.context_tokens - len(prompt)))
        body = request_body(prompt, sampling, most, self.sampling_defaults) | self._format_fields(sampling, limits)
        if limits is not None and sampling.output is None:  # a format leaves no other place for reasoning
            body |= limits.fields()
        call = LlamaCall(body, visitor=visitor, limits=limits)
        return RemoteGeneration(self.engine, call, len(prompt), dropped, splitter, longest_answer)

    def _format_fields(self, sampling: Sampling, limits: ReasoningLimits | None) -> dict[str, Any]:
        """The grammar of the answer, and control tokens that are to be shown as text. Raises WrongSchema."""
        prompts, output = self.engine.prompts, sampling.output
        special = prompts.controls(output.begin, output.end) if output else {}
        shown = {*special, *(prompts.marks if sampling.keep_special_tokens else ())}
        if limits is not None:
            shown |= {mark for text in limits.marks.marks for mark in MARK.findall(text)}
        grammar = {"grammar": grammar_of(output, special)} if output else {}
        return {"preserved_tokens": sorted(shown), **grammar}

    def score_tokens(self, messages: Sequence[Message], answer: str, top_logprobs: int) -> list[TokenScore]:
        """One step for each token of the answer: the server tells likelihoods only of what it generates."""
        prompt, tokens = self._prompt(messages), self.engine.tokens(answer)
        return [self._score(prompt + tokens[:at], token, top_logprobs) for at, token in enumerate(tokens)]

    def _score(self, before: list[int], token: int, top_logprobs: int) -> TokenScore:
        *found, own = self.engine.logprobs(before, token, max(1, top_logprobs))
        tops = tuple((_text(entry), float(entry["logprob"])) for entry in found[:top_logprobs])
        return TokenScore(_text(own), float(own["logprob"]), tops)

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        return self.engine.prompts.encode(messages, thinking=False).tokens


def request_body(prompt: list[int], sampling: Sampling, most: int, defaults: SamplingDefaults) -> dict[str, Any]:
    """Only what is asked for: the server's own defaults would cut the distribution further."""
    chosen = sampling.resolved(defaults)
    body: dict[str, Any] = {
        "prompt": prompt,
        "n_predict": most,
        "stream": True,
        "cache_prompt": True,
        "temperature": chosen.temperature,
        "top_p": chosen.top_p,
        "top_k": chosen.top_k,
        "min_p": chosen.min_p,
        "repeat_penalty": chosen.repetition_penalty,
        "repeat_last_n": len(prompt) + most,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "logit_bias": [list(pair) for pair in _bias(prompt, sampling, chosen.repetition_penalty).items()],
        "ignore_eos": sampling.ignore_eos,
        "samplers": ["penalties", "temperature", "top_k", "top_p", "min_p"],
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed % 2**32
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    return body


def _bias(prompt: list[int], sampling: Sampling, repetition_penalty: float) -> dict[int, float]:
    """The request's bias, and what gives back the frequency penalty that the server puts on the prompt's tokens too."""
    bias = dict(sampling.logit_bias)
    if sampling.frequency_penalty and repetition_penalty == 1:  # which would weigh on what is given back
        for token, times in Counter(prompt).items():
            bias[token] = bias.get(token, 0.0) + sampling.frequency_penalty * times
    return bias


def _text(entry: dict[str, Any]) -> str:
    return bytes(entry["bytes"]).decode("utf-8", "replace")
