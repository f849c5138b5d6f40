"""LangChain chat model over the model registry."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from operator import itemgetter
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ChatMessage, ToolCall, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import ConfigDict, Field, PrivateAttr

from app.models.engine.response_calls import CallReader, call_reader
from app.models.engine.tool_calls import ToolCall as FoundCall
from app.models.engine.tool_calls import Tools, named_results, required_form
from app.models.interface import Generation, Message, OutputFormat, Registry, Sampling
from app.models.waiting import polled

ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}


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
            output=kwargs.get("output"),
        )
        name, tools = kwargs.get("model", self.name_in_registry), kwargs.get("tools")
        with self.registry.lease(name) as model:
            turns, reader = to_messages(messages), None
            if tools is not None:
                form = required_form(model, tools)
                turns[0] = {**turns[0], "tools": tools.definitions}
                sampling = replace(sampling, output=tools.output(form), keep_special_tokens=form.has_marks)
                reader = call_reader(form, tools)
            generation = model.stream(turns, sampling, visitor=self.visitor)
            self._running.append(generation)
            try:
                with closing(polled(generation)) as news:
                    for message in _chunks(map("".join, news), reader):
                        chunk = ChatGenerationChunk(message=message)
                        if run_manager:
                            run_manager.on_llm_new_token(str(message.content), chunk=chunk)
                        yield chunk
                yield ChatGenerationChunk(message=self._ending(generation, name))
            finally:
                self._running.remove(generation)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | None = None,
        parallel_tool_calls: bool = True,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """For models whose chat template knows tools. `tool_choice`: auto, any (True) or a tool's name."""
        definitions = tuple(convert_to_openai_tool(tool) for tool in tools)
        choice = "required" if tool_choice in ("any", "required", True) else tool_choice or "auto"
        return super().bind(tools=Tools(definitions, str(choice), parallel_tool_calls), **kwargs)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **_method: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """By a mask of tokens, so that it needs no tools; `method` is always the JSON schema."""
        wanted = convert_to_json_schema(schema)
        told = {"kwargs": {"method": "json_schema"}, "schema": wanted}
        output = OutputFormat(json.dumps(wanted, ensure_ascii=False))
        model = self.bind(output=output, ls_structured_output_format=told)
        is_pydantic = isinstance(schema, type) and is_basemodel_subclass(schema)
        parser: Any = PydanticOutputParser(pydantic_object=schema) if is_pydantic else JsonOutputParser()  # type: ignore[arg-type]
        if not include_raw:
            return model | parser
        parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=model) | parsed.with_fallbacks([failed], exception_key="parsing_error")

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


def _chunks(texts: Iterator[str], reader: CallReader | None) -> Iterator[AIMessageChunk]:
    """Text, empty while there is none (the reader may leave in between), and calls once they are whole."""
    calls = 0
    for found in texts if reader is None else _read(texts, reader):
        if isinstance(found, str):
            yield AIMessageChunk(content=found)
            continue
        call = tool_call_chunk(name=found.name, args=found.arguments, id=found.id, index=calls)
        yield AIMessageChunk(content="", tool_call_chunks=[call])
        calls += 1


def _read(texts: Iterator[str], reader: CallReader) -> Iterator[str | FoundCall]:
    for text in texts:
        yield from list(reader.push(text)) or [""]
    yield from reader.finish()


def to_messages(messages: Sequence[BaseMessage]) -> list[Message]:
    """LangChain's turns as the models' interface has them."""
    turns: list[Message] = []
    for message in messages:
        role = message.role if isinstance(message, ChatMessage) else ROLES.get(message.type, "user")
        turn: Message = {"role": role, "content": str(message.text)}  # type: ignore[typeddict-item]
        if isinstance(message, AIMessage) and message.tool_calls:
            turn["tool_calls"] = tuple(_call(call) for call in message.tool_calls)
        if isinstance(message, ToolMessage):
            turn["tool_call_id"] = message.tool_call_id
        turns.append(turn)
    return named_results(turns)


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": call["args"]}
    return {"id": call["id"] or "", "type": "function", "function": function}
