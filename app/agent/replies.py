"""Parse a model's reply: thinking, prose and the Python code it wants to run, in the forms that models use.

Fenced blocks (Markdown, indented and quoted ones too), InternLM's action tokens, calls of tools (calls.py), tags such
as <code> and <execute>, ReAct's «Action Input:», and code without any fence.
"""

import ast
import json
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace

from app.agent.calls import MARKED, NO_SUCH_TOOL, Tools, code_of, of_json, whole_call
from app.agent.fences import Block, blocks, is_python, parses, plain
from app.agent.sandbox.notebook import to_python
from app.agent.tools import call_text, named_call

_THINKS = r"<think(?:ing)?>|<thought>|<reasoning>|\[THINK\]|<\|begin_of_thought\|>"
_SPEAKS = r"</think(?:ing)?>|</thought>|</reasoning>|\[/THINK\]|<\|end_of_thought\|>"
_THINKING = re.compile(rf"^\s*(?:{_THINKS})?(.*?)(?:{_SPEAKS})", re.DOTALL)
_THINKING_OPEN = re.compile(rf"^\s*(?:{_THINKS})")
_TAGGED = re.compile(
    r"<(?P<tag>code|execute|python|py|code_interpreter)>\s*(?P<code>.*?)(?:(?P<end></(?P=tag)>)|\Z)", re.DOTALL
)
_ACTION = re.compile(r"<\|action_start\|>(?P<body>.*?)(?:(?P<end><\|action_end\|>)|\Z)", re.DOTALL)
_REACT = re.compile(
    r"^(?:Action|✿FUNCTION✿):[ \t]*(?P<name>\w+)[ \t]*\n(?:Action Input|✿ARGS✿):[ \t]*(?P<code>.*?)"
    r"(?:(?P<end>^(?:Observation:|✿RESULT✿))|\Z)",
    re.M | re.S,
)
_TOKENS = re.compile(r"<\|(?:im_start|im_end|action_start|action_end|interpreter|plugin)\|>")
_STATEMENT = re.compile(
    r"^(?:import |from \w+(?:\.\w+)* import |def |for |while |with |class |print\(|[A-Za-z_]\w*\s*=[^=])"
)
# What prose and formulas do not begin with, so that code with a mistake is still run and the mistake told.
_PLAINLY = re.compile(
    r"^\s*(?:import [\w.]+\s*$|import \w[\w.]* as |from [\w.]+ import |def \w+\(|print\()", re.MULTILINE
)
_DOING = (
    *(ast.Import, ast.ImportFrom, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Await),
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef),
)
_CALLS = ("", "json", "tool_call", "tool_calls", "tool", "function_call", "tool_code", "python")


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
    code = of_json(body.replace("<|plugin|>", ""), tools) if "<|plugin|>" in body else _TOKENS.sub("", body)
    return Reply(text[: found.start()], plain(code), found["end"] is not None)


def _from_tool_call(text: str, tools: Tools) -> Reply | None:
    found = MARKED.search(text)
    return found and Reply(text[: found.start()], plain(code_of(found["body"], tools)), found["end"] is not None)


def _from_tag(text: str, _tools: Tools) -> Reply | None:
    found = _TAGGED.search(text)
    return found and Reply(text[: found.start()], plain(found["code"]), found["end"] is not None)


def _from_react(text: str, tools: Tools) -> Reply | None:
    found = _REACT.search(text)
    if found is None:
        return None
    code = found["code"].strip()
    if code.startswith("{"):
        code = of_json(json.dumps({"name": found["name"], "arguments": code}), tools)
    elif found["name"] in tools:
        code = call_text(found["name"], {"": code.strip("\"'")})
    return Reply(text[: found.start()], plain(code), found["end"] is not None)


def _from_fence(text: str, tools: Tools) -> Reply | None:
    """The first Python block, past blocks of shell, text or output."""
    for block in blocks(text):
        call = whole_call(block.code, tools) if block.closed and block.language in _CALLS else None
        if call not in (None, NO_SUCH_TOOL):  # JSON may be part of an answer
            return Reply(text[: block.start], plain(call or ""), True)
        named = is_python(block.language)
        if named or (not block.language and _looks_like_code(block, tools)):
            return Reply(text[: block.start], block.code, block.closed)
    return None


def _from_bare_call(text: str, tools: Tools) -> Reply | None:
    """A call that is the whole reply: {"name": ..., "arguments": {...}}."""
    code = whole_call(text, tools)
    return None if code is None else Reply("", plain(code), True)


def _from_no_fence(text: str, tools: Tools) -> Reply | None:
    """Lines of code, indented or not, alone or after prose, up to the end or to an empty line."""
    lines = text.splitlines()
    for start in (number for number, line in enumerate(lines[:60]) if _STATEMENT.match(line.lstrip())):
        ends = [len(lines), *(n for n in range(len(lines) - 1, start, -1) if not lines[n].strip())]
        for end in ends:
            code = textwrap.dedent("\n".join(lines[start:end]))
            if _does_something(code, tools):
                return Reply("\n".join(lines[:start]), code.strip("\n"))
    return None


_FORMS: tuple[Callable[[str, Tools], Reply | None], ...] = (
    _from_action,
    _from_tool_call,
    _from_fence,
    _from_tag,
    _from_react,
    _from_bare_call,
    _from_no_fence,
)


def _looks_like_code(block: Block, tools: Tools) -> bool:
    """A block without a language: output such as `42` or `[1, 4]` is none."""
    text = block.code
    if named_call(text, tools):
        return True
    if block.closed and parses(text):
        return _acts(ast.parse(text))
    if block.closed and not parses(to_python(text)):
        return bool(_PLAINLY.search(text))
    return any(_STATEMENT.match(line.strip()) for line in text.splitlines())


def _acts(tree: ast.Module) -> bool:
    """Whether code is there to be run: `y = 2 * x` may be a formula, `Counter({1: 2})` an output."""
    nodes = list(ast.walk(tree))
    calls = [node.func for node in nodes if isinstance(node, ast.Call)]
    if any(isinstance(node, _DOING) for node in nodes) or any(getattr(called, "id", "") == "print" for called in calls):
        return True
    if any(isinstance(statement, ast.Assign | ast.AnnAssign) for statement in tree.body):
        return bool(calls) or isinstance(tree.body[-1], ast.Expr)
    values = [getattr(statement, "value", None) for statement in tree.body]
    return len(values) > 1 and any(isinstance(getattr(value, "func", None), ast.Attribute) for value in values)


def _does_something(code: str, tools: Tools) -> bool:
    """Whether this is Python that prints or imports and calls; `x = 3` may be an answer."""
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    prints = any(getattr(call.func, "id", "") in ("print", *tools) for call in calls)
    return prints or bool(calls and any(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes))
