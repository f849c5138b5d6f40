"""Read `tools`, `tool_choice` and `parallel_tool_calls` of a chat completion."""

import re
from typing import Any

from app.api.errors import WrongValue
from app.api.request_body import Fields
from app.models.engine.tool_calls import Tools

MOST_TOOLS = 128
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def read_tools(given: Fields) -> Tools | None:
    """None where none may be called. Raises WrongValue."""
    tools, choice = given.any("tools"), given.any("tool_choice")
    tools = [] if tools is None else tools
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
    parameters = function.get("parameters") if isinstance(function, dict) else None
    parameters = {} if parameters is None else parameters
    if not isinstance(name, str) or not NAME.fullmatch(name) or not isinstance(parameters, dict):
        example = '{"type": "function", "function": {"name": "…", "parameters": JSON schema}}'
        raise WrongValue(param=place, expected_en=f"such as {example}", expected_zh=f"形如 {example} 的对象")
    parameters = {"type": "object", "properties": {}, **parameters}
    return {"type": "function", "function": {"description": "", **function, "parameters": parameters}}  # type: ignore[dict-item]
