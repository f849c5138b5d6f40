"""Function calling: tool definitions, the form in which a chat template's model writes calls, and their parser."""

import json
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from jinja2 import meta

from app.api.errors import WrongValue
from app.api.request_body import Fields
from app.models.interface import OutputFormat

MOST_TOOLS = 128
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
DEFINITIONS = ("$defs", "definitions")


@dataclass(frozen=True)
class ToolForm:
    """How a family of models writes calls: JSON with the name and `arguments` between `opening` and `closing`.

    Without an opening the whole answer is one call; `listed` calls stand in one JSON list.
    """

    opening: str
    closing: str
    arguments: str
    listed: bool = False
    gap: str = ""  # between the marks and the JSON


HERMES = ToolForm("<tool_call>", "</tool_call>", "arguments", gap="\n")  # Qwen too
MISTRAL = ToolForm("[TOOL_CALLS]", "", "arguments", listed=True)
LLAMA = ToolForm("", "", "parameters")


@dataclass(frozen=True)
class ToolCall:
    """One call that a model has made; `arguments` are JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Tools:
    """The tools of one request. `choice` is auto, required, or the name of the one that must be called."""

    definitions: tuple[dict[str, Any], ...]
    choice: str = "auto"
    parallel: bool = True

    @property
    def named(self) -> str:
        """The one that must be called, if any."""
        return "" if self.choice in ("auto", "required") else self.choice

    def output(self, form: ToolForm) -> OutputFormat:
        """What an answer may look like, so that names and arguments are valid."""
        shown = [tool["function"] for tool in self.definitions if self.named in ("", tool["function"]["name"])]
        schema = _calls_schema(shown, form)
        if form.listed:
            most = {} if self.parallel else {"maxItems": 1}
            definitions = {"$defs": schema.pop("$defs")} if "$defs" in schema else {}
            schema = {"type": "array", "items": schema, "minItems": 1, **most, **definitions}
        begin = form.opening + form.gap
        end = form.gap + form.closing
        repeat = self.parallel and not self.named and not form.listed and bool(form.opening)
        return OutputFormat(json.dumps(schema, ensure_ascii=False), begin, end, self.choice != "auto", repeat)


def form_of(template: str) -> ToolForm | None:
    """How the models of a chat template write calls; None for one that knows no tools, or writes them otherwise."""
    if "tools" not in template or not _takes_tools(template):
        return None
    if "<tool_call>" in template and "<function=" not in template:
        return HERMES
    if "[TOOL_CALLS]" in template and "[ARGS]" not in template:
        return MISTRAL
    return LLAMA if "ipython" in template and '"parameters"' in template else None


def _takes_tools(template: str) -> bool:
    try:
        parsed = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
    except jinja2.TemplateError:
        return False
    return "tools" in meta.find_undeclared_variables(parsed)


def read_tools(given: Fields) -> Tools | None:
    """None where none may be called. Raises WrongValue."""
    tools, choice = given.any("tools") or [], given.any("tool_choice")
    parallel = given.any("parallel_tool_calls") is None or given.flag("parallel_tool_calls")
    if not isinstance(tools, list) or len(tools) > MOST_TOOLS:
        raise given.wrong("tools", f"a list of at most {MOST_TOOLS} functions", f"最多 {MOST_TOOLS} 个函数的列表")
    definitions = tuple(_definition(tool, f"tools[{place}]") for place, tool in enumerate(tools))
    names = [definition["function"]["name"] for definition in definitions]
    if isinstance(choice, dict):
        function = choice.get("function")
        named = function.get("name") if isinstance(function, dict) else None
        if named not in names:
            raise given.wrong("tool_choice", "a function that is among the tools", "tools 中的一个函数")
        return Tools(definitions, str(named), parallel)
    if choice not in (None, "none", "auto", "required") or (choice == "required" and not names):
        raise given.wrong("tool_choice", "none, auto, required or one of the tools", " none、auto、required 或某个函数")
    return None if choice == "none" or not names else Tools(definitions, choice or "auto", parallel)


def _definition(tool: object, place: str) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) and tool.get("type", "function") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    parameters = function.get("parameters") or {} if isinstance(function, dict) else {}
    if not isinstance(name, str) or not NAME.fullmatch(name) or not isinstance(parameters, dict):
        example = '{"type": "function", "function": {"name": "…", "parameters": JSON schema}}'
        raise WrongValue(param=place, expected_en=f"such as {example}", expected_zh=f"形如 {example} 的对象")
    parameters = {"type": "object", "properties": {}, **parameters}
    return {"type": "function", "function": {"description": "", **function, "parameters": parameters}}  # type: ignore[dict-item]


def _calls_schema(functions: Sequence[dict[str, Any]], form: ToolForm) -> dict[str, Any]:
    """One call of any of the functions; their definitions move to the root, each under a name of its own."""
    calls, definitions = [], {}
    for number, function in enumerate(functions):
        parameters = dict(function["parameters"])
        for place in DEFINITIONS:
            for name, schema in parameters.pop(place, {}).items():
                definitions[f"{number}.{name}"] = _moved(schema, number)
        if parameters["properties"] is not None:
            parameters.setdefault("additionalProperties", False)
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": function["name"]}, form.arguments: _moved(parameters, number)},
                "required": ["name", form.arguments],
                "additionalProperties": False,
            }
        )
    root: dict[str, Any] = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return {**root, "$defs": definitions} if definitions else root


def _moved(schema: Any, number: int) -> Any:
    if isinstance(schema, list):
        return [_moved(entry, number) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _moved(value, number) for key, value in schema.items()}
    reference = made.get("$ref")
    for place in DEFINITIONS:
        if isinstance(reference, str) and reference.startswith(f"#/{place}/"):
            made["$ref"] = f"#/$defs/{number}.{reference.removeprefix(f'#/{place}/')}"
    return made


class ToolCallReader:
    """Feed an answer's text with `push`: what comes out is text for the reader, and calls once they are whole."""

    def __init__(self, form: ToolForm, names: Sequence[str]) -> None:
        self._form, self._names = form, names
        self._held = ""
        self._in_call = False
        self._called = False

    def push(self, text: str) -> Iterator[str | ToolCall]:
        self._held += text
        while self._held:
            if self._in_call:
                at = self._held.find(self._form.closing) if self._form.closing else -1
                if at < 0:
                    return
                inside, self._held = self._held[:at], self._held[at + len(self._form.closing) :]
                self._in_call = False
                yield from self._calls(inside, self._form.closing)
                continue
            before = self._before_call()
            if before and not (self._called and not before.strip()):
                yield before
            if not self._in_call:
                return

    def finish(self) -> Iterator[str | ToolCall]:
        """What was held back at the end."""
        rest, self._held = self._held, ""
        if self._in_call:
            yield from self._calls(rest)
        elif rest and not (self._called and not rest.strip()):
            yield rest

    def _before_call(self) -> str:
        """Text before the next call, less what may begin one."""
        if not self._form.opening:
            bare = self._held.lstrip()
            self._in_call = bare.startswith("{")
            if self._in_call or not bare:
                return ""
            text, self._held = self._held, ""
            return text
        before, mark, after = self._held.partition(self._form.opening)
        if mark:
            self._held, self._in_call = after, True
            return before
        kept = next(
            (n for n in range(len(self._form.opening) - 1, 0, -1) if before.endswith(self._form.opening[:n])), 0
        )
        text, self._held = before[: len(before) - kept], before[len(before) - kept :]
        return text

    def _calls(self, inside: str, closing: str = "") -> Iterator[str | ToolCall]:
        try:
            told = json.loads(inside)
            calls = [self._call(entry) for entry in (told if isinstance(told, list) else [told])]
        except (ValueError, KeyError, TypeError):  # cut short, or no call at all
            yield f"{self._form.opening}{inside}{closing}"
            return
        self._called = True
        yield from calls

    def _call(self, entry: dict[str, Any]) -> ToolCall:
        if entry["name"] not in self._names:
            raise KeyError(entry["name"])
        arguments = json.dumps(entry[self._form.arguments], ensure_ascii=False)
        return ToolCall(secrets.token_hex(5)[:9], entry["name"], arguments)  # as long as Mistral's template wants it
