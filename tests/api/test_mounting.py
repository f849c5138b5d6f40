"""What is mounted beside the page, and whose tuned models a key may use."""

from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.api.mounting import mount
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from app.settings import Settings
from tests.fakes import fake_services

BASE = "smollm2-135m"


@pytest.fixture
def services(tmp_path: Path) -> Any:
    """Models that Ada and Lin have trained, and one that lies on the server."""
    registry = ModelRegistry(Placement("cpu", "auto", None, 4096, tmp_path), BASE)
    for name, owner in (("hers", "ada"), ("his", "lin"), ("hers@20", "ada"), ("given", "")):
        registry.add_adapter(f"{BASE}+{name}", tmp_path, owner)
    return fake_services(registry)  # type: ignore[arg-type]


def seen(services: Any, key: str = "", **settings: Any) -> list[str]:
    services.settings = Settings(**settings)
    services.registry.private = not services.settings.is_private
    answer = TestClient(Starlette(routes=mount(services).routes)).get(
        "/v1/models", headers={"Authorization": f"Bearer {key}"} if key else {}
    )
    if answer.status_code != 200:
        return [answer.reason_phrase]
    return [model["id"].replace(BASE, "tiny") for model in answer.json()["data"] if BASE in model["id"]]


def test_on_a_server_for_many_each_key_has_its_own_models(services: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ada:one\nlin:two\nrobot:three\n")
    for settings in ({"auth": "ada:x"}, {"host": "0.0.0.0"}):
        options = {**settings, "api_keys": str(keys)}
        assert seen(services, "one", **options) == ["tiny", "tiny+hers", "tiny+given"]
        assert seen(services, "two", **options) == ["tiny", "tiny+his", "tiny+given"]
        assert seen(services, "three", **options) == ["tiny", "tiny+given"]


def test_on_ones_own_machine_all_models_are_ones_own(services: Any) -> None:
    assert seen(services) == ["tiny", "tiny+hers", "tiny+his", "tiny+given"]


def test_a_server_with_logins_asks_programs_for_a_key(services: Any) -> None:
    assert seen(services, auth="ada:x") == ["Unauthorized"]
    assert seen(services, "", host="0.0.0.0") == ["tiny", "tiny+given"]


def test_tools_are_offered_only_when_they_are_asked_for(services: Any) -> None:
    services.settings = Settings()
    assert "/mcp" not in [route.path for route in mount(services).routes]
