"""Tokenise conversations with the chat template, with loss masks on everything but the answers."""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from app.errors import BadInput
from app.finetune.data import Conversation
from app.models.engine.prompt import PromptBuilder, control_tokens, encode_with_literals, set_aside
from app.models.interface import Message
from app.models.loading.chat_templates import turn_rules
from app.models.loading.turn_rules import TurnRules

IGNORED = -100  # label of a token that costs no loss


class TemplateUnfit(BadInput):
    zh = "这个模型的对话模板会改写前文，无法逐轮训练。请改用单轮对话，或换一个基座。"
    en = "This model's chat template rewrites earlier turns. Train on single turns, or choose another base."


@dataclass(frozen=True)
class Encoded:
    """Token ids of a conversation, and the labels: IGNORED except for each answer and its end mark."""

    input_ids: list[int]
    labels: list[int]


def encode(tokenizer: Any, conversation: Conversation, max_length: int, *, ended: bool = True) -> Encoded:
    """`tokenizer` is a transformers tokenizer with a chat template; what is beyond `max_length` tokens is cut off.
    Control tokens that stand in the rows are text, as they are in a prompt.

    Not `ended`: the last answer breaks off, and its end mark is left out.
    """
    rendered = Rendered(tokenizer)
    ids: list[int] = []
    labels: list[int] = []
    for turn in conversation:
        if turn.get("system"):
            rendered.add("system", turn["system"])
        rendered.add("user", turn["input"])
        prompt = rendered.tokens(add_generation_prompt=True)
        rendered.add("assistant", turn["output"])
        full = rendered.tokens(add_generation_prompt=False)
        if full[: len(prompt)] != prompt or prompt[: len(ids)] != ids:
            raise TemplateUnfit
        answer = full[len(prompt) :]
        learnt = turn.get("output_with_loss", True)
        labels += [IGNORED] * (len(prompt) - len(ids))
        labels += _answer_labels(tokenizer, answer) if learnt else [IGNORED] * len(answer)
        ids = full
    if not ended:
        marks = _marks(tokenizer)
        cut = max(
            (place for place, token in enumerate(ids) if token not in marks and labels[place] != IGNORED), default=0
        )
        ids, labels = ids[: cut + 1], labels[: cut + 1]
    return Encoded(ids[:max_length], labels[:max_length])


def question_tokens(tokenizer: Any, question: str) -> list[int]:
    """The prompt of one question, which a model answers without reasoning aloud first."""
    template = str(tokenizer.chat_template)
    builder = PromptBuilder(tokenizer, template, 0, _rules(tokenizer, template))
    return builder.tokens([{"role": "user", "content": question}])


class Rendered:
    """Turns as the chat template writes them, in tokens; what it refuses or loses is mended as it is in chat."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        template = str(tokenizer.chat_template)
        self._controls = _controls(tokenizer, template)
        # no words of the user are to follow an answer that is learnt
        self._rules = replace(_rules(tokenizer, template), ends_with_answer=True)
        self._messages: list[Message] = []
        self._literals: list[str] = []

    def add(self, role: Literal["system", "user", "assistant"], content: str) -> None:
        self._messages.append({"role": role, "content": set_aside(self._controls, content, self._literals)})

    def tokens(self, *, add_generation_prompt: bool) -> list[int]:
        text = self._tokenizer.apply_chat_template(
            self._rules.for_template(self._messages), add_generation_prompt=add_generation_prompt, tokenize=False
        )
        return encode_with_literals(self._tokenizer, str(text), self._literals)


@lru_cache(maxsize=4)
def _controls(tokenizer: Any, template: str) -> re.Pattern[str]:
    return control_tokens(tokenizer, template)


@lru_cache(maxsize=4)
def _rules(tokenizer: Any, template: str) -> TurnRules:
    return turn_rules(tokenizer, template) or TurnRules()


def _answer_labels(tokenizer: Any, tokens: list[int]) -> list[int]:
    """What follows the end mark, a line feed in ChatML, is no part of the answer."""
    marks = _marks(tokenizer)
    end = max((place for place, token in enumerate(tokens) if token in marks), default=len(tokens) - 1)
    return tokens[: end + 1] + [IGNORED] * (len(tokens) - end - 1)


def _marks(tokenizer: Any) -> set[int]:
    """Control tokens."""
    return {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
