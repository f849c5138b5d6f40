"""What is mounted beside the page, and whose tuned models a key may use."""

from collections.abc import Callable
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
def services(tmp_path: Path) -> Callable[[Settings], Any]:
    """Models that Ada and Lin have trained, and one that lies on the server."""

    def build(settings: Settings) -> Any:
        placement = Placement("cpu", "auto", None, 4096, tmp_path)
        registry = ModelRegistry(placement, BASE, private=not settings.is_private)
        for name, owner in (("hers", "ada"), ("his", "lin"), ("hers@20", "ada"), ("given", "")):
            registry.add_adapter(f"{BASE}+{name}", tmp_path, owner)
        services = fake_services(registry)  # type: ignore[arg-type]
        services.settings = settings
        return services

    return build


def seen(services: Callable[[Settings], Any], key: str = "", **settings: Any) -> list[str]:
    answer = TestClient(Starlette(routes=mount(services(Settings(**settings))).routes)).get(
        "/v1/models", headers={"Authorization": f"Bearer {key}"} if key else {}
    )
    if answer.status_code != 200:
        return [answer.reason_phrase]
    return [model["id"].replace(BASE, "tiny") for model in answer.json()["data"] if BASE in model["id"]]


def test_on_a_server_for_many_each_key_has_its_own_models(services: Callable[[Settings], Any], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ada:one\nlin:two\nrobot:three\n")
    for settings in ({"auth": "ada:x"}, {"host": "0.0.0.0"}):
        options = {**settings, "api_keys": str(keys)}
        assert seen(services, "one", **options) == ["tiny", "tiny+hers", "tiny+given"]
        assert seen(services, "two", **options) == ["tiny", "tiny+his", "tiny+given"]
        assert seen(services, "three", **options) == ["tiny", "tiny+given"]


def test_on_ones_own_machine_all_models_are_ones_own(services: Callable[[Settings], Any]) -> None:
    assert seen(services) == ["tiny", "tiny+hers", "tiny+his", "tiny+given"]


def test_a_server_with_logins_asks_programs_for_a_key(services: Callable[[Settings], Any]) -> None:
    assert seen(services, auth="ada:x") == ["Unauthorized"]
    assert seen(services, "", host="0.0.0.0") == ["tiny", "tiny+given"]


def test_tools_are_offered_only_when_they_are_asked_for(services: Callable[[Settings], Any]) -> None:
    assert "/mcp" not in [route.path for route in mount(services(Settings())).routes]
