"""Values in and around a JSON schema: of each field its bounds, what lies just beyond them, and other kinds."""

from collections.abc import Iterator, Mapping
from typing import Any

KINDS = [None, True, False, 0, 1, -1, 0.5, 10**12, "", "x", [], ["x"], [1], {}]
FEW = [None, True, 1, "x", [], {}]  # deeper within a body
WORDS = ["a b", "<x>", "x" * 64, "x" * 65, "名"]  # for patterns
LONGEST = 3000  # entries of a list
Schema = dict[str, Any]


class Cases:
    """`companions`: with what else a field is sent once more, by its name: some are looked at only beside others."""

    def __init__(self, description: Any, companions: Mapping[str, dict[str, Any]]) -> None:
        self._companions = companions
        self._words = sorted(set(_words(description)))  # one that a field lacks may stand at another

    def bodies(self, schema: Schema) -> Iterator[dict[str, Any]]:
        """An object with each of its fields in every way, without each of those it must have, and with one more."""
        whole = some(schema)
        yield whole
        yield whole | {"nobody_knows_this": 1}
        for name, own in schema["properties"].items():
            yield {key: value for key, value in whole.items() if key != name}
            beside = self._companions.get(name)
            for value in self._around(own, KINDS):
                yield whole | {name: value}
                if beside is not None:
                    yield whole | beside | {name: value}

    def _around(self, schema: Schema, kinds: list[Any]) -> Iterator[Any]:
        yield from kinds
        for one in schema.get("anyOf", ()):
            yield from self._around(one, [])
        yield from _bounds(schema)
        if "enum" in schema:
            yield from self._words
        if "properties" in schema:
            yield from self.bodies(schema)
        if "items" in schema:
            yield from self._lists(schema)
        for own in schema.get("patternProperties", {}).values():
            yield from ({"7": value} for value in self._around(own, FEW))
            yield from ({"x": 1}, {"1" * 10: 1})

    def _lists(self, schema: Schema) -> Iterator[list[Any]]:
        whole = some(schema)
        for length in (schema.get("minItems", 0) - 1, schema.get("maxItems", 2), schema.get("maxItems", 2) + 1):
            yield (whole * LONGEST)[: max(0, length)]
        for entry in self._around(schema["items"], FEW):
            yield [entry, *whole[1:]]


def some(schema: Schema) -> Any:
    """A value that keeps to the schema."""
    if "anyOf" in schema:
        return some(next(one for one in schema["anyOf"] if one != {"type": "null"}))
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        return {name: some(schema["properties"][name]) for name in schema.get("required", ())}
    if kind == "array":
        return [some(schema["items"])] * max(1, schema.get("minItems", 0))
    return {"string": "x", "boolean": True, "null": None}.get(str(kind), max(1, schema.get("minimum", 1)))


def _bounds(schema: Schema) -> Iterator[Any]:
    for name in ("minimum", "maximum"):
        if name in schema:
            yield from (schema[name] - 1, schema[name], schema[name] + 1)
    for name in ("minLength", "maxLength"):
        if name in schema:
            yield from ("x" * max(0, schema[name] + more) for more in (-1, 0, 1))
    if "pattern" in schema:
        yield from WORDS
    if "const" in schema:
        yield schema["const"]


def _words(schema: Any) -> Iterator[str]:
    """Every word that an enumeration of the description has."""
    if isinstance(schema, dict):
        named = [schema.get("const"), *(schema.get("enum") if isinstance(schema.get("enum"), list) else ())]
        yield from (word for word in named if isinstance(word, str))
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _words(inner)
