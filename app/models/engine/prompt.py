"""Render messages to prompt tokens with the model's chat template, and drop the oldest turns that do not fit.

Control tokens that somebody typed, or that stand in a document, are text: they are tokenised in two halves, apart from
the template's own.
"""

import re
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

from app.errors import BadInput, PromptTooLong
from app.models.engine.reasoning import format_of, switch_of
from app.models.interface import Message, Sampling
from app.models.loading.turn_rules import ConversationRefused, TurnRules

Encoded = TypeVar("Encoded", bound=Sized)
MARK_FORM = r"<[^<>\s]{1,60}>|\[/?[A-Z_]{2,20}\]|◁[^◁▷\s]{1,20}▷"  # what templates write around turns
_MARK = re.compile(MARK_FORM)
# Elements of HTML, for which some vocabularies have tokens of their own: they are no marks.
_HTML = re.compile(
    r"</?(a|abbr|b|body|br|blockquote|caption|code|col|dd|del|details|div|dl|dt|em|figure|form|h[1-6]|head|hr|html|i|iframe"
    r"|img|input|ins|kbd|label|li|link|main|mark|math|meta|nav|ol|option|p|pre|q|s|samp|script|section|select|small"
    r"|span|strong|style|sub|summary|sup|svg|table|tbody|td|textarea|tfoot|th|thead|title|tr|u|ul|var|video)/?>"
)
_FIRST_PLACEHOLDER, _LAST_PLACEHOLDER = 0xF0000, 0x10FFFD  # planes of Unicode for private use
PLACEHOLDERS = f"[{chr(_FIRST_PLACEHOLDER)}-{chr(_LAST_PLACEHOLDER)}]"


class CannotSee(BadInput):
    zh = "模型 {name} 看不了图片。请换一个能看图的模型，或先移除图片；输入的内容还在。"
    en = "The model {name} cannot see pictures. Choose one that sees, or remove the pictures; what you typed is kept."


class UnknownToken(BadInput):
    zh = "内容里有模型词表之外的记号 {token}，请删去它。"
    en = "The text holds {token}, for which this model has no embedding. Remove it."


@dataclass(frozen=True)
class EncodedPrompt:
    """One prompt. `inputs` is what `generate` takes beside the tokens, such as pixels; `opens_reasoning` says that
    the prompt ends with the beginning of reasoning, `goes_on` that it ends within an answer, `is_raw` that it is no
    conversation: then marks are text."""

    tokens: list[int]
    inputs: dict[str, Any] = field(default_factory=dict)
    opens_reasoning: bool = False
    goes_on: bool = False
    is_raw: bool = False

    def __len__(self) -> int:
        return len(self.tokens)


