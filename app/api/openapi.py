"""OpenAPI description of /v1, served at /v1/openapi.json: every accepted field with its limits, and the answers.

What depends on other values is told in `if` and `then`; what depends on the model is refused by name with a 400.
"""

from app.api.chat_messages import MOST_PICTURES
from app.api.chat_messages import NAME as SPEAKER
from app.api.chat_request import EFFORTS, UNSUPPORTED
from app.api.completion_request import MOST_ANSWERS, MOST_PROMPTS
from app.api.embeddings import LONGEST_TEXT, MOST_TEXTS, PURPOSES
from app.api.json_schema import (
    ANY_OBJECT,
    FLAG,
    NULL,
    SOME_TEXT,
    TEXT,
    TOKEN,
    Schema,
    array,
    either,
    has,
    number,
    one_of,
    record,
    whole,
)
from app.api.openapi_answers import answer_schemas
from app.api.responses_input import HARMLESS, SHARED
from app.api.sampling_fields import BOOKKEEPING, MOST_CHOICES, MOST_STOPS, MOST_TOP_K, TOKEN_ID
from app.api.tool_calling import MOST_TOOLS, NAME

ERRORS = {
    "400": "the request cannot be done as it is; `param` names what is meant",
    "401": "the key is wrong",
    "404": "no such model for this caller, or not served here",
    "413": "the request is too large",
    "429": "too much at once; Retry-After says when to come back",
    "500": "an internal error",
    "503": "the model cannot be had now",
}

ARGUMENTS = either({"type": "string", "contentMediaType": "application/json"}, ANY_OBJECT)
DATA_URL = "^data:image/[a-z.+-]+;base64,[A-Za-z0-9+/]+={0,2}$"


def openapi(*, needs_key: bool, lenient: bool) -> Schema:
    """`lenient`: requests may have fields that are not known."""
    more = {} if lenient else {"additionalProperties": False}
    chat = {**_chat_request(), **more}
    response = {**_response_request(), **more}
    completion, embedding, rerank = ({**made, **more} for made in (_completion_request(), *_document_requests()))
    name = {"name": "name", "in": "path", "required": True, "schema": SOME_TEXT}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Puyu Studio", "version": "1", "description": "OpenAI's API over this server's models."},
        "paths": {
            "/v1/models": {"get": _operation("The models that are there for the caller", _ref("ModelList"))},
            "/v1/models/{name}": {"get": _operation("One model", _ref("Model")), "parameters": [name]},
            "/v1/chat/completions": {"post": _operation("Chat", _ref("ChatCompletion"), chat, streams=True)},
            "/v1/responses": {"post": _operation("Chat, as items", _ref("Response"), response, streams=True)},
            "/v1/completions": {"post": _operation("Continue a raw prompt", _ref("Completion"), completion, True)},
            "/v1/embeddings": {"post": _operation("Vectors of texts", _ref("Embeddings"), embedding)},
            "/v1/rerank": {"post": _operation("Documents by how well they fit a query", _ref("Ranking"), rerank)},
        },
        "components": {
            "schemas": answer_schemas(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}] if needs_key else [{"key": []}, {}],
    }


def _operation(summary: str, answer: Schema, request: Schema | None = None, streams: bool = False) -> Schema:
    content = {"application/json": {"schema": answer}}
    if streams:
        content["text/event-stream"] = {"schema": record({"data": TEXT})}  # of one event
    error = {"application/json": {"schema": _ref("Error")}}
    codes = ERRORS if request else {code: ERRORS[code] for code in ("401", "404", "500")}
    made: Schema = {
        "summary": summary,
        "responses": {"200": {"description": summary, "content": content}}
        | {code: {"description": text, "content": error} for code, text in codes.items()},
    }
    if request is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": request}}}
    return made


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


STREAMED = {"if": has(stream_options=ANY_OBJECT), "then": has(stream={"const": True})}


