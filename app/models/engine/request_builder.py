"""Build an engine's request from sampling parameters: end tokens, limits, reasoning budget, token reader."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from app.errors import PromptTooLong
from app.models.engine.detokenizer import Detokenizer
from app.models.engine.generation import TokenReader
from app.models.engine.grammar import GrammarCompiler
from app.models.engine.prompt import EncodedPrompt, PromptBuilder
from app.models.engine.reasoning import AnswerSplitter, ReasoningFormat, format_of
from app.models.engine.reasoning_budget import LATEST_START, ReasoningBudget, reasoning_room
from app.models.engine.sampler import RequestSampling
from app.models.interface import Sampling
from app.models.loading.chat_templates import PLAIN_ENDS, TEMPLATES
from app.models.loading.loader import LoadedModel


class RequestBuilder:
    """For one loaded model, whose prompts and answers have `context_tokens` together."""

    def __init__(self, loaded: LoadedModel, context_tokens: int) -> None:
        self._loaded = loaded
        self._context_tokens = context_tokens
        self._marks = format_of(loaded.chat_template)
        self._decode: Any = partial(loaded.tokenizer.decode, skip_special_tokens=False)
        self._closing = self._encode(self._marks.closing) if self._marks else []
        self._grammars = GrammarCompiler(loaded.tokenizer, loaded.stop_token_ids)
        self.prompts = PromptBuilder(
            loaded.tokenizer, loaded.chat_template, context_tokens, loaded.turn_rules, loaded.embeddings
        )

    def plain(self, tokens: Sequence[int]) -> EncodedPrompt:
        """A prompt that is no conversation. Raises PromptTooLong, UnknownToken."""
        if len(tokens) >= self._context_tokens:
            raise PromptTooLong(tokens=len(tokens), limit=self._context_tokens)
        return EncodedPrompt(self.prompts.checked(tokens), is_raw=True)

    def stop_tokens(self, sampling: Sampling) -> frozenset[int]:
        own = () if sampling.ignore_eos else self._loaded.stop_token_ids
        return frozenset((*own, *sampling.stop_token_ids))

    def most_tokens(self, prompt: EncodedPrompt, sampling: Sampling) -> int:
        """The longest answer, its reasoning included, that still has room."""
        reasoning = 0
        if self._marks_of(prompt) is not None:
            reasoning = self._reasoning_tokens(prompt, sampling) + LATEST_START + len(self._closing)
        return max(1, min(sampling.max_new_tokens + reasoning, self._context_tokens - len(prompt)))

    def reader(self, prompt: EncodedPrompt, sampling: Sampling) -> TokenReader:
        marks = self._marks_of(prompt)
        special = marks.marks if marks else ()
        shown = {token for token in self._loaded.tokenizer.all_special_tokens if any(token in mark for mark in special)}
        is_plain = self._loaded.chat_template == TEMPLATES[""] and not prompt.is_raw and not sampling.ignore_eos
        stop = (*sampling.stop, *PLAIN_ENDS) if is_plain else sampling.stop
        splitter = AnswerSplitter(marks, is_open=prompt.opens_reasoning, stop=stop)
        detokenizer = Detokenizer(self._loaded.tokenizer, sampling.keep_special_tokens, shown)
        if prompt.goes_on:
            detokenizer.begin_within_text()
        return TokenReader(detokenizer, splitter, self.stop_tokens(sampling), max(1, sampling.max_new_tokens))

    def sampling(self, prompt: EncodedPrompt, sampling: Sampling) -> RequestSampling:
        """How its tokens are drawn, with the checkpoint's defaults where nothing was chosen."""
        budget = None
        can_reason = sampling.output is None or prompt.opens_reasoning  # a format leaves no other place for it
        if (marks := self._marks_of(prompt)) is not None and self._closing and can_reason:
            most = self._reasoning_tokens(prompt, sampling)
            budget = ReasoningBudget(most, marks, self._closing, self._decode, prompt.opens_reasoning)
        constraint = None if sampling.output is None else self._grammars.constraint(sampling.output)
        return RequestSampling(sampling, self._loaded.sampling_defaults, budget, constraint, prompt.opens_reasoning)

    def _marks_of(self, prompt: EncodedPrompt) -> ReasoningFormat | None:
        return None if prompt.is_raw else self._marks

    def _reasoning_tokens(self, prompt: EncodedPrompt, sampling: Sampling) -> int:
        wanted = 0 if sampling.thinking is False else sampling.max_reasoning_tokens
        room = self._context_tokens - len(prompt) - len(self._closing)
        return reasoning_room(wanted, sampling.max_new_tokens, room)

    def _encode(self, text: str) -> list[int]:
        return list(self._loaded.tokenizer.encode(text, add_special_tokens=False))
