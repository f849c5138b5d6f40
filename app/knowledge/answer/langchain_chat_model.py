"""LangChain chat model over the model registry."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage, ChatMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, Field, PrivateAttr

from app.models.interface import Generation, Message, Registry, Sampling
from app.models.waiting import polled

ROLES = {"human": "user", "ai": "assistant", "system": "system"}


class RegistryChatModel(BaseChatModel):
    """One model of the registry, leased for each answer. `cancel` ends what it is writing."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    registry: Any
    name_in_registry: str
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int = Sampling.max_new_tokens
    seed: int | None = None
    thinking: bool | None = False
    stop: list[str] = Field(default_factory=list)
    visitor: str = ""
    _running: list[Generation] = PrivateAttr(default_factory=list)

    def cancel(self) -> None:
        """End everything this object is writing; the streams then run out. A chain does not pass a close on to it."""
        for generation in list(self._running):
            generation.cancel()

    @classmethod
    def of(cls, registry: Registry, name: str, sampling: Sampling, visitor: str = "") -> "RegistryChatModel":
        """The model `name` with this sampling, without reasoning: nobody would see it."""
        return cls(
            registry=registry,
            name_in_registry=name,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            seed=sampling.seed,
            visitor=visitor,
        )

    @property
    def _llm_type(self) -> str:
        return "puyu-studio"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.name_in_registry, "temperature": self.temperature, "seed": self.seed}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return LangSmithParams(
            ls_provider="puyu-studio",
            ls_model_name=kwargs.get("model", self.name_in_registry),
            ls_model_type="chat",
            ls_temperature=kwargs.get("temperature", self.temperature),
            ls_max_tokens=kwargs.get("max_tokens", self.max_tokens),
            ls_stop=list(stop or self.stop),
        )

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        sampling = Sampling(
            temperature=kwargs.get("temperature", self.temperature),
            top_p=self.top_p,
            max_new_tokens=kwargs.get("max_tokens", self.max_tokens),
            seed=self.seed,
            thinking=self.thinking,
            stop=tuple(stop or self.stop),
        )
        name = kwargs.get("model", self.name_in_registry)
        with self.registry.lease(name) as model:
            generation = model.stream(to_messages(messages), sampling, visitor=self.visitor)
            self._running.append(generation)
            try:
                with closing(polled(generation)) as news:
                    for text in map("".join, news):  # empty while there is none: the reader may leave in between
                        chunk = ChatGenerationChunk(message=AIMessageChunk(content=text))
                        if run_manager:
                            run_manager.on_llm_new_token(text, chunk=chunk)
                        yield chunk
                yield ChatGenerationChunk(message=self._ending(generation, name))
            finally:
                self._running.remove(generation)

    def _ending(self, generation: Generation, name: str) -> AIMessageChunk:
        """The last chunk: what was used, and why it ended."""
        used = UsageMetadata(
            input_tokens=generation.prompt_tokens,
            output_tokens=generation.completion_tokens,
            total_tokens=generation.prompt_tokens + generation.completion_tokens,
        )
        told = {"model_name": name, "finish_reason": generation.finish_reason}
        return AIMessageChunk(content="", usage_metadata=used, response_metadata=told, chunk_position="last")

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))


def to_messages(messages: Sequence[BaseMessage]) -> list[Message]:
    """LangChain's turns as the models' interface has them."""
    turns: list[Message] = []
    for message in messages:
        role = message.role if isinstance(message, ChatMessage) else ROLES.get(message.type, "user")
        turns.append({"role": role, "content": str(message.text)})  # type: ignore[typeddict-item]
    return turns
