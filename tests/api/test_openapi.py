"""The published OpenAPI description is true: schemathesis sends what it allows, and what it does not."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from starlette.applications import Starlette

from app.access.api_keys import read_keys
from app.api.authentication import Authentication
from app.api.embeddings import EmbeddingRoutes
from app.api.routes import Api, api_routes
from tests.able_model import AbleModel
from tests.api.test_embeddings import LetterModels
from tests.fakes import FakeRegistry

KEY = "sesame"


def published() -> Any:
    """The description, narrowed by what no schema can say: which models are there, what a picture is."""
    callers = Authentication(read_keys(f"ada:{KEY}"))
    model = AbleModel("tiny", script=lambda _: ["one ", "two"])
    api = Api(FakeRegistry(model), callers, lambda name, _owner: name == "tiny")
    app = Starlette(routes=api_routes(api, EmbeddingRoutes(callers, LetterModels())))
    made = schemathesis.openapi.from_asgi("/v1/openapi.json", app)
    bodies = {
        path: found["post"]["requestBody"]["content"]["application/json"]["schema"]
        for path, found in made.raw_schema["paths"].items()
        if "post" in found
    }
    models = dict.fromkeys(("/v1/chat/completions", "/v1/responses", "/v1/completions"), "tiny")
    for path, name in (models | {"/v1/embeddings": "letters"}).items():
        bodies[path]["properties"]["model"] = {"const": name}
    chat = bodies["/v1/chat/completions"]["properties"]
    chat["tool_choice"] = chat["tool_choice"]["anyOf"][0]  # without a function's name
    for message in chat["messages"]["items"]["anyOf"]:
        content = message["properties"]["content"]["anyOf"]
        content[1]["items"] = content[1]["items"]["anyOf"][0]
        if "tool_calls" in message["properties"]:
            message["properties"]["tool_calls"]["anyOf"][1]["items"]["properties"]["function"]["properties"][
                "arguments"
            ]["anyOf"][0]["enum"] = ["{}"]
    return made


schema = published()


@schema.parametrize()
@settings(
    phases=[Phase.explicit],  # every field in turn; random bodies are for `make check-clients`
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_what_is_described_is_taken_and_all_else_refused(case: Any) -> None:
    case.call_and_validate(headers={"Authorization": f"Bearer {KEY}"})