def _sampling(least: int, *lengths: str) -> dict[str, Schema]:
    bias = {"type": "object", "patternProperties": {f"^{TOKEN_ID.pattern}$": {**number(-100, 100), "type": "number"}}}
    include_usage = record({"include_usage": FLAG, "include_obfuscation": one_of(False)})
    return {
        "model": SOME_TEXT,
        "temperature": number(0, 2),
        "top_p": number(0, 1),
        "top_k": whole(-1, MOST_TOP_K),
        "min_p": number(0, 1),
        "seed": whole(-(2**63), 2**64 - 1),
        "stop": either(TEXT, NULL, array(TEXT, 0, MOST_STOPS)),
        "stop_token_ids": either(NULL, array(TOKEN)),
        "ignore_eos": FLAG,
        "repetition_penalty": number(0.01, 10),
        "presence_penalty": number(-2, 2),
        "frequency_penalty": number(-2, 2),
        "logit_bias": either(NULL, {**bias, "additionalProperties": False}),
        **dict.fromkeys(lengths, either(whole(least), {"const": -1})),
        "n": whole(1, MOST_CHOICES),
        "stream": FLAG,
        "stream_options": either(NULL, {**include_usage, "additionalProperties": False}),
        "store": one_of(False),
        "service_tier": one_of("auto", "default"),
        **{name: {} for name in BOOKKEEPING},
    }


def _chat_request() -> Schema:
    function = record(
        {"name": {"type": "string", "pattern": f"^{NAME.pattern}$"}, "parameters": either(NULL, ANY_OBJECT)}, "name"
    )
    named = record({"type": {"const": "function"}, "function": record({"name": TEXT}, "name")}, "function")
    schema = record({"schema": ANY_OBJECT}, "schema")
    formats = either(
        NULL,
        record({"type": {"enum": ["text", "json_object"]}}, "type"),
        record({"type": {"const": "json_schema"}, "json_schema": schema}, "type", "json_schema"),
    )
    thinking = {**record({"enable_thinking": FLAG}), "additionalProperties": False}
    some_tools = {"type": "array", "minItems": 1}
    fields = {
        **_sampling(1, "max_completion_tokens", "max_tokens"),
        "messages": array(_message(), 1),
        "logprobs": FLAG,
        "top_logprobs": whole(0, 20),
        "response_format": formats,
        "tools": either(
            NULL, array(record({"type": {"const": "function"}, "function": function}, "function"), 0, MOST_TOOLS)
        ),
        "tool_choice": either(one_of("none", "auto", "required"), named),
        "parallel_tool_calls": FLAG,
        "reasoning_effort": one_of(*EFFORTS),
        "chat_template_kwargs": either(NULL, thinking),
        **{name: one_of(*harmless) for name, harmless in UNSUPPORTED.items()},
    }
    depend = [
        STREAMED,
        {"if": has(top_logprobs={"type": "integer", "minimum": 1}), "then": has(logprobs={"const": True})},
        {"if": has(tool_choice=either({"const": "required"}, ANY_OBJECT)), "then": has(tools=some_tools)},
        {
            "if": has(tools=some_tools, response_format=ANY_OBJECT),
            "then": either(
                has(response_format=has(type={"const": "text"})),
                has(tool_choice={"const": "none"}),
            ),
        },
    ]
    return {**record(fields, "model", "messages"), "allOf": depend}


def _response_request() -> Schema:
    sampling = _sampling(1)
    part = either(
        record({"type": {"enum": ["input_text", "output_text", "text"]}, "text": TEXT}, "type", "text"),
        record({"type": {"const": "refusal"}, "refusal": TEXT}, "type", "refusal"),
    )
    roles = {"enum": ["system", "developer", "user", "assistant"]}
    message = record(
        {"type": {"const": "message"}, "role": roles, "content": either(TEXT, array(part, 1))}, "role", "content"
    )
    result = record(
        {"type": {"const": "function_call_output"}, "call_id": TEXT, "output": TEXT}, "type", "call_id", "output"
    )
    made = {"type": {"const": "function_call"}, "call_id": TEXT, "name": TEXT, "arguments": ARGUMENTS}
    call, reasoning = record(made, *made), record({"type": {"const": "reasoning"}}, "type")
    tool = {"type": {"const": "function"}, "name": {"type": "string", "pattern": f"^{NAME.pattern}$"}}
    form = either(
        NULL,
        record({"type": {"enum": ["text", "json_object"]}}, "type"),
        record({"type": {"const": "json_schema"}, "schema": ANY_OBJECT}, "type", "schema"),
    )
    closed = {"additionalProperties": False}
    some_tools = {"type": "array", "minItems": 1}
    said = {"properties": {"type": {"not": {"const": "reasoning"}}}}  # earlier reasoning is not read again
    fields = {
        **{name: sampling[name] for name in (*SHARED, *BOOKKEEPING) if name in sampling},
        "input": either(SOME_TEXT, {**array(either(message, result, call, reasoning), 1), "contains": said}),
        "instructions": {"type": ["string", "null"]},
        "max_output_tokens": whole(1),
        "text": either(NULL, {**record({"format": form, "verbosity": one_of("medium")}), **closed}),
        "reasoning": either(NULL, {**record({"effort": one_of(*EFFORTS)}), **closed}),
        "tools": either(NULL, array(record({**tool, "parameters": either(NULL, ANY_OBJECT)}, *tool), 0, MOST_TOOLS)),
        "tool_choice": one_of("none", "auto", "required"),
        "parallel_tool_calls": FLAG,
        **{name: one_of(*harmless) for name, harmless in HARMLESS.items()},
    }
    formed = has(text=has(format=has(type={"enum": ["json_object", "json_schema"]})))
    depend = [
        {"if": has(tool_choice={"const": "required"}), "then": has(tools=some_tools)},
        {"if": {"allOf": [has(tools=some_tools), formed]}, "then": has(tool_choice={"const": "none"})},
    ]
    return {**record(fields, "model", "input"), "allOf": depend}


