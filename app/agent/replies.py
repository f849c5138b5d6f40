"""Parse a model's reply: thinking, prose and the Python code it wants to run, in the forms that models use.

Fenced blocks (Markdown, indented ones too), InternLM's action tokens, tool calls as JSON or XML (Qwen, Hermes, Llama,
Mistral, OpenAI), tags such as <code> and <execute>, ReAct's «Action Input:», and code without any fence.
"""

import ast
import contextlib
import json
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from app.agent.tools import call_text, named_call

_PYTHON = ("python", "py", "python3", "ipython", "tool_code", "code", "pycon")
_THINKING = re.compile(r"^\s*(?:<think(?:ing)?>)?(.*?)</think(?:ing)?>", re.DOTALL)
_THINKING_OPEN = re.compile(r"^\s*<think(?:ing)?>")
_FENCE = re.compile(r"^(?P<before>.*?)(?P<fence>`{3,}|~{3,})[ \t]*\{?\.?(?P<language>[\w+#-]*)\}?[ \t]*(?P<rest>.*)$")
_TAGGED = re.compile(
    r"<(?P<tag>code|execute|python|py|code_interpreter)>\s*(?P<code>.*?)(?:(?P<end></(?P=tag)>)|\Z)", re.DOTALL
)
_ACTION = re.compile(r"<\|action_start\|>(?P<body>.*?)(?:(?P<end><\|action_end\|>)|\Z)", re.DOTALL)
_TOOL_CALL = re.compile(
    r"(?:<tool_call>|<function_call>|\[TOOL_CALLS\]|<\|python_tag\|>|<\|tool_call\|>)(?P<body>.*?)"
    r"(?:(?P<end></tool_call>|</function_call>|<\|/tool_call\|>|<\|eom_id\|>)|\Z)",
    re.DOTALL,
)
_XML_PARAMETER = re.compile(r"<parameter=(?:code|command|query|script)>\n?(?P<code>.*?)(?:</parameter>|\Z)", re.DOTALL)
_XML_FUNCTION = re.compile(r"<function=(?P<name>[^>]+)>")
_XML_ANY = re.compile(r"<parameter=(?P<key>\w+)>\n?(?P<value>.*?)\n?(?:</parameter>|\Z)", re.DOTALL)
_REACT = re.compile(
    r"^Action:[ \t]*(?P<name>\w+)[ \t]*\nAction Input:[ \t]*(?P<code>.*?)(?:^Observation:|\Z)", re.M | re.S
)
_TOKENS = re.compile(r"<\|(?:im_start|im_end|action_start|action_end|interpreter|plugin)\|>")
_STATEMENT = re.compile(
    r"^(?:import |from \w+(?:\.\w+)* import |def |for |while |with |class |print\(|[A-Za-z_]\w*\s*=[^=])"
)
_PARAMETERS = ("code", "command", "script", "python", "source", "input", "query")
Tools = Collection[str]  # names of tools beside Python


@dataclass(frozen=True)
class Reply:
    """`code` is None where the model answers; `complete` says that what follows would not be part of the call."""

    thought: str
    code: str | None = None
    complete: bool = False
    thinking: str = ""


def parse_reply(text: str, tools: Tools = ()) -> Reply:
    """Take apart a reply that may still be growing. A call of one of `tools` becomes code: `name(argument=value)`."""
    thinking, rest = _split_thinking(text)
    found = next(filter(None, (form(rest, tools) for form in _FORMS)), None) or Reply(rest)
    return replace(found, thinking=thinking, thought=_TOKENS.sub("", found.thought))


def _split_thinking(text: str) -> tuple[str, str]:
    """What the model thought before it spoke; some templates open the tag themselves."""
    if ended := _THINKING.match(text):
        return ended.group(1).strip(), text[ended.end() :].lstrip()
    if opened := _THINKING_OPEN.match(text):
        return text[opened.end() :].strip(), ""
    return "", text


def _from_action(text: str, tools: Tools) -> Reply | None:
    found = _ACTION.search(text)
    if found is None:
        return None
    body = found["body"]
    code = _from_json(body.replace("<|plugin|>", ""), tools) if "<|plugin|>" in body else _TOKENS.sub("", body)
    return Reply(text[: found.start()], _plain(code), found["end"] is not None)


def _from_tool_call(text: str, tools: Tools) -> Reply | None:
    found = _TOOL_CALL.search(text)
    if found is None:
        return None
    body = found["body"]
    named = _XML_FUNCTION.search(body)
    if named and named["name"] in tools:
        code = call_text(named["name"], {found["key"]: _value(found["value"]) for found in _XML_ANY.finditer(body)})
    elif parameter := _XML_PARAMETER.search(body):
        code = parameter["code"]
    elif body.strip()[:1] in ("{", "["):
        code = _from_json(body, tools)
    else:
        code = body
    return Reply(text[: found.start()], _plain(code), found["end"] is not None)


def _from_tag(text: str, _tools: Tools) -> Reply | None:
    found = _TAGGED.search(text)
    return found and Reply(text[: found.start()], _plain(found["code"]), found["end"] is not None)


def _from_react(text: str, tools: Tools) -> Reply | None:
    found = _REACT.search(text)
    if found is None:
        return None
    code = found["code"].strip()
    if code.startswith("{"):
        code = _from_json(json.dumps({"name": found["name"], "arguments": code}), tools)
    elif found["name"] in tools:
        code = call_text(found["name"], {"": code.strip("\"'")})
    return Reply(text[: found.start()], _plain(code), "\nObservation:" in text)


