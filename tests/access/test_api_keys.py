"""API keys: who calls, hashes only, and nothing of a key in an error."""

from pathlib import Path

import pytest

from app.access.api_keys import add_key, read_keys
from app.errors import SettingsError


def test_a_made_key_is_known_and_stands_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    first, second = add_key(file, "ada"), add_key(file, "林")
    assert first != second
    assert first not in file.read_text(encoding="utf-8") and file.stat().st_mode & 0o077 == 0
    keys = read_keys(str(file))
    assert [keys.name_of(key) for key in (first, second, "", first[:-1], "sha256-")] == ["ada", "林", None, None, None]


def test_a_hash_is_no_key(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    add_key(file, "ada")
    kept = file.read_text().partition(":")[2].strip()
    assert read_keys(str(file)).name_of(kept) is None


def test_a_new_key_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    old, new = add_key(file, "ada"), add_key(file, "ada")
    keys = read_keys(str(file))
    assert (keys.name_of(old), keys.name_of(new)) == (None, "ada")


def test_one_key_by_flag_or_environment() -> None:
    assert read_keys("ada:se:same").name_of("se:same") == "ada"
    assert not read_keys("")


@pytest.mark.parametrize("setting", ["sesame", ":sesame", "ada:"])
def test_a_wrong_setting_is_refused_without_being_repeated(setting: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read_keys(setting)
    assert "sesame" not in refused.value.text("en") + refused.value.text("zh")


def test_a_key_may_belong_to_somebody_who_signs_in_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    old, other = add_key(file, "hf:ada"), add_key(file, "ada")
    new = add_key(file, "hf:ada")
    keys = read_keys(str(file))
    assert (keys.name_of(new), keys.name_of(other), keys.name_of(old)) == ("hf:ada", "ada", None)
    assert read_keys("hf:ada:secret").name_of("secret") == "hf:ada"
