"""Read a JSON request body: size limit, UTF-8, typed access to its fields, and refusal of unknown ones."""

import json
import math
from typing import Any

from starlette.requests import Request

from app.api.errors import LoneSurrogate, NoJson, NotSupported, TooLarge, WrongValue
from app.api.json_schema import LARGEST_TOKEN
from app.endpoint_inputs import REPLACEMENT, SURROGATE

LARGEST_BODY = 16 * 2**20  # a few photos in base64


async def read_body(request: Request) -> bytes:
    """The body, read no further than is allowed. Other pages in a browser cannot send this type unasked."""
    if not request.headers.get("content-type", "").lower().startswith("application/json"):
        raise NoJson
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST_BODY:
            raise TooLarge(limit=LARGEST_BODY)
        parts.append(part)
    return b"".join(parts)


def parse_object(data: bytes) -> dict[str, Any]:
    r"""A JSON object in UTF-8. Raises NoJson, or LoneSurrogate for half a character such as "\ud83d"."""
    try:
        body = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise NoJson from error
    if not isinstance(body, dict):
        raise NoJson
    if b"\\ud" in data.lower():
        refuse_surrogates(body, "")
    return body


def refuse_surrogates(value: object, place: str) -> None:
    """Raises LoneSurrogate with the place of the first half of a character."""
    if isinstance(value, str) and SURROGATE.search(value):
        raise LoneSurrogate(param=place)
    if isinstance(value, list):
        for number, entry in enumerate(value):
            refuse_surrogates(entry, f"{place}[{number}]")
    if isinstance(value, dict):
        for key, entry in value.items():
            shown = SURROGATE.sub(REPLACEMENT, key)
            if shown != key:
                raise LoneSurrogate(param=shown[:80])
            refuse_surrogates(entry, f"{place}.{key}" if place else key)


def token_ids(value: object) -> tuple[int, ...] | None:
    """A list of token ids; JSON knows no whole numbers apart from others. None for anything else."""
    if not isinstance(value, list) or not all(isinstance(one, int | float) and type(one) is not bool for one in value):
        return None
    whole = all(0 <= one <= LARGEST_TOKEN and one == int(one) for one in value)
    return tuple(map(int, value)) if whole else None


class Fields:
    """The fields of a JSON object. Each that is read counts as known; null is the same as absent.

    `place` is what stands before a field's name in errors, such as `messages[0].`.
    """

    def __init__(self, body: dict[str, Any], place: str = "") -> None:
        self._body, self._place = body, place
        self._known: set[str] = set()

    def any(self, name: str) -> Any:
        """The value as it is, None where there is none."""
        self._known.add(name)
        return self._body.get(name)

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number within the bounds."""
        value = self.any(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.wrong(name, f"a number from {low} to {high}", f"{low} 到 {high} 之间的数")
        return float(value)

    def whole(self, name: str, low: int, high: int, *, clamp: bool = False) -> int | None:
        """A whole number within the bounds, cut down to `high` with `clamp`."""
        value = self.any(name)
        if value is None:
            return None
        number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
        if not number or isinstance(value, bool) or value != int(value) or value < low or (value > high and not clamp):
            raise self.wrong(name, f"a whole number from {low} to {high}", f"{low} 到 {high} 之间的整数")
        return min(int(value), high)

    def flag(self, name: str) -> bool:
        value = self.any(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "true or false", " true 或 false")
        return bool(value)

    def text(self, name: str) -> str | None:
        value = self.any(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "text", "文字")
        return value

    def required_text(self, name: str) -> str:
        """Text that must be there and not empty."""
        value = self.text(name)
        if not value:
            raise self.wrong(name, "text", "文字")
        return value

    def one_of(self, name: str, *allowed: str) -> str | None:
        value = self.any(name)
        if value is not None and value not in allowed:
            raise self.wrong(name, f"one of {', '.join(allowed)}", f"其中之一：{'、'.join(allowed)}")
        return value

    def only(self, name: str, *harmless: object) -> None:
        """Refuse a field that is not supported unless it says what is so anyway."""
        value = self.any(name)
        if value is not None and (isinstance(value, bool), value) not in [
            (isinstance(one, bool), one) for one in harmless
        ]:
            raise NotSupported(param=self._place + name)

    def ignore(self, *names: str) -> None:
        """Fields that change nothing about the answer, such as a name for the caller's end user."""
        self._known.update(names)

    def refuse_unknown(self) -> None:
        """Raises NotSupported for the first field that nobody has read."""
        for name, value in self._body.items():
            if name not in self._known and value is not None:
                raise NotSupported(param=(self._place + name)[:80])

    def wrong(self, name: str, en: str, zh: str) -> WrongValue:
        return WrongValue(param=self._place + name, expected_en=en, expected_zh=zh)
