"""Login accounts: a users file of names with Argon2 password hashes, written by `python -m app user NAME`."""

import asyncio
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from app.errors import SettingsError, StudioError

log = logging.getLogger(__name__)
MARK = "$argon2"
CHECKS_AT_ONCE = 2  # a hash takes memory and time on purpose; guessing must not take the server's


class PlainPassword(SettingsError):
    zh = "用户文件 {file} 里 {name} 的密码是明文。请运行 python -m app user {name} --file {file} 生成加密的一行。"
    en = "The password of {name} in {file} is plain text. Run python -m app user {name} --file {file} to hash it."


class BadAccount(StudioError):
    zh = "用户名不能为空，也不能含有冒号、换行或以 # 开头；密码不能为空。"
    en = "A name may not be empty, contain a colon or a line break, or begin with #; a password may not be empty."


class Accounts:
    """Hashes by name. A wrong name takes as long to refuse as a wrong password."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = dict(hashes)
        self._hasher = PasswordHasher()
        self._nobody = self._hasher.hash("nobody")
        self._turn = asyncio.Semaphore(CHECKS_AT_ONCE)

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def names(self) -> list[str]:
        return list(self._hashes)

    async def check(self, name: str, password: str) -> bool:
        """Whether the password is right; as gradio's `auth` wants it."""
        async with self._turn:
            right = await asyncio.to_thread(self._verify, name, password)
        if not right:
            log.warning("a login as %r was refused", name[:80])
        return right

    def _verify(self, name: str, password: str) -> bool:
        try:
            return self._hasher.verify(self._hashes.get(name, self._nobody), password) and name in self._hashes
        except (Argon2Error, InvalidHashError):
            return False


def read_accounts(auth: str) -> Accounts:
    """`auth` is a file of name:hash lines, or name:password itself. Raises SettingsError."""
    if not auth:
        return Accounts({})
    path = Path(auth)
    if not path.is_file():
        name, _, password = auth.partition(":")
        if not name or not password:
            raise SettingsError(key="auth", value="…", allowed="name:password, or a file; file not found 没有这个文件")
        return Accounts({name: PasswordHasher().hash(password)})
    hashes = dict(_lines(path))
    for name, kept in hashes.items():
        if not kept.startswith(MARK):
            raise PlainPassword(name=name or "?", file=path)
    if not hashes:
        raise SettingsError(key="auth", value=path, allowed="one line name:hash for each person 每人一行")
    return Accounts(hashes)


def keep_account(file: Path, name: str, password: str) -> None:
    """Write the person's line, in place of an older one; only the owner may read the file. Raises BadAccount."""
    if not name or not password or name.startswith("#") or ":" in name or not name.isprintable():
        raise BadAccount
    lines = dict(_lines(file)) if file.exists() else {}
    lines[name] = PasswordHasher().hash(password)
    draft = file.with_name(file.name + ".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        out.writelines(f"{name}:{kept}\n" for name, kept in lines.items())
    draft.replace(file)


def _lines(file: Path) -> list[tuple[str, str]]:
    lines = (line.strip() for line in file.read_text(encoding="utf-8").split("\n"))
    pairs = [line.partition(":") for line in lines if line and not line.startswith("#")]
    return [(name, kept) for name, _, kept in pairs]
