"""JSON schemas of the answers of /v1, for its OpenAPI description."""

from app.api.json_schema import ANY_OBJECT, COUNT, TEXT, Schema, array, either, record

ITEMS = ["message", "function_call", "reasoning"]


def answer_schemas() -> dict[str, Schema]:
    usage = record(
        {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT}, "prompt_tokens", "total_tokens"
    )
    model = record({"id": TEXT, "object": {"const": "model"}, "created": COUNT, "owned_by": TEXT}, "id", "object")
    message: dict[str, Schema] = {
        "role": {"const": "assistant"},
        "content": {"type": ["string", "null"]},
        "reasoning_content": TEXT,
        "tool_calls": array(ANY_OBJECT, 1),
    }
    ended: dict[str, Schema] = {
        "index": COUNT,
        "finish_reason": {"enum": ["stop", "length", "tool_calls"]},
        "logprobs": {"type": ["object", "null"]},
    }
    head: dict[str, Schema] = {"id": TEXT, "created": COUNT, "model": TEXT, "usage": usage}
    vector = either(array({"type": "number"}), {"type": "string", "contentEncoding": "base64"})
    ranked = record(
        {"index": COUNT, "relevance_score": {"type": "number"}, "document": ANY_OBJECT}, "index", "relevance_score"
    )

    def completion(kind: str, **own: Schema) -> Schema:
        choice = record({**ended, **own}, *ended, *own)
        return record({**head, "object": {"const": kind}, "choices": array(choice, 1)}, *head, "object", "choices")

    told: dict[str, Schema] = {
        "message": TEXT,
        "type": TEXT,
        "param": {"type": ["string", "null"]},
        "code": {"type": ["string", "null"]},
    }
    return {
        "Error": record({"error": record(told, *told)}, "error"),
        "Model": model,
        "ModelList": record({"object": {"const": "list"}, "data": array(model)}, "object", "data"),
        "ChatCompletion": completion("chat.completion", message=record(message, "role", "content")),
        "Completion": completion("text_completion", text=TEXT),
        "Response": record(
            {
                "id": TEXT,
                "object": {"const": "response"},
                "created_at": COUNT,
                "model": TEXT,
                "status": {"enum": ["completed", "incomplete"]},
                "output": array(record({"type": {"enum": ITEMS}, "id": TEXT}, "type")),
                "usage": ANY_OBJECT,
            },
            "id",
            "status",
            "output",
            "usage",
        ),
        "Embeddings": record(
            {
                "data": array(record({"index": COUNT, "embedding": vector}, "index", "embedding")),
                "model": TEXT,
                "usage": usage,
            },
            "data",
            "model",
            "usage",
        ),
        "Ranking": record({"id": TEXT, "results": array(ranked), "usage": usage}, "id", "results", "usage"),
    }
