"""Calls of tools as models write them, to code: JSON, Python, a name before JSON, XML; and the marks around them."""

import ast
import contextlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from app.agent.tools import call_text

Tools = Collection[str]  # names of tools beside Python
PYTHON = ("python", "py", "python3", "ipython", "tool_code", "code", "pycon", "jupyter")
RUNNERS = (*PYTHON, "code_interpreter", "python_interpreter", "interpreter", "execute_python", "run_python", "x")
NO_SUCH_TOOL = "raise NameError('there is no such tool here: write Python code')"
PARAMETERS = ("code", "command", "script", "python", "source", "input", "query")
_BEGINS = (
    r"<tool_calls?>|<function_calls?>|<tools>|\[TOOL_CALLS\]|<\|python_tag\|>|<\|tool_call(?:_start)?\|>"
    r"|(?:<\|tool_calls_section_begin\|>\s*)?<\|tool_call_begin\|>|(?:<｜tool▁calls▁begin｜>\s*)?<｜tool▁call▁begin｜>"
    r"|<｜DSML｜function_calls>|<\|channel\|>(?:commentary|analysis) to=|(?=<function=\w)|(?=<invoke name=)"
)
_ENDS = (
    r"</tool_calls?>|</function_calls?>|</tools>|</function>|</invoke>|<\|/tool_call\|>|<\|tool_call_end\|>"
    r"|</｜DSML｜function_calls>|<｜tool▁call▁end｜>|<\|eom_id\|>|<\|call\|>"
)
MARKED = re.compile(rf"(?:{_BEGINS})(?P<body>.*?)(?:(?P<end>{_ENDS})|\Z)", re.DOTALL)
_SEPARATORS = re.compile(r"<\|\w+\|>|<｜[^｜]*｜>|\[ARGS\]|<tool_call>")
_XML_NAME = re.compile(r"<function=(?P<name>[^>]+)>|<invoke name=\"(?P<invoked>[^\"]+)\"\s*>")
_XML_PARAMETER = re.compile(
    r"<parameter(?:=|\s+name=\")(?P<key>\w+)\"?[^>\n]*>\n?(?P<value>.*?)\n?(?:</parameter>|\Z)", re.DOTALL
)
_XML_PAIR = re.compile(
    r"<arg_key>(?P<key>.*?)</arg_key>\s*<arg_value>\n?(?P<value>.*?)\n?(?:</arg_value>|\Z)", re.DOTALL
)
_HEADED = re.compile(
    r"(?:function\s*)?(?:functions\.)?(?P<name>[A-Za-z_]\w*)(?::\d+)?\s*(?:json\s+)?(?:```(?:json)?\s*)?"
    r"(?P<json>\{.*\})\s*(?:```)?",
    re.DOTALL,
)
_HEADED_CODE = re.compile(r"(?:functions\.)?(?:python|code_interpreter) code\s+(?P<code>.*)", re.DOTALL)
_FENCED = re.compile(r"```\w*\n(?P<inner>.*?)\n?```", re.DOTALL)


def code_of(body: str, tools: Tools) -> str:
    """The code in a call, whatever its form; a body that is no call is code itself."""
    body = _SEPARATORS.sub("\n", body.replace("｜DSML｜", "")).strip()
    fenced = _FENCED.fullmatch(body)
    body = fenced["inner"].strip() if fenced else body
    if body[:1] in ("{", "["):
        return _of_python(body, tools) or of_json(body, tools)
    if named := _XML_NAME.search(body):
        return _of_xml((named["name"] or named["invoked"]).strip(), body[named.end() :], tools)
    if "<parameter=" in body:
        return _of_values("python", _XML_PARAMETER.finditer(body), tools)
    if "<arg_key>" in body:
        return _of_values(body.partition("<arg_key>")[0].strip(), _XML_PAIR.finditer(body), tools)
    if headed := _HEADED_CODE.fullmatch(body):
        return headed["code"]
    if headed := _HEADED.fullmatch(body):
        return of_json(f'{{"name": "{headed["name"]}", "arguments": {headed["json"]}}}', tools)
    return _of_python(body, tools) or body


