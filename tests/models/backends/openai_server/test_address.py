"""The setting `engine`: what is read from it, what is refused, and that the key shows nowhere."""

import pytest

from app.errors import SettingsError
from app.models.backends.openai_server.address import EngineAddress, read_engines
from app.settings import read_settings


def test_replicas_model_and_key_are_read() -> None:
    environment = {"PUYU_ENGINE_KEY": "for-all", "PUYU_ENGINE_KEY_BIG_ONE": "own"}
    settings = read_settings(
        ["--engine", "big-one=http://a:1/v1,http://b:2/v1/#/models/internlm3", "--engine", "other=https://c/v1"], {}
    )
    engines = read_engines(settings.engine, environment)
    assert engines == {
        "big-one": EngineAddress("big-one", ("http://a:1/v1", "http://b:2/v1"), "/models/internlm3", "own"),
        "other": EngineAddress("other", ("https://c/v1",), "", "for-all"),
    }
    assert "own" not in repr(engines)


def test_the_environment_separates_engines_by_spaces() -> None:
    assert read_settings([], {"PUYU_ENGINE": "a=http://a/v1 b=http://b/v1"}).engine == (
        "a=http://a/v1",
        "b=http://b/v1",
    )


@pytest.mark.parametrize(
    "entry",
    [
        "http://a/v1",
        "a=",
        "a=file:///etc/passwd",
        "a=http:///v1",
        "a b=http://c/v1",
        "x+y=http://c/v1",
        "taken=http://c",
    ],
)
def test_what_is_no_address_is_refused(entry: str) -> None:
    with pytest.raises(SettingsError, match="engine"):
        read_engines([entry], {}, taken=["taken"])


def test_a_key_within_the_address_is_refused_without_being_repeated() -> None:
    with pytest.raises(SettingsError) as refused:
        read_engines(["a=http://me:sesame@host/v1"], {})
    assert "PUYU_ENGINE_KEY" in refused.value.text("en")
    assert "sesame" not in refused.value.text("en") + refused.value.text("zh")
