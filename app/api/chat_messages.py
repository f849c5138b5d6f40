"""Read the messages of a chat completion: roles, text and picture parts."""

import base64
import binascii
import json
import re
from typing import Any

from app.api.errors import CannotSee, NotSupported, WrongValue
from app.api.request_body import Fields, refuse_surrogates
from app.models.engine.tool_calls import named_results
from app.models.interface import Message
from app.pictures import as_jpeg, open_picture

MOST_CHARACTERS = 400_000  # beyond any model's context; refused before a tokenizer spends seconds on it
MOST_PICTURES = 16
DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,")
# As OpenAI has it: nothing that could be a mark of a template. In words that JSON schemas read alike: not by \s.
NAME = re.compile(r"[^\u0000-\u0020<|\\/>]{1,64}")
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
EXAMPLE = '{"role": "user", "content": "…"}'


def read_messages(turns: object, model: str) -> tuple[Message, ...]:
    """Raises WrongValue, NotSupported or CannotSee."""
    if not isinstance(turns, list) or not turns:
        raise WrongValue(
            param="messages", expected_en=f"a list such as [{EXAMPLE}]", expected_zh=f"列表，如 [{EXAMPLE}]"
        )
    messages = tuple(_message(turn, f"messages[{place}]", model) for place, turn in enumerate(turns))
    if sum(len(message.get("images", ())) for message in messages) > MOST_PICTURES:
        raise _too_much(f"{MOST_PICTURES} pictures", f"{MOST_PICTURES} 张图片")
    if sum(len(message["content"]) for message in messages) > MOST_CHARACTERS:
        raise _too_much(f"{MOST_CHARACTERS} characters", f"{MOST_CHARACTERS} 个字符")
    return tuple(named_results(messages))


def _too_much(en: str, zh: str) -> WrongValue:
    return WrongValue(param="messages", expected_en=f"no more than {en} together", expected_zh=f"合计最多 {zh}")


def _message(turn: object, place: str, model: str) -> Message:
    if not isinstance(turn, dict):
        raise WrongValue(param=place, expected_en=f"such as {EXAMPLE}", expected_zh=f"形如 {EXAMPLE} 的对象")
    role = ROLES.get(turn["role"]) if isinstance(turn.get("role"), str) else None
    if role is None:
        known = ", ".join(ROLES)
        raise WrongValue(param=f"{place}.role", expected_en=f"one of {known}", expected_zh=f"其中之一：{known}")
    for name in ("function_call", "audio"):
        if turn.get(name) is not None:
            raise NotSupported(param=f"{place}.{name}")
    given, content = Fields(turn, f"{place}."), turn.get("content")
    if role == "assistant" and content in (None, "", []):  # null, as clients send back what was refused
        content = given.text("refusal") or ""
    text, images = _content(content, f"{place}.content", model)
    message: Message = {"role": role, "content": text}  # type: ignore[typeddict-item]
    if images:
        message["images"] = images
    if role == "assistant" and turn.get("tool_calls") not in (None, []):
        message["tool_calls"] = _tool_calls(turn["tool_calls"], f"{place}.tool_calls")
    if speaker := given.text("name"):
        if not NAME.fullmatch(speaker):
            raise given.wrong(
                "name", "1 to 64 characters without spaces and < | \\ / >", "1 到 64 个字符，不含空格和 < | \\ / >"
            )
        message["name"] = speaker
    called = given.text("tool_call_id")
    if role == "tool":
        message["tool_call_id"] = called or ""
    return message


def _tool_calls(calls: object, place: str) -> tuple[dict[str, Any], ...]:
    """Calls of an earlier answer, their arguments as objects, as chat templates read them."""
    try:
        if not isinstance(calls, list):
            raise TypeError
        made = [(call.get("id", ""), call["function"]["name"], call["function"]["arguments"]) for call in calls]
        read = [
            ("" if key is None else key, name, json.loads(given) if isinstance(given, str) else given)
            for key, name, given in made
        ]
        if not all(
            isinstance(key, str) and isinstance(name, str) and isinstance(sent, dict) for key, name, sent in read
        ):
            raise TypeError
        refuse_surrogates([sent for _, _, sent in read], place)  # JSON within JSON: the body's own check did not see it
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        example = '[{"id": "…", "type": "function", "function": {"name": "…", "arguments": "{…}"}}]'
        raise WrongValue(param=place, expected_en=f"such as {example}", expected_zh=f"形如 {example} 的列表") from error
    return tuple(
        {"id": key, "type": "function", "function": {"name": name, "arguments": arguments}}
        for key, name, arguments in read
    )


def _content(content: object, place: str, model: str) -> tuple[str, tuple[bytes, ...]]:
    """Text, or the text and the pictures of parts."""
    if isinstance(content, str):
        return content, ()
    if not isinstance(content, list) or not content:
        raise WrongValue(param=place, expected_en="text or a list of parts", expected_zh="文字或内容块的列表")
    texts, images = [], []
    for number, part in enumerate(content):
        at = f"{place}[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "image_url":
            images.append(_image(part.get("image_url"), at))
        elif kind in ("input_image", "input_audio", "video_url", "file"):
            raise CannotSee(param=at, model=model)
        else:
            texts.append(_part_text(part, kind, at))
    return "\n".join(texts), tuple(images)


def _part_text(part: Any, kind: object, place: str) -> str:
    text = part.get(kind) if kind in ("text", "refusal") else None
    if not isinstance(text, str):
        part_example = '{"type": "text", "text": "…"}'
        raise WrongValue(param=place, expected_en=f"such as {part_example}", expected_zh=f"形如 {part_example} 的对象")
    return text


def _image(given: object, place: str) -> bytes:
    """A picture that the request itself holds; an address elsewhere is never fetched."""
    address = given.get("url") if isinstance(given, dict) else given
    start = DATA_URL.match(address) if isinstance(address, str) else None
    wrong = WrongValue(
        param=place,
        expected_en="a picture as data:image/…;base64,… (other addresses are not fetched)",
        expected_zh=" data:image/…;base64,… 形式的图片（不会去取其他网址）",
    )
    if start is None or not isinstance(address, str):
        raise wrong
    try:
        data = base64.b64decode(address[start.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise wrong from error
    return as_jpeg(open_picture(data, name=place))
