"""Build JSON schemas (2020-12): objects, arrays, alternatives, bounded numbers; a field may be null."""

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
SOME_TEXT: Schema = {"type": "string", "minLength": 1}
FLAG: Schema = {"type": ["boolean", "null"]}
NULL: Schema = {"type": "null"}
ANY_OBJECT: Schema = {"type": "object"}
LARGEST_TOKEN = 2**31 - 1
TOKEN: Schema = {"type": "integer", "minimum": 0, "maximum": LARGEST_TOKEN}
COUNT: Schema = {"type": "integer", "minimum": 0}


def record(properties: Mapping[str, Schema], *required: str) -> Schema:
    return {"type": "object", "properties": dict(properties), "required": list(required)}


def array(items: Schema, least: int = 0, most: int | None = None) -> Schema:
    return {"type": "array", "items": items, "minItems": least} | ({} if most is None else {"maxItems": most})


def either(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def one_of(*values: object) -> Schema:
    return {"enum": [*values, None]}


def number(low: float, high: float) -> Schema:
    return {"type": ["number", "null"], "minimum": low, "maximum": high}


def whole(low: int, high: int | None = None) -> Schema:
    return {"type": ["integer", "null"], "minimum": low} | ({} if high is None else {"maximum": high})


def has(**fields: Schema) -> Schema:
    """An object in which these fields are there, in this way."""
    return {"type": "object", "properties": fields, "required": list(fields)}
