"""The published OpenAPI description is true: schemathesis sends what it allows, and what it does not."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from starlette.applications import Starlette

from app.access.api_keys import read_keys
from app.api.authentication import Authentication
from app.api.embeddings import EmbeddingRoutes
from app.api.routes import Api, api_routes
from bench.clients.schemathesis_hooks import narrow
from tests.able_model import AbleModel
from tests.api.test_embeddings import LetterModels
from tests.fakes import FakeRegistry

KEY = "sesame"


def published() -> Any:
    callers = Authentication(read_keys(f"ada:{KEY}"))
    model = AbleModel("tiny", script=lambda _: ["one ", "two"])
    api = Api(FakeRegistry(model), callers, lambda name, _owner: name == "tiny")
    app = Starlette(routes=api_routes(api, EmbeddingRoutes(callers, LetterModels())))
    made = schemathesis.openapi.from_asgi("/v1/openapi.json", app)
    narrow(made.raw_schema, "tiny", "letters", vocabulary=2**31, thinks=True)
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
