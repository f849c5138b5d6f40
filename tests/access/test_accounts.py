"""Logins: hashed, made by the command, checked the slow way for everyone."""

import asyncio
from pathlib import Path

import pytest

from app.access.accounts import BadAccount, PlainPassword, keep_account, read_accounts
from app.errors import SettingsError


def lets_in(auth: str, name: str, password: str) -> bool:
    async def ask() -> bool:
        return await read_accounts(auth).check(name, password)

    return asyncio.run(ask())


def test_a_kept_account_logs_in_and_its_password_stands_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "users"
    keep_account(file, "ada", "correct:horse")
    keep_account(file, "林", "密码")
    assert "horse" not in file.read_text() and file.stat().st_mode & 0o077 == 0
    assert lets_in(str(file), "ada", "correct:horse")
    assert lets_in(str(file), "林", "密码")
    assert not lets_in(str(file), "ada", "密码")
    assert not lets_in(str(file), "nobody", "nobody")
    assert not lets_in(str(file), "", "")


def test_a_new_password_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "users"
    keep_account(file, "ada", "old")
    keep_account(file, "ada", "new")
    assert lets_in(str(file), "ada", "new") and not lets_in(str(file), "ada", "old")
    assert read_accounts(str(file)).names() == ["ada"]


def test_one_login_by_flag_or_environment() -> None:
    assert lets_in("ada:one:two", "ada", "one:two")
    assert not lets_in("ada:one:two", "ada", "one")
    assert not read_accounts("")


def test_plain_passwords_in_a_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text("# who may come in\nada:secret\n")
    with pytest.raises(PlainPassword, match="python -m app user ada") as refused:
        read_accounts(str(file))
    assert "secret" not in refused.value.text("en") + refused.value.text("zh")


@pytest.mark.parametrize("auth", ["only-a-name", "ada:", ":x"])
def test_an_incomplete_login_is_refused(auth: str) -> None:
    with pytest.raises(SettingsError):
        read_accounts(auth)


@pytest.mark.parametrize(("name", "password"), [("", "x"), ("a:b", "x"), ("a\nb", "x"), ("#a", "x"), ("ada", "")])
def test_an_odd_account_is_refused(tmp_path: Path, name: str, password: str) -> None:
    with pytest.raises(BadAccount):
        keep_account(tmp_path / "users", name, password)
    assert not (tmp_path / "users").exists()


@pytest.mark.parametrize("name", ["a\u2028b", "a\u0085b", "a\nb"])
def test_a_name_holds_no_break_of_a_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadAccount):
        keep_account(tmp_path / "accounts", name, "secret")
