"""Read `response_format`: JSON objects and JSON schemas that an answer has to keep to."""

import json
from typing import Any

from app.api.errors import WrongValue
from app.api.request_body import Fields
from app.models.interface import OutputFormat

ANY_OBJECT = json.dumps({"type": "object"})


def read_response_format(given: Fields) -> OutputFormat | None:
    """None for plain text. Raises WrongValue."""
    wanted = given.any("response_format")
    if wanted is None:
        return None
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return OutputFormat(ANY_OBJECT)
    if kind == "json_schema":
        return OutputFormat(json.dumps(_schema(wanted.get("json_schema")), ensure_ascii=False))
    raise WrongValue(
        param="response_format.type",
        expected_en="text, json_object or json_schema",
        expected_zh=" text、json_object 或 json_schema",
    )


def _schema(given: object) -> dict[str, Any]:
    schema = given.get("schema") if isinstance(given, dict) else None
    if not isinstance(schema, dict):
        raise WrongValue(
            param="response_format.json_schema",
            expected_en='{"name": …, "schema": a JSON schema}',
            expected_zh=' {"name": …, "schema": JSON schema}',
        )
    return schema
