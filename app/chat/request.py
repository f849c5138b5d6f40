"""Validate a chat request: message, history, pictures, sampling."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.errors import BadInput
from app.input_ranges import seed_of, within
from app.models.interface import Message, Sampling

MAX_CHARACTERS = 200_000  # beyond any model's context; refused before a tokenizer spends seconds on it
MAX_NEW_TOKENS = 32_768


class EmptyMessage(BadInput):
    zh = "消息是空的，请先输入内容。"
    en = "The message is empty. Type something first."


class MessageTooLong(BadInput):
    zh = "内容共 {characters} 个字符，一次最多 {limit} 个。请缩短后再发送。"
    en = "That is {characters} characters; at most {limit} are accepted at a time. Shorten it."


class WrongHistory(BadInput):
    zh = "第 {place} 条历史消息不可用：需要 role（user、assistant 或 system）和文字 content。"
    en = (
        "Message {place} of the history cannot be used: it needs a role (user, assistant or system) and a text content."
    )


@dataclass(frozen=True)
class ChatRequest:
    """One question with all that belongs to it. An empty `model` means the default one; an answer that is `begun` is
    written on. `tuned` is a tuned model of the same base that is asked, too: the base answers by its weights."""

    message: str
    history: tuple[Message, ...] = ()
    model: str = ""
    system: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    images: tuple[bytes, ...] = ()
    begun: str = ""
    tuned: str = ""

    def messages(self) -> list[Message]:
        """The prompt's turns, the system prompt first."""
        system: list[Message] = [{"role": "system", "content": self.system}] if self.system.strip() else []
        question: Message = {"role": "user", "content": self.message}
        if self.images:
            question["images"] = self.images
        begun: list[Message] = [{"role": "assistant", "content": self.begun, "begun": True}] if self.begun else []
        return [*system, *self.history, question, *begun]


def tuned_of(models: Sequence[str]) -> str:
    """The first tuned one of models that share their base, so that one batch can write all answers; else empty."""
    bases = {name.partition("+")[0] for name in models}
    return next((name for name in models if "+" in name), "") if len(bases) == 1 else ""


def chat_request(
    message: object,
    history: object = (),
    *,
    model: str | None = None,
    system: str | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    max_new_tokens: float | None = None,
    seed: float | str | None = None,
    thinking: bool | None = None,
    begun: str = "",
) -> ChatRequest:
    """Check what came from a page or over HTTP. None stands for the default; a seed may be typed text.

    `thinking` False keeps a model from reasoning before it answers, as does an answer that is `begun`; otherwise it
    does as its makers have it.
    """
    if not isinstance(message, str) or not message.strip():
        raise EmptyMessage
    turns = checked_history(history)
    characters = len(message) + len(system or "") + len(begun) + sum(len(turn["content"]) for turn in turns)
    if characters > MAX_CHARACTERS:
        raise MessageTooLong(characters=characters, limit=MAX_CHARACTERS)
    usual = Sampling()
    sampling = Sampling(
        temperature=within("temperature", temperature, 0.0, 2.0, usual.temperature),
        top_p=within("top_p", top_p, 0.01, 1.0, usual.top_p),
        max_new_tokens=int(within("max_new_tokens", max_new_tokens, 1, MAX_NEW_TOKENS, usual.max_new_tokens)),
        seed=seed_of(seed),
        thinking=False if thinking is False or begun else None,
    )
    return ChatRequest(message, tuple(turns), model or "", system or "", sampling, begun=begun)


def checked_history(history: object) -> list[Message]:
    """The turns so far; anything that is no turn is refused by its place."""
    if history is None:
        return []
    if not isinstance(history, Sequence) or isinstance(history, str):
        raise WrongHistory(place=1)
    turns: list[Message] = []
    for place, turn in enumerate(history, start=1):
        role = turn.get("role") if isinstance(turn, dict) else None
        content = _text_of(turn.get("content")) if isinstance(turn, dict) else None
        if role not in ("user", "assistant", "system") or not isinstance(content, str):
            raise WrongHistory(place=place)
        turns.append({"role": role, "content": content})
    return turns


def _text_of(content: object) -> str | None:
    """A text, or the texts of the parts that gradio makes of it; None for anything else."""
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        return content if isinstance(content, str) else None
    texts = [part.get("text") if isinstance(part, dict) else part for part in content]
    known = [text for text in texts if isinstance(text, str)]
    return "\n".join(known) if len(known) == len(texts) else None
