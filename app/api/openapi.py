"""OpenAPI description of /v1, served at /v1/openapi.json: every accepted field with its limits, and the answers.

What depends on other values is told in `if` and `then`; what depends on the model is refused by name with a 400.
"""

from collections.abc import Mapping
from typing import Any

from app.api.chat_messages import MOST_PICTURES
from app.api.chat_request import EFFORTS, UNSUPPORTED
from app.api.completion_request import MOST_PROMPTS
from app.api.embeddings import LONGEST_TEXT, MOST_TEXTS, PURPOSES
from app.api.sampling_fields import BOOKKEEPING, MOST_CHOICES, MOST_STOPS, MOST_TOP_K, TOKEN_ID
from app.api.tool_calling import MOST_TOOLS, NAME

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
SOME_TEXT: Schema = {"type": "string", "minLength": 1}
FLAG: Schema = {"type": ["boolean", "null"]}
NULL: Schema = {"type": "null"}
ANY_OBJECT: Schema = {"type": "object"}
TOKEN: Schema = {"type": "integer", "minimum": 0}
COUNT: Schema = {"type": "integer", "minimum": 0}
ERRORS = {
    "400": "the request cannot be done as it is; `param` names what is meant",
    "401": "the key is wrong",
    "404": "no such model for this caller, or not served here",
    "413": "the request is too large",
    "429": "too much at once; Retry-After says when to come back",
    "500": "an internal error",
    "503": "the model cannot be had now",
}


def openapi(*, needs_key: bool, lenient: bool) -> Schema:
    """`lenient`: requests may have fields that are not known."""
    more = {} if lenient else {"additionalProperties": False}
    chat = {**_chat_request(), **more}
    completion, embedding, rerank = ({**made, **more} for made in (_completion_request(), *_document_requests()))
    name = {"name": "name", "in": "path", "required": True, "schema": SOME_TEXT}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Puyu Studio", "version": "1", "description": "OpenAI's API over this server's models."},
        "paths": {
            "/v1/models": {"get": _operation("The models that are there for the caller", _ref("ModelList"))},
            "/v1/models/{name}": {"get": _operation("One model", _ref("Model")), "parameters": [name]},
            "/v1/chat/completions": {"post": _operation("Chat", _ref("ChatCompletion"), chat, streams=True)},
            "/v1/completions": {"post": _operation("Continue a raw prompt", _ref("Completion"), completion, True)},
            "/v1/embeddings": {"post": _operation("Vectors of texts", _ref("Embeddings"), embedding)},
            "/v1/rerank": {"post": _operation("Documents by how well they fit a query", _ref("Ranking"), rerank)},
        },
        "components": {
            "schemas": _answers(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}] if needs_key else [{"key": []}, {}],
    }


def _operation(summary: str, answer: Schema, request: Schema | None = None, streams: bool = False) -> Schema:
    content = {"application/json": {"schema": answer}}
    if streams:
        content["text/event-stream"] = {"schema": _object({"data": TEXT})}  # of one event
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


def _object(properties: Mapping[str, Schema], *required: str) -> Schema:
    return {"type": "object", "properties": dict(properties), "required": list(required)}


def _list(items: Schema, least: int = 0, most: int | None = None) -> Schema:
    return {"type": "array", "items": items, "minItems": least} | ({} if most is None else {"maxItems": most})