def _message() -> Schema:
    part = either(
        record({"type": {"const": "text"}, "text": TEXT}, "type", "text"),
        record({"type": {"const": "refusal"}, "refusal": TEXT}, "type", "refusal"),
    )
    url = {
        "type": "string",
        "pattern": DATA_URL,
        "description": f"base64; at most {MOST_PICTURES} in a request",
    }
    picture = record(
        {"type": {"const": "image_url"}, "image_url": either(url, record({"url": url}, "url"))}, "type", "image_url"
    )
    function = record({"name": TEXT, "arguments": ARGUMENTS}, "name", "arguments")
    call = record({"id": {"type": ["string", "null"]}, "function": function}, "function")
    speaker: Schema = {"type": ["string", "null"], "pattern": f"^({SPEAKER.pattern})?$"}
    known = {"name": speaker, "tool_call_id": {"type": ["string", "null"]}, "function_call": NULL, "audio": NULL}
    content = either(TEXT, array(either(part, picture), 1))
    others = {"role": {"enum": ["system", "developer", "user", "tool"]}, "content": content, **known}
    answered = {
        "role": {"const": "assistant"},
        "content": either(TEXT, array(either(part, picture)), NULL),
        "refusal": {"type": ["string", "null"]},
        "tool_calls": either(NULL, array(call)),
        **known,
    }
    return either(record(others, "role", "content"), record(answered, "role"))


def _completion_request() -> Schema:
    prompt = either(TEXT, array(TOKEN, 1))

    def prompts(most: int) -> Schema:
        return either(prompt, array(prompt, 1, most))

    fewer = [
        {"if": has(n={"const": choices}), "then": has(prompt=prompts(MOST_ANSWERS // choices))}
        for choices in range(MOST_ANSWERS // MOST_PROMPTS + 1, MOST_CHOICES + 1)
    ]
    fields = {
        **_sampling(0, "max_tokens"),
        "prompt": prompts(MOST_PROMPTS),
        "echo": FLAG,
        "logprobs": whole(0, 20),
        "suffix": one_of(""),
        "best_of": whole(1, 1),
    }
    return {**record(fields, "model", "prompt"), "allOf": [STREAMED, *fewer]}


def _document_requests() -> tuple[Schema, Schema]:
    text = {"type": "string", "pattern": r"\S", "maxLength": LONGEST_TEXT}
    entry = either(text, record({"text": text}, "text"))
    texts = either(text, array(entry, 1, MOST_TEXTS))
    own: dict[str, Schema] = {name: {} for name in BOOKKEEPING}
    embedding = {
        "model": SOME_TEXT,
        "input": texts,
        "encoding_format": one_of("float", "base64"),
        "input_type": one_of(*PURPOSES),
        "dimensions": NULL,
        **own,
    }
    rerank = {
        "model": {"type": ["string", "null"]},
        "query": {**SOME_TEXT, "maxLength": LONGEST_TEXT},
        "documents": texts,
        "top_n": whole(1),
        "return_documents": FLAG,
        **own,
    }
    return record(embedding, "model", "input"), record(rerank, "query", "documents")
