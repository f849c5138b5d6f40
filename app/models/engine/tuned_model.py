"""A base model with one LoRA adapter, as a chat model of its own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.models.engine.generation import EngineGeneration
from app.models.interface import Inspection, Message, Sampling, TokenScore

if TYPE_CHECKING:
    from app.models.engine.engine import Engine


class TunedModel:
    """A ChatModel: an engine's base with one adapter. Its name is `base+adapter`."""

    is_multimodal = False

    def __init__(self, engine: "Engine", adapter: str) -> None:
        self.name = f"{engine.name}+{adapter}"
        self.adapter = adapter
        self.engine = engine
        self.context_tokens = engine.context_tokens
        self.chat_template = engine.chat_template
        self.sampling_defaults = engine.sampling_defaults
        self.thinking = engine.thinking

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return self.engine.count_tokens(messages)

    def stream(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        visitor: str = "",
        drop_oldest: bool = False,
    ) -> EngineGeneration:
        return self.engine.stream(messages, sampling, visitor=visitor, drop_oldest=drop_oldest, adapter=self.adapter)

    def complete(self, tokens: Sequence[int], sampling: Sampling, *, visitor: str = "") -> EngineGeneration:
        return self.engine.complete(tokens, sampling, visitor=visitor, adapter=self.adapter)

    def encode(self, text: str) -> list[int]:
        return self.engine.encode(text)

    def token_text(self, token: int) -> str:
        return self.engine.token_text(token)

    def score_text(self, tokens: Sequence[int], top_logprobs: int, start: int = 1) -> list[TokenScore]:
        return self.engine.score_text(tokens, top_logprobs, start, self.adapter)

    def inspect(self, messages: Sequence[Message], answer: str) -> Inspection:
        return self.engine.inspect(messages, answer, self.adapter)

    def score_tokens(self, messages: Sequence[Message], answer: str, top_logprobs: int) -> list[TokenScore]:
        return self.engine.score_tokens(messages, answer, top_logprobs, self.adapter)
