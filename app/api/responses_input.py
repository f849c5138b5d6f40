"""Read the body of POST /v1/responses (OpenAI's Responses API) as a chat completion: text, pictures, tools."""

from typing import Any

from app.api.chat_request import ChatCompletionRequest, read_chat_request
from app.api.errors import ApiError, NotSupported, WrongValue
from app.api.request_body import Fields
from app.api.sampling_fields import BOOKKEEPING, MOST_TOKENS
from app.errors import StudioError

# What both APIs call alike.
SHARED = ("model", "temperature", "top_p", "top_k", "min_p", "seed", "stream", "parallel_tool_calls", "service_tier")
NAMES = {  # of a chat completion's parameters, in this API
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
}
HARMLESS: dict[str, tuple[object, ...]] = {
    "store": (False,),
    "background": (False,),
    "include": ([],),
    "truncation": ("disabled",),
    "stream_options": ({}, {"include_obfuscation": False}),
    "previous_response_id": (),
    "conversation": (),
    "prompt": (),
}
ROLES = ("system", "developer", "user", "assistant")
PARTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}


def read_response_request(body: dict[str, Any], *, lenient: bool = False) -> ChatCompletionRequest:
    """Raises ApiError."""
    given = Fields(body)
    model = given.required_text("model")
    made = {name: given.any(name) for name in (*SHARED, *BOOKKEEPING)}
    for name, harmless in HARMLESS.items():
        given.only(name, *harmless)
    if given.any("tools") is not None:
        made["tools"] = _tools(given)
    choice = given.any("tool_choice")
    named = isinstance(choice, dict) and choice.get("type") == "function"
    made["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}} if named else choice
    made["max_completion_tokens"] = given.whole("max_output_tokens", 1, MOST_TOKENS, clamp=True)
    made["response_format"] = _format(given, lenient)
    made["reasoning_effort"] = _effort(given, lenient)
    instructions = given.text("instructions")
    system = [{"role": "system", "content": instructions}] if instructions else []
    made["messages"] = [*system, *_turns(given.any("input"), given)]
    if not lenient:
        given.refuse_unknown()
    try:
        return read_chat_request({"model": model, **made})
    except ApiError as error:
        raise renamed(error) from error


def renamed(error: StudioError) -> StudioError:
    """The same error with the parameter as this API calls it."""
    if not isinstance(error, ApiError):
        error.about = NAMES.get(error.about or "", error.about)
        return error
    name, _, rest = (error.param or "").partition("[" if (error.param or "").startswith("messages") else ".")
    if name not in NAMES:
        return error
    param = NAMES[name] + (f".{rest}" if rest and name != "messages" else "")
    return type(error)(**{**error.values, "param": param})


def _format(given: Fields, lenient: bool) -> dict[str, Any] | None:
    text = _fields(given, "text")
    text.only("verbosity", "medium")
    wanted = text.any("format")
    if not lenient:
        text.refuse_unknown()
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        return {"type": "json_schema", "json_schema": wanted}
    return wanted  # type: ignore[no-any-return]


def _effort(given: Fields, lenient: bool) -> object:
    reasoning = _fields(given, "reasoning")
    effort = reasoning.any("effort")
    if not lenient:
        reasoning.refuse_unknown()
    return effort


def _fields(given: Fields, name: str) -> Fields:
    value = given.any(name)
    if value is not None and not isinstance(value, dict):
        raise given.wrong(name, "an object", "对象")
    return Fields(value or {}, f"{name}.")


def _tools(given: Fields) -> object:
    """Functions stand flat here; what the server would have to run itself is refused."""
    tools = given.any("tools")
    if not isinstance(tools, list):
        return tools
    for place, tool in enumerate(tools):
        if isinstance(tool, dict) and tool.get("type") != "function":
            raise NotSupported(param=f"tools[{place}].type")
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
            example = '{"type": "function", "name": "…", "parameters": JSON schema}'
            raise WrongValue(
                param=f"tools[{place}]", expected_en=f"such as {example}", expected_zh=f"形如 {example} 的对象"
            )
    return [{"type": "function", "function": tool} for tool in tools]


def _turns(given: object, fields: Fields) -> list[dict[str, Any]]:
    """The messages of a chat completion. Calls one after another are one turn; earlier reasoning is not read again."""
    if isinstance(given, str) and given:
        return [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise fields.wrong("input", "text or a list of items", "文字或条目的列表")
    turns: list[dict[str, Any]] = []
    for place, item in enumerate(given):
        at = f"input[{place}]"
        kind = item.get("type", "message") if isinstance(item, dict) else None
        if kind in ("function_call", "function_call_output") and not isinstance(item.get("call_id"), str):
            raise _wrong(f"{at}.call_id")
        if kind == "message":
            if item.get("role") not in ROLES:
                raise _wrong(f"{at}.role")
            turns.append({"role": item.get("role"), "content": _content(item.get("content"), at)})
        elif kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            if not (turns and turns[-1]["role"] == "assistant"):
                turns.append({"role": "assistant", "content": None})
            turns[-1].setdefault("tool_calls", []).append(call)
        elif kind == "function_call_output":
            content = _content(item.get("output"), at)
            turns.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": content})
        elif kind != "reasoning":
            raise NotSupported(param=f"{at}.type") if isinstance(kind, str) else _wrong(at)
    return turns


def _content(content: object, place: str) -> object:
    """A text, or parts as a chat completion has them."""
    if not isinstance(content, list):
        return content
    return [_part(part, f"{place}.content[{number}]") for number, part in enumerate(content)]


def _part(part: object, place: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(kind, str):
        raise _wrong(place)
    if kind == "input_image":
        return {"type": "image_url", "image_url": part.get("image_url")}
    if kind not in PARTS:
        raise NotSupported(param=f"{place}.type")
    return {"type": PARTS[kind], PARTS[kind]: part.get(PARTS[kind])}


def _wrong(place: str) -> WrongValue:
    example = '[{"role": "user", "content": "…"}, {"type": "function_call_output", "call_id": "…", "output": "…"}]'
    return WrongValue(param=place, expected_en=f"as in {example}", expected_zh=f"如 {example}")