def _any(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def _one_of(*values: object) -> Schema:
    return {"enum": [*values, None]}


def _number(low: float, high: float) -> Schema:
    return {"type": ["number", "null"], "minimum": low, "maximum": high}


def _whole(low: int, high: int | None = None) -> Schema:
    return {"type": ["integer", "null"], "minimum": low} | ({} if high is None else {"maximum": high})


def _has(**fields: Schema) -> Schema:
    """These fields are there, in this way."""
    return {"properties": fields, "required": list(fields)}


STREAMED = {"if": _has(stream_options=ANY_OBJECT), "then": _has(stream={"const": True})}


def _sampling(least: int, *lengths: str) -> dict[str, Schema]:
    bias = {"type": "object", "patternProperties": {f"^{TOKEN_ID.pattern}$": {**_number(-100, 100), "type": "number"}}}
    include_usage = _object({"include_usage": FLAG})
    return {
        "model": SOME_TEXT,
        "temperature": _number(0, 2),
        "top_p": _number(0, 1),
        "top_k": _whole(-1, MOST_TOP_K),
        "min_p": _number(0, 1),
        "seed": _whole(-(2**63), 2**64 - 1),
        "stop": _any(TEXT, NULL, _list(TEXT, 0, MOST_STOPS)),
        "stop_token_ids": _any(NULL, _list(TOKEN)),
        "ignore_eos": FLAG,
        "repetition_penalty": _number(0.01, 10),
        "presence_penalty": _number(-2, 2),
        "frequency_penalty": _number(-2, 2),
        "logit_bias": _any(NULL, {**bias, "additionalProperties": False}),
        **dict.fromkeys(lengths, _any(_whole(least), {"const": -1})),
        "n": _whole(1, MOST_CHOICES),
        "stream": FLAG,
        "stream_options": _any(NULL, {**include_usage, "additionalProperties": False}),
        "store": _one_of(False),
        "service_tier": _one_of("auto", "default"),
        **{name: {} for name in BOOKKEEPING},
    }


def _chat_request() -> Schema:
    function = _object(
        {"name": {"type": "string", "pattern": f"^{NAME.pattern}$"}, "parameters": _any(NULL, ANY_OBJECT)}, "name"
    )
    named = _object({"type": {"const": "function"}, "function": _object({"name": TEXT}, "name")}, "function")
    schema = _object({"schema": ANY_OBJECT}, "schema")
    formats = _any(
        NULL,
        _object({"type": {"enum": ["text", "json_object"]}}, "type"),
        _object({"type": {"const": "json_schema"}, "json_schema": schema}, "type", "json_schema"),
    )
    thinking = {**_object({"enable_thinking": FLAG}), "additionalProperties": False}
    some_tools = {"type": "array", "minItems": 1}
    fields = {
        **_sampling(1, "max_completion_tokens", "max_tokens"),
        "messages": _list(_message(), 1),
        "logprobs": FLAG,
        "top_logprobs": _whole(0, 20),
        "response_format": formats,
        "tools": _any(
            NULL, _list(_object({"type": {"const": "function"}, "function": function}, "function"), 0, MOST_TOOLS)
        ),
        "tool_choice": _any(_one_of("none", "auto", "required"), named),
        "parallel_tool_calls": FLAG,
        "reasoning_effort": _one_of(*EFFORTS),
        "chat_template_kwargs": _any(NULL, thinking),
        **{name: _one_of(*harmless) for name, harmless in UNSUPPORTED.items()},
    }
    depend = [
        STREAMED,
        {"if": _has(top_logprobs={"type": "integer", "minimum": 1}), "then": _has(logprobs={"const": True})},
        {"if": _has(tool_choice=_any({"const": "required"}, ANY_OBJECT)), "then": _has(tools=some_tools)},
        {
            "if": _has(tools=some_tools, response_format=ANY_OBJECT),
            "then": _any(
                _has(response_format=_has(type={"const": "text"})),
                _has(tool_choice={"const": "none"}),
            ),
        },
    ]
    return {**_object(fields, "model", "messages"), "allOf": depend}


def _message() -> Schema:
    part = _any(
        _object({"type": {"const": "text"}, "text": TEXT}, "type", "text"),
        _object({"type": {"const": "refusal"}, "refusal": TEXT}, "type", "refusal"),
    )
    url = {"type": "string", "pattern": "^data:image/", "description": f"base64; at most {MOST_PICTURES} in a request"}
    picture = _object(
        {"type": {"const": "image_url"}, "image_url": _any(url, _object({"url": url}, "url"))}, "type", "image_url"
    )
    function = _object(
        {"name": TEXT, "arguments": _any({"type": "string", "contentMediaType": "application/json"}, ANY_OBJECT)},
        "name",
        "arguments",
    )
    call = _object({"id": {"type": ["string", "null"]}, "function": function}, "function")
    known = {"tool_call_id": {"type": ["string", "null"]}, "function_call": NULL, "audio": NULL}
    content = _any(TEXT, _list(_any(part, picture), 1))
    others = {"role": {"enum": ["system", "developer", "user", "tool"]}, "content": content, **known}
    answered = {
        "role": {"const": "assistant"},
        "content": _any(TEXT, _list(_any(part, picture)), NULL),
        "refusal": {"type": ["string", "null"]},
        "tool_calls": _any(NULL, _list(call)),
        **known,
    }
    return _any(_object(others, "role", "content"), _object(answered, "role"))


def _completion_request() -> Schema:
    prompt = _any(TEXT, _list(TOKEN, 1))
    fields = {
        **_sampling(0, "max_tokens"),
        "prompt": _any(prompt, _list(prompt, 1, MOST_PROMPTS)),
        "echo": FLAG,
        "logprobs": _whole(0, 20),
        "suffix": _one_of(""),
        "best_of": _whole(1, 1),
    }
    return {**_object(fields, "model", "prompt"), "allOf": [STREAMED]}


def _document_requests() -> tuple[Schema, Schema]:
    text = {"type": "string", "pattern": r"\S", "maxLength": LONGEST_TEXT}
    entry = _any(text, _object({"text": text}, "text"))
    texts = _any(text, _list(entry, 1, MOST_TEXTS))
    own: dict[str, Schema] = {name: {} for name in BOOKKEEPING}
    embedding = {
        "model": SOME_TEXT,
        "input": texts,
        "encoding_format": _one_of("float", "base64"),
        "input_type": _one_of(*PURPOSES),
        "dimensions": NULL,
        **own,
    }
    rerank = {
        "model": {"type": ["string", "null"]},
        "query": {**SOME_TEXT, "maxLength": LONGEST_TEXT},
        "documents": texts,
        "top_n": _whole(1),
        "return_documents": FLAG,
        **own,
    }
    return _object(embedding, "model", "input"), _object(rerank, "query", "documents")


def _answers() -> dict[str, Schema]:
    usage = _object(
        {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT}, "prompt_tokens", "total_tokens"
    )
    model = _object({"id": TEXT, "object": {"const": "model"}, "created": COUNT, "owned_by": TEXT}, "id", "object")
    message: dict[str, Schema] = {
        "role": {"const": "assistant"},
        "content": {"type": ["string", "null"]},
        "reasoning_content": TEXT,
        "tool_calls": _list(ANY_OBJECT, 1),
    }
    ended: dict[str, Schema] = {
        "index": COUNT,
        "finish_reason": {"enum": ["stop", "length", "tool_calls"]},
        "logprobs": {"type": ["object", "null"]},
    }
    head: dict[str, Schema] = {"id": TEXT, "created": COUNT, "model": TEXT, "usage": usage}
    vector = _any(_list({"type": "number"}), {"type": "string", "contentEncoding": "base64"})
    ranked = _object(
        {"index": COUNT, "relevance_score": {"type": "number"}, "document": ANY_OBJECT}, "index", "relevance_score"
    )

    def completion(kind: str, **own: Schema) -> Schema:
        choice = _object({**ended, **own}, *ended, *own)
        return _object({**head, "object": {"const": kind}, "choices": _list(choice, 1)}, *head, "object", "choices")

    told: dict[str, Schema] = {
        "message": TEXT,
        "type": TEXT,
        "param": {"type": ["string", "null"]},
        "code": {"type": ["string", "null"]},
    }
    return {
        "Error": _object({"error": _object(told, *told)}, "error"),
        "Model": model,
        "ModelList": _object({"object": {"const": "list"}, "data": _list(model)}, "object", "data"),
        "ChatCompletion": completion("chat.completion", message=_object(message, "role", "content")),
        "Completion": completion("text_completion", text=TEXT),
        "Embeddings": _object(
            {
                "data": _list(_object({"index": COUNT, "embedding": vector}, "index", "embedding")),
                "model": TEXT,
                "usage": usage,
            },
            "data",
            "model",
            "usage",
        ),
        "Ranking": _object({"id": TEXT, "results": _list(ranked), "usage": usage}, "id", "results", "usage"),
    }