class PromptBuilder:
    """`limit` is the most tokens that prompt and answer may have together, `embeddings` how many ids the model knows
    (0: all)."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        chat_template: str,
        limit: int,
        rules: TurnRules | None = None,
        embeddings: int = 0,
    ) -> None:
        self._tokenizer = tokenizer
        self._template = chat_template
        self._limit = limit
        self._rules = rules or TurnRules()
        self._embeddings = embeddings
        self._controls = control_tokens(tokenizer, chat_template)
        self._reasoning = format_of(chat_template)
        self._switch = switch_of(chat_template)

    def tokens(self, messages: Sequence[Message]) -> list[int]:
        """The prompt of an answer without reasoning, the opening of the assistant's turn included."""
        return self.encode(messages, thinking=False).tokens

    def answer_tokens(self, answer: str) -> list[int]:
        """An answer, in which marks are text."""
        literals: list[str] = []
        return encode_with_literals(self._tokenizer, set_aside(self._controls, answer, literals), literals)

    def encode(
        self, messages: Sequence[Message], thinking: bool | None = None, is_constrained: bool = False
    ) -> EncodedPrompt:
        """Raises UnknownToken, ConversationRefused. See `ReasoningFormat.ending` for the rest."""
        literals: list[str] = []

        def aside(text: str) -> str:
            return set_aside(self._controls, text, literals)

        turns = []
        earlier, begun = apart_from_begun(messages)
        for turn in self._rules.mend(earlier):
            content = turn["content"]
            if turn["role"] == "assistant" and self._reasoning is not None:
                content = self._reasoning.without_reasoning(content)
            calls = {"tool_calls": in_all(turn["tool_calls"], aside)} if "tool_calls" in turn else {}
            turns.append({**turn, "content": aside(content), **calls})
        tools = next((turn["tools"] for turn in messages if "tools" in turn), None)
        text = self.render(turns, thinking, in_all(tools, aside))
        if self._reasoning is not None:
            text += self._reasoning.ending(text, thinking, self._switch is not None, is_constrained)
        text += aside(begun)
        tokens = self.checked(encode_with_literals(self._tokenizer, text, literals))
        is_open = self._reasoning is not None and self._reasoning.is_open(text)
        return EncodedPrompt(tokens, opens_reasoning=is_open, goes_on=bool(begun))

    def render(
        self, turns: Sequence[Any], thinking: bool | None = None, tools: Sequence[dict[str, Any]] | None = None
    ) -> str:
        """The prompt's text. Raises ConversationRefused."""
        variables: dict[str, Any] = {self._switch: thinking} if self._switch and thinking is not None else {}
        try:
            text = self._tokenizer.apply_chat_template(
                self._rules.for_template(turns),
                chat_template=self._template,
                tools=list(tools) if tools else None,
                add_generation_prompt=True,
                tokenize=False,
                **variables,
            )
        except Exception as error:  # a template raises whatever its author or jinja makes of it
            raise ConversationRefused(error) from error
        return str(text)

    def fit(self, messages: Sequence[Message], sampling: Sampling, drop_oldest: bool) -> tuple[EncodedPrompt, int]:
        """(prompt, dropped turns); see `fit_turns`."""
        longest = sampling.longest(self._reasoning is not None)
        return fit_turns(
            lambda turns: self.encode(turns, sampling.thinking, sampling.output is not None),
            messages,
            self._limit,
            longest,
            drop_oldest,
        )

    def checked(self, tokens: Sequence[int]) -> list[int]:
        """A prompt as a model can go on from it: an empty one becomes the token that begins a text.

        Raises UnknownToken for an id that the model has no embedding for.
        """
        if self._embeddings and (unknown := [token for token in tokens if token >= self._embeddings]):
            raise UnknownToken(token=self._tokenizer.convert_ids_to_tokens(unknown[0]) or unknown[0])
        return list(tokens) or [begin_of_text(self._tokenizer)]


