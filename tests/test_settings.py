"""Where settings come from, and what is said of a wrong one."""

import runpy
from pathlib import Path

import pytest

from app.errors import SettingsError
from app.paths import ROOT
from app.settings import OpenToStrangers, Settings, read_settings


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "studio.toml"
    file.write_text('port = 1\nhost = "::1"\nlanguage = "zh"\n')
    environment = {"PUYU_PORT": "2", "PUYU_HOST": "localhost", "PUYU_CONFIG": str(file)}
    settings = read_settings(["--port", "3"], environment)
    assert (settings.port, settings.host, settings.language, settings.device) == (3, "localhost", "zh", "auto")


@pytest.mark.parametrize(
    ("arguments", "key", "allowed"),
    [
        (["--device", "tpu"], "device", "auto, cuda, mps, cpu"),
        (["--language", "fr"], "language", "auto, zh, en"),
        (["--port", "high"], "port", "integer"),
        (["--memory", "-5"], "memory", "greater than or equal to 0"),
        (["--config", "nowhere.toml"], "config", "no such file"),
    ],
)
def test_a_bad_value_is_refused_with_the_allowed_ones(arguments: list[str], key: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read_settings(arguments, {})
    assert refused.value.values["key"] == key
    assert allowed in refused.value.text("en")


def test_an_unknown_key_in_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "studio.toml"
    file.write_text("colour = 1\n")
    with pytest.raises(SettingsError) as refused:
        read_settings(["--config", str(file)], {})
    assert refused.value.values["key"] == "colour"


def test_help_explains_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_settings(["--help"], {})
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, field in Settings.model_fields.items():
        assert "--" + name.replace("_", "-") in shown
        assert str(field.description) in shown


@pytest.mark.parametrize("arguments", [["--share"], ["--host", "0.0.0.0"]])
def test_strangers_are_let_in_only_on_purpose(arguments: list[str]) -> None:
    with pytest.raises(OpenToStrangers, match="--public"):
        read_settings(arguments, {})
    assert read_settings([*arguments, "--public"], {}).for_strangers
    assert not read_settings([*arguments, "--auth", "ada:x"], {}).for_strangers
    assert not read_settings([*arguments, "--auth", "ada:x"], {}).is_private


def test_behind_a_proxy_the_settings_say_who_comes_in_not_the_address() -> None:
    assert read_settings([], {}).is_private
    public, logins = read_settings(["--public"], {}), read_settings(["--auth", "ada:x"], {})
    assert public.for_strangers and not public.is_private
    assert not logins.for_strangers and not logins.is_private
    assert read_settings(["--auth", "huggingface"], {}).for_strangers


def test_a_space_is_public_by_itself() -> None:
    settings = read_settings([], {"SPACE_ID": "ada/studio"})
    assert (settings.host, settings.for_strangers) == ("0.0.0.0", True)
    assert read_settings([], {"SPACE_ID": "ada/studio", "PUYU_HOST": "127.0.0.1"}).host == "127.0.0.1"


SPACE = {
    "SPACE_ID": "ada/studio",
    "SPACE_HOST": "ada-studio.hf.space, studio.example",
    "OAUTH_CLIENT_ID": "one",
    "OAUTH_CLIENT_SECRET": "two",
    "OPENID_PROVIDER_URL": "https://huggingface.co",
}


def test_a_space_says_where_people_sign_in() -> None:
    settings = read_settings(["--auth", "huggingface"], SPACE)
    assert settings.signs_in and settings.space_host == "ada-studio.hf.space"
    assert (settings.oauth_client_id, settings.oauth_client_secret) == ("one", "two")
    assert "two" not in repr(settings)


def test_who_may_sign_in_uninvited_is_a_stranger() -> None:
    assert read_settings(["--auth", "huggingface"], SPACE).for_strangers
    assert not read_settings(["--auth", "huggingface", "--allowed-users", "ada, owls"], SPACE).for_strangers
    assert not read_settings(["--auth", "huggingface", "--allowed-users", "*"], SPACE).for_strangers
    with pytest.raises(OpenToStrangers):
        read_settings(["--auth", "huggingface", "--host", "0.0.0.0"], {})


def test_the_documentation_tells_every_setting_as_it_is() -> None:
    docs = ROOT / "docs"
    written = runpy.run_path(str(docs / "write_settings.py"))["page"]()
    assert (docs / "settings.md").read_text(encoding="utf-8") == written, "run python docs/write_settings.py"


def test_a_network_of_proxies_is_told_by_its_first_address() -> None:
    settings = read_settings(["--trusted-proxies", "10.0.0.5/8, 127.0.0.1"], {})
    assert settings.trusted_proxies == "10.0.0.0/8,127.0.0.1"
