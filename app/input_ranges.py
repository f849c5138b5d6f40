"""Validate numbers from a page or a program against the allowed range."""

from typing import TypeVar

from app.errors import BadInput

MAX_SEED = 2**63 - 1
MOST_DIGITS = len(str(MAX_SEED))  # Python itself refuses to read numbers of thousands of digits


class OutOfRange(BadInput):
    zh = "{name} 的值 {value} 不可用，应在 {low} 到 {high} 之间。"
    en = "{name} cannot be {value}: it must be between {low} and {high}."


Usual = TypeVar("Usual", float, float | None)


def within(name: str, value: float | None, low: float, high: float, usual: Usual) -> float | Usual:
    """The value, or `usual` where none was given. Raises OutOfRange."""
    if value is None:
        return usual
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise OutOfRange(name=name, value=value, low=low, high=high)
    return value


def seed_of(seed: float | str | None) -> int | None:
    """A seed, which may be typed text; an empty one is none. Raises OutOfRange."""
    if isinstance(seed, str):
        text = seed.strip()
        if text and not (text.isdecimal() and len(text) <= MOST_DIGITS):
            raise OutOfRange(name="seed", value=text[:40], low=0, high=MAX_SEED)
        seed = int(text) if text else None
    return None if seed is None else int(within("seed", seed, 0, MAX_SEED, 0))