def begin_of_text(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that stands between texts, as a model without one for the beginning has learnt it."""
    found = (tokenizer.bos_token_id, tokenizer.eos_token_id, 0)
    return next(token for token in found if isinstance(token, int))


def control_tokens(tokenizer: PreTrainedTokenizerBase, chat_template: str) -> re.Pattern[str]:
    """What must not be taken for a mark where it stands in a content, and placeholders."""
    longest_first = sorted(control_marks(tokenizer, chat_template), key=len, reverse=True)
    return re.compile("|".join([*map(re.escape, longest_first), PLACEHOLDERS]))


def control_marks(tokenizer: PreTrainedTokenizerBase, chat_template: str) -> set[str]:
    """Special tokens, the template's own marks, and whatever else was added in a mark's form, such as `<tool_call>`."""
    added = tokenizer.added_tokens_decoder.values()
    special = {str(token) for token in added if token.special}
    vocabulary = tokenizer.get_vocab()
    written = {mark for mark in _MARK.findall(chat_template) if mark in vocabulary}
    formed = {str(token) for token in added if is_mark(str(token))}
    return {token for token in special | written | formed if len(token) > 1}


def is_mark(token: str) -> bool:
    """Whether a token of a vocabulary has the form of a mark, and is no HTML."""
    return _MARK.fullmatch(token) is not None and _HTML.fullmatch(token) is None


def set_aside(
    controls: re.Pattern[str], text: str, literals: list[str], is_control: Callable[[str], bool] = bool
) -> str:
    """The text with placeholders where control tokens stand, which are added to `literals`."""

    def placeholder(found: re.Match[str]) -> str:
        if len(found[0]) > 1 and not is_control(found[0]):
            return found[0]
        literals.append(found[0])
        return chr(_FIRST_PLACEHOLDER + len(literals) - 1)

    return controls.sub(placeholder, text)


def in_all(value: Any, change: Callable[[str], str]) -> Any:
    """The same lists and dictionaries with every text in them changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {in_all(key, change): in_all(entry, change) for key, entry in value.items()}
    return type(value)(in_all(entry, change) for entry in value) if isinstance(value, list | tuple) else value


def encode_with_literals(tokenizer: PreTrainedTokenizerBase, text: str, literals: Sequence[str]) -> list[int]:
    """Tokens of a text in which the n-th character for private use stands for `literals[n]`, taken as plain text."""
    tokens: list[int] = []
    for piece in _pieces(text, literals):
        tokens += tokens_after(tokenizer, piece) if tokens else _encode(tokenizer, piece)
    return tokens


def _pieces(text: str, literals: Sequence[str]) -> Iterator[str]:
    """The text cut so that no piece holds a whole literal."""
    piece = ""
    for part in re.split(f"({PLACEHOLDERS})", text):
        number = ord(part) - _FIRST_PLACEHOLDER if len(part) == 1 else -1
        if 0 <= number < len(literals):
            literal = literals[number]
            yield piece + literal[: (len(literal) + 1) // 2]
            piece = literal[(len(literal) + 1) // 2 :]
        else:
            piece += part
    yield piece


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def tokens_after(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of a text that goes on from another: some tokenizers begin every text with a space."""
    before, both = _encode(tokenizer, "\n"), _encode(tokenizer, f"\n{text}")
    return both[len(before) :] if both[: len(before)] == before else _encode(tokenizer, text)


def apart_from_begun(messages: Sequence[Message]) -> tuple[Sequence[Message], str]:
    """The turns before an answer that is to be gone on with, and what there is of it."""
    if messages and messages[-1].get("begun"):
        return messages[:-1], messages[-1]["content"]
    return messages, ""


def refuse_pictures(name: str, messages: Sequence[Message]) -> None:
    """For a model that takes text only. Raises CannotSee."""
    if any(message.get("images") for message in messages):
        raise CannotSee(name=name)


def fit_turns(
    prompt_of: Callable[[Sequence[Message]], Encoded],
    messages: Sequence[Message],
    limit: int,
    answer: int,
    drop_oldest: bool,
) -> tuple[Encoded, int]:
    """(prompt, dropped turns). Raises PromptTooLong where the prompt leaves no room for an answer.

    A conversation keeps a quarter of the context for its answer, or what the answer may need if that is less.
    """
    prompt = prompt_of(messages)
    if not drop_oldest:
        if len(prompt) >= limit:
            raise PromptTooLong(tokens=len(prompt), limit=limit)
        return prompt, 0
    room = limit - min(answer, limit // 4)
    return (prompt, 0) if len(prompt) <= room else _drop_turns(prompt_of, messages, room)


def _drop_turns(
    prompt_of: Callable[[Sequence[Message]], Encoded], messages: Sequence[Message], room: int
) -> tuple[Encoded, int]:
    """The fewest oldest turns (a user message and what follows it) dropped, by bisection.

    A long conversation loses an eighth of its turns at once: its prompt then begins alike for some turns, and
    the prefix cache is worth something.
    """
    head = [m for m in messages[:1] if m["role"] == "system"]
    starts = [i for i, m in enumerate(messages) if m["role"] == "user"]
    low, high = 1, len(starts) - 1
    best: tuple[Encoded, int] | None = None
    while low <= high:
        middle = (low + high) // 2
        prompt = prompt_of([*head, *messages[starts[middle] :]])
        if len(prompt) <= room:
            best, high = (prompt, middle), middle - 1
        else:
            low = middle + 1
    step = max(1, len(starts) // 8)
    if best is not None and (rounded := -(-best[1] // step) * step) in range(best[1] + 1, len(starts)):
        best = (prompt_of([*head, *messages[starts[rounded] :]]), rounded)
    if best is None:
        last = prompt_of([*head, *messages[starts[-1] :]] if starts else messages)
        raise PromptTooLong(tokens=len(last), limit=room)
    return best
