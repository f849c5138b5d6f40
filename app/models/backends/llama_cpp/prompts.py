"""Prompts for GGUF models: the file's chat template rendered by llama.cpp, turns mended, control tokens as text."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from app.errors import NotAModel
from app.models.backends.openai_server.errors import RequestRefused
from app.models.backends.openai_server.model import openai_messages
from app.models.engine.prompt import (
    MARK_FORM,
    PLACEHOLDERS,
    EncodedPrompt,
    apart_from_begun,
    encode_with_literals,
    in_all,
    is_mark,
    set_aside,
)
from app.models.engine.reasoning import format_of, switch_of
from app.models.interface import Message
from app.models.loading.chat_templates import PLAIN_ENDS, TURN_ENDS
from app.models.loading.turn_rules import ConversationRefused, TurnRules, probe

# Whatever may be a control token; the vocabulary decides.
MARK = re.compile(f"{MARK_FORM}|{PLACEHOLDERS}")

Render = Callable[[dict[str, Any]], str]  # messages, tools and template variables as the server's API has them
Tokenize = Callable[[str, bool, bool], list[int]]  # text, as the beginning of a prompt, control tokens as such


class BrokenGgufTemplate(NotAModel):
    zh = "GGUF 文件 {name} 的对话模板无法使用。请换一个文件。"
    en = "The chat template of the GGUF file {name} cannot be used. Choose another file."


class GgufPrompts:
    """`template` is the file's; without one turns are told as plain text. `marks` are its control tokens within a
    turn. Raises BrokenGgufTemplate."""

    def __init__(self, name: str, template: str, render: Render, tokenize: Tokenize) -> None:
        self.template = template
        self.stops = () if template else PLAIN_ENDS
        self.reasoning = format_of(template)
        self._switch = switch_of(template)
        self._render = render
        self._tokenize = tokenize
        self._is_control = lru_cache(4096)(self._differs_as_control)
        self._stands_alone = lru_cache(4096)(self._is_token)
        self._rules = self._probed(name) if template else TurnRules()
        self.marks = [mark for mark in self.controls(template) if mark not in TURN_ENDS]

    def encode(
        self, messages: Sequence[Message], thinking: bool | None = None, is_constrained: bool = False
    ) -> EncodedPrompt:
        """The prompt's tokens, the opening of the assistant's turn included."""
        literals: list[str] = []

        def aside(text: str) -> str:
            return set_aside(MARK, text, literals, self._stands_alone)

        turns: list[Message] = []
        earlier, begun = apart_from_begun(messages)
        for turn in self._rules.mend(earlier):
            content = turn["content"]
            if turn["role"] == "assistant" and self.reasoning is not None:
                content = self.reasoning.without_reasoning(content)
            made: Message = {**turn, "content": aside(content)}
            if "tool_calls" in turn:
                made["tool_calls"] = in_all(turn["tool_calls"], aside)
            turns.append(made)
        tools = next((turn["tools"] for turn in messages if "tools" in turn), ())
        text = self._text(turns, thinking, in_all(tools, aside))
        if self.reasoning is not None:
            text += self.reasoning.ending(text, thinking, self._switch is not None, is_constrained)
        text += aside(begun)
        is_open = self.reasoning is not None and self.reasoning.is_open(text)
        if not literals:
            return EncodedPrompt(self._tokenize(text, True, True), opens_reasoning=is_open)
        pieces = encode_with_literals(cast(PreTrainedTokenizerBase, self._as_tokenizer), text, literals)
        return EncodedPrompt([*self._tokenize("", True, True), *pieces], opens_reasoning=is_open)

    def controls(self, *texts: str) -> dict[str, int]:
        """Control tokens that stand in these texts, with their numbers."""
        marks = dict.fromkeys(mark for text in texts for mark in MARK.findall(text))
        return {mark: self._tokenize(mark, False, True)[0] for mark in marks if self._is_control(mark)}

    def _text(self, turns: Sequence[Message], thinking: bool | None, tools: Sequence[dict[str, Any]]) -> str:
        if not self.template:
            return "".join(f"{turn['role']}: {turn['content']}\n\n" for turn in turns) + "assistant:"
        variables = {self._switch: thinking} if self._switch and thinking is not None else {}
        asked: dict[str, Any] = {"messages": openai_messages(self._rules.for_template(turns), keeps_names=True)}
        try:
            return self._render(asked | {"chat_template_kwargs": variables} | ({"tools": list(tools)} if tools else {}))
        except RequestRefused as error:
            raise ConversationRefused(Exception(error.values["reason"])) from error

    def _probed(self, name: str) -> TurnRules:
        def render(turns: list[Any]) -> str:
            try:
                return self._render({"messages": openai_messages(turns, keeps_names=True)})
            except RequestRefused as error:
                raise ValueError from error

        rules = probe(render)
        if rules is None:
            raise BrokenGgufTemplate(name=name)
        return rules

    def _differs_as_control(self, mark: str) -> bool:
        return self._tokenize(mark, False, True) != self._tokenize(mark, False, False)

    def _is_token(self, mark: str) -> bool:
        """A control token, or one that the file's makers added, which llama.cpp finds in any text."""
        return self._is_control(mark) or (is_mark(mark) and len(self._tokenize(mark, False, True)) == 1)

    def _as_tokenizer(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": self._tokenize(text, add_special_tokens, True)}
