"""Parse a model's reply: thinking, prose and the Python code it wants to run, in the forms that models use.

Fenced blocks (Markdown, indented and quoted ones too), InternLM's action tokens, calls of tools (calls.py), tags such
as <code> and <execute>, ReAct's «Action Input:», and code without any fence.
"""

import ast
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from app.agent.calls import MARKED, NO_SUCH_TOOL, PYTHON, Tools, code_of, of_json, whole_call
from app.agent.tools import call_text, named_call

_THINKS = r"<think(?:ing)?>|<thought>|<reasoning>|\[THINK\]|<\|begin_of_thought\|>"
_SPEAKS = r"</think(?:ing)?>|</thought>|</reasoning>|\[/THINK\]|<\|end_of_thought\|>"
_THINKING = re.compile(rf"^\s*(?:{_THINKS})?(.*?)(?:{_SPEAKS})", re.DOTALL)
_THINKING_OPEN = re.compile(rf"^\s*(?:{_THINKS})")
_FENCE = re.compile(r"^(?P<before>.*?)(?P<fence>`{3,}|~{3,})[ \t]*\{?\.?(?P<language>[\w+#-]*)\}?[ \t]*(?P<rest>.*)$")
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
# What may follow the language of a fence: attributes, a word, or a file's name.
_INFO = re.compile(
    r"\s*(?:(?:[\w-]+=(?:\"[^\"]*\"|'[^']*'|\{[^}]*\}|\d+)|\{[^}]*\}|\d)\s*)+|[a-z]+\s*|[:\w./-]*\.py\s*"
)
_FILE = re.compile(r"[:\w./-]*\.py\s*")
_LANGUAGE_LINE = re.compile(r"\A(?:python3?|py)\n(?=\S)", re.IGNORECASE)
_PROMPTS = (">>> ", "... ")
_PROMPT = re.compile(r"^(?:>>> |In ?\[\d+\]: )", re.MULTILINE)
_FENCE_LINE = re.compile(r"^(?:`{3,}|~{3,})", re.MULTILINE)
_LINE_NUMBER = re.compile(r"^ *\d+[:.|)]? ?", re.MULTILINE)
_ASCII = str.maketrans("“”„‘’（），：；［］｛｝＝", '"""\'\'(),:;[]{}=')
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
    return Reply(text[: found.start()], _plain(code), found["end"] is not None)


def _from_tool_call(text: str, tools: Tools) -> Reply | None:
    found = MARKED.search(text)
    return found and Reply(text[: found.start()], _plain(code_of(found["body"], tools)), found["end"] is not None)


def _from_tag(text: str, _tools: Tools) -> Reply | None:
    found = _TAGGED.search(text)
    return found and Reply(text[: found.start()], _plain(found["code"]), found["end"] is not None)


def _from_react(text: str, tools: Tools) -> Reply | None:
    found = _REACT.search(text)
    if found is None:
        return None
    code = found["code"].strip()
    if code.startswith("{"):
        code = of_json(json.dumps({"name": found["name"], "arguments": code}), tools)
    elif found["name"] in tools:
        code = call_text(found["name"], {"": code.strip("\"'")})
    return Reply(text[: found.start()], _plain(code), found["end"] is not None)


def _from_fence(text: str, tools: Tools) -> Reply | None:
    """The first Python block, past blocks of shell, text or output."""
    for block in _blocks(text):
        call = whole_call(block.code, tools) if block.closed and block.language in _CALLS else None
        if call not in (None, NO_SUCH_TOOL):  # JSON may be part of an answer
            return Reply(text[: block.start], _plain(call or ""), True)
        named = block.language in PYTHON
        if named or (not block.language and _looks_like_code(block.code, tools)):
            return Reply(text[: block.start], block.code, block.closed)
    return None


def _from_bare_call(text: str, tools: Tools) -> Reply | None:
    """A call that is the whole reply: {"name": ..., "arguments": {...}}."""
    code = whole_call(text, tools)
    return None if code is None else Reply("", _plain(code), True)


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
                    first = found["rest"].strip() and found["language"] in PYTHON and not _INFO.fullmatch(found["rest"])
                    gathered = [found["rest"] + "\n"] if first else []
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
    if language not in PYTHON:
        code, language = f"{found['language']}{found['rest'].partition(found['fence'])[0]}", ""
    return _Block(language, code.strip(), True, place + len(found["before"]))


def _block(opened: re.Match[str], lines: Iterable[str], closed: bool, start: int) -> _Block:
    language, quoted = opened["language"].lower(), opened["before"].lstrip().startswith(">")
    code = "".join(re.sub(r"^\s*> ?", "", line) for line in lines) if quoted else "".join(lines)
    return _Block("python" if _FILE.fullmatch(opened["rest"]) else language, _plain(code), closed, start)


def _plain(code: str) -> str:
    """Without a fence of its own, indentation in common, and the prompts of an interactive session."""
    inner = next((block.code for block in _blocks(code)), None) if code.lstrip().startswith("```") else None
    code = textwrap.dedent((inner if inner is not None else code).expandtabs(4).replace("\r\n", "\n")).strip("\n")
    code = _LANGUAGE_LINE.sub("", code.replace("\xa0", " "))
    if _PROMPT.match(code):
        return "\n".join(line[4:] for line in _PROMPT.sub(">>> ", code).splitlines() if line.startswith(_PROMPTS))
    return _mended(code.rstrip())


def _mended(code: str) -> str:
    """Code with typographic quotes, full-width signs, the numbers of its lines or words behind the closing fence,
    where it is code without them."""
    ways = (code, code.translate(_ASCII), _LINE_NUMBER.sub("", code), _FENCE_LINE.split(code)[0].rstrip())
    return next((way for way in ways if _parses(way)), code)


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


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
