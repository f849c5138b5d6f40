"""Tools of the agent beside Python: their descriptions in the prompt, and parsing of calls `tool(name="value")`."""

import ast
import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SEARCH_TOOL = "search_documents"
_DESCRIBED_CHARACTERS = 300
Cancelled = Callable[[], bool]


@dataclass(frozen=True)
class Tool:
    """`run` gives the text for the model, raises StudioError, and ends soon after its second argument is true."""

    name: str
    description: str
    parameters: tuple[str, ...]  # in the order of a call, the required ones first
    run: Callable[[dict[str, Any], Cancelled], str]
    server: str = ""  # whose it is, where it is not this program's

    def line(self) -> str:
        about = " ".join(self.description.split())[:_DESCRIBED_CHARACTERS]
        return f"- {self.name}({', '.join(self.parameters)}): {about}"


def instruction(tools: Iterable[Tool]) -> str:
    """What is added to the model's instruction; empty where there are no tools."""
    lines = [tool.line() for tool in tools]
    if not lines:
        return ""
    about = "Tools beside Python. To use one, write a block with nothing but its call, such as"
    return f"\n{about} {lines[0][2:].partition('(')[0]}(...); you are shown its result.\n" + "\n".join(lines)


def call_text(name: str, arguments: Mapping[str, Any]) -> str:
    """A call as code; the argument that has no name stands under ""."""
    given = [repr(value) if not key else f"{key}={value!r}" for key, value in arguments.items()]
    return f"{name}({', '.join(given)})"


def named_call(code: str, names: Collection[str]) -> tuple[str, list[Any], dict[str, Any]] | None:
    """Name and arguments, where the code is nothing but a call of one of `names` with plain values."""
    with contextlib.suppress(SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        (statement,) = ast.parse(code.strip()).body
        call = getattr(statement, "value", None)
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "print" and len(call.args) == 1:
            call = call.args[0]
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in names:
            keywords = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
            return call.func.id, [ast.literal_eval(value) for value in call.args], keywords
    return None


def called_tool(code: str, tools: Mapping[str, Tool]) -> tuple[Tool, dict[str, Any]] | None:
    """The tool that the code calls, and its arguments by name."""
    found = named_call(code, tools)
    if found is None:
        return None
    tool = tools[found[0]]
    return tool, dict(zip(tool.parameters, found[1], strict=False)) | found[2]
