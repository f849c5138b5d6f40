"""What a chat completion may ask for, checked field by field; what we cannot do is refused, never ignored."""

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

from app.api.errors import CannotSee, NoJson, NotSupported, WrongValue
from app.models.interface import Message, Sampling
from app.pictures import as_jpeg, open_picture

MOST_TOKENS = 131_072
MOST_STOPS = 16
MOST_SCORED = 512  # tokens of an answer with log-probabilities: it is read once more, whole
MOST_CHARACTERS = 400_000  # beyond any model's context; refused before a tokenizer spends seconds on it
MOST_PICTURES = 16
DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,")
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
# Refused unless they say what is so anyway.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
}


@dataclass(frozen=True)
class ChatCompletionRequest:
    """A checked chat completion. Without `most_tokens` the answer may fill the context.

    `top_logprobs`: how many likely tokens are told beside each of the answer's; None for no log-probabilities at all.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    most_tokens: int | None
    stream: bool
    include_usage: bool
    top_logprobs: int | None = None

    def sampling_for(self, context_tokens: int) -> Sampling:
        """How to draw the answer from a model of this context."""
        most = self.most_tokens or min(context_tokens, MOST_TOKENS)
        most = most if self.top_logprobs is None else min(most, MOST_SCORED)
        usual = self.sampling
        return Sampling(usual.temperature, usual.top_p, usual.top_k, most, usual.seed, usual.stop)


def read_wanted(data: bytes) -> ChatCompletionRequest:
    """Raises NoJson, WrongValue, NotSupported or CannotSee."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NoJson from error
    if not isinstance(body, dict):
        raise NoJson
    for name, harmless in UNSUPPORTED.items():
        if body.get(name) is not None and body[name] not in harmless:
            raise NotSupported(param=name)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise WrongValue(param="model", allowed="a name 模型名称")
    usual = Sampling()
    number = _Numbers(body)
    sampling = Sampling(
        temperature=number.within("temperature", 0, 2, usual.temperature),
        top_p=number.within("top_p", 0.0001, 1, usual.top_p),
        top_k=int(number.within("top_k", 0, 1000, 0, whole=True)),
        seed=None if body.get("seed") is None else int(number.within("seed", -(2**63), 2**63 - 1, 0, True)) % 2**63,
        stop=_stops(body.get("stop")),
    )
    most = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    return ChatCompletionRequest(
        model=model,
        messages=_messages(body.get("messages"), model),
        sampling=sampling,
        most_tokens=int(number.within(most, 1, MOST_TOKENS, 0, whole=True)) or None,
        stream=_flag(body, "stream"),
        include_usage=_includes_usage(body),
        top_logprobs=_likeliest(body, number, most),
    )


@dataclass(frozen=True)
class _Numbers:
    body: dict[str, Any]

    def within(self, name: str, low: float, high: float, usual: float, whole: bool = False) -> float:
        value = self.body.get(name)
        if value is None:
            return usual
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            raise WrongValue(param=name, allowed=f"{low} – {high}")
        return value


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value not in (None, True, False):
        raise WrongValue(param=name, allowed="true, false")
    return bool(value)


def _includes_usage(body: dict[str, Any]) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict) or not body.get("stream"):
        raise WrongValue(param="stream_options", allowed='{"include_usage": true}, with "stream": true')
    return _flag(options, "include_usage")


def _likeliest(body: dict[str, Any], number: "_Numbers", most: str) -> int | None:
    if not _flag(body, "logprobs"):
        if body.get("top_logprobs"):
            raise WrongValue(param="top_logprobs", allowed='with "logprobs": true')
        return None
    number.within(most, 1, MOST_SCORED, MOST_SCORED)
    return int(number.within("top_logprobs", 0, 20, 0, whole=True))


def _stops(stop: object) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else [] if stop is None else stop
    if not isinstance(stops, list) or len(stops) > MOST_STOPS or not all(isinstance(s, str) for s in stops):
        raise WrongValue(param="stop", allowed=f"1 – {MOST_STOPS} strings 字符串")
    return tuple(s for s in stops if s)


def _messages(turns: object, model: str) -> tuple[Message, ...]:
    if not isinstance(turns, list) or not turns:
        raise WrongValue(param="messages", allowed='[{"role": "user", "content": "…"}]')
    messages = tuple(_message(turn, f"messages[{place}]", model) for place, turn in enumerate(turns))
    if sum(len(message.get("images", ())) for message in messages) > MOST_PICTURES:
        raise WrongValue(param="messages", allowed=f"{MOST_PICTURES} pictures 张图片")
    if sum(len(message["content"]) for message in messages) > MOST_CHARACTERS:
        raise WrongValue(param="messages", allowed=f"{MOST_CHARACTERS} characters 个字符")
    return messages


def _message(turn: object, place: str, model: str) -> Message:
    if not isinstance(turn, dict):
        raise WrongValue(param=place, allowed='{"role": "user", "content": "…"}')
    role = ROLES.get(turn["role"]) if isinstance(turn.get("role"), str) else None
    if role is None:
        raise WrongValue(param=f"{place}.role", allowed=", ".join(ROLES))
    if turn.get("tool_calls"):
        raise NotSupported(param=f"{place}.tool_calls")
    text, images = _content(turn.get("content"), f"{place}.content", model)
    message: Message = {"role": role, "content": text}  # type: ignore[typeddict-item]
    if images:
        message["images"] = images
    return message


def _content(content: object, place: str, model: str) -> tuple[str, tuple[bytes, ...]]:
    """Text, or the text and the pictures of parts."""
    if isinstance(content, str):
        return content, ()
    if not isinstance(content, list) or not content:
        raise WrongValue(param=place, allowed="text 文字")
    texts, images = [], []
    for number, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "image_url":
            images.append(_image(part.get("image_url"), f"{place}[{number}]"))
            continue
        if kind in ("input_image", "input_audio", "video_url", "file"):
            raise CannotSee(param=f"{place}[{number}]", model=model)
        if kind != "text" or not isinstance(part.get("text"), str):
            raise WrongValue(param=f"{place}[{number}]", allowed='{"type": "text", "text": "…"}')
        texts.append(part["text"])
    return "\n".join(texts), tuple(images)


def _image(wanted: object, place: str) -> bytes:
    """A picture that the request itself holds; an address elsewhere is never fetched."""
    address = wanted.get("url") if isinstance(wanted, dict) else wanted
    start = DATA_URL.match(address) if isinstance(address, str) else None
    if start is None or not isinstance(address, str):
        raise WrongValue(param=place, allowed="data:image/…;base64,… (addresses are not fetched 不会去取网址)")
    try:
        data = base64.b64decode(address[start.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise WrongValue(param=place, allowed="data:image/…;base64,…") from error
    return as_jpeg(open_picture(data, name=place))
