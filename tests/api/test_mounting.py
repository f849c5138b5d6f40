"""What is mounted beside the page, and whose tuned models a key may use."""

from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.api.mounting import mount
from app.finetune.options import TrainOptions
from app.finetune.runs import Run, new_id
from app.finetune.service import FinetuneService
from app.settings import Settings
from tests.fakes import FakeModel, FakeRegistry, fake_services

TUNED = ("tiny+hers", "tiny+his", "tiny+hers@20")


@pytest.fixture
def services(tmp_path: Path) -> Any:
    """Models that Ada and Lin have trained, and one that lies on the server."""
    registry = FakeRegistry(*(FakeModel(name) for name in ("tiny", *TUNED, "tiny+given")))
    finetune = FinetuneService(registry, tmp_path)  # type: ignore[arg-type]
    for name, owner in (("hers", "ada"), ("his", "lin")):
        run = Run(new_id(), name, "tiny", owner, 0.0, TrainOptions(), rows=1, total=1)
        finetune.store.create(run, [], [])
    return fake_services(registry, finetune=finetune)


def seen(services: Any, key: str = "", **settings: Any) -> list[str]:
    services.settings = Settings(**settings)
    answer = TestClient(Starlette(routes=mount(services).routes)).get(
        "/v1/models", headers={"Authorization": f"Bearer {key}"} if key else {}
    )
    return [model["id"] for model in answer.json()["data"]] if answer.status_code == 200 else [answer.reason_phrase]


def test_on_a_server_for_many_each_key_has_its_own_models(services: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ada:one\nlin:two\nrobot:three\n")
    for settings in ({"auth": "ada:x"}, {"host": "0.0.0.0"}):
        options = {**settings, "api_keys": str(keys)}
        assert seen(services, "one", **options) == ["tiny", "tiny+hers", "tiny+hers@20", "tiny+given"]
        assert seen(services, "two", **options) == ["tiny", "tiny+his", "tiny+given"]
        assert seen(services, "three", **options) == ["tiny", "tiny+given"]


def test_on_ones_own_machine_all_models_are_ones_own(services: Any) -> None:
    assert seen(services) == ["tiny", *TUNED, "tiny+given"]


def test_a_server_with_logins_asks_programs_for_a_key(services: Any) -> None:
    assert seen(services, auth="ada:x") == ["Unauthorized"]
    assert seen(services, "", host="0.0.0.0") == ["tiny", "tiny+given"]


def test_tools_are_offered_only_when_they_are_asked_for(services: Any) -> None:
    services.settings = Settings()
    assert "/mcp" not in [route.path for route in mount(services).routes]
