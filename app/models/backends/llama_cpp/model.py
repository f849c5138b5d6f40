"""ChatModel over llama.cpp: token counts, sampling parameters, log-probabilities."""

import json
import math
from collections.abc import Sequence
from typing import Any

from app.errors import PromptTooLong
from app.models.backends.llama_cpp.engine import LlamaCall, LlamaEngine
from app.models.backends.openai_server.model import RemoteGeneration, openai_messages
from app.models.engine.prompt import fit_turns, refuse_pictures
from app.models.interface import Message, Sampling, SamplingDefaults, Thinking, TokenScore

MANY = 1000  # how many of the most likely are asked for where a token is not among the wanted ones


class LlamaModel:
    """See `interface.ChatModel`. Its chat template is applied by the server: roles that it does not know become
    user turns."""

    chat_template = ""
    is_multimodal = False
    sampling_defaults = SamplingDefaults()
    thinking: Thinking = "never"

    def __init__(self, engine: LlamaEngine) -> None:
        self.engine = engine
        self.name = engine.name
        self.context_tokens = engine.context_tokens

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
        wanted = sampling.max_new_tokens
        prompt, dropped = fit_turns(self._prompt, messages, self.context_tokens, wanted, drop_oldest)
        return self._start(prompt, dropped, sampling, visitor)

    def complete(self, tokens: Sequence[int], sampling: Sampling, *, visitor: str = "") -> RemoteGeneration:
        return self._start(self._fitting(tokens), 0, sampling, visitor)

    def encode(self, text: str) -> list[int]:
        return self.engine.encode(text)

    def token_text(self, token: int) -> str:
        return self.engine.text([token])

    def score_text(self, tokens: Sequence[int], top_logprobs: int) -> list[TokenScore]:
        known = self._fitting(tokens)
        return [self._score(known[:at], known[at], top_logprobs) for at in range(1, len(known))]

    def _fitting(self, tokens: Sequence[int]) -> list[int]:
        if len(tokens) >= self.context_tokens:
            raise PromptTooLong(tokens=len(tokens), limit=self.context_tokens)
        return list(tokens)

    def _start(self, prompt: list[int], dropped: int, sampling: Sampling, visitor: str) -> RemoteGeneration:
        most = max(1, min(sampling.max_new_tokens, self.context_tokens - len(prompt)))
        call = LlamaCall(request_body(prompt, sampling, most), visitor=visitor, tokens=len(prompt) + most)
        return RemoteGeneration(self.engine, call, len(prompt), dropped, sampling.stop)

    def score_tokens(self, messages: Sequence[Message], answer: str, top_logprobs: int) -> list[TokenScore]:
        """One step for each token of the answer: the server tells likelihoods only of what it generates."""
        prompt, tokens = self._prompt(messages), self.engine.tokens(answer)
        return [self._score(prompt + tokens[:at], token, top_logprobs) for at, token in enumerate(tokens)]

    def _score(self, before: list[int], token: int, top_logprobs: int) -> TokenScore:
        found = self.engine.top_logprobs(before, max(1, top_logprobs))
        own = _find(found, token) or _find(self.engine.top_logprobs(before, MANY), token)
        tops = tuple((_text(entry), float(entry["logprob"])) for entry in found[:top_logprobs])
        if own is None:  # less likely than a thousand others
            return TokenScore("", -math.inf, tops)
        return TokenScore(_text(own), float(own["logprob"]), tops)

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        return self.engine.prompt_tokens(openai_messages(messages))


def request_body(prompt: list[int], sampling: Sampling, most: int) -> dict[str, Any]:
    """Only what is asked for: the server's own defaults would cut the distribution further."""
    chosen = sampling.resolved(LlamaModel.sampling_defaults)
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
        "repeat_last_n": -1,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "logit_bias": [list(pair) for pair in sampling.logit_bias],
        "ignore_eos": sampling.ignore_eos,
        "samplers": ["penalties", "temperature", "top_k", "top_p", "min_p"],
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed % 2**32
    if sampling.output is not None:
        body["json_schema"] = json.loads(sampling.output.schema)
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    return body


def _find(entries: list[dict[str, Any]], token: int) -> dict[str, Any] | None:
    return next((entry for entry in entries if entry["id"] == token), None)


def _text(entry: dict[str, Any]) -> str:
    return bytes(entry["bytes"]).decode("utf-8", "replace")
