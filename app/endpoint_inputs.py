"""Check what a program sends to an endpoint against the handler's types: numbers as text, nulls, lone surrogates."""

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

from app.errors import BadInput

SURROGATE = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"
TRUE, FALSE = ("true", "1"), ("false", "0")
KINDS = {
    bool: ("true or false", " true 或 false"),
    int: ("a whole number", "整数"),
    float: ("a number", "数字"),
    str: ("text", "文字"),
    list: ("a list", "列表"),
    dict: ("an object", "对象"),
}


class WrongKind(BadInput):
    zh = "{name} 的值不可用，应为{expected_zh}。"
    en = "{name} cannot have this value: it must be {expected_en}."


def without_surrogates(value: Any) -> Any:
    r"""The same with U+FFFD for each half of a character, such as "\ud83d", which cannot be stored or sent."""
    if isinstance(value, str):
        return SURROGATE.sub(REPLACEMENT, value)
    if isinstance(value, list):
        return [without_surrogates(entry) for entry in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(entry) for key, entry in value.items()}
    return value


def checked_inputs(
    parameters: Sequence[inspect.Parameter], hints: Mapping[str, Any], values: Sequence[Any]
) -> list[Any]:
    """The values as the parameters' types want them. Raises WrongKind."""
    return [
        _checked(parameter, hints.get(parameter.name, Any), value)
        for parameter, value in zip(parameters, values, strict=False)
    ]


def _checked(parameter: inspect.Parameter, hint: Any, value: Any) -> Any:
    allowed = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = [get_origin(kind) or kind for kind in allowed]
    if value is None and parameter.default is not inspect.Parameter.empty:
        return parameter.default
    if Any in kinds or (value is None and type(None) in kinds):
        return value
    for kind in kinds:
        fitting = _fitting(kind, value)
        if fitting is not None:
            return fitting
    known = [KINDS[kind] for kind in kinds if kind in KINDS]
    if not known:
        return value
    raise WrongKind(
        name=parameter.name,
        expected_en=" or ".join(en for en, _ in known),
        expected_zh="或".join(zh for _, zh in known),
    )


def _fitting(kind: Any, value: Any) -> Any:
    """The value as this kind, None where it is none."""
    if kind is bool:
        said = str(value).strip().lower() if isinstance(value, str | int) else ""
        return True if said in TRUE else False if said in FALSE else None
    if kind in (int, float):
        return _number(kind, value)
    return value if kind in KINDS and isinstance(value, kind) else None


def _number(kind: type, value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value) if kind is float else int(value.strip())
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    if kind is int:
        return int(value) if value == int(value) else None
    return value
