"""The published OpenAPI description is true: what it allows is taken, and all else is refused."""

import asyncio
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from jsonschema import Draft202012Validator
from starlette.applications import Starlette

from app.access.api_keys import read_keys
from app.api.authentication import Authentication
from app.api.embeddings import EmbeddingRoutes
from app.api.routes import Api, api_routes
from bench.clients.schemathesis_hooks import narrow
from tests.able_model import AbleModel
from tests.api.schema_cases import Cases, some
from tests.api.test_embeddings import LetterModels
from tests.fakes import FakeRegistry

KEY = "sesame"
FUNCTION = {"name": "go", "parameters": {"type": "object"}}
TOOLS = {"tools": [{"type": "function", "function": FUNCTION, **FUNCTION}]}
COMPANIONS: dict[str, dict[str, Any]] = {
    "top_logprobs": {"logprobs": True},
    "stream_options": {"stream": True},
    "tool_choice": TOOLS,
    "response_format": TOOLS,
    "text": TOOLS,
}

# Ways of saying something that no bound tells: a description without them would go unseen.
TAKEN: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [
        *({"response_format": {"type": kind}} for kind in ("text", "json_object")),
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}},
        *({"reasoning_effort": effort} for effort in ("none", "minimal", "low", "medium", "high", "xhigh", "max")),
        {"tool_choice": "none", "service_tier": "auto", "store": False, "n": 8, "top_k": -1, "max_tokens": -1},
    ],
    "/v1/responses": [
        *({"input": [{"role": "user", "content": [{"type": kind, "text": "x"}]}]} for kind in ("input_text", "text")),
        {"input": [{"type": "function_call_output", "call_id": "a", "output": "x"}]},
        {"input": [{"role": "assistant", "content": "x"}, {"type": "reasoning"}], "truncation": "disabled"},
        {"text": {"format": {"type": "json_object"}}, "reasoning": {"effort": "high"}},
    ],
    "/v1/completions": [{"prompt": [[1, 2], [3]]}, {"prompt": [1, 2]}, {"prompt": ["x", "y"], "echo": True}],
    "/v1/embeddings": [
        *({"input_type": kind} for kind in ("query", "search_query", "document", "passage", "search_document")),
        {"input": [{"text": "x"}], "encoding_format": "base64"},
    ],
    "/v1/rerank": [{"documents": [{"text": "x"}], "return_documents": True}, {"documents": "x", "model": None}],
}


def served() -> Starlette:
    callers = Authentication(read_keys(f"ada:{KEY}"))
    model = AbleModel("tiny", script=lambda _: ["one ", "two"])
    api = Api(FakeRegistry(model), callers, lambda name, _owner: name == "tiny")
    return Starlette(routes=api_routes(api, EmbeddingRoutes(callers, LetterModels())))


def published() -> Any:
    made = schemathesis.openapi.from_asgi("/v1/openapi.json", served())
    narrow(made.raw_schema, "tiny", "letters", vocabulary=2**31, thinks=True)
    return made


schema = published()
POSTED = [path for path, found in schema.raw_schema["paths"].items() if "post" in found]


@schema.parametrize()
@settings(
    phases=[Phase.explicit],  # every field in turn; random bodies are for `make check-clients`
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_as_they_are_described(case: Any) -> None:
    case.call_and_validate(headers={"Authorization": f"Bearer {KEY}"})


@pytest.mark.parametrize("path", POSTED)
def test_just_what_is_described_is_taken(path: str) -> None:
    """Neither more nor less: a description that is wider or narrower than the server fails."""
    operation = schema.raw_schema["paths"][path]["post"]
    described = operation["requestBody"]["content"]["application/json"]["schema"]
    allowed = Draft202012Validator(described)
    taken = [some(described) | more for more in TAKEN[path]]
    bodies = [*taken, *Cases(schema.raw_schema, COMPANIONS).bodies(described)]

    async def answers() -> list[int]:
        transport = httpx.ASGITransport(served())
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://here", headers=headers) as client:
            return [(await client.post(path, json=body)).status_code for body in bodies]

    codes = asyncio.run(answers())
    assert set(codes[: len(taken)]) == {200} and {200, 400} <= set(codes) <= {200, 400, 404}
    wrong = [(code, body) for code, body in zip(codes, bodies, strict=True) if (code == 200) != allowed.is_valid(body)]
    assert not wrong, f"{len(wrong)} of {len(bodies)}, such as {wrong[:5]}"
