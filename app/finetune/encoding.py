"""Tokenise conversations with the chat template, with loss masks on everything but the answers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from app.errors import BadInput
from app.finetune.data import Conversation
from app.models.engine.prompt import PromptBuilder, control_tokens, encode_with_literals, set_aside
from app.models.engine.reasoning import format_of, switch_of
from app.models.interface import Message
from app.models.loading.chat_templates import turn_rules
from app.models.loading.turn_rules import TurnRules

IGNORED = -100  # label of a token that costs no loss
_ANSWER = "\U0010fffd"  # stands for an answer; for private use, so none that is typed is left in a text


class TemplateUnfit(BadInput):
    zh = "这个模型的对话模板不把回答接在提问之后，无法训练。请换一个基座。"
    en = "This model's chat template does not write an answer behind its prompt. Choose another base."


@dataclass(frozen=True)
class Encoded:
    """Token ids of a conversation, and the labels: IGNORED except for each answer and its end mark."""

    input_ids: list[int]
    labels: list[int]


def encode(tokenizer: Any, conversation: Conversation, max_length: int, *, ended: bool = True) -> list[Encoded]:
    """`tokenizer` is a transformers tokenizer with a chat template; what is beyond `max_length` tokens is cut off.
    Control tokens that stand in the rows are text, as they are in a prompt.

    One row, but where the template writes a turn otherwise once others follow: then the next answer is learnt in a row
    of its own, behind the prompt that it is asked by. Not `ended`: the last answer breaks off, without its end mark.
    """
    rendered = Rendered(tokenizer)
    rows: list[Encoded] = []
    for turn in conversation:
        if turn.get("system"):
            rendered.add("system", turn["system"])
        rendered.add("user", turn["input"])
        prompt, full = rendered.answered(turn["output"])
        goes_on = bool(rows) and prompt[: len(rows[-1].input_ids)] == rows[-1].input_ids
        labels = list(rows.pop().labels) if goes_on else []
        answer = full[len(prompt) :]
        learnt = turn.get("output_with_loss", True)
        labels += [IGNORED] * (len(prompt) - len(labels))
        labels += _answer_labels(tokenizer, answer) if learnt else [IGNORED] * len(answer)
        rows.append(Encoded(full, labels))
    if not ended:
        rows[-1] = _broken_off(tokenizer, rows[-1])
    with_answers = [row for row in rows if any(label != IGNORED for label in row.labels)] or rows[-1:]
    return [Encoded(row.input_ids[:max_length], row.labels[:max_length]) for row in with_answers]


def _broken_off(tokenizer: Any, row: Encoded) -> Encoded:
    marks = _marks(tokenizer)
    places = enumerate(zip(row.input_ids, row.labels, strict=True))
    last = max((at for at, (token, label) in places if token not in marks and label != IGNORED), default=0)
    return Encoded(row.input_ids[: last + 1], row.labels[: last + 1])


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
        self._reasoning, self._switch = format_of(template), switch_of(template)
        self._messages: list[Message] = []
        self._literals: list[str] = []

    def add(self, role: Literal["system", "user", "assistant"], content: str) -> None:
        self._messages.append({"role": role, "content": set_aside(self._controls, content, self._literals)})

    def answered(self, answer: str) -> tuple[list[int], list[int]]:
        """The prompt so far, and the same with its answer, which is added. Raises TemplateUnfit."""
        asked = tuple(self._messages)
        self.add("assistant", answer)
        for thinking in (None, False) if self._switch else (None,):
            prompt = self._tokens(self._text(asked, thinking, add_generation_prompt=True))
            full = self._tokens(self._text(self._messages, thinking))
            if full[: len(prompt)] == prompt:
                return prompt, full
        return self._behind_no_reasoning(asked, self._messages[-1]["content"])

    def _behind_no_reasoning(self, asked: Sequence[Message], answer: str) -> tuple[list[int], list[int]]:
        """A prompt that always opens reasoning, which is closed at once as chat does it without; then the answer and
        what the template writes behind it."""
        opened = self._text(asked, add_generation_prompt=True)
        written = self._text([*asked, {"role": "assistant", "content": _ANSWER}]).split(_ANSWER)
        if self._reasoning is None or not self._reasoning.is_open(opened) or len(written) != 2:
            raise TemplateUnfit
        begun = opened + self._reasoning.closing
        prompt, full = self._tokens(begun), self._tokens(begun + answer + written[1])
        if full[: len(prompt)] != prompt:
            raise TemplateUnfit
        return prompt, full

    def _text(
        self, turns: Sequence[Message], thinking: bool | None = None, *, add_generation_prompt: bool = False
    ) -> str:
        variables = {self._switch: thinking} if self._switch and thinking is not None else {}
        written = self._tokenizer.apply_chat_template(
            self._rules.for_template(turns),
            add_generation_prompt=add_generation_prompt,
            tokenize=False,
            **variables,
        )
        return str(written)

    def _tokens(self, text: str) -> list[int]:
        return encode_with_literals(self._tokenizer, text, self._literals)


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