def _from_fence(text: str, tools: Tools) -> Reply | None:
    """The first Python block, past blocks of shell, text or output."""
    for block in _blocks(text):
        named = block.language in _PYTHON
        if named or (not block.language and _looks_like_code(block.code, tools)):
            return Reply(text[: block.start], block.code, block.closed)
    return None


def _from_bare_json(text: str, tools: Tools) -> Reply | None:
    """A call that is the whole reply: {"name": ..., "arguments": {...}}."""
    stripped = text.strip()
    if not stripped.startswith("{") or '"name"' not in stripped or not stripped.endswith("}"):
        return None
    with contextlib.suppress(ValueError):
        call = json.loads(stripped, strict=False)
        if isinstance(call, dict) and {"arguments", "parameters"} & set(call):
            return Reply("", _from_json(stripped, tools), True)
    return None


def _from_no_fence(text: str, tools: Tools) -> Reply | None:
    """Lines of code, alone or after prose, up to the end or to an empty line."""
    lines = text.splitlines()
    for start in (number for number, line in enumerate(lines[:60]) if _STATEMENT.match(line)):
        ends = [len(lines), *(n for n in range(len(lines) - 1, start, -1) if not lines[n].strip())]
        for end in ends:
            code = "\n".join(lines[start:end])
            if _does_something(code, tools):
                return Reply("\n".join(lines[:start]), code.strip("\n"))
    return None


_FORMS: tuple[Callable[[str, Tools], Reply | None], ...] = (
    _from_action,
    _from_tool_call,
    _from_fence,
    _from_tag,
    _from_react,
    _from_bare_json,
    _from_no_fence,
)


@dataclass(frozen=True)
class _Block:
    language: str
    code: str
    closed: bool
    start: int


def _blocks(text: str) -> Iterator[_Block]:
    """Fenced blocks in order, the last perhaps without an end; those in lists lose their indentation."""
    place, opened, start, gathered = 0, None, 0, list[str]()
    for line in text.splitlines(keepends=True):
        found = _FENCE.match(line.rstrip("\r\n"))
        if opened is None:
            if found:
                if inline := _in_one_line(found, place):
                    yield inline
                elif "`" not in found["rest"]:
                    opened, start = found, place + len(found["before"])
                    gathered = [found["rest"] + "\n"] if found["rest"].strip() and found["language"] in _PYTHON else []
        elif found and found["fence"].startswith(opened["fence"]) and not (found["language"] or found["rest"].strip()):
            yield _block(opened, [*gathered, found["before"]], True, start)
            opened = None
        else:
            gathered.append(line)
        place += len(line)
    if opened is not None:
        yield _block(opened, gathered, False, start)


def _in_one_line(found: re.Match[str], place: int) -> _Block | None:
    """```python print(1)``` on a line of its own."""
    code, fence, after = found["rest"].partition(found["fence"])
    if not fence or after.strip():
        return None
    language = found["language"].lower()
    if language not in _PYTHON:
        code, language = f"{found['language']}{found['rest'].partition(found['fence'])[0]}", ""
    return _Block(language, code.strip(), True, place + len(found["before"]))


def _block(opened: re.Match[str], lines: Iterable[str], closed: bool, start: int) -> _Block:
    return _Block(opened["language"].lower(), _plain("".join(lines)), closed, start)


def _plain(code: str) -> str:
    """Without a fence of its own, indentation in common, and the prompts of an interactive session."""
    inner = next((block.code for block in _blocks(code)), None) if code.lstrip().startswith("```") else None
    code = textwrap.dedent((inner if inner is not None else code).expandtabs(4).replace("\r\n", "\n")).strip("\n")
    if not code.startswith(">>> "):
        return code.rstrip()
    return "\n".join(line[4:] for line in code.splitlines() if line.startswith((">>> ", "... ")))


def _from_json(text: str, tools: Tools) -> str:
    """The code in a call such as {"name": ..., "arguments": {"code": ...}}; else code that says what is wrong."""
    with contextlib.suppress(ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        call: Any = json.loads(text.strip(), strict=False)
        call = call[0] if isinstance(call, list) else call
        call = call.get("function", call)
        arguments = call["arguments"] if "arguments" in call else call["parameters"]
        if isinstance(arguments, str):
            arguments = (
                json.loads(arguments, strict=False) if arguments.lstrip().startswith("{") else {"code": arguments}
            )
        if call.get("name") in tools:
            return call_text(call["name"], arguments)
        given = [arguments[key] for key in _PARAMETERS if isinstance(arguments.get(key), str)]
        if call.get("name", "python").lower() in (*_PYTHON, "code_interpreter", "python_interpreter", "x") or (
            "query" not in arguments and given
        ):
            return str(given[0])
    return "raise NameError('there is no such tool here: write Python code')"


def _value(text: str) -> Any:
    """Of an argument in XML: numbers, lists and such are written as JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _looks_like_code(text: str, tools: Tools) -> bool:
    """A block without a language: output such as `42` or `[1, 4]` is none."""
    return any(_STATEMENT.match(line.strip()) for line in text.splitlines()) or bool(named_call(text, tools))


def _does_something(code: str, tools: Tools) -> bool:
    """Whether this is Python that prints or imports and calls; `x = 3` may be an answer."""
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    prints = any(getattr(call.func, "id", "") in ("print", *tools) for call in calls)
    return prints or bool(calls and any(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes))
