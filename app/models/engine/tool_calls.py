"""Tool calls of models: the form in which a chat template's model writes them, their grammar, and their parser."""

import json
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import BadInput
from app.models.engine.response_template import Field, field_of, mark_of
from app.models.engine.template_variables import free_variables
from app.models.interface import ChatModel, Message, OutputFormat, TextModel


class CannotCall(BadInput):
    zh = "模型 {name} 不能调用工具：它的对话模板里没有工具，或者运行它的引擎不支持。请换一个模型。"
    en = "The model {name} cannot call tools: its chat template knows none, or its engine takes none. Choose another."


class CannotForce(BadInput):
    zh = "模型 {name} 写工具调用的形式不是 JSON，无法强制它调用工具。请用 tool_choice auto，或换一个模型。"
    en = "The model {name} writes tool calls in a form of its own and cannot be made to. Use tool_choice auto."


@dataclass(frozen=True)
class ToolForm:
    """How a family of models writes calls: JSON with the name and `arguments` between `opening` and `closing`.

    Without an opening the whole answer is one call; `listed` calls stand in one JSON list. What is written otherwise is
    told by the `field` of a response template: such calls are read and checked, but a model cannot be held to them.
    """

    opening: str
    closing: str
    arguments: str
    listed: bool = False
    gap: str = ""  # between the marks and the JSON
    field: Field | None = None

    @property
    def is_free(self) -> bool:
        """Whether nothing holds a model to it."""
        return self.field is not None

    @property
    def has_marks(self) -> bool:
        """Which may be special tokens."""
        return bool(self.opening) or self.is_free


HERMES = ToolForm("<tool_call>", "</tool_call>", "arguments", gap="\n")  # Qwen too
INTERNLM = ToolForm("<|action_start|><|plugin|>\n", "<|action_end|>", "parameters")  # 2 and 3
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

    @property
    def names(self) -> list[str]:
        return [tool["function"]["name"] for tool in self.definitions]

    def output(self, form: ToolForm) -> OutputFormat | None:
        """What an answer may look like, so that names and arguments are valid; None where nothing holds it to that."""
        if form.is_free:
            return None
        shown = [tool["function"] for tool in self.definitions if self.named in ("", tool["function"]["name"])]
        schema = _calls_schema(shown, form)
        if form.listed:
            most = {} if self.parallel else {"maxItems": 1}
            definitions = schema.pop("$defs")
            schema = {"type": "array", "items": schema, "minItems": 1, **most, "$defs": definitions}
        begin = form.opening + form.gap
        end = form.gap + form.closing
        repeat = self.parallel and not self.named and not form.listed and bool(form.opening)
        return OutputFormat(
            json.dumps(schema, ensure_ascii=False), begin, end, self.choice != "auto", repeat, lenient=True
        )


def form_of(template: str) -> ToolForm | None:
    """How the models of a chat template write calls; None for one that knows no tools, or writes them otherwise.

    A checkpoint's own response template goes first.
    """
    if "tools" not in template or "tools" not in free_variables(template):
        return None
    told, text = field_of(template, "tool_calls"), field_of(template, "content") or {}
    is_marked = told is not None and mark_of(told, "open") != "" and mark_of(text, "open") == ""
    if told is not None and is_marked:  # calls are marked, text is not
        return _told_form(template, told)
    if INTERNLM.opening.strip() in template:
        return INTERNLM
    if "<tool_call>" in template and "<function=" not in template:
        return HERMES
    if "[TOOL_CALLS]" in template and "[ARGS]" not in template:
        return MISTRAL
    return LLAMA if "ipython" in template and '"parameters"' in template else None


def required_form(model: ChatModel, tools: Tools) -> ToolForm:
    """How this model writes calls. Raises CannotCall, or CannotForce for one that cannot be held to a call."""
    form = form_of(model.chat_template)
    if form is None or not isinstance(model, TextModel):
        raise CannotCall(name=model.name)
    if form.is_free and tools.choice != "auto":
        raise CannotForce(name=model.name)
    return form


def told_call(name: str, arguments: Any) -> ToolCall:
    made = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(secrets.token_hex(5)[:9], name, made)  # an id as long as Mistral's template wants it


