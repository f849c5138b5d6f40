"""Tool calls of any form, read by transformers' own parser of the checkpoint's response template."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from jsonschema import Draft202012Validator, SchemaError, ValidationError
from transformers.utils.chat_parsing import ResponseParser
from transformers.utils.chat_parsing.response_templates import load_response_template

from app.models.engine.grammar import WrongSchema
from app.models.engine.response_template import Field
from app.models.engine.tool_calls import ToolCall, ToolCallReader, ToolForm, Tools, told_call

CALLS, TEXT = "tool_calls", "content"
FAULTS = (ValueError, KeyError, TypeError, ValidationError)  # of a call that is none after all


class CallReader(Protocol):
    """Tells text from calls in an answer; see ToolCallReader."""

    def push(self, text: str) -> Iterator[str | ToolCall]: ...
    def finish(self) -> Iterator[str | ToolCall]: ...


def call_reader(form: ToolForm, tools: Tools) -> CallReader:
    """Raises WrongSchema for parameters that no call can be checked by."""
    return ToolCallReader(form, tools.names) if form.field is None else ResponseReader(form.field, tools)


class ResponseReader:
    """As ToolCallReader. Nothing holds a model to such a form, so calls are checked here: one of an unknown tool, or
    whose arguments do not keep to its schema, is text."""

    def __init__(self, field: Field, tools: Tools) -> None:
        self._spec = load_response_template(
            {
                "start_anchor": "\0",  # no prompt is read
                "fields": {CALLS: dict(field), TEXT: {"content": "text", "content_args": {"strip": False}}},
            }
        )
        self._tools = tools
        self._schemas = {tool["function"]["name"]: _validator(tool["function"]) for tool in tools.definitions}
        self._calls = 0
        self._begin()

    def push(self, text: str) -> Iterator[str | ToolCall]:
        for letter in text:  # a call that fails then takes nothing else with it
            self._unread += letter
            yield from self._read(self._parser.feed, letter)

    def finish(self) -> Iterator[str | ToolCall]:
        yield from self._read(lambda _: self._parser.finalize()[1], "", is_end=True)

    def _begin(self) -> None:
        self._parser = ResponseParser(self._spec, prefix="", tools=list(self._tools.definitions))
        self._unread = ""  # what is not yet told, from the beginning of a call on

    def _read(
        self, feed: Callable[[str], list[dict[str, Any]]], letter: str, *, is_end: bool = False
    ) -> Iterator[str | ToolCall]:
        try:
            events = feed(letter)
        except FAULTS:
            call, rest = self._split()
            self._begin()
            yield call
            yield from self.push(rest)
            return
        for event in events:
            if event["field"] == TEXT and event["type"] == "region_chunk":
                self._unread = self._unread.removeprefix(event["text"])
                if not self._calls or event["text"].strip():
                    yield event["text"]
            elif event["field"] == CALLS and event["type"] == "region_close":
                yield from self._told(event["value"], is_end)

    def _told(self, value: Any, is_end: bool) -> Iterator[str | ToolCall]:
        call, self._unread = self._split()
        try:
            if is_end and not self._is_whole(call):
                raise ValueError
            found = [self._checked(one) for one in (value if isinstance(value, list) else [value])]
        except FAULTS:
            yield call
            return
        most = len(found) if self._tools.parallel else max(0, 1 - self._calls)
        self._calls += len(found)
        yield from found[:most]

    def _split(self) -> tuple[str, str]:
        """The call that has just been read, and what came behind it."""
        field = self._spec.fields[CALLS]
        opened = field.open_re.search(self._unread)
        found = field.close_re.search(self._unread, opened.end()) if opened and field.close_re is not None else None
        at = found.end() if found else len(self._unread)
        return self._unread[:at], self._unread[at:]

    def _is_whole(self, call: str) -> bool:
        """Of an answer that has ended within a call; JSON that is cut short could not be read."""
        field = self._spec.fields[CALLS]
        return field.content == "json" or field.close_re is None or bool(field.close_re.search(call))

    def _checked(self, one: Any) -> ToolCall:
        name, arguments = one["function"]["name"], one["function"]["arguments"]
        self._schemas[name].validate(arguments)
        return told_call(name, arguments)


def _validator(function: dict[str, Any]) -> Draft202012Validator:
    try:
        Draft202012Validator.check_schema(function["parameters"])
    except SchemaError as error:
        raise WrongSchema(reason=error.message[:300]) from error
    return Draft202012Validator(function["parameters"])