def whole_call(text: str, tools: Tools) -> str | None:
    """The code of a call that is all of a text: an object with a name and arguments, or `python(code="…")`."""
    stripped = text.strip()
    if stripped[:1] in ("{", "["):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(stripped, strict=False)
            if _is_call(value):
                return of_json(stripped, tools)
            if isinstance(value, dict) and set(value) <= {"thought", "code"} and "(" in str(value.get("code")):
                return str(value["code"])
    headed = _HEADED.fullmatch(stripped)  # where the marks around it are not shown
    if headed and headed["name"] in (*RUNNERS, *tools):
        return of_json(f'{{"name": "{headed["name"]}", "arguments": {headed["json"]}}}', tools)
    return _of_python(stripped, tools) if stripped.endswith((")", ")]")) else None


def of_json(text: str, tools: Tools) -> str:
    """The code in a call such as {"name": ..., "arguments": {"code": ...}}; else code that says what is wrong."""
    with contextlib.suppress(ValueError, KeyError, TypeError, IndexError, AttributeError, SyntaxError, RecursionError):
        call = _first(_loaded(text.strip()))
        arguments = call["arguments"] if "arguments" in call else call["parameters"]
        if isinstance(arguments, str):
            arguments = (
                json.loads(arguments, strict=False) if arguments.lstrip().startswith("{") else {"code": arguments}
            )
        return _of_arguments(str(call.get("name") or call.get("tool_name") or "python"), arguments, tools)
    return NO_SUCH_TOOL


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except ValueError:
        return ast.literal_eval(text)  # with single quotes


def _first(call: Any) -> Any:
    """Of several calls the first; OpenAI's message and its functions unwrapped."""
    if isinstance(call, dict) and "tool_calls" in call:
        call = call["tool_calls"]
    call = call[0] if isinstance(call, list) else call
    return call.get("function", call)


def _is_call(value: Any) -> bool:
    with contextlib.suppress(KeyError, TypeError, IndexError, AttributeError):
        call = _first(value)
        return bool({"name", "tool_name"} & set(call) and {"arguments", "parameters"} & set(call))
    return False


def _of_arguments(name: str, arguments: Mapping[str, Any], tools: Tools) -> str:
    if name in tools:
        return call_text(name, arguments)
    given = [arguments[key] for key in PARAMETERS if isinstance(arguments.get(key), str)]
    if given and (name.lower().rpartition(".")[2] in RUNNERS or "query" not in arguments):
        return str(given[0])
    return NO_SUCH_TOOL


def _of_xml(name: str, inside: str, tools: Tools) -> str:
    """What stands in <function=NAME> or <invoke name="NAME">: parameters, or JSON."""
    if inside.lstrip().startswith("{"):
        return of_json(f'{{"name": {json.dumps(name)}, "arguments": {inside.strip()}}}', tools)
    return _of_values(name, _XML_PARAMETER.finditer(inside), tools)


def _of_values(name: str, found: Iterable[re.Match[str]], tools: Tools) -> str:
    values = {each["key"].strip(): each["value"] for each in found}
    if name in tools:
        return call_text(name, {key: _value(value) for key, value in values.items()})
    return _of_arguments(name, values, tools)


def _value(text: str) -> Any:
    """Of an argument in XML: numbers, lists and such are written as JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _of_python(text: str, tools: Tools) -> str | None:
    """The code in `python(code="…")`, also in a list of calls; a call of a tool stays as it is."""
    with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        call: Any = ast.parse(text, mode="eval").body
        call = call.elts[0] if isinstance(call, ast.List) and call.elts else call
        if not isinstance(call, ast.Call):
            return None
        name = ast.unparse(call.func).removeprefix("functions.")
        if name in tools:
            return ast.get_source_segment(text, call)
        given = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg in PARAMETERS)]
        if name in RUNNERS and given and isinstance(given[0], ast.Constant) and isinstance(given[0].value, str):
            return given[0].value
    return None