def named_results(messages: Sequence[Message]) -> list[Message]:
    """Results of tools with the names of the tools, which some templates want."""
    names = {call["id"]: call["function"]["name"] for turn in messages for call in turn.get("tool_calls", ())}
    return [
        {**turn, "name": names[turn["tool_call_id"]]} if turn.get("tool_call_id") in names else turn
        for turn in messages
    ]


def _told_form(template: str, field: Field) -> ToolForm:
    """JSON between two marks, to which a model can be held, or else whatever the response template says."""
    opening, closing, arguments = mark_of(field, "open"), mark_of(field, "close"), _arguments_key(field)
    listed = bool(field.get("transform_each"))
    is_plain = field.get("content") == "json" and not field.get("content_args") and arguments
    if not is_plain or not opening or closing is None or (not closing and not listed):
        return ToolForm("", "", "", field=field)
    gap = "\n" if re.search(re.escape(opening) + r"(\\n|\n)", template) and not listed else ""
    return ToolForm(opening, closing, str(arguments), listed, gap)


def _arguments_key(field: Field) -> str | None:
    """What the arguments are called in a call's JSON; None where it is no object of a name and them."""
    shape = field.get("transform")
    function = shape.get("function") if isinstance(shape, dict) else None
    if function == "{content}":
        return "arguments"
    at = "" if field.get("transform_each") else "content."
    if not isinstance(function, dict) or function.get("name") != f"{{{at}name}}":
        return None
    found = re.fullmatch(rf"\{{{re.escape(at)}(\w+)\}}", str(function.get("arguments")))
    return found[1] if found else None


def _calls_schema(functions: Sequence[dict[str, Any]], form: ToolForm) -> dict[str, Any]:
    """One call of any of the functions; their parameters lie whole at the root, where their references are led."""
    calls, definitions = [], {}
    for number, function in enumerate(functions):
        place = f"#/$defs/{number}"
        parameters = dict(function["parameters"])
        if parameters["properties"] is not None:
            parameters.setdefault("additionalProperties", False)
        definitions[str(number)] = _moved(parameters, place)
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": function["name"]}, form.arguments: {"$ref": place}},
                "required": ["name", form.arguments],
                "additionalProperties": False,
            }
        )
    root: dict[str, Any] = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return {**root, "$defs": definitions}


def _moved(schema: Any, place: str) -> Any:
    """A schema whose root is now at `place`; what has an `$id` is the root of its own references."""
    if isinstance(schema, list):
        return [_moved(entry, place) for entry in schema]
    if not isinstance(schema, dict) or isinstance(schema.get("$id"), str):
        return schema
    made = {key: _moved(value, place) for key, value in schema.items()}
    reference = made.get("$ref")
    if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
        made["$ref"] = place + reference.removeprefix("#")
    return made


class ToolCallReader:
    """Feed an answer's text with `push`: what comes out is text for the reader, and calls once they are whole."""

    def __init__(self, form: ToolForm, names: Sequence[str]) -> None:
        self._form, self._names = form, names
        self._held = ""
        self._in_call = False
        self._called = False
        self._is_text = False  # an answer that is one call or none has begun with words

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
            self._in_call = bare.startswith("{") and not self._is_text
            if self._in_call or not (bare or self._is_text):
                return ""
            self._is_text = True
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
            told, end = json.JSONDecoder().raw_decode(inside.lstrip())
            rest = inside.lstrip()[end:]
            if closing and rest.strip():
                raise ValueError(rest)
            calls = [self._call(entry) for entry in (told if isinstance(told, list) else [told])]
        except (ValueError, KeyError, TypeError):  # cut short, or no call at all
            yield f"{self._form.opening}{inside}{closing}"
            return
        self._called = True
        yield from calls
        if rest.strip():  # nothing else tells where a call without a mark at its end is over
            yield rest

    def _call(self, entry: dict[str, Any]) -> ToolCall:
        if entry["name"] not in self._names:
            raise KeyError(entry["name"])
        return told_call(entry["name"], entry[self._form.arguments])
