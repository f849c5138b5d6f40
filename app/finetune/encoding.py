"""Tokenise conversations with the chat template, with loss masks on everything but the answers."""

from dataclasses import dataclass
from typing import Any

from app.errors import BadInput
from app.finetune.data import Conversation

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

    Not `ended`: the last answer breaks off, and its end mark is left out.
    """
    messages: list[dict[str, str]] = []
    ids: list[int] = []
    labels: list[int] = []
    for turn in conversation:
        if turn.get("system"):
            messages.append({"role": "system", "content": turn["system"]})
        messages.append({"role": "user", "content": turn["input"]})
        prompt = _tokens(tokenizer, messages, add_generation_prompt=True)
        messages.append({"role": "assistant", "content": turn["output"]})
        full = _tokens(tokenizer, messages, add_generation_prompt=False)
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


def special_text(tokenizer: Any, conversation: Conversation) -> str | None:
    """The first of the tokenizer's control tokens that stands in the text itself, where it would cut a turn short."""
    texts = [text for turn in conversation for text in turn.values() if isinstance(text, str)]
    marks = [str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return next((mark for mark in marks if any(mark in text for text in texts)), None)


def _tokens(tokenizer: Any, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> list[int]:
    return list(
        tokenizer.apply_chat_template(
            messages, add_generation_prompt=add_generation_prompt, tokenize=True, return_dict=False
        )
    )


def _answer_labels(tokenizer: Any, tokens: list[int]) -> list[int]:
    """What follows the end mark, a line feed in ChatML, is no part of the answer."""
    marks = _marks(tokenizer)
    end = max((place for place, token in enumerate(tokens) if token in marks), default=len(tokens) - 1)
    return tokens[: end + 1] + [IGNORED] * (len(tokens) - end - 1)


def _marks(tokenizer: Any) -> set[int]:
    """Control tokens."""
    return {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
